//! The files of the partitions: fresh ones, or some that were written before anybody listened.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::log::lock;

/// Files are written before in pieces of this size.
const PIECE: usize = 4 << 20;

/// Makes and takes back files.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    next: AtomicU64,
    /// Written before, and of no partition now.
    written: Mutex<Vec<File>>,
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
            let file = self.create()?;
            let length = bytes / u64::from(count);
            for begin in (0..length).step_by(PIECE) {
                let rest = usize::try_from(length - begin)?.min(PIECE);
                file.write_all_at(&piece[..rest], begin)?;
            }
            file.sync_all()?;
            lock(&self.written).push(file);
        }
        Ok(())
    }

    /// A file that was written before while there is one, else a fresh one.
    pub fn take(&self) -> Result<File> {
        let written = lock(&self.written).pop();
        written.map_or_else(|| self.create(), Ok)
    }

    /// A file whose topic was deleted: the next partition overwrites it.
    pub fn give_back(&self, file: File) {
        lock(&self.written).push(file);
    }

    fn create(&self) -> Result<File> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number}.log"));
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .with_context(|| path.display().to_string())
    }
}
