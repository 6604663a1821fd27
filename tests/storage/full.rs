//! A disk that is full: appends, commits and catalog changes are refused, reads go on, and when space returns so does
//! everything, without a restart and without a loss.
//!
//! The disk is a real small one, `tmpfs`, which takes root to mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::{Broker, RawClient, Suite, batch};

use crate::folder;

const SUITE: Suite = Suite { name: "full disk" };
/// Kafka's KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;
const DISK_BYTES: usize = 24 << 20;
const BALLAST_BYTES: usize = 8 << 20;
const BATCH_BYTES: usize = 200_000;

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[log]
retention-check-interval = "100ms"
unchecked-bytes = "1MiB"

[admin]
bind = "127.0.0.1:0"
"#;

/// A small file system of its own, mounted as long as this lives.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={DISK_BYTES}"),
                "tidegate-test",
            ])
            .arg(folder.path())
            .output()?;
        ensure!(
            output.status.success(),
            "a small disk cannot be mounted here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // One that stays mounted is seen by its folder, which cannot be removed then.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Produces until the disk is full; how many batches came in.
fn fill(client: &mut RawClient) -> Result<i64> {
    let values = [vec![7; BATCH_BYTES]];
    let most = (DISK_BYTES / BATCH_BYTES) as i64;
    for number in 0..=most {
        let answer = client.produce("orders", 0, -1, batch::of_values(&values))?;
        if answer.error_code == STORAGE_ERROR {
            return Ok(number);
        }
        ensure!(
            answer.error_code == 0,
            "produce: error {}",
            answer.error_code
        );
        ensure!(
            answer.base_offset == number,
            "offset {}",
            answer.base_offset
        );
    }
    anyhow::bail!("the disk never filled up")
}

/// Takes the last bytes, so that the smallest write fails.
fn fill_rest(path: &Path) -> Result<()> {
    let mut size = 1 << 20;
    let mut rest = Vec::new();
    while size >= 4096 {
        rest.resize(rest.len() + size, 1);
        if fs::write(path, &rest).is_err() {
            rest.truncate(rest.len() - size);
            size /= 2;
        }
    }
    // What was begun and refused may have been written in part.
    let _ = fs::write(path, &rest);
    Ok(())
}

fn reads(client: &mut RawClient, count: i64) -> Result<()> {
    for offset in [0, count / 2, count - 1] {
        let answer = client.fetch("orders", 0, offset, std::time::Duration::ZERO)?;
        ensure!(answer.error_code == 0, "fetch: error {}", answer.error_code);
        let records = batch::records(&answer.records.unwrap_or_default())?;
        ensure!(
            records.first().map(|record| record.offset) == Some(offset),
            "nothing at offset {offset}"
        );
    }
    Ok(())
}

fn check(disk: &SmallDisk) -> Result<()> {
    let data = disk.path().join("data");
    let ballast = disk.path().join("ballast");
    let rest = disk.path().join("rest");
    let mut broker = Broker::builder().config(CONFIG).data(&data).start()?;
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[("segment.bytes", "1048576")])?;
    folder::commit(&mut client, "readers", "orders", 0, 1)?;
    fs::write(&ballast, vec![1; BALLAST_BYTES])?;
    let count = fill(&mut client)?;
    ensure!(count > 10, "only {count} batches before the disk was full");
    fill_rest(&rest)?;
    let again = client.produce("orders", 0, 1, batch::of_values(&[b"no"]))?;
    ensure!(
        again.error_code == STORAGE_ERROR || again.error_code == 0,
        "produce: error {}",
        again.error_code
    );
    let extra = i64::from(again.error_code == 0);
    reads(&mut client, count)?;
    let refused = (0..200)
        .map(|number| client.create_topic(&format!("no-{number}"), 1, &[]))
        .filter(Result::is_err)
        .count();
    ensure!(refused > 0, "the catalog took 200 topics on a full disk");
    // Of other groups, so that some come to a partition that has no segment yet.
    let groups: Vec<_> = (0..50).map(|number| format!("group-{number}")).collect();
    let commit_all = |client: &mut RawClient| {
        let commits = groups
            .iter()
            .map(|group| folder::commit(client, group, "orders", 0, 3));
        commits.filter(Result::is_err).count()
    };
    let refused = commit_all(&mut client);
    ensure!(refused > 0, "every commit was taken on a full disk");
    ensure!(broker.running(), "the broker still runs");
    reads(&mut client, count)?;

    fs::remove_file(&ballast)?;
    fs::remove_file(&rest)?;
    let next = folder::send_batch(&mut client, "orders", 0, batch::of_values(&[b"yes"]))?;
    ensure!(next == count + extra, "offset {next} after {count} batches");
    folder::commit(&mut client, "readers", "orders", 0, 7)?;
    let refused = commit_all(&mut client);
    ensure!(
        refused == 0,
        "{refused} commits are refused with space left"
    );
    client.create_topic("later", 1, &[])?;
    reads(&mut client, next + 1)?;
    let stopped = broker.metric("tidegate_partitions_stopped", "")?;
    ensure!(stopped == 0.0, "{stopped} partitions stopped");

    broker.kill9();
    broker.restart()?;
    let mut client = broker.connect();
    reads(&mut client, next + 1)?;
    ensure!(client.list_offset("orders", 0, -1)? == next + 1);
    ensure!(client.list_offset("later", 0, -1)? == 0);
    ensure!(folder::committed(&mut client, "readers", "orders", 0)? == 7);
    broker.stop()?;
    Ok(())
}

#[test]
fn a_full_disk_refuses_serves_reads_and_recovers_by_itself() {
    let Some(disk) = SUITE.need(SmallDisk::mount()) else {
        return;
    };
    check(&disk).unwrap_or_else(|error| panic!("{error:#}"));
}
