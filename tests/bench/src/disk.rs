//! The yardstick of the commit runs: the same bytes written and synced one after the other, without a broker.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::FallocateFlags;

use crate::commit::new_histogram;
use crate::options::{DiskFile, Options, Variant};
use crate::payload::{self, nanoseconds_since, unique};
use crate::report::Measured;

/// The file's blocks are reserved, or written, so many bytes at a time.
const PIECE: u64 = 32 << 20;

/// A file that goes when it is dropped.
struct Yardstick {
    path: PathBuf,
    file: File,
    kind: DiskFile,
    ready: u64,
}

impl Yardstick {
    fn new(options: &Options, kind: DiskFile) -> Result<Self> {
        let folder = options.data.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("bench-disk-{}-{}", std::process::id(), unique()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self {
            path,
            file,
            kind,
            ready: 0,
        })
    }

    /// Makes the next piece of the file ready to be written to.
    fn prepare(&mut self) -> Result<()> {
        match self.kind {
            DiskFile::Reserved => {
                rustix::fs::fallocate(&self.file, FallocateFlags::empty(), self.ready, PIECE)?;
            }
            DiskFile::Written => {
                let zeros = vec![0; PIECE as usize];
                self.file.write_all_at(&zeros, self.ready)?;
            }
        }
        self.file.sync_all()?;
        self.ready += PIECE;
        Ok(())
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} stays behind: {error}", self.path.display());
        }
    }
}

pub async fn run(options: &Options, variant: &Variant, kind: DiskFile) -> Result<Measured> {
    let batch = payload::timed_batch(variant.size, 0)?.chunks.concat();
    let counted = Duration::from_secs(options.seconds);
    let mut disk = Yardstick::new(options, kind)?;
    tokio::task::spawn_blocking(move || measure(&mut disk, &batch, counted)).await?
}

fn measure(disk: &mut Yardstick, batch: &[u8], counted: Duration) -> Result<Measured> {
    let mut times = new_histogram()?;
    let mut position = 0;
    let mut spent = Duration::ZERO;
    while spent < counted {
        if position + batch.len() as u64 > disk.ready {
            disk.prepare()?;
        }
        let begun = Instant::now();
        disk.file.write_all_at(batch, position)?;
        disk.file.sync_data()?;
        spent += begun.elapsed();
        times.record(nanoseconds_since(begun))?;
        position += batch.len() as u64;
    }
    let microseconds = |quantile| Some(times.value_at_quantile(quantile) as f64 / 1e3);
    let rate = times.len() as f64 / spent.as_secs_f64();
    Ok(Measured {
        records_per_second: Some(rate),
        p50: microseconds(0.5),
        p99: microseconds(0.99),
        p999: microseconds(0.999),
        max: microseconds(1.0),
        syncs_per_second: Some(rate),
        records_per_sync: Some(1.0),
        sync_time: Some(times.mean() / 1e3),
        ..Measured::default()
    })
}
