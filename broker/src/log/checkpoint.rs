//! A partition's clean point: up to where its log was synced and known good, and what was known there.
//!
//! The file is replaced as a whole (written aside, synced, renamed), so that it is always one that was true. Recovery
//! begins at it and reads only what came after.
//!
//! Its body is made of **sections**, each with a tag and a length. A section that this version does not know is damage: an
//! older broker must not go on without what a newer one thought worth writing. A section that is missing is empty.

use std::io;
use std::path::Path;

use super::codec::{self, Reader};
use super::file::{Access, Disk};
use super::marks::Marks;
use super::producers::Producers;
use super::segment::Extent;
use super::transactions::Aborted;
use crate::env::defects::{self, Defect};
use crate::types::Offset;

const MAGIC: &[u8; 8] = b"TGCHECK2";
/// Segments and producers only, in this order and without tags.
const MAGIC_1: &[u8; 8] = b"TGCHECK1";
pub(super) const FILE: &str = "checkpoint";
const NEW_FILE: &str = "checkpoint.new";
/// Far more than the producers and segments of one partition can fill.
const MAX_BYTES: usize = 256 << 20;
const EXTENT_BYTES: usize = 32;

/// Tags of the sections. A number has one meaning for ever; the next free one is 6.
mod tag {
    pub const SEGMENTS: u16 = 1;
    pub const PRODUCERS: u16 = 2;
    pub const ABORTED: u16 = 3;
    pub const CLEANING: u16 = 4;
    pub const MARKS: u16 = 5;
}

/// How far compaction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cleaning {
    /// Everything below has been compacted.
    pub cleaned_to: Offset,
    pub replacing: Option<Replacing>,
}

/// The segments from one base offset up to a next offset are being replaced by one: which of them a folder holds is
/// seen by the header of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Replacing {
    pub base_offset: Offset,
    pub next_offset: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Checkpoint {
    /// The run of the operating system in which this was written; zeros when it is unknown.
    pub boot_id: [u8; 16],
    pub log_start: Offset,
    /// Every segment that holds records from the log start on. The last was active: its extent ends at the clean point.
    pub segments: Vec<Extent>,
    /// As they were at the clean point, with their open transactions.
    pub producers: Producers,
    /// Aborted transactions whose marker is at or above the log start, in the order of their markers.
    pub aborted: Vec<Aborted>,
    pub cleaning: Cleaning,
    pub marks: Marks,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Loaded {
    Missing,
    Damaged,
    Good(Box<Checkpoint>),
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.segments.len() * EXTENT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.boot_id);
        bytes.extend_from_slice(&self.log_start.to_be_bytes());
        section(&mut bytes, tag::SEGMENTS, |out| self.encode_segments(out));
        section(&mut bytes, tag::PRODUCERS, |out| self.producers.encode(out));
        section(&mut bytes, tag::ABORTED, |out| {
            Aborted::encode_all(&self.aborted, out);
        });
        if self.cleaning != Cleaning::default() {
            section(&mut bytes, tag::CLEANING, |out| self.cleaning.encode(out));
        }
        section(&mut bytes, tag::MARKS, |out| self.marks.encode(out));
        codec::close(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if let Some(body) = codec::open(bytes, MAGIC_1) {
            return Self::decode_1(body);
        }
        let mut reader = Reader::new(codec::open(bytes, MAGIC)?);
        let mut checkpoint = Self {
            boot_id: reader.array()?,
            log_start: reader.i64()?,
            ..Self::default()
        };
        let mut last_tag = 0;
        while !reader.is_empty() {
            let tag = reader.u16()?;
            let length = usize::try_from(reader.u32()?).ok()?;
            let mut section = Reader::new(reader.slice(length)?);
            // Ascending, so that none comes twice.
            if tag <= last_tag {
                return None;
            }
            last_tag = tag;
            match tag {
                tag::SEGMENTS => checkpoint.segments = decode_segments(&mut section)?,
                tag::PRODUCERS => checkpoint.producers = Producers::decode(&mut section)?,
                tag::ABORTED => checkpoint.aborted = Aborted::decode_all(&mut section)?,
                tag::CLEANING => checkpoint.cleaning = Cleaning::decode(&mut section)?,
                tag::MARKS => checkpoint.marks = Marks::decode(&mut section)?,
                _ => return None,
            }
            if !section.is_empty() {
                return None;
            }
        }
        (!checkpoint.segments.is_empty()).then_some(checkpoint)
    }

    fn decode_1(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let checkpoint = Self {
            boot_id: reader.array()?,
            log_start: reader.i64()?,
            segments: decode_segments(&mut reader)?,
            producers: Producers::decode_1(&mut reader)?,
            ..Self::default()
        };
        (reader.is_empty() && !checkpoint.segments.is_empty()).then_some(checkpoint)
    }

    fn encode_segments(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for extent in &self.segments {
            out.extend_from_slice(&extent.base_offset.to_be_bytes());
            out.extend_from_slice(&extent.end.to_be_bytes());
            out.extend_from_slice(&extent.next_offset.to_be_bytes());
            out.extend_from_slice(&extent.max_timestamp.to_be_bytes());
        }
    }

    /// Replaces the checkpoint in a partition's folder. Durable, with every name in the folder, when this returns.
    pub fn save(&self, disk: &Disk, folder: &Path) -> io::Result<()> {
        let new = folder.join(NEW_FILE);
        let file = disk.open(&new, Access::Replace)?;
        file.write_at(&self.encode(), &[], 0, u64::MAX)?;
        file.sync()?;
        disk.rename(&new, &folder.join(FILE))?;
        if defects::has(Defect::SkipCheckpointNameSync) {
            return Ok(());
        }
        disk.sync_folder(folder)
    }

    pub fn load(disk: &Disk, folder: &Path) -> io::Result<Loaded> {
        let file = match disk.open(&folder.join(FILE), Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
            Err(error) => return Err(error),
        };
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if length > MAX_BYTES {
            return Ok(Loaded::Damaged);
        }
        let mut bytes = Vec::new();
        file.read_at(&mut bytes, length, 0)?;
        Ok(Self::decode(&bytes).map_or(Loaded::Damaged, |good| Loaded::Good(Box::new(good))))
    }
}

impl Cleaning {
    fn encode(&self, out: &mut Vec<u8>) {
        let (base, next) = self
            .replacing
            .map_or((-1, -1), |one| (one.base_offset, one.next_offset));
        for number in [self.cleaned_to, base, next] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let cleaned_to = reader.i64()?;
        let replacing = Replacing {
            base_offset: reader.i64()?,
            next_offset: reader.i64()?,
        };
        Some(Self {
            cleaned_to,
            replacing: (replacing.base_offset >= 0).then_some(replacing),
        })
    }
}

/// Appends one section: tag, length, and what `write` appends.
fn section(out: &mut Vec<u8>, tag: u16, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&tag.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn decode_segments(reader: &mut Reader<'_>) -> Option<Vec<Extent>> {
    let count = reader.count(EXTENT_BYTES)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(Extent {
            base_offset: reader.i64()?,
            end: reader.u64()?,
            next_offset: reader.i64()?,
            max_timestamp: reader.i64()?,
        });
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            boot_id: [7; 16],
            log_start: 3,
            segments: vec![Extent::empty(3), Extent::empty(9)],
            producers: Producers::default(),
            aborted: vec![Aborted {
                producer_id: 5,
                first_offset: 4,
                last_offset: 6,
                last_stable_offset: 7,
            }],
            cleaning: Cleaning {
                cleaned_to: 9,
                replacing: Some(Replacing {
                    base_offset: 3,
                    next_offset: 9,
                }),
            },
            ..Checkpoint::default()
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_else() {
        let bytes = sample().encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(sample()));
        for cut in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(Checkpoint::decode(&flipped), None, "flipped at {at}");
        }
    }

    #[test]
    fn unknown_and_repeated_sections_and_rests_are_refused() {
        let body = &sample().encode()[..];
        let body = &body[..body.len() - 4];
        let mut unknown = body.to_vec();
        section(&mut unknown, 999, |_| {});
        assert_eq!(Checkpoint::decode(&codec::close(unknown)), None);
        let mut twice = body.to_vec();
        section(&mut twice, tag::ABORTED, |out| {
            Aborted::encode_all(&[], out);
        });
        assert_eq!(Checkpoint::decode(&codec::close(twice)), None);
        let mut longer = MAGIC.to_vec();
        longer.extend_from_slice(&[0; 24]);
        section(&mut longer, tag::SEGMENTS, |out| {
            sample().encode_segments(out);
            out.push(0);
        });
        assert_eq!(Checkpoint::decode(&codec::close(longer)), None);
    }

    #[test]
    fn a_checkpoint_of_format_1_is_read() {
        let mut bytes = MAGIC_1.to_vec();
        bytes.extend_from_slice(&[7; 16]);
        bytes.extend_from_slice(&3_i64.to_be_bytes());
        sample().encode_segments(&mut bytes);
        // One producer (id 8, epoch 2) with one batch, as version 0.1.0 wrote it.
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        bytes.extend_from_slice(&8_i64.to_be_bytes());
        bytes.extend_from_slice(&2_i16.to_be_bytes());
        bytes.extend_from_slice(&4_i64.to_be_bytes());
        bytes.extend_from_slice(&99_i64.to_be_bytes());
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 3]);
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&(-1_i64).to_be_bytes());
        let checkpoint = Checkpoint::decode(&codec::close(bytes)).expect("format 1");
        assert_eq!(checkpoint.segments, sample().segments);
        let states = checkpoint.producers.states();
        assert_eq!(states.len(), 1);
        assert_eq!((states[0].producer_epoch, states[0].last_sequence), (2, 3));
    }
}
