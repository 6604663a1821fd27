//! One segment: a file of batches from a base offset on, its sparse index, and what is known of both.
//!
//! The last segment of a partition is **active**: it grows, its file is open as long as it is written to, and its index is in
//! memory. The others are **sealed**: no open file, no index in memory. A **retired** segment's file has been given away; a read that was
//! under way finds foreign bytes, sees them by the seal, and learns from the flag that they are no damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::file::{Access, Disk, File};
use super::index::{self, Index};
use super::scan::{HEADERS, Scanner, Step};
use super::seal::{BadHeader, HEADER_BLOCK, HeaderBlock, SegmentHeader};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, PartitionId, TimestampMs};

/// The interval of an index that has to be rebuilt, in bytes.
pub(super) const REBUILT_INTERVAL: u32 = 4096;

/// What a segment holds up to some point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub base_offset: Offset,
    /// The position after the last batch.
    pub end: u64,
    /// The offset after the last record.
    pub next_offset: Offset,
    /// −1 when no batch carries a timestamp.
    pub max_timestamp: TimestampMs,
}

impl Extent {
    pub fn empty(base_offset: Offset) -> Self {
        Self {
            base_offset,
            end: HEADER_BLOCK,
            next_offset: base_offset,
            max_timestamp: -1,
        }
    }

    /// Takes in one more batch, which ends at `end`.
    pub fn extend(&mut self, end: u64, next_offset: Offset, max_timestamp: TimestampMs) {
        self.end = end;
        self.next_offset = next_offset;
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }
}

#[derive(Debug, Default)]
struct Held {
    /// Open while the segment is written to or not yet synced.
    file: Option<Arc<File>>,
    /// In memory until it has been saved after the segment was sealed.
    index: Option<Index>,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub base_offset: Offset,
    partition: PartitionId,
    folder: Arc<Path>,
    header: OnceLock<SegmentHeader>,
    end: AtomicU64,
    next_offset: AtomicI64,
    max_timestamp: AtomicI64,
    /// Everything before this position is on stable storage.
    synced: AtomicU64,
    retired: AtomicBool,
    held: Mutex<Held>,
    /// What a look at the records themselves came to.
    pub(super) seen: Mutex<Seen>,
}

/// The largest time of a segment's records, as far as they were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub latest: TimestampMs,
    /// Everything before this position was looked at.
    pub up_to: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            latest: -1,
            up_to: HEADER_BLOCK,
        }
    }
}

/// Why a segment's content could not be reached.
#[derive(Debug)]
pub(super) enum SegmentError {
    /// Retention or deletion has taken the file.
    Retired,
    Damaged(String),
    Io(io::Error),
}

impl From<io::Error> for SegmentError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) fn log_path(folder: &Path, base_offset: Offset) -> PathBuf {
    folder.join(format!("{base_offset:020}.log"))
}

pub(super) fn index_path(folder: &Path, base_offset: Offset) -> PathBuf {
    folder.join(format!("{base_offset:020}.index"))
}

/// The base offset in a segment file's name.
pub(super) fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok())?
}

impl Segment {
    /// A segment whose content is known and synced; its file is opened when it is needed.
    pub fn known(partition: PartitionId, folder: &Arc<Path>, extent: Extent) -> Self {
        Self {
            base_offset: extent.base_offset,
            partition,
            folder: Arc::clone(folder),
            header: OnceLock::new(),
            end: AtomicU64::new(extent.end),
            next_offset: AtomicI64::new(extent.next_offset),
            max_timestamp: AtomicI64::new(extent.max_timestamp),
            synced: AtomicU64::new(extent.end),
            retired: AtomicBool::new(false),
            held: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// A segment that begins now. Nothing of it is synced, not even its header.
    pub fn begun(
        folder: &Arc<Path>,
        header: SegmentHeader,
        file: Arc<File>,
        index_interval: u32,
    ) -> Self {
        let extent = Extent::empty(header.base_offset);
        let segment = Self::known(header.partition, folder, extent);
        segment.synced.store(0, Ordering::Release);
        *segment.held.lock() = Held {
            file: Some(file),
            index: Some(Index::new(header.base_offset, index_interval)),
        };
        segment.header.get_or_init(|| header);
        segment
    }

    pub fn path(&self) -> PathBuf {
        log_path(&self.folder, self.base_offset)
    }

    pub fn index_path(&self) -> PathBuf {
        index_path(&self.folder, self.base_offset)
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub fn next_offset(&self) -> Offset {
        self.next_offset.load(Ordering::Acquire)
    }

    pub fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp.load(Ordering::Acquire)
    }

    /// The time of the latest of its batches, by the batches' own word; where they have none, or one that is still to come,
    /// when the file was last written.
    pub fn latest_time(&self, disk: &Disk, now: TimestampMs) -> TimestampMs {
        let timestamp = self.max_timestamp();
        if (0..=now).contains(&timestamp) {
            return timestamp;
        }
        self.written(disk)
    }

    /// When the file was last written, and not before it was begun. Never in the past of what is unknown: such a segment
    /// stays.
    pub fn written(&self, disk: &Disk) -> TimestampMs {
        let modified = disk.modified(&self.path()).unwrap_or(TimestampMs::MAX);
        let begun = self.reader(disk).map(|(_, header)| header.created);
        modified.max(begun.unwrap_or(0))
    }

    /// Nothing was ever written to it. (One that compaction has emptied still stands for its offsets.)
    pub fn is_unused(&self) -> bool {
        self.end() <= HEADER_BLOCK && self.next_offset() == self.base_offset
    }

    /// Consistent only under the partition's writer lock while the segment is active.
    pub fn extent(&self) -> Extent {
        Extent {
            base_offset: self.base_offset,
            end: self.end(),
            next_offset: self.next_offset(),
            max_timestamp: self.max_timestamp(),
        }
    }

    /// Makes a written batch visible to readers. Only the writer calls this.
    pub fn publish(&self, position: u64, extent: &Extent, batch_offset: Offset) {
        if let Some(index) = &mut self.held.lock().index {
            index.note(batch_offset, position, self.max_timestamp());
        }
        self.max_timestamp
            .store(extent.max_timestamp, Ordering::Release);
        self.next_offset
            .store(extent.next_offset, Ordering::Release);
        self.end.store(extent.end, Ordering::Release);
    }

    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire) >= self.end()
    }

    /// Syncs the file; the bytes that were newly covered. `keep_open` when the segment is active.
    pub fn sync(&self, disk: &Disk, keep_open: bool) -> io::Result<u64> {
        let end = self.end();
        let before = self.synced.load(Ordering::Acquire);
        if before < end && !defects::has(Defect::SkipSync) {
            let held = self.held.lock().file.clone();
            let file = match held {
                Some(file) => file,
                None => Arc::new(disk.open(&self.path(), Access::Existing)?),
            };
            file.sync()?;
            if !file.has_name()? && !self.is_retired() {
                return Err(self.removed());
            }
        }
        self.synced.fetch_max(end, Ordering::AcqRel);
        if !keep_open {
            self.held.lock().file = None;
        }
        Ok(end.saturating_sub(before))
    }

    /// Somebody else has taken the file away: what is written to it is lost with the last handle.
    pub fn removed(&self) -> io::Error {
        let message = format!(
            "{} was removed while the broker was running",
            self.path().display()
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    }

    /// Opens the file again for the writer, whose content it must be.
    pub fn reopen(&self, disk: &Disk, header: &SegmentHeader) -> Result<Arc<File>, SegmentError> {
        let file = Arc::new(disk.open(&self.path(), Access::Existing)?);
        match read_header(&file, self.partition, self.base_offset)? {
            Ok(found) if found.salt == header.salt => {}
            _ => {
                let message = format!(
                    "another file has taken the place of {}",
                    self.path().display()
                );
                return Err(SegmentError::Damaged(message));
            }
        }
        self.held.lock().file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Closes the file of an active segment that is synced; the index stays.
    pub fn close(&self) {
        self.held.lock().file = None;
    }

    /// Opens the file for the writer and brings the index into memory.
    pub fn activate(&self, disk: &Disk) -> Result<(Arc<File>, SegmentHeader), SegmentError> {
        let file = Arc::new(disk.open(&self.path(), Access::Existing)?);
        let header = self.read_header(&file)?;
        let known = self.held.lock().index.take();
        let index = match known {
            Some(index) => index,
            None => self.load_index(disk, &file, &header)?,
        };
        *self.held.lock() = Held {
            file: Some(Arc::clone(&file)),
            index: Some(index),
        };
        Ok((file, header))
    }

    /// Takes over what recovery has read.
    pub fn adopt(&self, header: SegmentHeader, index: Index) {
        self.header.get_or_init(|| header);
        self.held.lock().index = Some(index);
    }

    /// Takes over what compaction has written, with the file open until the index is saved.
    pub fn hold(&self, header: SegmentHeader, file: Arc<File>, index: Index) {
        self.header.get_or_init(|| header);
        *self.held.lock() = Held {
            file: Some(file),
            index: Some(index),
        };
    }

    /// The file and its header, for reading.
    pub fn reader(&self, disk: &Disk) -> Result<(Arc<File>, SegmentHeader), SegmentError> {
        let held = self.held.lock().file.clone();
        let file = match held {
            Some(file) => file,
            None => match disk.open(&self.path(), Access::Read) {
                Ok(file) => Arc::new(file),
                Err(_) if self.is_retired() => return Err(SegmentError::Retired),
                Err(error) => return Err(error.into()),
            },
        };
        let header = match self.header.get() {
            Some(header) => *header,
            None => self.read_header(&file)?,
        };
        Ok((file, header))
    }

    fn read_header(&self, file: &File) -> Result<SegmentHeader, SegmentError> {
        let header = read_header(file, self.partition, self.base_offset)?;
        match header {
            Ok(header) => Ok(*self.header.get_or_init(|| header)),
            Err(_) if self.is_retired() => Err(SegmentError::Retired),
            Err(BadHeader::Blank) => Err(SegmentError::Damaged("segment header is blank".into())),
            Err(BadHeader::Damaged(message)) => Err(SegmentError::Damaged(message)),
        }
    }

    /// Where the index in memory, if there is one, says that a walk to this offset begins.
    pub fn known_position(&self, offset: Offset) -> Option<u64> {
        let held = self.held.lock();
        held.index.as_ref().map(|index| index.position_of(offset))
    }

    /// Asks the index for a position; a sealed segment's is read from its file, and rebuilt when that is no good.
    pub fn seek(
        &self,
        disk: &Disk,
        file: &File,
        header: &SegmentHeader,
        ask: impl Fn(&Index) -> u64,
    ) -> Result<u64, SegmentError> {
        if let Some(index) = &self.held.lock().index {
            return Ok(ask(index));
        }
        Ok(ask(&self.load_index(disk, file, header)?))
    }

    fn load_index(
        &self,
        disk: &Disk,
        file: &File,
        header: &SegmentHeader,
    ) -> Result<Index, SegmentError> {
        let end = self.end();
        let index = stored_index(disk, &self.index_path(), header.salt, end);
        if let Some(index) = index {
            return Ok(index);
        }
        let index = build_index(self.base_offset, file, header.salt, end)?;
        if !self.is_retired() {
            self.save(disk, &index, header.salt, end);
        }
        Ok(index)
    }

    /// Writes the index file, telling the content up to `up_to`. Unless it is to be kept the memory is freed and the file
    /// closed: the segment is sealed and synced.
    pub fn save_index(&self, disk: &Disk, up_to: u64, keep: bool) {
        let Some(header) = self.header.get() else {
            return;
        };
        let index = {
            let mut held = self.held.lock();
            if keep {
                held.index.clone()
            } else {
                std::mem::take(&mut *held).index
            }
        };
        if let Some(mut index) = index {
            index.truncate(up_to);
            self.save(disk, &index, header.salt, up_to);
        }
    }

    /// An index that cannot be written is rebuilt when it is asked for, so that failing costs time alone.
    fn save(&self, disk: &Disk, index: &Index, salt: u64, covered: u64) {
        let path = self.index_path();
        let outcome = disk
            .open(&path, Access::Replace)
            .and_then(|file| file.write_at(&index.encode(salt, covered), &[], 0, u64::MAX));
        if let Err(error) = outcome {
            tracing::warn!(path = %path.display(), %error, "index not saved; it will be rebuilt when needed");
        }
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Says that the file is about to be given away, and lets go of it.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        *self.held.lock() = Held::default();
    }
}

/// Reads a segment's header and checks that it is this partition's, from this offset on.
pub(super) fn read_header(
    file: &File,
    partition: PartitionId,
    base_offset: Offset,
) -> io::Result<Result<SegmentHeader, BadHeader>> {
    let block = read_header_block(file)?;
    Ok(block.and_then(|HeaderBlock { header, flaw }| {
        if header.partition != partition || header.base_offset != base_offset {
            return Err(BadHeader::Damaged(format!(
                "segment header: the file was written for partition {} from offset {} on",
                header.partition, header.base_offset
            )));
        }
        if let Some(position) = flaw {
            tracing::warn!(%partition, segment = base_offset, position, "a byte of a segment's header block has changed; the header is whole");
        }
        Ok(header)
    }))
}

/// Reads the header block of a segment file, whoever it belongs to.
pub(super) fn read_header_block(file: &File) -> io::Result<Result<HeaderBlock, BadHeader>> {
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, HEADER_BLOCK as usize, 0)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// Writes a header block again, durably, of which only one copy is whole: the next byte to change must not meet the last.
pub(super) fn mend_header(file: &File) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, HEADER_BLOCK as usize, 0)?;
    if let Some(block) = SegmentHeader::mended(&bytes) {
        file.write_at(&block, &[], 0, u64::MAX)?;
        file.sync()?;
    }
    Ok(())
}

/// The index in a file, of everything before `end`; `None` when it is missing, damaged, another's, or tells less.
pub(super) fn stored_index(disk: &Disk, path: &Path, salt: u64, end: u64) -> Option<Index> {
    let file = disk.open(path, Access::Read).ok()?;
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, index::MAX_FILE_BYTES, 0).ok()?;
    let (mut index, covered) = Index::decode(&bytes, salt)?;
    index.truncate(end);
    (covered >= end).then_some(index)
}

/// Whether an index file is missing or as it was written, for this use of its segment or an earlier one. One that is empty
/// was begun and never written: it counts as missing.
pub(super) fn is_index_intact(disk: &Disk, path: &Path) -> io::Result<bool> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.read_at(&mut bytes, index::MAX_FILE_BYTES, 0)?;
    Ok(bytes.is_empty() || Index::is_intact(&bytes))
}

/// Builds an index of everything before `end` by walking batch headers. Where the walk meets damage the index ends:
/// a reader that needs what comes after will meet the damage too, and say so.
pub(super) fn build_index(
    base_offset: Offset,
    file: &File,
    salt: u64,
    end: u64,
) -> io::Result<Index> {
    let mut index = Index::new(base_offset, REBUILT_INTERVAL);
    let mut walk = Scanner::new(file, salt, HEADER_BLOCK, end, HEADERS);
    let mut max_timestamp = -1;
    while let Step::Batch(found) = walk.step()? {
        index.note(found.header.base_offset, found.position, max_timestamp);
        max_timestamp = max_timestamp.max(found.header.max_timestamp);
    }
    Ok(index)
}
