//! A disk that is full: appends, commits and catalog changes are refused, reads go on, and when space returns so does
//! everything, without a restart and without a loss. What is kept for deleting is given to those who delete.
//!
//! The disk is a real small one, `tmpfs`, which takes root to mount.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Broker, RawClient, Suite, batch};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

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
disk-reserve = "2MiB"

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
        let answer = client.fetch("orders", 0, offset, Duration::ZERO)?;
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

/// Bytes that are free for whoever may have them all.
fn free(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail * found.f_frsize)
}

fn fill_to_the_last_byte(client: &mut RawClient, disk: &SmallDisk) -> Result<i64> {
    let count = fill(client)?;
    fill_rest(&disk.path().join("rest"))?;
    let left = free(disk.path())?;
    ensure!(left < 8192, "{left} bytes are free");
    Ok(count)
}

/// Produces until it is taken, which it must be within the time that the reserve takes to be made again.
fn is_taken_again(client: &mut RawClient, topic: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let values = [vec![7; BATCH_BYTES]];
    loop {
        let answer = client.produce(topic, 0, -1, batch::of_values(&values))?;
        if answer.error_code == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "error {}", answer.error_code);
        std::thread::sleep(Duration::from_millis(50));
    }
}

type WayOut = fn(&mut RawClient, i64) -> Result<()>;

const WAYS_OUT: [(&str, WayOut); 3] = [
    ("DeleteTopics", |client, _| {
        let topic = DeleteTopicState::default().with_name(Some(topic_name("orders")));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let answer = client.request(6, &request)?;
        ensure!(answer.responses[0].error_code == 0, "{answer:?}");
        Ok(())
    }),
    ("DeleteRecords", |client, count| {
        let partition = DeleteRecordsPartition::default().with_offset(count);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let answer = client.request(2, &request)?;
        let answer = &answer.topics[0].partitions[0];
        ensure!(
            (answer.error_code, answer.low_watermark) == (0, count),
            "{answer:?}"
        );
        Ok(())
    }),
    ("retention", |client, _| {
        let setting = AlterableConfig::default()
            .with_name(StrBytes::from_static_str("retention.bytes"))
            .with_value(Some(StrBytes::from_static_str("2000000")));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("orders"))
            .with_configs(vec![setting]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.request(1, &request)?;
        ensure!(answer.responses[0].error_code == 0, "{answer:?}");
        Ok(())
    }),
];

fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn leave(disk: &SmallDisk, way_out: WayOut) -> Result<()> {
    let data = disk.path().join("data");
    let mut broker = Broker::builder().config(CONFIG).data(&data).start()?;
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[("segment.bytes", "1048576")])?;
    client.create_topic("others", 1, &[])?;
    folder::send_batch(&mut client, "others", 0, batch::of_values(&[b"one"]))?;
    let count = fill_to_the_last_byte(&mut client, disk)?;
    way_out(&mut client, count)?;
    is_taken_again(&mut client, "others")?;
    let kept = broker.metric("tidegate_log_disk_reserve_bytes", "")?;
    ensure!(kept == f64::from(2 << 20), "{kept} bytes are kept again");
    let stopped = broker.metric("tidegate_partitions_stopped", "")?;
    ensure!(stopped == 0.0, "{stopped} partitions stopped");
    broker.kill9();
    broker.restart()?;
    is_taken_again(&mut broker.connect(), "others")?;
    broker.stop()?;
    Ok(())
}

#[test]
fn a_completely_full_disk_is_left_by_deleting() {
    for (name, way_out) in WAYS_OUT {
        let Some(disk) = SUITE.need(SmallDisk::mount()) else {
            return;
        };
        leave(&disk, way_out).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}
