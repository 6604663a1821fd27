//! Every call that the log and the catalog make to the operating system's files, and nothing else: the seam for another
//! disk. What is made here is its owner's alone, whatever the umask: folders 0700, files 0600.
//!
//! A **disk** knows paths, a **file** knows positions. Neither knows what the bytes mean. Errors come back as the
//! operating system gave them. What a disk owes: bytes and names that were synced survive a loss of power, those that
//! were only written survive the end of the process, and `rename` replaces in one step.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::types::TimestampMs;

/// Where the kernel names the boot it runs in.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading; a file that is missing is an error.
    Read,
    /// Reading and writing; a file that is missing is an error.
    Existing,
    /// Reading and writing; the file is made when missing.
    Write,
    /// As `Write`, and what the file held is dropped.
    Replace,
}

/// One entry of a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    pub name: String,
    pub is_folder: bool,
}

/// Folders and the names in them.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a folder and those it stands in; one that is there is no error.
    fn create_folders(&self, path: &Path) -> io::Result<()>;

    /// The entries of a folder in the order of their names; none when the folder is missing.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// When a file was last written, in milliseconds since the Unix epoch. `NotFound` when there is none.
    fn modified(&self, path: &Path) -> io::Result<TimestampMs>;

    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or a folder with all that is in it; `NotFound` when it is missing.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names durable: what was created, renamed or removed in this folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Names the run of the operating system. Within one run nothing that was written to a file is lost, whatever
    /// became of the process. `None` where the system does not say.
    fn boot_id(&self) -> Option<[u8; 16]>;
}

/// An open file, read and written by position.
pub trait File: fmt::Debug + Send + Sync {
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Appends bytes from `position` on to the buffer, as many as one call gives and the buffer has spare room for,
    /// and answers how many. None are left at the end of the file.
    fn read_at(&self, buffer: &mut Vec<u8>, position: u64) -> io::Result<usize>;

    /// Writes the parts one after the other from `position` on, in one call that may end short, and answers how many
    /// bytes were written.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// Reserves blocks for a stretch of the file and makes the file at least so long; what was not written reads as
    /// zeros. A file system that cannot is no error: the blocks then come with the writes.
    fn allocate(&self, position: u64, length: u64) -> io::Result<()>;

    /// Cuts the file off, or makes it longer by zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far durable, with the metadata that reading it back needs.
    fn sync(&self) -> io::Result<()>;

    /// Lets the system forget what it has cached of the file, so that it is read from the disk again.
    fn drop_cache(&self) -> io::Result<()>;

    /// Takes the lock on the file for as long as it is open; false when another opening of it holds the lock.
    fn try_lock(&self) -> io::Result<bool>;

    /// False when the file was removed while it was open: what is written to it is lost with the last handle. A disk that
    /// cannot tell says true.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// Read, written and entered by its owner alone.
const FOLDER_MODE: u32 = 0o700;
/// Read and written by its owner alone.
const FILE_MODE: u32 = 0o600;
/// What a mode grants to others than the owner.
const OTHERS: u32 = 0o077;

/// Makes a folder and those it stands in on this machine's disk; one that is there is no error, and stays as it is.
pub fn create_private_folders(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
}

/// Makes a file on this machine's disk for writing, or drops what it held.
pub fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Takes from a folder of this machine what it grants to others than its owner: whatever lies in it is out of their
/// reach then. Answers the mode that it had, when that was wider.
pub fn make_private(path: &Path) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & !OTHERS))?;
    Ok(Some(mode))
}

/// True for the errors that mean that no more files can be open at once, of the process or of the machine. They pass when
/// others are closed.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Makes a folder whose name survives a loss of power. A parent that this process may not open is left to whoever owns it.
pub fn create_folder_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.create_folders(path)?;
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match disk.sync_folder(parent) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        outcome => outcome,
    }
}

/// Lets a file be read from the disk and not from the page cache: after a sync that failed the cache may show what the disk
/// does not hold, and call it clean. A file that is missing is no error.
pub fn distrust_cache(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.open(path, Access::Read) {
        Ok(file) => {
            file.sync()?;
            file.drop_cache()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The disks of this machine.
#[derive(Clone, Copy, Debug)]
struct Machine;

/// This machine's folders.
pub fn machine() -> Arc<dyn Disk> {
    Arc::new(Machine)
}

impl Disk for Machine {
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        create_private_folders(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
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

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .create(matches!(access, Access::Write | Access::Replace))
            .truncate(access == Access::Replace)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn modified(&self, path: &Path) -> io::Result<TimestampMs> {
        let since = fs::metadata(path)?
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = fs::read_to_string(BOOT_ID).ok()?;
        Some(*uuid::Uuid::parse_str(text.trim()).ok()?.as_bytes())
    }
}

impl File for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(self, spare_capacity(buffer), position)?)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, parts, position)?)
    }

    fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), position, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(self, 0, None, Advice::DontNeed)?;
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(self, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }
}
