//! The log's files: what it asks of a disk, in whole reads and writes.
//!
//! A thin layer over [`env::files`](crate::env::files), which is the seam for another disk. Errors come back as the
//! operating system gave them; [`is_full`] tells the one that passes by itself when space returns. Whatever needs a
//! descriptor and gets none has a partition's file closed and is tried again.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

#[cfg(test)]
use super::faults::Faults;
use super::handles::Handles;
use crate::env::files;
use crate::types::TimestampMs;

pub(super) use crate::env::files::{Access, Entry, lacks_descriptor};

/// Times that something is tried again after a file was closed for it: others may have taken what that gave.
const DESCRIPTOR_ATTEMPTS: usize = 8;

/// What is asked of the disk, so that a test can refuse it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Open,
    Write,
    Allocate,
    SetLength,
    Sync,
    Rename,
    Remove,
}

/// The folders that the log lives in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    disk: Arc<dyn files::Disk>,
    handles: Arc<Handles>,
    #[cfg(test)]
    pub(super) faults: Arc<Faults>,
}

impl Default for Disk {
    /// This machine's.
    fn default() -> Self {
        Self::new(files::machine())
    }
}

/// An open file, read and written by position. Shared between threads behind an `Arc`.
#[derive(Debug)]
pub(super) struct File {
    handle: Box<dyn files::File>,
    #[cfg(test)]
    faults: Arc<Faults>,
}

/// True for the errors that end when space returns: no space, and quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn unless_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

impl Disk {
    pub fn new(disk: Arc<dyn files::Disk>) -> Self {
        Self {
            disk,
            handles: Handles::new(usize::MAX),
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    /// The same disk, with so many segment files open for writing at most.
    pub fn with_handles(self, bound: usize) -> Self {
        let handles = Handles::new(bound);
        Self { handles, ..self }
    }

    pub fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    fn with_descriptor<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..DESCRIPTOR_ATTEMPTS {
            match attempt() {
                Err(error) if lacks_descriptor(&error) && self.handles.close_one() => {}
                outcome => return outcome,
            }
        }
        attempt()
    }

    pub fn create_folders(&self, path: &Path) -> io::Result<()> {
        self.disk.create_folders(path)
    }

    /// The entries of a folder in the order of their names; none when the folder is missing.
    pub fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.with_descriptor(|| self.disk.list(path))
    }

    pub fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        let open = || {
            self.check(Operation::Open)?;
            self.disk.open(path, access)
        };
        Ok(File {
            handle: self.with_descriptor(open)?,
            #[cfg(test)]
            faults: Arc::clone(&self.faults),
        })
    }

    /// When a file was last written, in milliseconds since the Unix epoch.
    pub fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        self.disk.modified(path)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename)?;
        self.disk.rename(from, to)
    }

    /// Removes a file; one that is missing already is no error.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove)?;
        unless_missing(self.disk.remove(path))
    }

    /// Removes a folder with all that is left in it; one that is missing already is no error.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    /// Makes names durable: what was created, renamed or removed in this folder.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.with_descriptor(|| {
            self.check(Operation::Sync)?;
            self.disk.sync_folder(path)
        })
    }

    /// Takes the lock on a file for as long as the answer lives; `None` when another process has it.
    pub fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        let file = self.open(path, Access::Write)?;
        Ok(file.handle.try_lock()?.then_some(file))
    }

    /// Names the run of the operating system. Within one run nothing that was written to a file is lost, whatever
    /// became of the process. `None` where the system does not say.
    pub fn boot_id(&self) -> Option<[u8; 16]> {
        #[cfg(test)]
        if let Some(id) = self.faults.boot_id() {
            return Some(id);
        }
        self.disk.boot_id()
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.disk.modified(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    fn check(&self, operation: Operation) -> io::Result<()> {
        self.faults.check(operation)
    }

    #[cfg(not(test))]
    fn check(&self, _operation: Operation) -> io::Result<()> {
        Ok(())
    }
}

impl File {
    pub fn len(&self) -> io::Result<u64> {
        self.handle.length()
    }

    /// Replaces the buffer's content by `count` bytes from `position`, fewer where the file ends. The buffer is
    /// never filled with zeros first.
    pub fn read_at(&self, buffer: &mut Vec<u8>, count: usize, position: u64) -> io::Result<()> {
        buffer.clear();
        if count == 0 {
            return Ok(());
        }
        buffer.reserve(count);
        while buffer.len() < count {
            let from = position + buffer.len() as u64;
            match self.handle.read_at(buffer, from) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(count);
        Ok(())
    }

    /// Writes `head` and then `body` from `position` on, in calls that end at multiples of `piece` in the file. When
    /// it errs, any part may have been written.
    pub fn write_at(&self, head: &[u8], body: &[u8], position: u64, piece: u64) -> io::Result<()> {
        let total = head.len() + body.len();
        let mut written = 0;
        while written < total {
            self.check(Operation::Write)?;
            let at = position + written as u64;
            let room = usize::try_from(piece - at % piece).unwrap_or(usize::MAX);
            let end = total.min(written.saturating_add(room));
            let head_part = &head[written.min(head.len())..end.min(head.len())];
            let body_part =
                &body[written.saturating_sub(head.len())..end.saturating_sub(head.len())];
            let parts = [IoSlice::new(head_part), IoSlice::new(body_part)];
            match self.handle.write_at(&parts, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reserves blocks for a stretch of the file and makes the file at least so long. A file system that cannot is
    /// no error: the blocks then come with the writes.
    pub fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        self.check(Operation::Allocate)?;
        self.handle.allocate(position, length)
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        self.check(Operation::SetLength)?;
        self.handle.set_length(length)
    }

    /// False when the file was removed, whoever did it.
    pub fn has_name(&self) -> io::Result<bool> {
        self.handle.has_name()
    }

    /// Lets the system forget what it has cached of the file, so that it is read from the disk again.
    pub fn drop_cache(&self) -> io::Result<()> {
        self.handle.drop_cache()
    }

    /// Makes everything written so far durable, with the metadata that reading it back needs.
    pub fn sync(&self) -> io::Result<()> {
        self.check(Operation::Sync)?;
        self.handle.sync()
    }

    #[cfg(test)]
    fn check(&self, operation: Operation) -> io::Result<()> {
        self.faults.check(operation)
    }

    #[cfg(not(test))]
    fn check(&self, _operation: Operation) -> io::Result<()> {
        Ok(())
    }
}
