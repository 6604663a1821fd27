//! Segment files that are kept to be written again: their blocks and pages exist, and overwriting those costs a third
//! of what fresh ones cost.
//!
//! A file enters the pool only after its header block was overwritten with zeros and synced. Whatever a crash does to the
//! order in which a later name and a later header become durable, the file's new owner finds either no header (and
//! then nothing in the file was ever answered) or its own.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::file::{Access, Disk};
use super::seal::HEADER_BLOCK;
use crate::env::defects::{self, Defect};

/// Files kept at most, so that small segments do not fill a folder.
const MAX_FILES: usize = 1024;

#[derive(Debug)]
struct Spare {
    path: PathBuf,
    length: u64,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Spare>,
    bytes: u64,
    next_name: u64,
}

#[derive(Debug)]
pub(super) struct Pool {
    folder: PathBuf,
    bound: u64,
    inner: Mutex<Inner>,
}

impl Pool {
    /// Opens the folder and takes stock. Files above the bound are removed.
    pub fn open(disk: &Disk, folder: &Path, bound: u64) -> io::Result<Self> {
        disk.create_folders(folder)?;
        let mut inner = Inner::default();
        for entry in disk.list(folder)? {
            let path = folder.join(&entry.name);
            let number = entry
                .name
                .strip_suffix(".spare")
                .and_then(|name| name.parse::<u64>().ok());
            let Some(number) = number else { continue };
            inner.next_name = inner.next_name.max(number + 1);
            let length = disk.open(&path, Access::Read)?.len()?;
            if inner.bytes + length > bound || inner.files.len() >= MAX_FILES {
                disk.remove(&path)?;
                continue;
            }
            inner.bytes += length;
            inner.files.push(Spare { path, length });
        }
        Ok(Self {
            folder: folder.to_owned(),
            bound,
            inner: Mutex::new(inner),
        })
    }

    /// Moves a spare file to `path`: one within a factor of two of `length`, so that neither a large file is spent on a
    /// small segment nor a small one on a large. Unless the caller is `eager` only while the pool is more than half
    /// full. Answers the file's length.
    pub fn take(&self, disk: &Disk, path: &Path, length: u64, eager: bool) -> Option<u64> {
        let mut inner = self.inner.lock();
        if !eager && inner.bytes * 2 < self.bound {
            return None;
        }
        let fits = length / 2..=length.saturating_mul(2);
        let index = inner
            .files
            .iter()
            .position(|spare| fits.contains(&spare.length))?;
        let spare = inner.files.swap_remove(index);
        inner.bytes -= spare.length;
        drop(inner);
        disk.rename(&spare.path, path).ok()?;
        Some(spare.length)
    }

    /// Takes in the file of a segment that is no longer needed, or removes it when there is no room.
    pub fn retire(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        let length = match disk.open(path, Access::Read) {
            Ok(file) => file.len()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(spare) = self.make_place(length) else {
            return disk.remove(path);
        };
        let blanked = disk.open(path, Access::Write).and_then(|file| {
            if !defects::has(Defect::RecycleWithoutBlanking) {
                file.write_at(&[0; HEADER_BLOCK as usize], &[], 0, u64::MAX)?;
            }
            file.sync()?;
            disk.rename(path, &spare)
        });
        if blanked.is_err() {
            self.inner.lock().bytes -= length;
            return disk.remove(path);
        }
        let path = spare;
        self.inner.lock().files.push(Spare { path, length });
        Ok(())
    }

    /// A name for one more file of this length, its bytes accounted for.
    fn make_place(&self, length: u64) -> Option<PathBuf> {
        let mut inner = self.inner.lock();
        let fits = inner.bytes + length <= self.bound && inner.files.len() < MAX_FILES;
        if !fits || length <= HEADER_BLOCK {
            return None;
        }
        inner.bytes += length;
        inner.next_name += 1;
        Some(self.folder.join(format!("{:020}.spare", inner.next_name)))
    }

    /// Gives every spare file back to a disk that is full. True when there were any.
    pub fn release(&self, disk: &Disk) -> bool {
        let files = {
            let mut inner = self.inner.lock();
            let files = std::mem::take(&mut inner.files);
            // What is on its way in stays accounted for.
            inner.bytes -= files.iter().map(|spare| spare.length).sum::<u64>();
            files
        };
        for spare in &files {
            if let Err(error) = disk.remove(&spare.path) {
                tracing::warn!(path = %spare.path.display(), %error, "spare segment file not removed");
            }
        }
        !files.is_empty()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }
}
