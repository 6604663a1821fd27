//! A disk in memory that never loses anything by itself: a target changes its files as it likes and opens them again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::files::{Access, Disk, Entry, File};
use crate::types::TimestampMs;

#[derive(Debug, Default)]
struct Bytes {
    cached: Vec<u8>,
    /// What is left once the cache is dropped, where that is something else.
    on_disk: Option<Vec<u8>>,
}

/// A file's bytes, shared by all who have it open.
type Content = Arc<Mutex<Bytes>>;

#[derive(Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, Content>,
    folders: BTreeSet<PathBuf>,
}

/// Files and folders in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    names: Arc<Mutex<Names>>,
    boot_id: Arc<Mutex<Option<[u8; 16]>>>,
}

#[derive(Debug)]
struct MemoryFile(Content);

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// A position as an index; what lies behind every index is as good as the end.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

impl MemoryDisk {
    /// What [`Disk::boot_id`] answers from now on.
    pub fn set_boot_id(&self, boot_id: Option<[u8; 16]>) {
        *self.boot_id.lock() = boot_id;
    }

    /// Every file in the order of the names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.names.lock().files.keys().cloned().collect()
    }

    /// Changes a file; one that is missing is made.
    pub fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let content = Arc::clone(self.names.lock().files.entry(path.to_owned()).or_default());
        change(&mut content.lock().cached);
    }

    /// A sync of this file has failed: reads show what they did until the cache is dropped, and then what `lose` made of it.
    pub fn fail_sync(&self, path: &Path, lose: impl FnOnce(&mut Vec<u8>)) {
        let content = Arc::clone(self.names.lock().files.entry(path.to_owned()).or_default());
        let mut content = content.lock();
        let mut on_disk = content.cached.clone();
        lose(&mut on_disk);
        content.on_disk = Some(on_disk);
    }
}

impl Disk for MemoryDisk {
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        names.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let names = self.names.lock();
        let inside = |path_inside: &&PathBuf| path_inside.parent() == Some(path);
        let entry = |path: &PathBuf, is_folder| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(Entry { name, is_folder })
        };
        let files = names.files.keys().filter(inside);
        let folders = names.folders.iter().filter(inside);
        let mut entries: Vec<_> = files
            .filter_map(|path| entry(path, false))
            .chain(folders.filter_map(|path| entry(path, true)))
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut names = self.names.lock();
        let makes = matches!(access, Access::Write | Access::Replace);
        if makes && !names.folders.contains(path.parent().ok_or_else(missing)?) {
            return Err(missing());
        }
        let content = match access {
            Access::Read | Access::Existing => {
                Arc::clone(names.files.get(path).ok_or_else(missing)?)
            }
            Access::Write | Access::Replace => {
                Arc::clone(names.files.entry(path.to_owned()).or_default())
            }
        };
        if access == Access::Replace {
            content.lock().cached.clear();
        }
        Ok(Box::new(MemoryFile(content)))
    }

    fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        let names = self.names.lock();
        names.files.get(path).map(|_| 0).ok_or_else(missing)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        let content = names.files.remove(from).ok_or_else(missing)?;
        names.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if names.files.remove(path).is_some() {
            return Ok(());
        }
        let was_there = names.folders.contains(path);
        names.folders.retain(|folder| !folder.starts_with(path));
        names.files.retain(|file, _| !file.starts_with(path));
        was_there.then_some(()).ok_or_else(missing)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let is_there = self.names.lock().folders.contains(path);
        is_there.then_some(()).ok_or_else(missing)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        *self.boot_id.lock()
    }
}

impl File for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().cached.len() as u64)
    }

    fn read_at(&self, buffer: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        let content = &self.0.lock().cached;
        let rest = content.get(index(position)..).unwrap_or_default();
        let count = rest.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let content = &mut self.0.lock().cached;
        let start = index(position);
        let count: usize = parts.iter().map(|part| part.len()).sum();
        if content.len() < start + count {
            content.resize(start + count, 0);
        }
        let mut at = start;
        for part in parts {
            content[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(count)
    }

    fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        let content = &mut self.0.lock().cached;
        let end = index(position + length).max(content.len());
        content.resize(end, 0);
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.lock().cached.resize(index(length), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        if let Some(on_disk) = content.on_disk.take() {
            content.cached = on_disk;
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
