//! Walking the records of a batch in place: nothing is built, keys and values are passed over.
//!
//! A **walker** is given a batch's records in pieces of any size, in order, and remembers between them no more than where it
//! stands. What it learns are the **facts** (how many records there are, their largest time), the **offences** (whole records
//! that the topic does not take), and at the first place that cannot be a record a **fault**, after which nothing more is
//! known. A record that lies in one piece and has nothing wrong takes the **short way**: a few comparisons. Everything else
//! (a record cut in two by the pieces, an offence, a fault) takes the **long way**, field by field; it alone judges, so that
//! both ways cannot come to different words.
//!
//! Numbers are read as the strictest of the known clients reads them: lengths and offset deltas in at most five bytes, times
//! in at most ten, no length below −1. Record attributes are reserved, and nobody looks at them.

use std::ops::RangeInclusive;

use crate::types::TimestampMs;

/// Offences that are remembered one by one; more are only counted.
pub const MAX_OFFENCES: usize = 100;
/// Kafka's "no timestamp".
const NO_TIMESTAMP: TimestampMs = -1;
/// Shortest header of a record.
const MIN_HEADER_BYTES: usize = 2;
/// Most bytes of a 32-bit number, and of a 64-bit one.
const INT_BYTES: u32 = 5;
const LONG_BYTES: u32 = 10;

/// How the offset deltas of a batch go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deltas {
    /// 0, 1, 2 and so on, as a producer numbers.
    Consecutive,
    /// Ascending up to this one, as a transform or compaction leaves them.
    Ascending(i32),
}

/// What the walker holds the records against.
#[derive(Clone, Debug)]
pub struct Expected {
    pub count: u32,
    pub deltas: Deltas,
    /// What the records' timestamp deltas are relative to.
    pub base_timestamp: TimestampMs,
    /// Times that the topic takes. Records without one (−1) are taken in any case.
    pub times: RangeInclusive<TimestampMs>,
    /// Records without a key are offences.
    pub needs_keys: bool,
}

/// What a whole batch was found to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// −1 when no record has a time.
    pub max_timestamp: TimestampMs,
    /// The first of them, in the order of the records.
    pub offences: Vec<Offence>,
    pub offences_total: u32,
}

/// A whole record that is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offence {
    pub record: u32,
    pub kind: OffenceKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffenceKind {
    WithoutKey,
    Time(TimestampMs),
}

/// Where records stop making sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Its place in the batch; `None` when it is the batch as a whole that is wrong.
    pub record: Option<u32>,
    pub what: String,
}

impl Fault {
    fn of_batch(what: String) -> Self {
        Self { record: None, what }
    }
}

/// The fields of a record in their order. Those of bytes are passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Length,
    Attributes,
    Timestamp,
    Offset,
    KeyLength,
    Key,
    ValueLength,
    Value,
    HeaderCount,
    NameLength,
    Name,
    HeaderValueLength,
    HeaderValue,
}

/// A number whose bytes may come in several pieces.
#[derive(Clone, Copy, Default, Debug)]
struct Partial {
    value: u64,
    bytes: u32,
}

/// The state between two pieces.
#[derive(Debug)]
pub struct Walker {
    expected: Expected,
    /// Records behind the walker.
    count: u32,
    /// The least offset delta that may come next.
    next_delta: i64,
    facts: Facts,
    field: Field,
    partial: Partial,
    /// Bytes of the current record that no field has claimed yet.
    left: usize,
    /// Bytes of the current field that are still to come.
    skip: usize,
    headers_left: usize,
    timestamp_delta: i64,
}

impl Walker {
    pub fn new(expected: Expected) -> Self {
        Self {
            expected,
            count: 0,
            next_delta: 0,
            facts: Facts {
                max_timestamp: NO_TIMESTAMP,
                offences: Vec::new(),
                offences_total: 0,
            },
            field: Field::Length,
            partial: Partial::default(),
            left: 0,
            skip: 0,
            headers_left: 0,
            timestamp_delta: 0,
        }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.field == Field::Length && self.partial.bytes == 0 {
                if self.count == self.expected.count {
                    let count = self.expected.count;
                    return Err(Fault::of_batch(format!(
                        "bytes follow the {count} records that the header counts"
                    )));
                }
                bytes = &bytes[self.whole_records(bytes)..];
                if bytes.is_empty() || self.count == self.expected.count {
                    continue;
                }
            }
            let taken = self.step(bytes)?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// No more pieces: what was found, if it was all that the header promises.
    pub fn finish(self) -> Result<Facts, Fault> {
        if self.field != Field::Length || self.partial.bytes > 0 {
            return Err(self.fault("it is cut short by the end of the batch"));
        }
        if self.count != self.expected.count {
            let (found, promised) = (self.count, self.expected.count);
            return Err(Fault::of_batch(format!(
                "it holds {found} records, and its header counts {promised}"
            )));
        }
        Ok(self.facts)
    }

    /// The short way: the bytes of the records at the front of `bytes` that are whole and have nothing wrong.
    fn whole_records(&mut self, bytes: &[u8]) -> usize {
        let mut end = 0;
        while self.count < self.expected.count {
            let mut at = end;
            let Some(length) = int(bytes, &mut at) else {
                break;
            };
            let Some(record) = usize::try_from(length)
                .ok()
                .and_then(|length| bytes.get(at..)?.get(..length))
            else {
                break;
            };
            let Some((timestamp, delta)) = self.good_record(record) else {
                break;
            };
            self.facts.max_timestamp = self.facts.max_timestamp.max(timestamp);
            self.next_delta = delta + 1;
            self.count += 1;
            end = at + record.len();
        }
        end
    }

    /// Time and offset delta of a record in one piece; `None` when anything is wrong with it.
    #[inline]
    fn good_record(&self, record: &[u8]) -> Option<(TimestampMs, i64)> {
        // Behind the attributes.
        let mut at = 1;
        let timestamp = self
            .expected
            .base_timestamp
            .checked_add(long(record, &mut at)?)?;
        let delta = i64::from(int(record, &mut at)?);
        let key = int(record, &mut at)?;
        let is_good = self.follows(delta)
            && self.is_in_time(timestamp)
            && key >= -i32::from(!self.expected.needs_keys);
        if !is_good {
            return None;
        }
        pass(key, &mut at)?;
        let value = int(record, &mut at)?;
        pass(value, &mut at)?;
        let headers = int(record, &mut at)?;
        if headers != 0 {
            pass_headers(record, headers, &mut at)?;
        }
        (at == record.len()).then_some((timestamp, delta))
    }

    fn is_in_time(&self, timestamp: TimestampMs) -> bool {
        let times = &self.expected.times;
        (*times.start() <= timestamp && timestamp <= *times.end()) || timestamp == NO_TIMESTAMP
    }

    fn follows(&self, delta: i64) -> bool {
        match self.expected.deltas {
            Deltas::Consecutive => delta == self.next_delta,
            Deltas::Ascending(last) => delta >= self.next_delta && delta <= i64::from(last),
        }
    }

    /// The long way: takes a part of one field, or all of it, and says how many bytes that was.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.field {
            Field::Key | Field::Value | Field::Name | Field::HeaderValue => {
                let taken = self.skip.min(bytes.len());
                self.skip -= taken;
                if self.skip == 0 {
                    self.passed()?;
                }
                Ok(taken)
            }
            Field::Attributes => {
                self.claim(1, "attributes")?;
                self.field = Field::Timestamp;
                Ok(1)
            }
            _ => self.number(bytes),
        }
    }

    /// Takes bytes of a number, and acts on it when it is complete.
    fn number(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let longest = match self.field {
            Field::Timestamp => LONG_BYTES,
            _ => INT_BYTES,
        };
        let mut taken = 0;
        for byte in bytes {
            if self.field != Field::Length {
                self.claim(1, "its numbers")?;
            }
            taken += 1;
            let shift = 7 * self.partial.bytes;
            self.partial.bytes += 1;
            let is_last = byte & 0x80 == 0;
            // What is left for the longest number's last byte: four bits of 32, one of 64.
            let room: u8 = if longest == INT_BYTES { 0x0f } else { 0x01 };
            if self.partial.bytes == longest && *byte > room {
                return Err(self.fault("a number in it is longer than any client reads"));
            }
            self.partial.value |= u64::from(byte & 0x7f) << shift;
            if is_last {
                let value = zigzag(std::mem::take(&mut self.partial).value);
                self.act_on(value)?;
                break;
            }
        }
        Ok(taken)
    }

    /// What a complete number means for what follows.
    fn act_on(&mut self, value: i64) -> Result<(), Fault> {
        match self.field {
            Field::Length => {
                self.left = usize::try_from(value)
                    .map_err(|_| self.fault(format!("its length is {value}")))?;
                self.field = Field::Attributes;
            }
            Field::Timestamp => {
                self.timestamp_delta = value;
                self.field = Field::Offset;
            }
            Field::Offset => {
                self.note_offset(value)?;
                self.field = Field::KeyLength;
            }
            Field::KeyLength => {
                self.note_record(value == -1)?;
                self.enter(Field::Key, value, "key")?;
            }
            Field::ValueLength => self.enter(Field::Value, value, "value")?,
            Field::HeaderCount => {
                let count = usize::try_from(value).ok();
                let count = count.filter(|count| *count <= self.left / MIN_HEADER_BYTES);
                self.headers_left =
                    count.ok_or_else(|| self.fault(format!("{value} headers cannot fit in it")))?;
                self.next_header()?;
            }
            Field::NameLength if value < 0 => {
                return Err(self.fault("a header in it has no name"));
            }
            Field::NameLength => self.enter(Field::Name, value, "the name of a header")?,
            _ => self.enter(Field::HeaderValue, value, "the value of a header")?,
        }
        Ok(())
    }

    /// Begins a field of bytes; −1 stands for null.
    fn enter(&mut self, field: Field, length: i64, what: &str) -> Result<(), Fault> {
        self.field = field;
        self.skip = match length {
            -1 => 0,
            length => usize::try_from(length)
                .map_err(|_| self.fault(format!("the length of its {what} is {length}")))?,
        };
        if self.skip > self.left {
            return Err(self.fault(format!("its {what} of {length} bytes reaches past its end")));
        }
        self.left -= self.skip;
        match self.skip {
            0 => self.passed(),
            _ => Ok(()),
        }
    }

    /// A field of bytes is behind.
    fn passed(&mut self) -> Result<(), Fault> {
        match self.field {
            Field::Key => self.field = Field::ValueLength,
            Field::Value => self.field = Field::HeaderCount,
            Field::Name => self.field = Field::HeaderValueLength,
            _ => {
                self.headers_left -= 1;
                self.next_header()?;
            }
        }
        Ok(())
    }

    /// The next header, or the end of the record.
    fn next_header(&mut self) -> Result<(), Fault> {
        if self.headers_left > 0 {
            self.field = Field::NameLength;
            return Ok(());
        }
        if self.left > 0 {
            let left = self.left;
            return Err(self.fault(format!("{left} bytes are left over in it")));
        }
        self.field = Field::Length;
        self.count += 1;
        Ok(())
    }

    fn claim(&mut self, bytes: usize, what: &str) -> Result<(), Fault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.fault(format!("its length leaves no room for {what}"))),
        }
    }

    fn note_offset(&mut self, delta: i64) -> Result<(), Fault> {
        if !self.follows(delta) {
            let next = self.next_delta;
            return Err(match self.expected.deltas {
                Deltas::Consecutive => self.fault(format!(
                    "its offset delta is {delta}, and {next} comes next"
                )),
                Deltas::Ascending(last) => self.fault(format!(
                    "its offset delta is {delta}, and one from {next} to {last} comes next"
                )),
            });
        }
        self.next_delta = delta + 1;
        Ok(())
    }

    /// Time and key of a record are known.
    fn note_record(&mut self, is_without_key: bool) -> Result<(), Fault> {
        let base = self.expected.base_timestamp;
        let timestamp = base
            .checked_add(self.timestamp_delta)
            .ok_or_else(|| self.fault("its time does not fit 64 bits"))?;
        self.facts.max_timestamp = self.facts.max_timestamp.max(timestamp);
        let kind = if is_without_key && self.expected.needs_keys {
            OffenceKind::WithoutKey
        } else if self.is_in_time(timestamp) {
            return Ok(());
        } else {
            OffenceKind::Time(timestamp)
        };
        self.facts.offences_total = self.facts.offences_total.saturating_add(1);
        if self.facts.offences.len() < MAX_OFFENCES {
            let record = self.count;
            self.facts.offences.push(Offence { record, kind });
        }
        Ok(())
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault {
            record: Some(self.count),
            what: what.into(),
        }
    }
}

/// Zigzag: the lowest bit is the sign.
fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Passes over nullable bytes; whether they are there is seen at the record's end.
#[inline]
fn pass(length: i32, at: &mut usize) -> Option<()> {
    match usize::try_from(length) {
        Ok(length) => *at = at.checked_add(length)?,
        Err(_) if length == -1 => {}
        Err(_) => return None,
    }
    Some(())
}

fn pass_headers(record: &[u8], count: i32, at: &mut usize) -> Option<()> {
    let count = usize::try_from(count).ok()?;
    if count > record.len() / MIN_HEADER_BYTES {
        return None;
    }
    for _ in 0..count {
        let name = int(record, at)?;
        if name < 0 {
            return None;
        }
        pass(name, at)?;
        let value = int(record, at)?;
        pass(value, at)?;
    }
    Some(())
}

/// A 32-bit number at `at`, which moves behind it. One byte is the common case.
#[inline]
fn int(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    let value = several(bytes.get(*at..)?, INT_BYTES, 0x0f, at)?;
    i32::try_from(value).ok()
}

/// As `int`, of 64 bits.
#[inline]
fn long(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    several(bytes.get(*at..)?, LONG_BYTES, 0x01, at)
}

fn several(bytes: &[u8], longest: u32, room: u8, at: &mut usize) -> Option<i64> {
    let mut value = 0_u64;
    for (index, byte) in (0..longest).zip(bytes) {
        if index + 1 == longest && *byte > room {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *at += 1 + usize::try_from(index).unwrap_or(0);
            return Some(zigzag(value));
        }
    }
    None
}
