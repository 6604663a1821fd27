//! The files of the partitions: fresh ones, or some that were written before anybody listened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use crate::log::lock;

/// Files are written before in pieces of this size.
const PIECE: usize = 4 << 20;

/// A partition's file; it goes when nobody uses it any more.
#[derive(Debug)]
pub struct Stored {
    pub file: File,
    path: PathBuf,
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} stays behind: {error}", self.path.display());
        }
    }
}

/// Makes files, and takes those back that were written before.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    next: AtomicU64,
    /// Written before, and of no partition now.
    written: Mutex<Vec<Arc<Stored>>>,
}

impl Files {
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("--data {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            next: AtomicU64::new(0),
            written: Mutex::default(),
        })
    }

    /// Writes `count` files of `bytes` together, so that their blocks and pages are there.
    pub fn prepare(&self, count: u32, bytes: u64) -> Result<()> {
        let piece = vec![0; PIECE];
        for _ in 0..count {
            let stored = self.create()?;
            let length = bytes / u64::from(count);
            for begin in (0..length).step_by(PIECE) {
                let rest = usize::try_from(length - begin)?.min(PIECE);
                stored.file.write_all_at(&piece[..rest], begin)?;
            }
            stored.file.sync_all()?;
            self.give_back(stored);
        }
        Ok(())
    }

    /// A file that was written before while there is one, else a fresh one.
    pub fn take(&self) -> Result<Arc<Stored>> {
        let written = lock(&self.written).pop();
        written.map_or_else(|| self.create(), Ok)
    }

    /// The next partition overwrites it.
    pub fn give_back(&self, stored: Arc<Stored>) {
        lock(&self.written).push(stored);
    }

    fn create(&self) -> Result<Arc<Stored>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}.log"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Arc::new(Stored { file, path }))
    }
}
