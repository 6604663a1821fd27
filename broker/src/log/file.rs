//! Every call that the log makes to the operating system's files, and nothing else: the seam for another disk.
//!
//! A **disk** knows paths, a **file** knows positions. Neither knows what the bytes mean. Errors come back as the
//! operating system gave them; [`is_full`] tells the one that passes by itself when space returns.

use std::fs;
use std::io::{self, IoSlice};
use std::path::Path;
#[cfg(test)]
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;

#[cfg(test)]
use super::faults::Faults;
use crate::types::TimestampMs;

/// Where the kernel names the boot it runs in.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Read,
    /// Reading and writing; the file is made when missing.
    Write,
    /// As `Write`, and what the file held is dropped.
    Replace,
}

/// One entry of a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub is_folder: bool,
}

/// The folders of this machine. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: Arc<Faults>,
}

/// An open file, read and written by position. Shared between threads behind an `Arc`.
#[derive(Debug)]
pub(super) struct File {
    handle: fs::File,
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

impl Disk {
    pub fn create_folders(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    /// The entries of a folder in the order of their names; none when the folder is missing.
    pub fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let folder = match fs::read_dir(path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for entry in folder {
            let entry = entry?;
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry.file_name().into_string() {
                let is_folder = entry.file_type()?.is_dir();
                entries.push(Entry { name, is_folder });
            }
        }
        entries.sort();
        Ok(entries)
    }

    pub fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        self.check(Operation::Open)?;
        let handle = match access {
            Access::Read => fs::File::open(path)?,
            Access::Write | Access::Replace => fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(access == Access::Replace)
                .open(path)?,
        };
        Ok(File {
            handle,
            #[cfg(test)]
            faults: Arc::clone(&self.faults),
        })
    }

    /// When a file was last written, in milliseconds since the Unix epoch.
    pub fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        let since = fs::metadata(path)?
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX))
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename)?;
        fs::rename(from, to)
    }

    /// Removes a file; one that is missing already is no error.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes a folder with all that is left in it; one that is missing already is no error.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove)?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Makes names durable: what was created, renamed or removed in this folder.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Sync)?;
        fs::File::open(path)?.sync_all()
    }

    /// Takes the lock on a file for as long as the answer lives; `None` when another process has it.
    pub fn lock(&self, path: &Path) -> io::Result<Option<File>> {
        let file = self.open(path, Access::Write)?;
        match rustix::fs::flock(&file.handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Names the run of the operating system. Within one run nothing that was written to a file is lost, whatever
    /// became of the process. `None` where the system does not say.
    pub fn boot_id(&self) -> Option<[u8; 16]> {
        #[cfg(test)]
        if let Some(id) = self.faults.boot_id() {
            return Some(id);
        }
        let text = fs::read_to_string(BOOT_ID).ok()?;
        Some(*uuid::Uuid::parse_str(text.trim()).ok()?.as_bytes())
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
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
        Ok(self.handle.metadata()?.len())
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
            match rustix::io::pread(&self.handle, spare_capacity(buffer), from) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
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
            match rustix::io::pwritev(&self.handle, &parts, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reserves blocks for a stretch of the file and makes the file at least so long. A file system that cannot is
    /// no error: the blocks then come with the writes.
    pub fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        self.check(Operation::Allocate)?;
        match rustix::fs::fallocate(&self.handle, FallocateFlags::empty(), position, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        self.check(Operation::SetLength)?;
        self.handle.set_len(length)
    }

    /// Lets the system forget what it has cached of the file, so that it is read from the disk again.
    pub fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.handle, 0, None, Advice::DontNeed)?;
        Ok(())
    }

    /// Makes everything written so far durable, with the metadata that reading it back needs.
    pub fn sync(&self) -> io::Result<()> {
        self.check(Operation::Sync)?;
        self.handle.sync_data()
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
