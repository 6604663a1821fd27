//! One partition: batches one behind the other in one file, and where each begins.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use anyhow::{Context, Result, bail};

use crate::files::Stored;

/// Fields of a batch's header (magic 2) that matter here, by their place.
mod header {
    use super::Range;

    pub const BASE_OFFSET: Range<usize> = 0..8;
    pub const LENGTH: Range<usize> = 8..12;
    pub const MAGIC: usize = 16;
    pub const CHECKSUM: Range<usize> = 17..21;
    pub const LAST_OFFSET_DELTA: Range<usize> = 23..27;
    pub const BYTES: usize = 61;
}

/// A place between two batches.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Place {
    offset: i64,
    position: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Behind the last batch.
    end: Place,
    /// What consumers see: all of it, or what is synced.
    visible: Place,
    /// The beginning of each batch.
    batches: Vec<Place>,
    syncing: bool,
    /// Syncs that succeeded.
    syncs: u64,
    /// A sync failed: what is on the disk is not known any more.
    failed: bool,
    /// Threads that wait for something to become visible.
    waiting: Vec<Thread>,
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    /// None: nothing is stored.
    stored: Option<Arc<Stored>>,
    /// Batches are acknowledged and seen when they are synced.
    syncs: bool,
    state: Mutex<State>,
    synced: Condvar,
}

/// Whole batches as they lie in a file.
#[derive(Clone, Debug)]
pub struct Slice {
    pub stored: Arc<Stored>,
    pub position: u64,
    pub length: usize,
}

impl Log {
    pub fn new(stored: Option<Arc<Stored>>, syncs: bool) -> Self {
        Self {
            stored,
            syncs,
            state: Mutex::default(),
            synced: Condvar::new(),
        }
    }

    /// Checks a batch, gives it its offset and writes it; returns the offset. With syncs it counts only after
    /// [`commit`](Self::commit).
    pub fn append(&self, batch: &mut [u8]) -> Result<i64> {
        let records = check(batch, self.stored.is_some())?;
        let mut state = lock(&self.state);
        if state.failed {
            bail!("an earlier sync of this partition failed");
        }
        let begin = state.end;
        if let Some(stored) = &self.stored {
            batch[header::BASE_OFFSET].copy_from_slice(&begin.offset.to_be_bytes());
            stored.file.write_all_at(batch, begin.position)?;
            state.batches.push(begin);
        }
        state.end = Place {
            offset: begin.offset + records,
            position: begin.position + batch.len() as u64,
        };
        if !self.syncs {
            state.visible = state.end;
            wake(state);
        }
        Ok(begin.offset)
    }

    /// Waits until everything that was appended is on the disk. Those who come while a sync runs share the next one.
    pub fn commit(&self) -> Result<()> {
        let Some(stored) = self.stored.as_ref().filter(|_| self.syncs) else {
            return Ok(());
        };
        let mut state = lock(&self.state);
        let wanted = state.end.position;
        while state.visible.position < wanted {
            if state.failed {
                bail!("a sync of this partition failed");
            }
            if state.syncing {
                state = self
                    .synced
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let reached = state.end;
            drop(state);
            let result = stored.file.sync_data();
            state = lock(&self.state);
            state.syncing = false;
            self.synced.notify_all();
            if result.is_err() {
                state.failed = true;
            }
            result.context("fdatasync")?;
            state.syncs += 1;
            state.visible = reached;
            wake(state);
            state = lock(&self.state);
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// The offset behind the last batch that consumers see.
    pub fn visible_end(&self) -> i64 {
        lock(&self.state).visible.offset
    }

    /// Whole batches from the one with `offset` on, `limit` bytes at most but one batch at least; none while there are
    /// none. Outside of the log it is the error.
    pub fn read(&self, offset: i64, limit: usize) -> Result<Option<Slice>, OutOfRange> {
        let state = lock(&self.state);
        if offset < 0 || offset > state.visible.offset {
            return Err(OutOfRange);
        }
        let Some(stored) = self
            .stored
            .as_ref()
            .filter(|_| offset < state.visible.offset)
        else {
            return Ok(None);
        };
        let batches = &state.batches;
        let first = batches.partition_point(|batch| batch.offset <= offset) - 1;
        let begin = batches[first].position;
        let last = begin + limit as u64;
        let end = if state.visible.position <= last {
            state.visible.position
        } else {
            let behind = batches.partition_point(|batch| batch.position <= last) - 1;
            let next = batches.get(behind.max(first + 1));
            next.map_or(state.visible.position, |batch| batch.position)
        };
        Ok(Some(Slice {
            stored: stored.clone(),
            position: begin,
            length: (end.min(state.visible.position) - begin) as usize,
        }))
    }

    /// Unparks a thread when more becomes visible, once.
    pub fn notify(&self, thread: &Thread) {
        let mut state = lock(&self.state);
        if state.waiting.iter().all(|known| known.id() != thread.id()) {
            state.waiting.push(thread.clone());
        }
    }

    /// Its file, to be used again after the log.
    pub fn stored(&self) -> Option<Arc<Stored>> {
        self.stored.clone()
    }
}

/// Asked for an offset that the log does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// Unparks those that wait, outside of the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    for thread in waiting {
        thread.unpark();
    }
}

/// Says how many offsets a batch takes, after checking its length and, when it is to be stored, its checksum.
fn check(batch: &[u8], checksum: bool) -> Result<i64> {
    if batch.len() < header::BYTES {
        bail!("a batch of {} bytes has no header", batch.len());
    }
    let number =
        |range: Range<usize>| -> Result<u32> { Ok(u32::from_be_bytes(batch[range].try_into()?)) };
    let (length, magic) = (number(header::LENGTH)?, batch[header::MAGIC]);
    if length as usize + header::LENGTH.end != batch.len() || magic != 2 {
        bail!(
            "not one batch of magic 2: {} bytes that say {length}, magic {magic}",
            batch.len()
        );
    }
    if checksum && number(header::CHECKSUM)? != crc32c::crc32c(&batch[header::CHECKSUM.end..]) {
        bail!("the checksum of a batch is wrong");
    }
    Ok(i64::from(number(header::LAST_OFFSET_DELTA)?) + 1)
}

/// Locks a mutex whose holders do not panic half-way through a change.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::tests::batch;

    fn log(syncs: bool) -> Log {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let stored = files.take().unwrap();
        // The open file outlives its folder.
        Log::new(Some(stored), syncs)
    }

    #[test]
    fn a_batch_lies_in_the_file_with_its_offset_and_its_old_checksum() {
        let log = log(false);
        assert_eq!(log.append(&mut batch(3)).unwrap(), 0);
        assert_eq!(log.append(&mut batch(2)).unwrap(), 3);
        let slice = log.read(3, 1).unwrap().unwrap();
        let mut stored = vec![0; slice.length];
        slice
            .stored
            .file
            .read_exact_at(&mut stored, slice.position)
            .unwrap();
        let mut expected = batch(2);
        expected[..8].copy_from_slice(&3i64.to_be_bytes());
        assert_eq!(stored, expected);
        check(&stored, true).unwrap();
    }

    #[test]
    fn reads_end_between_batches_and_have_one_at_least() {
        let log = log(false);
        let one = batch(1).len();
        for _ in 0..4 {
            log.append(&mut batch(1)).unwrap();
        }
        let length = |offset, limit| log.read(offset, limit).unwrap().unwrap().length;
        assert_eq!(length(0, 0), one);
        assert_eq!(length(3, 0), one, "the last");
        assert_eq!(length(1, 2 * one), 2 * one);
        assert_eq!(length(1, 3 * one - 1), 2 * one);
        assert_eq!(length(0, usize::MAX >> 1), 4 * one);
        assert!(log.read(4, 1000).unwrap().is_none(), "nothing there yet");
        assert_eq!(log.read(5, 1000).unwrap_err(), OutOfRange);
        assert_eq!(log.read(-1, 1000).unwrap_err(), OutOfRange);
    }

    #[test]
    fn with_syncs_nothing_is_seen_before_the_commit() {
        let log = log(true);
        log.append(&mut batch(2)).unwrap();
        assert!(log.read(0, 1000).unwrap().is_none());
        assert_eq!(log.visible_end(), 0);
        log.commit().unwrap();
        assert_eq!(log.visible_end(), 2);
        log.append(&mut batch(2)).unwrap();
        let seen = log.read(0, 1000).unwrap().unwrap();
        assert_eq!(seen.length, batch(2).len(), "the first alone");
    }

    #[test]
    fn damage_is_told() {
        let whole = batch(2);
        let mut short = whole.clone();
        short.pop();
        let mut other = whole.clone();
        other[40] ^= 1;
        assert!(check(&short, false).is_err());
        assert!(check(&other, true).is_err());
        assert!(check(&whole[..20], false).is_err());
        assert_eq!(check(&whole, true).unwrap(), 2);
    }
}
