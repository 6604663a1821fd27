//! redb on a disk of the caller's: the store's file behind the seam of [`env::files`](crate::env::files).

use std::io::{self, IoSlice};
use std::path::Path;

use redb::StorageBackend;

use crate::env::defects::{self, Defect};
use crate::env::files::{Access, Disk, File};

/// One open store file.
#[derive(Debug)]
pub(super) struct StoreFile(Box<dyn File>);

impl StoreFile {
    /// Opens the file, making it when it is missing, and takes its lock; `None` when somebody else has it.
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        let file = disk.open(path, Access::Write)?;
        Ok(file.try_lock()?.then_some(Self(file)))
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(out.len());
        while buffer.len() < out.len() {
            let from = offset + buffer.len() as u64;
            match self.0.read_at(&mut buffer, from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.copy_from_slice(&buffer[..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if defects::has(Defect::CatalogWithoutSync) {
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < data.len() {
            let parts = [IoSlice::new(&data[written..])];
            match self.0.write_at(&parts, offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
