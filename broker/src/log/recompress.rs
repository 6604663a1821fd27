//! Batches in their topic's codec (`compression.type`).
//!
//! A batch whose producer used the topic's codec already, or a topic that takes each as it comes, costs one comparison.
//! Every other batch is decompressed as a whole, compressed again and gets a new header: codec, size and checksum change, and
//! nothing else. Kafka does the same at the same place, and measures the result against `max.message.bytes`.
//!
//! What takes long (much comes out of compression, or the level is high) waits for its turn with the decompression of
//! others (`validate`), while the thread's other tasks go on elsewhere.

use std::io;

use super::AppendError;
use super::batch::{ATTRIBUTE_COMPRESSION, Batch, Compression, HEADER_SIZE, checksum};
use super::compression::{compress_at, decompress_within};
use super::partition::PartitionLog;
use crate::config::{TopicCompression, TopicConfig};
use crate::env;

/// What is compressed at once, in bytes: a few milliseconds up to the level below.
const AT_ONCE: usize = 256 << 10;
const QUICK_LEVEL: i32 = 9;

impl PartitionLog {
    /// The batch as this partition's topic stores it.
    ///
    /// # Errors
    /// When its records cannot be decompressed or become too large, or too many wait for their turn.
    pub fn in_topics_codec(&self, batch: Batch) -> Result<Batch, AppendError> {
        let config = self.config.load();
        let Some(codec) = codec(&config) else {
            return Ok(batch);
        };
        if batch.header.compression() == Some(codec) {
            return Ok(batch);
        }
        let limit = self.shared.config.max_decompressed_batch_bytes;
        let bounds = Bounds {
            decompressed: usize::try_from(limit).unwrap_or(usize::MAX),
            message: usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX),
        };
        let level = level(&config);
        let at_once = Bounds {
            decompressed: AT_ONCE.min(bounds.decompressed),
            ..bounds
        };
        if level.is_none_or(|level| level <= QUICK_LEVEL) && batch.bytes.len() <= AT_ONCE {
            match recompress(&batch, (codec, level), at_once) {
                Err(AppendError::InflatedTooFar { .. }) => {}
                outcome => return outcome,
            }
        }
        let turn = || {
            self.shared
                .turns
                .take(false, || recompress(&batch, (codec, level), bounds))
        };
        env::in_place(turn).ok_or(AppendError::Busy)?
    }
}

/// `None`: as each producer chose.
fn codec(config: &TopicConfig) -> Option<Compression> {
    Some(match config.compression {
        TopicCompression::Producer => return None,
        TopicCompression::Uncompressed => Compression::None,
        TopicCompression::Gzip => Compression::Gzip,
        TopicCompression::Snappy => Compression::Snappy,
        TopicCompression::Lz4 => Compression::Lz4,
        TopicCompression::Zstd => Compression::Zstd,
    })
}

/// `None`: the codec's default.
fn level(config: &TopicConfig) -> Option<i32> {
    match config.compression {
        TopicCompression::Gzip => Some(config.gzip_level).filter(|level| *level > 0),
        TopicCompression::Zstd => Some(config.zstd_level),
        _ => None,
    }
}

/// In bytes.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// What the records may decompress to.
    pub decompressed: usize,
    /// The batch that becomes of them.
    pub message: usize,
}

/// The same records in another codec.
///
/// # Errors
/// When they cannot be decompressed, or a bound is passed.
pub fn recompress(
    batch: &Batch,
    (codec, level): (Compression, Option<i32>),
    bounds: Bounds,
) -> Result<Batch, AppendError> {
    let before = batch.header.compression().ok_or_else(|| {
        AppendError::Invalid("the batch's compression code is unknown".to_owned())
    })?;
    let body = batch.bytes.slice(HEADER_SIZE.min(batch.bytes.len())..);
    let records = decompress_within(before, &body, bounds.decompressed);
    let records = records.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => AppendError::InflatedTooFar {
            limit: bounds.decompressed,
        },
        _ => AppendError::Invalid(format!("its records are no {before:?} data: {error}")),
    })?;
    let body = match codec {
        Compression::None => records.to_vec(),
        codec => compress_at(codec, &records, level)?,
    };
    let mut header = batch.header;
    header.size = HEADER_SIZE + body.len();
    if header.size > bounds.message {
        return Err(AppendError::TooLarge {
            size: header.size,
            limit: bounds.message,
        });
    }
    header.attributes = header.attributes & !ATTRIBUTE_COMPRESSION | codec.code();
    header.crc = checksum(&header.write(), &body);
    let mut bytes = Vec::with_capacity(header.size);
    bytes.extend_from_slice(&header.write());
    bytes.extend_from_slice(&body);
    Ok(Batch {
        header,
        bytes: bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::records::{BatchTemplate, Record, decode, encode};

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    const BOUNDS: Bounds = Bounds {
        decompressed: 1 << 20,
        message: 1 << 20,
    };

    const WHOLE: usize = 1 << 20;

    fn fifty() -> Vec<Record> {
        let record = |delta: i32| Record {
            offset_delta: delta,
            timestamp: 1_000 + i64::from(delta),
            key: Some(format!("key {delta}").into()),
            value: Some("value ".repeat(100).into()),
            ..Record::default()
        };
        (0..50).map(record).collect()
    }

    fn batch(compression: Compression) -> Batch {
        let template = BatchTemplate {
            compression,
            producer_id: 7,
            producer_epoch: 2,
            base_sequence: 11,
            is_transactional: true,
            ..BatchTemplate::PLAIN
        };
        encode(template, &fifty()).expect("it encodes")
    }

    #[test]
    fn any_codec_becomes_any_other_and_nothing_else_changes() {
        for before in CODECS {
            for after in CODECS {
                let batch = batch(before);
                let again = recompress(&batch, (after, None), BOUNDS).expect("it is fine");
                let place = format!("{before:?} to {after:?}");
                let split = crate::log::batch::split(again.bytes.clone(), 1 << 20);
                assert_eq!(split.expect(&place)[0].header, again.header, "{place}");
                assert_eq!(again.header.compression(), Some(after), "{place}");
                let mut like_before = again.header;
                like_before.size = batch.header.size;
                like_before.crc = batch.header.crc;
                like_before.attributes = batch.header.attributes;
                assert_eq!(like_before, batch.header, "{place}");
                let decoded = decode(&again, WHOLE).expect(&place);
                assert_eq!(decoded, decode(&batch, WHOLE).expect(&place), "{place}");
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_codec() {
        let size = |codec, level| {
            let recompressed = recompress(&batch(Compression::None), (codec, Some(level)), BOUNDS);
            recompressed.expect("it is fine").bytes.len()
        };
        assert!(size(Compression::Gzip, 9) <= size(Compression::Gzip, 1));
        assert!(size(Compression::Zstd, 19) < size(Compression::Zstd, -131_072));
    }

    #[test]
    fn both_bounds_are_kept() {
        let batch = batch(Compression::Zstd);
        let little = Bounds {
            decompressed: 1_000,
            ..BOUNDS
        };
        let outcome = recompress(&batch, (Compression::Gzip, None), little);
        assert!(matches!(
            outcome,
            Err(AppendError::InflatedTooFar { limit: 1_000 })
        ));
        let short = Bounds {
            message: 1_000,
            ..BOUNDS
        };
        let outcome = recompress(&batch, (Compression::None, None), short);
        assert!(matches!(
            outcome,
            Err(AppendError::TooLarge { limit: 1_000, .. })
        ));
    }
}
