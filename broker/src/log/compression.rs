//! The five codecs of record batches, with a hard bound on what comes out.
//!
//! A decompressor stops at the bound: a bomb costs no more memory than an honest batch of the largest size. Formats as
//! Kafka clients write them: gzip members, snappy raw or in the framing of the Java client ("xerial"), LZ4 frames,
//! zstd frames.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::AppendError;
use super::batch::Compression;

/// In front of a snappy stream of the Java client: magic, version 1, oldest compatible version 1.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// Uncompressed bytes in one of its blocks, as the Java client writes them.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
const ZSTD_LEVEL: i32 = 3;
/// Windows of zstd decoders: at least what RFC 8878 recommends (8 MiB), at most the library's default (128 MiB).
const ZSTD_WINDOW_LOG: std::ops::RangeInclusive<u32> = 23..=27;

/// Decompresses a batch's body to at most `bound` bytes.
pub(super) fn decompress(
    compression: Compression,
    body: &Bytes,
    bound: usize,
) -> Result<Bytes, AppendError> {
    decompress_within(compression, body, bound).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => AppendError::Invalid(error.to_string()),
        _ => AppendError::Corrupt(format!("{compression:?} data: {error}")),
    })
}

/// As [`decompress`]; what is too large is told by its kind, [`io::ErrorKind::FileTooLarge`].
pub(super) fn decompress_within(
    compression: Compression,
    body: &Bytes,
    bound: usize,
) -> io::Result<Bytes> {
    let outcome = match compression {
        Compression::None if body.len() > bound => Err(too_large(bound)),
        Compression::None => return Ok(body.clone()),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&body[..]), bound),
        Compression::Snappy => snappy(body, bound),
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&body[..]), bound),
        Compression::Zstd => zstd_decoder(body, bound).and_then(|d| read_bounded(d, bound)),
    };
    outcome.map(Bytes::from)
}

/// Reads a batch's body decompressed, a piece at a time. `block` bounds what must be in memory at once: a window of zstd, and all
/// of a raw snappy block.
pub(super) fn reader(
    compression: Compression,
    body: &[u8],
    block: usize,
) -> io::Result<Box<dyn Read + '_>> {
    Ok(match compression {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Compression::Snappy if body.starts_with(&XERIAL_MAGIC) => Box::new(XerialBlocks {
            rest: body.get(XERIAL_HEADER_BYTES..).ok_or_else(cut_short)?,
            block: io::Cursor::default(),
            bound: block,
        }),
        Compression::Snappy => Box::new(io::Cursor::new(snappy(body, block)?)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        Compression::Zstd => Box::new(zstd_decoder(body, block)?),
    })
}

/// The blocks of a xerial stream, one at a time.
struct XerialBlocks<'a> {
    rest: &'a [u8],
    block: io::Cursor<Vec<u8>>,
    bound: usize,
}

impl Read for XerialBlocks<'_> {
    fn read(&mut self, wanted: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.block.read(wanted)?;
            if count > 0 || wanted.is_empty() || self.rest.is_empty() {
                return Ok(count);
            }
            let (block, rest) = xerial_block(self.rest).ok_or_else(cut_short)?;
            let out = self.block.get_mut();
            out.clear();
            snappy_block(block, self.bound, out)?;
            self.block.set_position(0);
            self.rest = rest;
        }
    }
}

fn too_large(bound: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the batch decompresses to more than {bound} bytes, the bound on this path"),
    )
}

fn read_bounded(reader: impl Read, bound: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(bound as u64 + 1).read_to_end(&mut out)?;
    if out.len() > bound {
        return Err(too_large(bound));
    }
    Ok(out)
}

fn zstd_decoder(
    body: &[u8],
    bound: usize,
) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    // A window larger than the bound would be memory for nothing.
    let log = usize::BITS - bound.leading_zeros();
    decoder.window_log_max(log.clamp(*ZSTD_WINDOW_LOG.start(), *ZSTD_WINDOW_LOG.end()))?;
    Ok(decoder)
}

fn snappy(body: &[u8], bound: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for block in xerial_blocks(body) {
        snappy_block(block?, bound, &mut out)?;
    }
    Ok(out)
}

/// The raw blocks of a snappy body: those in the framing of the Java client, or the body as a whole.
pub(super) fn xerial_blocks(body: &[u8]) -> impl Iterator<Item = io::Result<&[u8]>> {
    let is_framed = body.starts_with(&XERIAL_MAGIC);
    let mut rest = Some(body);
    if is_framed {
        // An empty rest of a frame that is whole has no blocks; one that is cut short has one that is wrong.
        rest = body.get(XERIAL_HEADER_BYTES..).or(Some(&body[..1]));
    }
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        if !is_framed {
            return Some(Ok(bytes));
        }
        if bytes.is_empty() {
            return None;
        }
        let Some((block, behind)) = xerial_block(bytes) else {
            return Some(Err(cut_short()));
        };
        rest = Some(behind);
        Some(Ok(block))
    })
}

fn xerial_block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    after.split_at_checked(length)
}

/// What a raw block says that it becomes.
pub(super) fn snappy_block_length(block: &[u8]) -> io::Result<usize> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::from)?;
    // Snappy makes at most 64 bytes out of three: a length that the block cannot reach is not allocated.
    if length > block.len().saturating_mul(32) {
        return Err(io::Error::other("a block claims an impossible length"));
    }
    Ok(length)
}

/// Appends one raw snappy block, whose own header says how long it becomes.
fn snappy_block(block: &[u8], bound: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let length = snappy_block_length(block)?;
    let start = out.len();
    if length > bound.saturating_sub(start) {
        return Err(too_large(bound));
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(io::Error::from)?;
    out.truncate(start + written);
    Ok(())
}

pub(super) fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// Compresses a batch's body.
pub(super) fn compress(compression: Compression, body: Vec<u8>) -> Result<Vec<u8>, AppendError> {
    match compression {
        Compression::None => Ok(body),
        compression => compress_at(compression, &body, None),
    }
}

/// Compresses at a level of gzip (1 to 9) or zstd (up to 22), which is not asked of the other codecs; `None`: the default.
pub(super) fn compress_at(
    compression: Compression,
    body: &[u8],
    level: Option<i32>,
) -> Result<Vec<u8>, AppendError> {
    let outcome = match compression {
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        Compression::Snappy => xerial(body),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder
                .write_all(body)
                .and_then(|()| encoder.finish().map_err(io::Error::from))
        }
        // Told the size before, which keeps the memory of high levels in proportion.
        Compression::Zstd => match level {
            Some(level) => zstd::bulk::compress(body, level),
            None => zstd::stream::encode_all(body, ZSTD_LEVEL),
        },
    };
    outcome.map_err(|error| AppendError::Invalid(format!("{compression:?} compression: {error}")))
}

fn xerial(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + body.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.extend_from_slice(&1_u32.to_be_bytes());
    for block in body.chunks(XERIAL_BLOCK_BYTES) {
        let block = snap::raw::Encoder::new()
            .compress_vec(block)
            .map_err(io::Error::from)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
