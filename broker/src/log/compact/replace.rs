//! Putting a compacted segment in the place of those it was made from, so that a crash at any point loses nothing.
//!
//! 1. The new file is written beside them as `compacted.new`, with its extent in its header, and synced.
//! 2. The checkpoint says which segments are about to be replaced, and lies behind them: recovery of what the old ones
//!    would have told of producers is in it. From here on recovery asks the header of the first file which it is.
//! 3. The list of segments changes; readers that hold the old ones finish or begin anew.
//! 4. The new file takes the name of the first old one, and the folder is synced. Only then do the other old files go.
//! 5. The next checkpoint knows the new extent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::CleanError;
use crate::env::defects::{self, Defect};
use crate::log::batch::{Batch, HEADER_SIZE, at};
use crate::log::checkpoint::Replacing;
use crate::log::file::{Access, File, lacks_descriptor};
use crate::log::index::Index;
use crate::log::partition::PartitionLog;
use crate::log::seal::{self, SegmentHeader};
use crate::log::segment::{Extent, Segment};
use crate::types::Offset;

/// A compacted segment on its way; ignored by recovery, which removes it.
pub(in crate::log) const NEW_FILE: &str = "compacted.new";
/// Bytes that are written by one call.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes after which the new file is synced, so that no commit ever waits behind a large one.
const SYNC_BYTES: u64 = 2 << 20;

/// A segment file that is being written. Dropping it removes the file, unless it was finished.
pub(super) struct Output<'a> {
    log: &'a PartitionLog,
    path: PathBuf,
    file: Arc<File>,
    header: SegmentHeader,
    extent: Extent,
    index: Index,
    buffer: Vec<u8>,
    unsynced: u64,
    is_finished: bool,
}

/// A finished one.
pub(super) struct NewSegment {
    path: PathBuf,
    segment: Arc<Segment>,
}

pub(super) struct Replacement<'a> {
    /// Neighbours, the oldest first.
    pub old: &'a [Arc<Segment>],
    pub new: NewSegment,
    /// Offsets of the markers that are gone.
    pub forgotten: Vec<Offset>,
}

impl<'a> Output<'a> {
    pub fn begin(
        log: &'a PartitionLog,
        header: SegmentHeader,
        index_interval: u32,
    ) -> Result<Self, CleanError> {
        // No file appears in a folder that is being removed.
        let _one = log.checkpointing.lock();
        if log.is_deleted() {
            return Err(CleanError::Interrupted);
        }
        let path = log.folder.join(NEW_FILE);
        let file = log.shared.disk.open(&path, Access::Replace)?;
        Ok(Self {
            log,
            path,
            file: Arc::new(file),
            header,
            extent: Extent::empty(header.base_offset),
            index: Index::new(header.base_offset, index_interval),
            buffer: Vec::new(),
            unsynced: 0,
            is_finished: false,
        })
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub fn put(&mut self, batch: &Batch) -> Result<(), CleanError> {
        let Some((head, body)) = batch.bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(());
        };
        let header = &batch.header;
        let position = self.extent.end;
        let mut head = *head;
        head[at::LEADER_EPOCH..at::MAGIC].fill(0);
        seal::apply(self.header.salt, position, &mut head);
        self.index
            .note(header.base_offset, position, self.extent.max_timestamp);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(body);
        let end = position + header.size as u64;
        self.extent
            .extend(end, header.last_offset() + 1, header.max_timestamp);
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), CleanError> {
        let length = self.buffer.len() as u64;
        let position = self.extent.end - length;
        self.file.write_at(&self.buffer, &[], position, u64::MAX)?;
        self.buffer.clear();
        self.unsynced += length;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Writes the header and makes the whole file durable.
    pub fn finish(mut self, extent: Extent) -> Result<NewSegment, CleanError> {
        self.write()?;
        self.header.compacted = Some(extent);
        let block = self.header.encode();
        self.file.write_at(&block, &[], 0, u64::MAX)?;
        if !defects::has(Defect::ReplaceBeforeSync) {
            self.file.sync()?;
        }
        let segment = Segment::known(self.log.id(), &self.log.folder, extent);
        let index = std::mem::replace(&mut self.index, Index::new(0, 1));
        segment.hold(self.header, Arc::clone(&self.file), index);
        self.is_finished = true;
        Ok(NewSegment {
            path: self.path.clone(),
            segment: Arc::new(segment),
        })
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // What stays is overwritten by the next one, and removed by recovery.
            let _ = self.log.shared.disk.remove(&self.path);
        }
    }
}

impl PartitionLog {
    /// Puts a compacted segment in the place of its originals.
    pub(super) fn replace(&self, replacement: Replacement<'_>) -> Result<(), CleanError> {
        let Replacement {
            old,
            new,
            forgotten,
        } = replacement;
        let _one = self.checkpointing.lock();
        // What is left of these transactions is the list's entry alone, and a reader that saw it without its marker
        // would pass over what came after it.
        self.transactions.lock().forget_markers(&forgotten);
        let extent = new.segment.extent();
        let replacing = Replacing {
            base_offset: extent.base_offset,
            next_offset: extent.next_offset,
        };
        self.cleaning.lock().replacing =
            (!defects::has(Defect::ForgetReplacing)).then_some(replacing);
        let outcome = self
            .write_checkpoint()
            .map_err(CleanError::Storage)
            .and_then(|()| self.exchange(old, &new));
        self.cleaning.lock().replacing = None;
        let is_durable = match outcome {
            Ok(is_durable) => is_durable,
            Err(error) => {
                let _ = self.shared.disk.remove(&new.path);
                return Err(error);
            }
        };
        let gone = old.iter().skip(1).cloned();
        if is_durable {
            self.give_away(gone.collect());
        } else {
            // They go behind a checkpoint, which syncs the folder before.
            self.doomed.lock().extend(gone);
        }
        // Failing costs recovery a look at one header.
        if let Err(error) = self.write_checkpoint() {
            tracing::warn!(partition = %self.id(), error, "checkpoint not written after compaction");
        }
        Ok(())
    }

    /// True when the new file's name is durable; false when there was no descriptor to make it so, which is done later.
    fn exchange(&self, old: &[Arc<Segment>], new: &NewSegment) -> Result<bool, CleanError> {
        let disk = &self.shared.disk;
        let new_list = [Arc::clone(&new.segment)];
        if !self.splice(old, &new_list, true) {
            return Err(CleanError::Interrupted);
        }
        old.iter().for_each(|segment| segment.retire());
        let base = new.segment.base_offset;
        if let Err(error) = disk.rename(&new.path, &new.segment.path()) {
            let again: Vec<_> = old
                .iter()
                .map(|segment| {
                    let extent = segment.extent();
                    Arc::new(Segment::known(self.id(), &self.folder, extent))
                })
                .collect();
            self.splice(&new_list, &again, false);
            new.segment.retire();
            return Err(error.into());
        }
        let synced = disk.sync_folder(&self.folder);
        let is_durable = !synced.as_ref().is_err_and(lacks_descriptor);
        if !is_durable {
            self.folder_changed.store(true, Ordering::SeqCst);
        } else if let Err(error) = synced {
            let reason = format!("syncing the folder after segment {base} was compacted: {error}");
            self.fail(reason.clone());
            return Err(CleanError::Impossible(reason));
        }
        new.segment.save_index(disk, new.segment.end(), false);
        Ok(is_durable)
    }

    /// Replaces neighbours in the list of segments; false when they are not in it any more, or when the log has to accept
    /// and does not.
    fn splice(&self, old: &[Arc<Segment>], new: &[Arc<Segment>], must_accept: bool) -> bool {
        let writer = self.writer.lock();
        if must_accept && self.accepts(&writer).is_err() {
            return false;
        }
        let mut segments = self.segments.load().as_ref().clone();
        let Some(at) = segments
            .windows(old.len())
            .position(|window| window.iter().zip(old).all(|(a, b)| Arc::ptr_eq(a, b)))
        else {
            return false;
        };
        segments.splice(at..at + old.len(), new.iter().cloned());
        self.segments.store(Arc::new(segments));
        true
    }
}
