//! Decompressing a batch's records piece by piece, into memory that a thread uses again and again.
//!
//! Nothing of a batch is ever held whole, with one exception: a block of snappy has no inner bounds. (The Java client frames
//! blocks of 32 KiB; others write one block for the batch, whose size is known before and is under the same bound.) What a
//! thread keeps is one piece and one zstd context; larger memory is given back when the batch is done.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::log::batch::Compression;
use crate::log::compression::{cut_short, snappy_block_length, xerial_blocks};

/// One piece.
const PIECE: usize = 64 << 10;
/// What a batch may decompress to and leave its thread's memory as it is.
const KEPT: usize = 4 << 20;
/// Windows of zstd that need no turn (8 MiB, what RFC 8878 recommends), and the largest that clients read (128 MiB).
const SMALL_WINDOW_LOG: u32 = 23;
const LARGEST_WINDOW_LOG: u32 = 27;
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Of an LZ4 frame: the magic, and the flag in the byte behind it that its blocks stand alone.
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const LZ4_INDEPENDENT: u8 = 1 << 5;

/// What a thread keeps from one batch to the next.
#[derive(Default)]
struct Scratch {
    piece: Vec<u8>,
    zstd: Option<Decoder<'static>>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

enum Codec<'a> {
    Gzip(flate2::read::MultiGzDecoder<&'a [u8]>),
    Lz4(lz4_flex::frame::FrameDecoder<&'a [u8]>),
    Snappy(Box<dyn Iterator<Item = io::Result<&'a [u8]>> + 'a>),
    Zstd {
        decoder: Decoder<'static>,
        rest: &'a [u8],
        /// A frame has ended, and no other begun.
        is_between: bool,
    },
}

/// A batch's records on their way out of compression.
pub struct Inflater<'a> {
    codec: Codec<'a>,
    piece: Vec<u8>,
    bound: usize,
    inflated: usize,
    /// What the codec has allocated is small enough to be kept.
    is_small: bool,
}

/// Why no more comes out.
#[derive(Debug)]
pub enum InflateError {
    /// More than the bound.
    TooLarge,
    Broken(io::Error),
}

impl From<io::Error> for InflateError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl<'a> Inflater<'a> {
    /// For a body in this codec, which is not `None`; at most `bound` bytes come out.
    pub fn new(compression: Compression, body: &'a [u8], bound: usize) -> io::Result<Self> {
        let mut scratch = SCRATCH.take();
        let codec = match compression {
            Compression::None => return Err(io::Error::other("the records are not compressed")),
            Compression::Gzip => Codec::Gzip(flate2::read::MultiGzDecoder::new(body)),
            Compression::Lz4 => {
                check_lz4(body)?;
                Codec::Lz4(lz4_flex::frame::FrameDecoder::new(body))
            }
            Compression::Snappy => Codec::Snappy(Box::new(xerial_blocks(body))),
            Compression::Zstd => {
                let mut decoder = match scratch.zstd.take() {
                    Some(mut kept) => {
                        kept.reinit()?;
                        kept
                    }
                    None => Decoder::new()?,
                };
                let log = match has_large_window(body) {
                    true => LARGEST_WINDOW_LOG,
                    false => SMALL_WINDOW_LOG,
                };
                decoder.set_parameter(DParameter::WindowLogMax(log))?;
                Codec::Zstd {
                    decoder,
                    rest: body,
                    is_between: true,
                }
            }
        };
        Ok(Self {
            codec,
            piece: scratch.piece,
            bound,
            inflated: 0,
            is_small: !(compression == Compression::Zstd && has_large_window(body)),
        })
    }

    /// Bytes that came out so far.
    pub fn inflated(&self) -> usize {
        self.inflated
    }

    /// The next piece; an empty one is the end.
    pub fn next_piece(&mut self) -> Result<&[u8], InflateError> {
        let length = match &mut self.codec {
            Codec::Gzip(reader) => read_piece(reader, &mut self.piece)?,
            Codec::Lz4(reader) => read_piece(reader, &mut self.piece)?,
            Codec::Snappy(blocks) => {
                let room = self.bound.saturating_sub(self.inflated);
                snappy_piece(blocks, room, &mut self.piece)?
            }
            Codec::Zstd {
                decoder,
                rest,
                is_between,
            } => zstd_piece((decoder, rest, is_between), &mut self.piece)?,
        };
        self.inflated += length;
        if self.inflated > self.bound {
            return Err(InflateError::TooLarge);
        }
        Ok(&self.piece[..length])
    }
}

impl Drop for Inflater<'_> {
    fn drop(&mut self) {
        let mut scratch = Scratch::default();
        if self.piece.len() <= PIECE {
            scratch.piece = std::mem::take(&mut self.piece);
        }
        if matches!(self.codec, Codec::Zstd { .. }) && self.is_small && self.inflated <= KEPT {
            let nothing = Codec::Snappy(Box::new(std::iter::empty()));
            if let Codec::Zstd { decoder, .. } = std::mem::replace(&mut self.codec, nothing) {
                scratch.zstd = Some(decoder);
            }
        }
        SCRATCH.set(scratch);
    }
}

fn read_piece(reader: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<usize> {
    piece.resize(PIECE, 0);
    let mut length = 0;
    while length < PIECE {
        match reader.read(&mut piece[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// The next block that holds anything.
fn snappy_piece(
    blocks: &mut dyn Iterator<Item = io::Result<&[u8]>>,
    room: usize,
    piece: &mut Vec<u8>,
) -> Result<usize, InflateError> {
    for block in blocks {
        let block = block?;
        let length = snappy_block_length(block)?;
        if length > room {
            return Err(InflateError::TooLarge);
        }
        if piece.len() < length {
            piece.resize(length, 0);
        }
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut piece[..length])
            .map_err(io::Error::from)?;
        if written > 0 {
            return Ok(written);
        }
    }
    Ok(0)
}

fn zstd_piece(
    (decoder, rest, is_between): (&mut Decoder<'static>, &mut &[u8], &mut bool),
    piece: &mut Vec<u8>,
) -> io::Result<usize> {
    piece.resize(PIECE, 0);
    loop {
        if rest.is_empty() && *is_between {
            return Ok(0);
        }
        let status = decoder.run_on_buffers(rest, piece)?;
        *rest = &rest[status.bytes_read..];
        *is_between = status.remaining == 0;
        if status.bytes_written > 0 {
            return Ok(status.bytes_written);
        }
        if status.bytes_read == 0 && !*is_between {
            return Err(cut_short());
        }
    }
}

/// What decompressing a body is going to cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// It may begin at once.
    Light,
    /// A piece of it is large: it has to wait for its turn.
    Large,
    /// It takes so much memory that no other runs beside it.
    Heavy,
}

/// What is known of that before anything comes out. A piece is large from `large` bytes on.
pub fn weight(compression: Compression, body: &[u8], large: usize) -> Weight {
    let is_large = |block: io::Result<&[u8]>| {
        let length = block.and_then(snappy_block_length);
        length.is_ok_and(|length| length > large)
    };
    match compression {
        Compression::Zstd if has_large_window(body) => Weight::Heavy,
        Compression::Snappy if xerial_blocks(body).any(is_large) => Weight::Large,
        _ => Weight::Light,
    }
}

/// Whether the first frame asks for more memory than a decoder takes without a turn.
fn has_large_window(body: &[u8]) -> bool {
    let Some((descriptor, rest)) = body.strip_prefix(&ZSTD_MAGIC).and_then(<[u8]>::split_first)
    else {
        return false;
    };
    // A frame of a single segment takes what its content takes, which is told in two, four or eight bytes.
    let window = if descriptor & 0x20 == 0 {
        let byte = rest.first().copied().unwrap_or(0);
        let base = 1_u64 << (10 + (byte >> 3));
        base + base / 8 * u64::from(byte & 7)
    } else {
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = rest.get(dictionary..).unwrap_or_default();
        match descriptor >> 6 {
            2 => content
                .first_chunk()
                .map_or(0, |it| u64::from(u32::from_le_bytes(*it))),
            3 => content
                .first_chunk()
                .map_or(0, |it| u64::from_le_bytes(*it)),
            _ => 0,
        }
    };
    window > 1 << SMALL_WINDOW_LOG
}

/// The Java client reads no frame whose blocks build on one another.
fn check_lz4(body: &[u8]) -> io::Result<()> {
    let flags = body.strip_prefix(&LZ4_MAGIC).and_then(<[u8]>::first);
    match flags {
        Some(flags) if flags & LZ4_INDEPENDENT == 0 => Err(io::Error::other(
            "its blocks depend on each other, which the Java client does not read",
        )),
        _ => Ok(()),
    }
}

/// Turns for decompression that takes long or much memory: a few at a time, whoever asks, so that many of them take neither
/// every core nor memory without a bound. Those who find too many waiting are sent away.
#[derive(Debug)]
pub struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
    most: usize,
    /// Held by the one who waits in front.
    front: Mutex<()>,
    waiting: AtomicUsize,
}

/// Turns that are left to others while anything runs.
const MOST_TURNS: usize = 4;
/// Callers that may wait for a turn, each with a thread of its own.
const MOST_WAITING: usize = 64;

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = (cores / 2).clamp(1, MOST_TURNS);
        Self {
            free: Mutex::new(most),
            freed: Condvar::new(),
            most,
            front: Mutex::new(()),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Turns {
    /// Callers that wait at this moment.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Does the work when it is its turn; with `alone` when no other runs. `None`: too many wait already.
    pub fn take<T>(&self, alone: bool, work: impl FnOnce() -> T) -> Option<T> {
        let is_full = self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING;
        let places = if alone { self.most } else { 1 };
        if !is_full {
            let _front = self.front.lock();
            let mut free = self.free.lock();
            while *free < places {
                self.freed.wait(&mut free);
            }
            *free -= places;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if is_full {
            return None;
        }
        let _turn = Turn {
            turns: self,
            places,
        };
        Some(work())
    }
}

/// Gives its places back, also when the work panics.
struct Turn<'a> {
    turns: &'a Turns,
    places: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.turns.free.lock() += self.places;
        self.turns.freed.notify_all();
    }
}
