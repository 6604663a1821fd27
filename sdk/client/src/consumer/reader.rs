//! Turns what was fetched into the records that the application gets.

use std::collections::BTreeSet;

use crate::consumer::partitions::Fetched;
use crate::records::{Batch, Batches, ConsumerRecord, DecodeError, DecodedRecord, Records};

/// Reads one [`Fetched`] record by record. Control batches, batches of transactions that were given up, and records
/// before the position are skipped.
#[derive(Debug)]
pub(crate) struct Reader {
    pub source: Fetched,
    /// The offset of the next record that is given out.
    pub position: i64,
    batches: Batches,
    open: Option<OpenBatch>,
    /// Producers whose transaction, at this point of the log, will be given up.
    aborting: BTreeSet<i64>,
    next_aborted: usize,
    limit: usize,
}

#[derive(Debug)]
struct OpenBatch {
    records: Records,
    next_offset: i64,
}

impl Reader {
    /// `limit`: the most bytes that one batch may decompress to.
    pub fn new(source: Fetched, position: i64, limit: usize) -> Self {
        Self {
            position,
            batches: Batches::new(source.bytes.clone()),
            source,
            open: None,
            aborting: BTreeSet::new(),
            next_aborted: 0,
            limit,
        }
    }

    /// The next record; `None` when there are no more. The position moves with it, also over what is skipped.
    pub fn next(&mut self) -> Result<Option<ConsumerRecord>, DecodeError> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(record) = open.records.next() {
                    let record = record?;
                    if record.offset >= self.position {
                        self.position = record.offset.saturating_add(1);
                        return Ok(Some(self.record(record)));
                    }
                    continue;
                }
                self.position = self.position.max(open.next_offset);
                self.open = None;
            }
            let Some(batch) = self.batches.next() else {
                return Ok(None);
            };
            let batch = batch?;
            if self.is_hidden(&batch)? || batch.next_offset() <= self.position {
                self.position = self.position.max(batch.next_offset());
            } else {
                self.open = Some(OpenBatch {
                    next_offset: batch.next_offset(),
                    records: batch.records(self.limit)?,
                });
            }
        }
    }

    fn record(&self, record: DecodedRecord) -> ConsumerRecord {
        let (topic, partition) = &self.source.key;
        ConsumerRecord {
            topic: topic.clone(),
            partition: *partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    fn is_hidden(&mut self, batch: &Batch) -> Result<bool, DecodeError> {
        let header = &batch.header;
        while let Some((producer, first)) = self.source.aborted.get(self.next_aborted)
            && *first < header.next_offset()
        {
            self.aborting.insert(*producer);
            self.next_aborted += 1;
        }
        if header.is_control() {
            if is_abort_marker(batch, self.limit)? {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(true);
        }
        Ok(header.is_transactional() && self.aborting.contains(&header.producer_id))
    }
}

/// A control record's key holds its version and its type; 0 is abort (KIP-98).
fn is_abort_marker(batch: &Batch, limit: usize) -> Result<bool, DecodeError> {
    let Some(record) = batch.records(limit)?.next().transpose()? else {
        return Ok(false);
    };
    Ok(record
        .key
        .is_some_and(|key| key.get(2..4) == Some(&[0, 0][..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, CRC_FROM, Compression, ProducerStamp};
    use bytes::Bytes;

    const TRANSACTIONAL: u8 = 0x10;
    const CONTROL: u8 = 0x30;

    fn batch(base_offset: i64, producer_id: i64, attributes: u8, keys: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for key in keys {
            builder.push(0, Some(&Bytes::copy_from_slice(key)), None, &[]);
        }
        let stamp = ProducerStamp {
            producer_id,
            epoch: 0,
            base_sequence: 0,
        };
        let mut bytes = builder
            .seal(Compression::None)
            .unwrap()
            .stamped(stamp)
            .concat();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[22] |= attributes;
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn read(batches: &[Vec<u8>], aborted: &[(i64, i64)], position: i64) -> (Vec<i64>, i64) {
        let source = Fetched {
            key: ("t".into(), 0),
            term: 1,
            bytes: batches.concat().into(),
            aborted: aborted.to_vec(),
        };
        let mut reader = Reader::new(source, position, 1 << 20);
        let mut offsets = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            offsets.push(record.offset);
        }
        (offsets, reader.position)
    }

    #[test]
    fn records_before_the_position_are_skipped() {
        let batches = [
            batch(0, -1, 0, &[b"a", b"b", b"c"]),
            batch(3, -1, 0, &[b"d"]),
        ];
        assert_eq!(read(&batches, &[], 2), (vec![2, 3], 4));
    }

    #[test]
    fn gaps_and_empty_batches_move_the_position() {
        let mut empty = batch(5, -1, 0, &[]);
        empty[23..27].copy_from_slice(&9i32.to_be_bytes());
        let crc = crc32c::crc32c(&empty[CRC_FROM..]);
        empty[17..21].copy_from_slice(&crc.to_be_bytes());
        let batches = [batch(0, -1, 0, &[b"a"]), empty, batch(40, -1, 0, &[b"z"])];
        assert_eq!(read(&batches[..2], &[], 0), (vec![0], 15));
        assert_eq!(read(&batches, &[], 0), (vec![0, 40], 41));
    }

    #[test]
    fn aborted_transactions_and_control_batches_are_hidden() {
        let abort = [0, 0, 0, 0];
        let batches = [
            batch(0, 7, TRANSACTIONAL, &[b"lost"]),
            batch(1, 8, TRANSACTIONAL, &[b"kept"]),
            batch(2, 7, CONTROL, &[&abort]),
            batch(3, 7, TRANSACTIONAL, &[b"kept too"]),
        ];
        assert_eq!(read(&batches, &[(7, 0)], 0), (vec![1, 3], 4));
    }
}
