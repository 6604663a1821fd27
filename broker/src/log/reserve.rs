//! The disk reserve: a file that is there to be removed when the disk is full, so that what gives space back can still be
//! done: deleting topics and records, retention, and the catalog's part in them.
//!
//! While it is **out** nothing is appended that needs new space, so that clients do not eat what was meant for the way out.
//! It is made again as soon as the disk has room for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::file::{Access, Disk};

const FILE: &str = "reserve";
/// Where a file system cannot reserve blocks they are written, by so many bytes.
const PIECE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// 0: none is kept.
    bytes: u64,
    /// The file is not there, and is wanted.
    is_out: AtomicBool,
    released: AtomicU64,
    /// Held while the file is made or removed.
    changing: Mutex<()>,
}

impl Reserve {
    /// Makes the file in the log's folder. One that cannot be made now is made later.
    pub fn open(disk: &Disk, folder: &Path, bytes: u64) -> io::Result<Self> {
        let reserve = Self {
            path: folder.join(FILE),
            bytes,
            is_out: AtomicBool::new(bytes > 0),
            released: AtomicU64::new(0),
            changing: Mutex::default(),
        };
        if bytes == 0 {
            if disk.exists(&reserve.path)? {
                disk.remove(&reserve.path)?;
            }
        } else if let Err(error) = reserve.make(disk) {
            tracing::warn!(path = %reserve.path.display(), bytes, %error, "the disk reserve (log.disk-reserve) was not made; records that need new space are refused until it is");
        } else {
            reserve.is_out.store(false, Ordering::SeqCst);
        }
        Ok(reserve)
    }

    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::SeqCst)
    }

    /// What is kept of it now, in bytes.
    pub fn kept(&self) -> u64 {
        if self.is_out() { 0 } else { self.bytes }
    }

    /// Times that it was released.
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    /// Gives the reserve to a disk that is full. False when there is none to give.
    pub fn release(&self, disk: &Disk) -> bool {
        let _one = self.changing.lock();
        if self.bytes == 0 || self.is_out() {
            return false;
        }
        if let Err(error) = disk.remove(&self.path) {
            tracing::error!(path = %self.path.display(), %error, "the disk is full, and its reserve was not released");
            return false;
        }
        self.is_out.store(true, Ordering::SeqCst);
        self.released.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(path = %self.path.display(), bytes = self.bytes, "the disk is full: its reserve (log.disk-reserve) was released so that topics and records can be deleted; records that need new space are refused until it is made again");
        true
    }

    /// Makes the reserve again; true when it is there.
    pub fn refill(&self, disk: &Disk) -> bool {
        if !self.is_out() {
            return true;
        }
        let _one = self.changing.lock();
        if self.is_out() && self.make(disk).is_ok() {
            self.is_out.store(false, Ordering::SeqCst);
            tracing::info!(path = %self.path.display(), bytes = self.bytes, "the disk has room again, and its reserve was made");
        }
        !self.is_out()
    }

    fn make(&self, disk: &Disk) -> io::Result<()> {
        let made = self.fill(disk);
        if made.is_err() {
            // Half a reserve would take from those who give space back.
            let _ = disk.remove(&self.path);
        }
        made
    }

    fn fill(&self, disk: &Disk) -> io::Result<()> {
        let file = disk.open(&self.path, Access::Write)?;
        let length = file.len()?;
        if length > self.bytes {
            return file.set_len(self.bytes);
        }
        if length < self.bytes {
            file.allocate(length, self.bytes - length)?;
        }
        let zeros = vec![0; PIECE as usize];
        let mut position = file.len()?;
        while position < self.bytes {
            let count = PIECE.min(self.bytes - position);
            file.write_at(&zeros[..count as usize], &[], position, u64::MAX)?;
            position += count;
        }
        Ok(())
    }
}
