//! What a Produce request carries for a partition: is it what it says, and can every client read it?
//!
//! The **frame** of a batch is its size, its header and its CRC-32C. Behind it come the records, which the checksum of a
//! client with a mistake in it covers as well. Under `tidegate.validation=full` they are **walked** once (`walker`), as they
//! lie or as they come out of compression (`inflate`), and nothing is built or kept of them. Invariants:
//!
//! - what is admitted holds as many records as its header counts, with offset deltas 0, 1, 2 and so on, and nothing behind them;
//! - its header's largest timestamp is that of its records, whatever the client wrote: what is found by time and what is
//!   deleted by age follows it. Only a batch that has to be **corrected** is copied, and gets a new checksum;
//! - a wrong checksum is CORRUPT_MESSAGE, since the same bytes may arrive whole when they are sent again; whatever is wrong
//!   under a right one is final.
//!
//! Decompressing goes on in place up to `AT_ONCE` bytes; what is larger waits for its turn while the thread's other tasks go
//! on elsewhere, and ends at `log.max-decompressed-batch-bytes`.

mod inflate;
pub(super) mod walker;

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;

pub(super) use inflate::Turns;
use inflate::{InflateError, Inflater};
use walker::{Deltas, Expected, Facts, Fault, Offence, OffenceKind, Walker};

use super::AppendError;
use super::batch::{
    self, Batch, BatchHeader, Compression, HEADER_SIZE, MIN_RECORD_SIZE, at, checksum,
};
use super::partition::PartitionLog;
use crate::config::{TimestampType, TopicConfig, Validation};
use crate::env;
use crate::types::TimestampMs;

/// Bytes of records that are checksummed and then walked, while they are in a near cache: a multiple of the 24 KiB at which the
/// checksum is quickest.
const BLOCK: usize = 96 << 10;
/// Bytes that come out of compression before the rest has to wait for its turn: ten milliseconds of the slowest codec.
const AT_ONCE: usize = 4 << 20;

/// Records that a topic does not take, by their place in the batch (KIP-467).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordErrors {
    /// Some are refused for their time.
    pub has_wrong_time: bool,
    /// The first of them.
    pub records: Vec<RecordError>,
    pub total: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError {
    pub index: u32,
    pub message: String,
}

impl fmt::Display for RecordErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.records.first() else {
            return f.write_str("records are refused");
        };
        write!(f, "record {}: {}", first.index, first.message)?;
        match self.total {
            0 | 1 => Ok(()),
            more => write!(f, " ({more} records of the batch are refused)"),
        }
    }
}

/// What a topic asks of a batch.
pub(super) struct Rules<'a> {
    pub config: &'a TopicConfig,
    pub now: TimestampMs,
    pub max_decompressed: usize,
    pub turns: &'a Turns,
}

impl PartitionLog {
    /// Checks what a Produce request carries for this partition as the topic says (`tidegate.validation`). Zero copies, unless
    /// the header has to be corrected. A batch that takes long to decompress is checked in place all the same, with the
    /// thread's other tasks elsewhere.
    pub fn admit(&self, records: Bytes) -> Result<Batch, AppendError> {
        let config = self.config.load();
        let bound = self.shared.config.max_decompressed_batch_bytes;
        let bound = bound.min(config.max_decompressed_message_bytes.into());
        let rules = Rules {
            config: &config,
            now: self.shared.clock.now_ms(),
            max_decompressed: usize::try_from(bound).unwrap_or(usize::MAX),
            turns: &self.shared.turns,
        };
        admit(records, &rules)
    }
}

/// As [`PartitionLog::admit`], without a partition.
pub(super) fn admit(records: Bytes, rules: &Rules<'_>) -> Result<Batch, AppendError> {
    if records.is_empty() {
        return Err(AppendError::Invalid(
            "the request carries no records for the partition".into(),
        ));
    }
    let max_message_bytes = usize::try_from(rules.config.max_message_bytes).unwrap_or(usize::MAX);
    let header = batch::check_front(&records, max_message_bytes)?;
    let facts = rules.check(&header, &records[..header.size])?;
    if records.len() > header.size {
        return Err(AppendError::Invalid(format!(
            "a partition's records must be one batch, and {} bytes follow it",
            records.len() - header.size
        )));
    }
    let batch = Batch {
        header,
        bytes: records,
    };
    Ok(match facts {
        Some(facts) if rules.corrects(&header, &facts) => correct(&batch, facts.max_timestamp),
        _ => batch,
    })
}

impl Rules<'_> {
    /// Frame, header and, where the topic says so, records. `bytes` are the whole batch.
    fn check(&self, header: &BatchHeader, bytes: &[u8]) -> Result<Option<Facts>, AppendError> {
        let Some((head, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Err(AppendError::Corrupt("the batch is cut short".into()));
        };
        let is_fit = batch::check_client_header(header);
        if is_fit.is_err() || !self.is_full() {
            batch::check_crc(header, checksum(head, body))?;
            is_fit?;
            self.check_header_times(header)?;
            return Ok(None);
        }
        let mut walker = Walker::new(self.expected(header));
        let walked = match header.compression().unwrap_or_default() {
            Compression::None => {
                let (crc, walked) = checksum_and_walk(head, body, &mut walker);
                batch::check_crc(header, crc)?;
                walked
            }
            compression => {
                batch::check_crc(header, checksum(head, body))?;
                self.inflate(compression, body, header, &mut walker)?
            }
        };
        let facts = walked
            .and_then(|()| walker.finish())
            .map_err(|fault| refused(fault, header))?;
        match facts.offences_total {
            0 => Ok(Some(facts)),
            _ => Err(AppendError::Records(self.explain(&facts))),
        }
    }

    /// A compacted topic has to know that each record has a key.
    fn is_full(&self) -> bool {
        self.config.validation == Validation::Full || self.config.cleanup_compact
    }

    fn expected(&self, header: &BatchHeader) -> Expected {
        Expected {
            count: u32::try_from(header.record_count).unwrap_or(0),
            deltas: Deltas::Consecutive,
            base_timestamp: header.base_timestamp,
            times: self.times(),
            needs_keys: self.config.cleanup_compact,
        }
    }

    /// Times that the topic takes.
    fn times(&self) -> RangeInclusive<TimestampMs> {
        if self.config.timestamp_type != TimestampType::CreateTime {
            return TimestampMs::MIN..=TimestampMs::MAX;
        }
        let oldest = self.now.saturating_sub(self.config.timestamp_before_max_ms);
        oldest.max(0)..=self.now.saturating_add(self.config.timestamp_after_max_ms)
    }

    /// What can be said of times without the records.
    fn check_header_times(&self, header: &BatchHeader) -> Result<(), AppendError> {
        let (times, base, max) = (self.times(), header.base_timestamp, header.max_timestamp);
        if max < 0 || (*times.start() <= base && times.contains(&max)) {
            return Ok(());
        }
        Err(AppendError::InvalidTimestamp(format!(
            "{base} to {max} is not between {} and {} (message.timestamp.before.max.ms, message.timestamp.after.max.ms)",
            times.start(),
            times.end()
        )))
    }

    /// Decompresses into the walker: what is small at once, the rest when it is its turn.
    fn inflate(
        &self,
        compression: Compression,
        body: &[u8],
        header: &BatchHeader,
        walker: &mut Walker,
    ) -> Result<Result<(), Fault>, AppendError> {
        let room = self.max_decompressed / MIN_RECORD_SIZE;
        if usize::try_from(header.record_count).is_ok_and(|count| count > room) {
            return Err(self.inflated_too_far());
        }
        let weight = inflate::weight(compression, body, AT_ONCE);
        let mut inflater = Inflater::new(compression, body, self.max_decompressed)
            .map_err(|error| unreadable(compression, &error))?;
        let mut walk = |until: usize| -> Result<Progress, InflateError> {
            while inflater.inflated() < until {
                let piece = inflater.next_piece()?;
                if piece.is_empty() {
                    return Ok(Progress::Ended(Ok(())));
                }
                if let Err(fault) = walker.feed(piece) {
                    return Ok(Progress::Ended(Err(fault)));
                }
            }
            Ok(Progress::More)
        };
        let mut progress = match weight {
            inflate::Weight::Light => walk(AT_ONCE),
            _ => Ok(Progress::More),
        };
        if matches!(progress, Ok(Progress::More)) {
            let is_alone = weight == inflate::Weight::Heavy;
            let rest = env::in_place(|| self.turns.take(is_alone, || walk(usize::MAX)));
            progress = rest.ok_or(AppendError::Busy)?;
        }
        match progress {
            Ok(Progress::Ended(outcome)) => Ok(outcome),
            Ok(Progress::More) | Err(InflateError::TooLarge) => Err(self.inflated_too_far()),
            Err(InflateError::Broken(error)) => Err(unreadable(compression, &error)),
        }
    }

    fn inflated_too_far(&self) -> AppendError {
        AppendError::InflatedTooFar {
            limit: self.max_decompressed,
        }
    }

    /// Whether the header says another largest time than the records. What the broker stamps it writes anew in any case.
    fn corrects(&self, header: &BatchHeader, facts: &Facts) -> bool {
        self.config.timestamp_type == TimestampType::CreateTime
            && header.max_timestamp != facts.max_timestamp
    }

    fn explain(&self, facts: &Facts) -> RecordErrors {
        let is_time = |offence: &Offence| matches!(offence.kind, OffenceKind::Time(_));
        let explain = |offence: &Offence| RecordError {
            index: offence.record,
            message: self.message(offence.kind),
        };
        RecordErrors {
            has_wrong_time: facts.offences.iter().any(is_time),
            records: facts.offences.iter().map(explain).collect(),
            total: facts.offences_total,
        }
    }

    fn message(&self, kind: OffenceKind) -> String {
        let times = self.times();
        match kind {
            OffenceKind::WithoutKey => {
                "it has no key, and a compacted topic (cleanup.policy) takes none without: send a key with each record"
                    .into()
            }
            OffenceKind::Time(time) if time < 0 => {
                format!("its timestamp {time} is below -1, which stands for no time: send milliseconds since 1970")
            }
            OffenceKind::Time(time) => format!(
                "its timestamp {time} is not between {} and {} (message.timestamp.before.max.ms, \
                 message.timestamp.after.max.ms): send milliseconds since 1970, or raise the topic's setting",
                times.start(),
                times.end()
            ),
        }
    }
}

/// Checksum and records in one pass, so that each byte comes from memory once.
fn checksum_and_walk(
    head: &[u8; HEADER_SIZE],
    body: &[u8],
    walker: &mut Walker,
) -> (u32, Result<(), Fault>) {
    let mut crc = crc32c::crc32c(&head[at::ATTRIBUTES..]);
    let mut walked = Ok(());
    for block in body.chunks(BLOCK) {
        crc = crc32c::crc32c_append(crc, block);
        walked = walked.and_then(|()| walker.feed(block));
    }
    (crc, walked)
}

/// How far decompressing came.
enum Progress {
    More,
    Ended(Result<(), Fault>),
}

fn unreadable(compression: Compression, error: &std::io::Error) -> AppendError {
    AppendError::Invalid(format!(
        "its records are no {compression:?} data that every client reads: {error}"
    ))
}

/// The refusal of a batch whose records make no sense. The place is told as KIP-467 wants it, too.
fn refused(fault: Fault, header: &BatchHeader) -> AppendError {
    let Some(index) = fault.record else {
        return AppendError::Invalid(fault.what);
    };
    let message = format!(
        "{}: record {index} of {} is malformed; it is the producer's client library that writes it so",
        fault.what, header.record_count
    );
    AppendError::Records(RecordErrors {
        has_wrong_time: false,
        records: vec![RecordError { index, message }],
        total: 1,
    })
}

/// The batch with another largest time in its header, and the checksum that belongs to it.
fn correct(batch: &Batch, max_timestamp: TimestampMs) -> Batch {
    let mut header = batch.header;
    header.max_timestamp = max_timestamp;
    let body = batch.bytes.get(HEADER_SIZE..).unwrap_or_default();
    header.crc = checksum(&header.write(), body);
    Batch {
        header,
        bytes: [&header.write()[..], body].concat().into(),
    }
}

/// What the records of a stored batch come to: their largest time, or why they cannot be what they say. `bytes` are the whole
/// batch, whose checksum was right.
pub(super) fn examine(
    header: &BatchHeader,
    bytes: &[u8],
    max_decompressed: usize,
) -> Result<TimestampMs, String> {
    let body = bytes.get(HEADER_SIZE..).unwrap_or_default();
    let count = u32::try_from(header.record_count)
        .map_err(|_| format!("its header counts {} records", header.record_count))?;
    let mut walker = Walker::new(Expected {
        count,
        deltas: Deltas::Ascending(header.last_offset_delta),
        base_timestamp: header.base_timestamp,
        times: TimestampMs::MIN..=TimestampMs::MAX,
        needs_keys: false,
    });
    let explain = |fault: Fault| match fault.record {
        Some(record) => format!("record {record} of {count}: {}", fault.what),
        None => fault.what,
    };
    let compression = header
        .compression()
        .ok_or_else(|| format!("attributes {:#06x}: unknown codec", header.attributes))?;
    // An empty batch has no body, compressed or not.
    if compression == Compression::None || (count == 0 && body.is_empty()) {
        walker.feed(body).map_err(explain)?;
    } else {
        let unreadable = |error: std::io::Error| format!("no {compression:?} data: {error}");
        let mut inflater =
            Inflater::new(compression, body, max_decompressed).map_err(unreadable)?;
        loop {
            let piece = inflater.next_piece().map_err(|error| match error {
                InflateError::TooLarge => {
                    format!("it decompresses to more than {max_decompressed} bytes")
                }
                InflateError::Broken(error) => unreadable(error),
            })?;
            if piece.is_empty() {
                break;
            }
            walker.feed(piece).map_err(explain)?;
        }
    }
    let facts = walker.finish().map_err(explain)?;
    Ok(match header.is_log_append_time() {
        true => header.max_timestamp,
        false => facts.max_timestamp,
    })
}
