//! Data folders of every on-disk format that was ever released open, keep their contents, and go on.
//!
//! The fixtures are `tests/data/format-N`; its README tells how each was made. The same maker and checks run against the
//! current broker, so that they are right when the next fixture is due.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Broker, repository_root, say, tidegate_binary};
use tidegate::catalog::Catalog;
use tidegate::config::{LogConfig, TopicConfig};
use tidegate::env::Clock;
use tidegate::log::{LogSet, batch};
use tidegate::types::PartitionId;

use crate::folder::{self, Contents};

/// Stopped cleanly, and killed with records behind the last checkpoint.
const VARIANTS: [&str; 2] = ["stopped", "killed"];

/// Retention and compaction come by often, and groups never grow too old.
const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[log]
retention-check-interval = "100ms"
cleaner-interval = "100ms"

[groups]
offsets-retention = "3650d"

[admin]
bind = "127.0.0.1:0"
"#;

fn start(data: &Path) -> Result<Broker> {
    Broker::builder().config(CONFIG).data(data).start()
}

fn save(contents: &Contents, to: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(contents)?;
    text.push('\n');
    Ok(fs::write(to, text)?)
}

fn load(from: &Path) -> Result<Contents> {
    let text = fs::read_to_string(from).with_context(|| from.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Makes both variants in a folder.
fn make(fixture: &Path) -> Result<()> {
    fs::create_dir_all(fixture)?;
    let data = tempfile::tempdir()?;
    let mut broker = start(data.path())?;
    let mut contents = folder::fill(&broker)?;
    broker.stop()?;
    folder::pack(data.path(), &fixture.join("stopped.tar.zst"))?;
    save(&contents, &fixture.join("stopped.json"))?;
    broker.restart()?;
    folder::fill_more(&mut broker.connect(), &mut contents)?;
    broker.kill9();
    folder::pack(data.path(), &fixture.join("killed.tar.zst"))?;
    save(&contents, &fixture.join("killed.json"))
}

/// Opens a copy of each variant with the current broker, reads, goes on, and starts it again.
fn check(fixture: &Path) -> Result<()> {
    for variant in VARIANTS {
        let contents = load(&fixture.join(format!("{variant}.json")))?;
        let archive = fixture.join(format!("{variant}.tar.zst"));
        let data = tempfile::tempdir()?;
        folder::unpack(&archive, data.path())?;
        let context = || format!("{} ({variant})", fixture.display());
        goes_on(data.path(), &contents).with_context(context)?;
        let data = tempfile::tempdir()?;
        folder::unpack(&archive, data.path())?;
        knows_its_producers(data.path(), &contents).with_context(context)?;
    }
    Ok(())
}

fn verify(data: &Path) -> Result<()> {
    let output = std::process::Command::new(tidegate_binary())
        .args(["log", "verify", "--data"])
        .arg(data)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "log verify: {said}");
    Ok(())
}

fn goes_on(data: &Path, contents: &Contents) -> Result<()> {
    verify(data).context("before the first start")?;
    let mut broker = start(data)?;
    contents
        .check(&mut broker.connect())
        .context("after the first start")?;
    let added = [&b"added"[..]; 3];
    let append = |broker: &Broker| -> Result<Vec<i64>> {
        let mut client = broker.connect();
        let batch = harness::batch::of_values(&added);
        let partitions = contents.partitions.iter();
        partitions
            .map(|p| folder::send_batch(&mut client, &p.topic, p.partition, batch.clone()))
            .collect()
    };
    let ends: Vec<i64> = contents.partitions.iter().map(|p| p.end).collect();
    ensure!(append(&broker)? == ends, "new records follow the old ones");
    folder::commit(&mut broker.connect(), "new", "orders", 0, 1)?;
    broker.stop()?;
    verify(data).context("after a clean stop")?;
    broker.restart()?;
    contents
        .check(&mut broker.connect())
        .context("after a clean stop")?;
    let later: Vec<i64> = ends.iter().map(|end| end + 3).collect();
    ensure!(
        append(&broker)? == later,
        "the log goes on after a clean stop"
    );
    broker.kill9();
    broker.restart()?;
    contents
        .check(&mut broker.connect())
        .context("after a kill")?;
    let mut client = broker.connect();
    for (partition, end) in contents.partitions.iter().zip(later) {
        let answer = client.fetch(&partition.topic, partition.partition, end, Duration::ZERO)?;
        let records = harness::batch::records(&answer.records.unwrap_or_default())?;
        ensure!(records.len() == 3, "added records of {}", partition.topic);
    }
    broker.stop()?;
    verify(data).context("at the end")
}

/// A batch that is sent again long after the fixture was made is still known for a duplicate: the library is asked,
/// for which producers never grow too old.
fn knows_its_producers(data: &Path, contents: &Contents) -> Result<()> {
    let catalog = Catalog::open(data)?;
    let config = LogConfig {
        producer_expiry: Duration::from_secs(1 << 40),
        ..LogConfig::default()
    };
    let logs =
        LogSet::open(&data.join("log"), config, Clock::system()).map_err(anyhow::Error::msg)?;
    for last in &contents.producers {
        let topic = catalog
            .topic(&last.topic)
            .context("the topic is in the catalog")?;
        let id = PartitionId {
            topic: topic.id,
            index: last.partition,
        };
        let log = logs
            .open_partition(id, Arc::new(TopicConfig::default()))
            .map_err(anyhow::Error::msg)?;
        let again = batch::parse(last.again(), usize::MAX)?.remove(0);
        let answer = log.append(again)?;
        ensure!(
            answer.duplicate && answer.base_offset == last.base_offset,
            "{last:?} was answered with {answer:?}"
        );
    }
    logs.shutdown();
    Ok(())
}

fn kept_fixtures() -> Vec<PathBuf> {
    let data = repository_root().join("tests/data");
    let entries = fs::read_dir(data).expect("tests/data is in the repository");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("format-")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn data_folders_of_every_released_format_open_and_go_on() {
    let fixtures = kept_fixtures();
    assert!(!fixtures.is_empty(), "no fixture in tests/data");
    for fixture in fixtures {
        check(&fixture).unwrap_or_else(|error| panic!("{error:#}"));
        say(&format!("opened {}", fixture.display()));
    }
}

/// Keeps what it made in `TIDEGATE_MAKE_FIXTURE` when that names a folder: so the next format's fixture is made.
#[test]
fn a_folder_of_the_current_format_passes_the_same_checks() {
    let temporary = tempfile::tempdir().expect("temporary folder");
    let kept = std::env::var_os("TIDEGATE_MAKE_FIXTURE").map(PathBuf::from);
    let fixture = kept.unwrap_or_else(|| temporary.path().to_owned());
    make(&fixture).unwrap_or_else(|error| panic!("{error:#}"));
    check(&fixture).unwrap_or_else(|error| panic!("{error:#}"));
}
