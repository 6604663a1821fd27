//! The coordinator over the commit log on a disk.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::catalog::Catalog;
use crate::config::LogConfig;
use crate::log::LogSet;
use crate::types::{CONSUMER_OFFSETS, PartitionId};

struct Disk {
    directory: TempDir,
    logs: Arc<LogSet>,
    catalog: Arc<Catalog>,
}

impl Disk {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn open(directory: TempDir) -> Self {
        let log = directory.path().join("log");
        Self {
            logs: LogSet::open(&log, LogConfig::default(), Clock::system()).unwrap(),
            catalog: Catalog::open(directory.path()).unwrap(),
            directory,
        }
    }

    fn coordinator(&self) -> Arc<Coordinator> {
        let (catalog, logs) = (Arc::clone(&self.catalog), Arc::clone(&self.logs));
        Coordinator::open(roomy(), catalog, logs, Clock::system()).unwrap()
    }

    fn restart(self) -> Self {
        self.logs.shutdown();
        let Self {
            directory,
            logs,
            catalog,
        } = self;
        drop((logs, catalog));
        Self::open(directory)
    }
}

fn roomy() -> GroupConfig {
    GroupConfig {
        max_groups: 100,
        ..config()
    }
}

fn offset_of(coordinator: &Coordinator, group: &str) -> Option<Offset> {
    let wanted = [("orders".to_owned(), 0)];
    let found = coordinator.fetch_offsets(group, Some(&wanted)).unwrap();
    found[0].2.as_ref().map(|committed| committed.offset)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// Overwrites a text wherever it stands in the files below a folder.
fn damage(folder: &Path, text: &str) {
    let mut hits = 0;
    for file in files(folder) {
        let mut bytes = std::fs::read(&file).unwrap();
        while let Some(at) = find(&bytes, text.as_bytes()) {
            bytes[at..at + text.len()].fill(b'#');
            hits += 1;
        }
        std::fs::write(&file, bytes).unwrap();
    }
    assert!(hits > 0, "{text} is on the disk");
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[tokio::test]
async fn generations_and_offsets_survive_on_the_disk() {
    let disk = Disk::new();
    let coordinator = disk.coordinator();
    let timers = tokio::spawn(Arc::clone(&coordinator).run_timers());
    let outcome = soon(coordinator.join(joining("g"))).await.unwrap();
    soon(coordinator.sync(leading("g", &outcome)))
        .await
        .unwrap();
    let commit = CommitRequest {
        member_id: outcome.member_id.clone(),
        generation: 1,
        ..committing("g", 17)
    };
    soon(coordinator.commit_offsets(commit)).await.unwrap();
    soon(coordinator.commit_offsets(committing("gone", 1)))
        .await
        .unwrap();
    soon(coordinator.delete("gone")).await.unwrap();
    let described = coordinator.describe("g");
    timers.abort();
    assert!(
        timers.await.is_err(),
        "the timers let go of the coordinator"
    );
    drop(coordinator);

    let disk = disk.restart();
    let coordinator = disk.coordinator();
    assert_eq!(coordinator.describe("g"), described);
    assert_eq!(offset_of(&coordinator, "g"), Some(17));
    assert_eq!(coordinator.describe("gone"), None);
    let heartbeat = coordinator.heartbeat("g", &outcome.member_id, None, 1);
    assert_eq!(heartbeat, Ok(()));
}

#[tokio::test]
async fn the_offsets_topic_is_internal_and_keeps_its_partitions() {
    let disk = Disk::new();
    drop(disk.coordinator());
    let topic = disk.catalog.topic(CONSUMER_OFFSETS).unwrap();
    assert!(topic.internal);
    assert_eq!(topic.partitions, roomy().offsets_partitions);
    assert_eq!(topic.configs["cleanup.policy"], "compact");
    let other = GroupConfig {
        offsets_partitions: 3,
        ..roomy()
    };
    let (catalog, logs) = (Arc::clone(&disk.catalog), Arc::clone(&disk.logs));
    Coordinator::open(other, catalog, logs, Clock::system()).unwrap();
    assert_eq!(*disk.catalog.topic(CONSUMER_OFFSETS).unwrap(), *topic);
    let last = PartitionId {
        topic: topic.id,
        index: topic.partitions - 1,
    };
    assert!(disk.logs.get(last).is_some());
}

#[tokio::test]
async fn a_commit_of_more_than_one_batch_is_read_back_whole() {
    let disk = Disk::new();
    let coordinator = disk.coordinator();
    let mut commit = committing("g", 0);
    let one = commit.offsets[0].clone();
    commit.offsets = (0..30_000)
        .map(|partition| OffsetToCommit {
            partition,
            offset: i64::from(partition) + 1,
            ..one.clone()
        })
        .collect();
    soon(coordinator.commit_offsets(commit)).await.unwrap();
    let committed = coordinator.committed();
    assert_eq!(committed.len(), 30_000);
    drop(coordinator);
    let coordinator = disk.restart().coordinator();
    assert_eq!(coordinator.committed(), committed);
}

#[tokio::test]
async fn a_damaged_batch_costs_its_own_offsets_alone() {
    let disk = Disk::new();
    let coordinator = disk.coordinator();
    // Groups of one partition of the topic, so that the damage lies between sound batches.
    let partition = |group: &str| crate::coordinator::storage::partition_for(group, 8);
    let mut groups = (0..).map(|index| format!("group-{index}."));
    let wanted = partition("group-0.");
    let groups: Vec<String> = groups
        .by_ref()
        .filter(|group| partition(group) == wanted)
        .take(20)
        .collect();
    for group in &groups {
        soon(coordinator.commit_offsets(committing(group, 5)))
            .await
            .unwrap();
    }
    drop(coordinator);
    damage(&disk.directory.path().join("log"), &groups[10]);
    let coordinator = disk.coordinator();
    for (index, group) in groups.iter().enumerate() {
        let expected = (index != 10).then_some(5);
        assert_eq!(offset_of(&coordinator, group), expected, "{group}");
    }
}
