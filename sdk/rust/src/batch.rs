//! A batch as its author sees it: records borrowed from one arena, and the arena that answers are written to.

use crate::bindings::partitioner::tidegate::plugin::types::{BatchOrigin, RecordBatch};

pub use crate::bindings::partitioner::tidegate::plugin::types::Columns;

impl Columns {
    pub const ALL: Self = Self {
        key: true,
        value: true,
        headers: true,
        timestamps: true,
    };
    pub const NONE: Self = Self {
        key: false,
        value: false,
        headers: false,
        timestamps: false,
    };
}

/// Where a batch comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    pub topic: &'a str,
    /// The partition that the client chose.
    pub partition: u32,
    /// How many partitions the topic has; 0 where nobody chooses one.
    pub partition_count: u32,
    /// The offset of the first record, when it is known already.
    pub base_offset: Option<i64>,
    /// An idempotent producer's number of the first record.
    pub base_sequence: Option<i32>,
}

impl<'a> Origin<'a> {
    pub(crate) fn new(origin: &'a BatchOrigin, partition_count: u32) -> Self {
        Self {
            topic: &origin.topic,
            partition: origin.partition,
            partition_count,
            base_offset: origin.base_offset,
            base_sequence: origin.base_sequence,
        }
    }
}

/// The records of one call.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    data: &'a [u8],
    lengths: &'a [i32],
    timestamps: &'a [i64],
    count: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(batch: &'a RecordBatch, count: u32) -> Self {
        Self {
            data: &batch.data,
            lengths: &batch.lengths,
            timestamps: &batch.timestamps,
            count: count as usize,
        }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn records(&self) -> Records<'a> {
        Records {
            data: self.data,
            lengths: self.lengths,
            timestamps: self.timestamps,
            next: 0,
            count: self.count,
        }
    }
}

/// One record, borrowed from its batch. What the plugin did not ask for is absent.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; 0 when the column was not asked for.
    pub timestamp_ms: i64,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// A record of its own, without headers: for tests of `place` and `transform`.
    pub fn of(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self {
            key,
            value,
            timestamp_ms: 0,
            headers: Headers {
                data: &[],
                lengths: &[],
            },
        }
    }

    /// Name and value of each header, in order.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The value of the last header of this name; Kafka's clients read the last one too. `Some(None)` is a null value.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers
            .filter(|(header, _)| *header == name.as_bytes())
            .last()
            .map(|(_, value)| value)
    }
}

/// A batch's records in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    data: &'a [u8],
    lengths: &'a [i32],
    timestamps: &'a [i64],
    next: usize,
    count: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.next == self.count {
            return None;
        }
        let [key, value, headers, rest @ ..] = self.lengths else {
            unreachable!("the host sends three lengths for each record");
        };
        let (header_lengths, rest) = rest.split_at(2 * *headers as usize);
        self.lengths = rest;
        let key = take(&mut self.data, *key);
        let value = take(&mut self.data, *value);
        let header_bytes = header_lengths
            .iter()
            .map(|length| (*length).max(0) as usize)
            .sum();
        let (header_data, rest) = self.data.split_at(header_bytes);
        self.data = rest;
        let timestamp_ms = self.timestamps.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        Some(Record {
            key,
            value,
            timestamp_ms,
            headers: Headers {
                data: header_data,
                lengths: header_lengths,
            },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count - self.next, Some(self.count - self.next))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// The headers of one record.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    data: &'a [u8],
    lengths: &'a [i32],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let [name, value, rest @ ..] = self.lengths else {
            return None;
        };
        self.lengths = rest;
        let name = take(&mut self.data, *name).unwrap_or_default();
        Some((name, take(&mut self.data, *value)))
    }
}

#[inline]
fn take<'a>(data: &mut &'a [u8], length: i32) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let (taken, rest) = data.split_at(length);
    *data = rest;
    Some(taken)
}

/// Records being written: a transform's answer, or the input of a test.
#[derive(Debug, Default)]
pub struct Arena {
    data: Vec<u8>,
    lengths: Vec<i32>,
    timestamps: Vec<i64>,
    count: usize,
}

impl Arena {
    /// # Panics
    /// When a field is 2 GiB or longer.
    pub fn push<'h>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
        timestamp_ms: i64,
    ) {
        let key = self.write(key);
        let value = self.write(value);
        let at = self.lengths.len();
        self.lengths.extend([key, value, 0]);
        // A record's own fields come before its headers, in `data` as in `lengths`.
        for (name, value) in headers {
            let name = self.write(Some(name));
            let value = self.write(value);
            self.lengths.extend([name, value]);
            self.lengths[at + 2] += 1;
        }
        self.timestamps.push(timestamp_ms);
        self.count += 1;
    }

    fn write(&mut self, field: Option<&[u8]>) -> i32 {
        let Some(field) = field else { return -1 };
        self.data.extend_from_slice(field);
        i32::try_from(field.len()).expect("a field is shorter than 2 GiB")
    }

    /// Reads back what was written.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            data: &self.data,
            lengths: &self.lengths,
            timestamps: &self.timestamps,
            count: self.count,
        }
    }

    pub(crate) fn with_room_for(bytes: usize, records: usize) -> Self {
        Self {
            data: Vec::with_capacity(bytes),
            lengths: Vec::with_capacity(3 * records),
            timestamps: Vec::with_capacity(records),
            count: 0,
        }
    }

    #[doc(hidden)]
    pub fn into_wire(self) -> RecordBatch {
        RecordBatch {
            data: self.data,
            lengths: self.lengths,
            timestamps: self.timestamps,
        }
    }
}

impl Batch<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let mut arena = Arena::default();
        arena.push(Some(b"k"), None, [], 7);
        arena.push(
            None,
            Some(b""),
            [
                (b"a".as_slice(), Some(b"1".as_slice())),
                (b"b", None),
                (b"a", Some(b"22")),
            ],
            -1,
        );
        arena.push(Some(b""), Some(b"last"), [], 9);
        let records: Vec<_> = arena.batch().records().collect();
        assert_eq!(records.len(), 3);
        assert_eq!(
            (records[0].key, records[0].value),
            (Some(b"k".as_slice()), None)
        );
        assert_eq!(
            (records[1].key, records[1].value),
            (None, Some(b"".as_slice()))
        );
        assert_eq!(records[1].headers().count(), 3);
        assert_eq!(records[1].header("a"), Some(Some(b"22".as_slice())));
        assert_eq!(records[1].header("b"), Some(None));
        assert_eq!(records[1].header("c"), None);
        assert_eq!(
            (records[2].value, records[2].timestamp_ms),
            (Some(b"last".as_slice()), 9)
        );
    }
}
