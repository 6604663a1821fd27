//! A partition's clean point: up to where its log was synced and known good, and what was known there.
//!
//! The file is replaced as a whole (written aside, synced, renamed), so that it is always one that was true. Recovery
//! begins at it and reads only what came after.

use std::io;
use std::path::Path;

use super::codec::{self, Reader};
use super::file::{Access, Disk};
use super::producers::Producers;
use super::segment::Extent;
use crate::env::defects::{self, Defect};
use crate::types::Offset;

const MAGIC: &[u8; 8] = b"TGCHECK1";
const FILE: &str = "checkpoint";
const NEW_FILE: &str = "checkpoint.new";
/// Far more than the producers and segments of one partition can fill.
const MAX_BYTES: usize = 256 << 20;
const EXTENT_BYTES: usize = 32;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Checkpoint {
    /// The run of the operating system in which this was written; zeros when it is unknown.
    pub boot_id: [u8; 16],
    pub log_start: Offset,
    /// Every segment that holds records from the log start on. The last was active: its extent ends at the clean point.
    pub segments: Vec<Extent>,
    /// As they were at the clean point.
    pub producers: Producers,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Loaded {
    Missing,
    Damaged,
    Good(Checkpoint),
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.segments.len() * EXTENT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.boot_id);
        bytes.extend_from_slice(&self.log_start.to_be_bytes());
        let count = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for extent in &self.segments {
            bytes.extend_from_slice(&extent.base_offset.to_be_bytes());
            bytes.extend_from_slice(&extent.end.to_be_bytes());
            bytes.extend_from_slice(&extent.next_offset.to_be_bytes());
            bytes.extend_from_slice(&extent.max_timestamp.to_be_bytes());
        }
        self.producers.encode(&mut bytes);
        codec::close(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(codec::open(bytes, MAGIC)?);
        let boot_id = reader.array()?;
        let log_start = reader.i64()?;
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
        let producers = Producers::decode(&mut reader)?;
        (reader.is_empty() && !segments.is_empty()).then_some(Self {
            boot_id,
            log_start,
            segments,
            producers,
        })
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
        Ok(Self::decode(&bytes).map_or(Loaded::Damaged, Loaded::Good))
    }
}
