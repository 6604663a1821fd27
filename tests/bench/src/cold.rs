//! Makes the page cache forget what a spawned broker wrote, so that a consumer reads from the disk.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::Advice;

use crate::broker::Broker;

/// Of the bytes that were read, so many of a hundred must have come from the disk for the run to be called cold.
const COLD_PERCENT: u64 = 90;

/// Writes everything in the broker's data folder back, and drops its pages.
pub fn forget(broker: &Broker) -> Result<()> {
    let folder = broker.data().context(
        "cold reads need the broker's files, to drop them from the page cache: use --spawn in place of --bootstrap",
    )?;
    forget_folder(folder)
}

fn forget_folder(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            forget_folder(&path)?;
        } else if kind.is_file() {
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            // Only pages that were written back can be dropped.
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Voids a run whose bytes did not come from the disk after all: a page that the broker has mapped, or that lies in a file
/// system in memory, stays.
pub fn check(broker: &Broker, before: Option<u64>, expected: u64) -> Result<()> {
    let (Some(before), Some(after)) = (before, broker.bytes_from_disk()) else {
        bail!("not known whether the bytes came from the disk: /proc/PID/io cannot be read");
    };
    let read = after - before;
    if read < expected * COLD_PERCENT / 100 {
        bail!(
            "not cold: of {expected} bytes {read} came from the disk; give --data a folder on a disk"
        );
    }
    Ok(())
}
