//! The codecs of the Kafka protocol. Decompression is bounded: a few bytes can claim to be gigabytes.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;

/// How a batch's records are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Name by code: the code is a batch's attribute bits 0 to 2.
const NAMES: [(Compression, &str); 5] = [
    (Compression::None, "none"),
    (Compression::Gzip, "gzip"),
    (Compression::Snappy, "snappy"),
    (Compression::Lz4, "lz4"),
    (Compression::Zstd, "zstd"),
];

/// snappy-java's stream: this, two version numbers, then blocks of a length and a raw snappy block.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK: usize = 32 << 10;

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[self.code() as usize].1)
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        NAMES
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(compression, _)| *compression)
            .ok_or_else(|| {
                Error::Config(format!(
                    "unknown compression {name}: use none, gzip, snappy, lz4 or zstd"
                ))
            })
    }
}

impl Compression {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        NAMES
            .get(usize::from(code))
            .map(|(compression, _)| *compression)
    }

    /// Compresses a batch's records.
    pub(crate) fn compress(self, records: Bytes) -> io::Result<Bytes> {
        let out = BytesMut::with_capacity(records.len() / 2 + 64).writer();
        let out = match self {
            Self::None => return Ok(records),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(&records)?;
                encoder.finish()?
            }
            Self::Snappy => return compress_xerial(&records),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(&records)?;
                encoder.finish().map_err(io::Error::other)?
            }
            Self::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, 3)?;
                encoder.write_all(&records)?;
                encoder.finish()?
            }
        };
        Ok(out.into_inner().freeze())
    }

    /// Decompresses at most `limit` bytes; more is an error.
    pub(crate) fn decompress(self, compressed: Bytes, limit: usize) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(compressed),
            Self::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&compressed[..]), limit),
            Self::Snappy => decompress_snappy(&compressed, limit),
            Self::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&compressed[..]), limit),
            Self::Zstd => read_bounded(zstd::stream::read::Decoder::new(&compressed[..])?, limit),
        }
    }
}

fn too_large(limit: usize) -> io::Error {
    io::Error::other(format!("it decompresses to more than {limit} bytes"))
}

fn read_bounded(decoder: impl Read, limit: usize) -> io::Result<Bytes> {
    let mut out = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(too_large(limit));
    }
    Ok(out.into())
}

fn compress_xerial(records: &[u8]) -> io::Result<Bytes> {
    let mut out = BytesMut::with_capacity(records.len() / 2 + 64);
    out.put_slice(&XERIAL_MAGIC);
    out.put_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        // A block of 32 KiB compresses to little more than itself: it fits 32 bits.
        out.put_u32(compressed.len() as u32);
        out.put_slice(&compressed);
    }
    Ok(out.freeze())
}

/// Reads snappy-java's stream, and a bare snappy block as some clients write it.
fn decompress_snappy(compressed: &[u8], limit: usize) -> io::Result<Bytes> {
    let mut out = Vec::new();
    match compressed.strip_prefix(&XERIAL_MAGIC) {
        None => decompress_block(compressed, limit, &mut out)?,
        Some(rest) => {
            let mut rest = rest
                .get(XERIAL_VERSIONS.len()..)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > after.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let (block, next) = after.split_at(length);
                decompress_block(block, limit, &mut out)?;
                rest = next;
            }
        }
    }
    Ok(out.into())
}

fn decompress_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if length > limit.saturating_sub(out.len()) {
        return Err(too_large(limit));
    }
    let from = out.len();
    out.resize(from + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[from..])
        .map_err(io::Error::other)?;
    out.truncate(from + written);
    Ok(())
}
