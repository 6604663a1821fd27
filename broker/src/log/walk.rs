//! Walking the records of a batch as they are decompressed: what a search needs, in a bounded piece of memory however much comes
//! out of the batch.
//!
//! Raw snappy is the exception: it is one block, which comes out at once, and is therefore bounded more tightly.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;

use super::batch::{BatchHeader, Compression};
use super::compression;
use crate::types::TimestampMs;

/// Decompressed bytes that are in memory at a time.
const PIECE_BYTES: usize = 32 << 10;
/// The most that a raw snappy block may become, and the largest window of a zstd frame: with a batch these stay within
/// what one search reserves (`env::budget::SEARCH_BYTES`).
const BLOCK_BYTES: usize = 8 << 20;

/// Reads record after record and passes over what it is not asked for.
pub(super) struct Walk<'a> {
    source: BufReader<io::Take<Box<dyn Read + 'a>>>,
}

/// Where a record stands in its batch, and in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordPlace {
    pub offset_delta: i32,
    pub timestamp: TimestampMs,
}

impl<'a> Walk<'a> {
    /// Walks a batch's body; what comes out of it after `bound` bytes is as if it were not there.
    pub fn new(compression: Compression, body: &'a Bytes, bound: usize) -> io::Result<Self> {
        let source = compression::reader(compression, body, BLOCK_BYTES.min(bound))?;
        Ok(Self {
            source: BufReader::with_capacity(PIECE_BYTES, source.take(bound as u64)),
        })
    }

    /// The next record's place. An error of the kind `InvalidData` means that it is malformed.
    pub fn next(&mut self, header: &BatchHeader) -> io::Result<RecordPlace> {
        let length = self.varint()?.0;
        let mut left = u64::try_from(length).map_err(|_| malformed())?;
        // The attributes of a record are reserved; nobody has given them a meaning.
        self.byte()?;
        let (timestamp_delta, first) = self.varint()?;
        let (offset_delta, second) = self.varint()?;
        left = left.checked_sub(1 + first + second).ok_or_else(malformed)?;
        self.pass_over(left)?;
        Ok(RecordPlace {
            offset_delta: i32::try_from(offset_delta).map_err(|_| malformed())?,
            timestamp: if header.is_log_append_time() {
                header.max_timestamp
            } else {
                header.base_timestamp.wrapping_add(timestamp_delta)
            },
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A zigzag varint, and how many bytes it took.
    fn varint(&mut self) -> io::Result<(i64, u64)> {
        let mut value = 0_u64;
        for index in 0..10 {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let number = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
                return Ok((number, index + 1));
            }
        }
        Err(malformed())
    }

    fn pass_over(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let here = self.source.fill_buf()?.len();
            if here == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = here.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.source.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::{Batch, HEADER_SIZE};
    use crate::log::records::{BatchTemplate, Record, encode};

    fn batch(compression: Compression, values: &[usize]) -> Batch {
        let records: Vec<Record> = (0..)
            .zip(values)
            .map(|(delta, size)| Record {
                offset_delta: delta,
                timestamp: 1000 + i64::from(delta),
                value: Some(vec![delta as u8; *size].into()),
                ..Record::default()
            })
            .collect();
        let template = BatchTemplate {
            compression,
            ..BatchTemplate::PLAIN
        };
        encode(template, &records).expect("encodes")
    }

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn every_codec_gives_the_places_of_records_of_every_size() {
        for codec in CODECS {
            let batch = batch(codec, &[0, 1, 100, 70_000, 3, 200_000, 0]);
            let body = batch.bytes.slice(HEADER_SIZE..);
            let mut walk = Walk::new(codec, &body, 64 << 20).expect("opens");
            for delta in 0..7 {
                let expected = RecordPlace {
                    offset_delta: delta,
                    timestamp: 1000 + i64::from(delta),
                };
                assert_eq!(
                    walk.next(&batch.header).expect("a record"),
                    expected,
                    "{codec:?}"
                );
            }
            assert!(walk.next(&batch.header).is_err(), "{codec:?}: no more");
        }
    }

    #[test]
    fn what_comes_after_the_bound_is_not_there() {
        for codec in CODECS {
            let batch = batch(codec, &[100_000, 100_000, 100_000]);
            let body = batch.bytes.slice(HEADER_SIZE..);
            let mut walk = Walk::new(codec, &body, 150_000).expect("opens");
            assert!(walk.next(&batch.header).is_ok(), "{codec:?}");
            assert!(walk.next(&batch.header).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_records_are_an_error() {
        let header = batch(Compression::None, &[1]).header;
        for (what, bytes) in [
            ("nothing", &b""[..]),
            ("a negative length", &[1, 0, 0, 0]),
            ("a length that ends inside its front", &[2, 0, 0, 0]),
            ("a length past the end", &[60, 0, 0, 0, 1, 1]),
            ("a number without an end", &[0xff; 12]),
        ] {
            let body = Bytes::copy_from_slice(bytes);
            let mut walk = Walk::new(Compression::None, &body, 1 << 20).expect("opens");
            assert!(walk.next(&header).is_err(), "{what}");
        }
    }
}
