//! Records to columns and back. What goes in is bounded; what comes back is checked, never trusted.

use bytes::Bytes;

use super::bindings::{Assignment, Columns, RecordBatch, Reject, Replacement};
use super::{KEEP_PARTITION, RecordReject, Transformed};
use crate::log::records::Record;

/// A reject's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;
/// Lengths that an answer may have beyond twice those it was given: room for headers that a plugin adds.
const SPARE_LENGTHS: usize = 32_768;
/// Bytes that an answer may have beyond twice those it was given.
pub const SPARE_BYTES: usize = 1 << 20;

/// Writes the wanted columns of `records` over what `batch` held. Errs when they come to more than `max_bytes`.
pub fn encode(
    records: &[Record],
    wanted: Columns,
    max_bytes: usize,
    batch: &mut RecordBatch,
) -> Result<(), String> {
    // Lengths are signed 32-bit numbers on the way to the guest.
    let max_bytes = max_bytes.min(i32::MAX as usize);
    batch.data.clear();
    batch.lengths.clear();
    batch.timestamps.clear();
    batch.lengths.reserve(3 * records.len());
    for record in records {
        let at = batch.lengths.len();
        let key = wanted.key.then_some(record.key.as_ref()).flatten();
        let value = wanted.value.then_some(record.value.as_ref()).flatten();
        let key = push(&mut batch.data, key);
        let value = push(&mut batch.data, value);
        batch.lengths.extend_from_slice(&[key, value, 0]);
        if wanted.headers && !record.headers.is_empty() {
            for (name, value) in &record.headers {
                let name = push(&mut batch.data, Some(name));
                let value = push(&mut batch.data, value.as_ref());
                batch.lengths.extend_from_slice(&[name, value]);
                batch.lengths[at + 2] += 1;
            }
        }
        if batch.data.len() > max_bytes {
            return Err(format!(
                "its records come to more than {max_bytes} bytes (plugins.max_decompressed_bytes)"
            ));
        }
    }
    if wanted.timestamps {
        batch
            .timestamps
            .extend(records.iter().map(|record| record.timestamp));
    }
    Ok(())
}

#[inline]
fn push(data: &mut Vec<u8>, field: Option<&Bytes>) -> i32 {
    let Some(field) = field else { return -1 };
    data.extend_from_slice(field);
    // A longer field is over the bound on the whole, which is looked at next.
    i32::try_from(field.len()).unwrap_or(i32::MAX)
}

/// Bytes that an answer to `batch` may carry.
pub fn max_answer_bytes(batch: &RecordBatch) -> usize {
    2 * batch.data.len() + SPARE_BYTES
}

/// The partitions that `answer` gives to `count` records.
pub fn partitions(
    answer: Assignment,
    count: usize,
    partition_count: u32,
) -> Result<Result<Vec<u32>, Vec<RecordReject>>, String> {
    let partitions = match answer {
        Assignment::Unchanged => return Ok(Ok(vec![KEEP_PARTITION; count])),
        Assignment::Reject(rejects) => return self::rejects(rejects, count).map(Err),
        Assignment::Partitions(partitions) => partitions,
    };
    if partitions.len() != count {
        return Err(format!(
            "{} partitions for {count} records",
            partitions.len()
        ));
    }
    let wrong = partitions
        .iter()
        .position(|partition| *partition >= partition_count && *partition != KEEP_PARTITION);
    match wrong {
        Some(index) => Err(format!(
            "partition {} for record {index}, of {partition_count} partitions",
            partitions[index]
        )),
        None => Ok(Ok(partitions)),
    }
}

/// The records that a bitmap keeps of `count`.
pub fn kept(bitmap: &[u8], count: usize) -> Result<Transformed, String> {
    if bitmap.len() != count.div_ceil(8) {
        return Err(format!(
            "a bitmap of {} bytes for {count} records",
            bitmap.len()
        ));
    }
    let spare = bitmap.len() * 8 - count;
    if spare > 0 && bitmap.last().is_some_and(|last| last >> (8 - spare) != 0) {
        return Err(format!("a bitmap with bits beyond its {count} records"));
    }
    let keep: Vec<bool> = (0..count)
        .map(|index| bitmap[index / 8] >> (index % 8) & 1 == 1)
        .collect();
    Ok(if keep.iter().all(|keep| *keep) {
        Transformed::Unchanged
    } else {
        Transformed::Keep(keep)
    })
}

/// Rejects in ascending order, each of a record that was there.
pub fn rejects(rejects: Vec<Reject>, count: usize) -> Result<Vec<RecordReject>, String> {
    if rejects.is_empty() {
        return Err("a rejection of no record".into());
    }
    ascending(rejects.iter().map(|reject| reject.index), count)
        .map_err(|wrong| format!("a rejection of {wrong}"))?;
    Ok(rejects
        .into_iter()
        .map(|reject| RecordReject {
            index: reject.index,
            code: reject.code.name(),
            message: truncated(reject.message, MAX_MESSAGE_BYTES),
        })
        .collect())
}

fn ascending(indexes: impl Iterator<Item = u32>, count: usize) -> Result<(), String> {
    let mut least = 0;
    for index in indexes {
        if index as usize >= count {
            return Err(format!("record {index}, of {count} records"));
        }
        if u64::from(index) < least {
            return Err(format!("record {index} out of order"));
        }
        least = u64::from(index) + 1;
    }
    Ok(())
}

/// Cuts a text to at most `max` bytes, at a character's end.
pub fn truncated(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

/// The records that a guest wrote anew. Unwanted columns come from each one's source; the new ones share one buffer.
///
/// `given` is what the guest was sent, for the bounds: at most twice the bytes and 1 MiB.
pub fn replaced(
    answer: Replacement,
    wanted: Columns,
    input: &[Record],
    given: &RecordBatch,
) -> Result<Vec<(u32, Record)>, String> {
    let Replacement { batch, sources } = answer;
    let limit = max_answer_bytes(given);
    if batch.data.len() > limit {
        return Err(format!(
            "{} bytes of records, of at most {limit}",
            batch.data.len()
        ));
    }
    let limit = 2 * given.lengths.len() + SPARE_LENGTHS;
    if batch.lengths.len() > limit {
        return Err(format!(
            "{} lengths, of at most {limit}",
            batch.lengths.len()
        ));
    }
    ascending(sources.iter().copied(), input.len())
        .map_err(|wrong| format!("records made from {wrong}"))?;
    if wanted.timestamps && batch.timestamps.len() != sources.len() {
        return Err(format!(
            "{} timestamps for {} records",
            batch.timestamps.len(),
            sources.len()
        ));
    }
    let mut reader = Reader {
        data: Bytes::from(batch.data),
        at: 0,
        lengths: &batch.lengths,
    };
    let mut records = Vec::with_capacity(sources.len());
    for (position, source) in sources.iter().enumerate() {
        let mut record = reader
            .record(wanted, &input[*source as usize])
            .map_err(|wrong| format!("record {position}: {wrong}"))?;
        if wanted.timestamps {
            record.timestamp = batch.timestamps[position];
            if record.timestamp < -1 {
                return Err(format!(
                    "record {position}: the timestamp {}",
                    record.timestamp
                ));
            }
        }
        records.push((*source, record));
    }
    reader.finish(sources.len())?;
    Ok(records)
}

/// Walks an arena by its lengths; nothing is read that is not there.
struct Reader<'a> {
    data: Bytes,
    at: usize,
    lengths: &'a [i32],
}

impl Reader<'_> {
    fn record(&mut self, wanted: Columns, source: &Record) -> Result<Record, String> {
        let key = self.field("key")?;
        let value = self.field("value")?;
        let count = self.length("header count")?;
        let count = usize::try_from(count).map_err(|_| format!("{count} headers"))?;
        if count > self.lengths.len() / 2 {
            return Err(format!("{count} headers, more than lengths are left"));
        }
        let mut headers = Vec::new();
        if wanted.headers {
            headers.reserve_exact(count);
        }
        for _ in 0..count {
            let name = self.field("header name")?.ok_or("a null header name")?;
            let value = self.field("header value")?;
            if wanted.headers {
                std::str::from_utf8(&name).map_err(|_| "a header name that is not UTF-8")?;
                headers.push((name, value));
            }
        }
        Ok(Record {
            offset_delta: source.offset_delta,
            timestamp: source.timestamp,
            key: if wanted.key { key } else { source.key.clone() },
            value: if wanted.value {
                value
            } else {
                source.value.clone()
            },
            headers: if wanted.headers {
                headers
            } else {
                source.headers.clone()
            },
        })
    }

    fn length(&mut self, what: &str) -> Result<i32, String> {
        let (first, rest) = self
            .lengths
            .split_first()
            .ok_or_else(|| format!("no {what} length is left"))?;
        self.lengths = rest;
        Ok(*first)
    }

    fn field(&mut self, what: &str) -> Result<Option<Bytes>, String> {
        let length = self.length(what)?;
        if length == -1 {
            return Ok(None);
        }
        let left = self.data.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let end = self.at + length;
                let field = self.data.slice(self.at..end);
                self.at = end;
                Ok(Some(field))
            }
            _ => Err(format!("a {what} of {length} bytes, where {left} are left")),
        }
    }

    fn finish(&self, records: usize) -> Result<(), String> {
        if !self.lengths.is_empty() {
            return Err(format!(
                "{} lengths left over after {records} records",
                self.lengths.len()
            ));
        }
        let left = self.data.len() - self.at;
        if left > 0 {
            return Err(format!("{left} bytes left over after {records} records"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
