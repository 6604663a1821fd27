//! Random histories against a model: whatever a crash leaves, what was acknowledged is there, once and in order.

use std::collections::HashMap;
use std::fs;

use super::*;
use crate::log::checkpoint::{Checkpoint, Loaded};
use crate::log::segment::base_of;

/// What a partition must hold: every record in order, and how many of them were acknowledged as durable.
#[derive(Default)]
struct Model {
    values: Vec<Vec<u8>>,
    durable: usize,
    start: usize,
    /// Next sequence of each producer, with how many records lay before its batch.
    sequences: HashMap<i64, i32>,
}

/// The files of a log folder as they were at one moment.
type Image = HashMap<PathBuf, Vec<u8>>;

fn image(root: &Path) -> Image {
    let mut files = Image::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_owned();
                files.insert(name, fs::read(path).expect("file"));
            }
        }
    }
    files
}

fn restore(image: &Image, root: &Path) {
    for (name, bytes) in image {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, bytes).expect("written");
    }
}

/// What a loss of power may leave: of every sector of a segment that changed since the last sync, the old or the new
/// bytes. What the newest checkpoint calls synced is not lost. A file that came later was a spare one before: its old
/// bytes are the batches of another segment.
fn after_power_loss(
    synced: &Image,
    now: &Image,
    checkpoint: &Checkpoint,
    random: &mut Random,
) -> Image {
    let spare = synced
        .iter()
        .filter(|(name, _)| {
            name.extension()
                .is_some_and(|end| end == "log" || end == "spare")
        })
        .map(|(_, bytes)| bytes)
        .max_by_key(|bytes| bytes.len());
    let mut spare = spare.cloned().unwrap_or_default();
    let header = spare.len().min(4096);
    spare[..header].fill(0);
    let mut left = now.clone();
    for (name, bytes) in &mut left {
        if name.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let old = synced.get(name).unwrap_or(&spare);
        let base = name.file_name().and_then(|name| base_of(name.to_str()?));
        let extent = checkpoint
            .segments
            .iter()
            .find(|extent| Some(extent.base_offset) == base);
        let safe = extent.map_or(0, |extent| usize::try_from(extent.end).expect("small"));
        if random.below(4) == 0 {
            let from = safe.max(old.len().min(bytes.len()));
            bytes.truncate(from + random.size(bytes.len() - from + 1));
        }
        for sector in (0..bytes.len()).step_by(512) {
            if random.below(3) > 0 {
                continue;
            }
            for at in sector.max(safe)..bytes.len().min(sector + 512) {
                bytes[at] = old.get(at).copied().unwrap_or(0);
            }
        }
    }
    left
}

fn grow(log: &PartitionLog, model: &mut Model, random: &mut Random, number: &mut u32) {
    let count = 1 + random.size(4);
    let values: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            *number += 1;
            let mut value = number.to_be_bytes().to_vec();
            value.resize(4 + random.size(1200), 0xab);
            value
        })
        .collect();
    let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    let producer = i64::try_from(random.below(4)).expect("small");
    let sequence = *model.sequences.get(&producer).unwrap_or(&0);
    let template = BatchTemplate {
        producer_id: producer,
        producer_epoch: 0,
        base_sequence: sequence,
        ..BatchTemplate::PLAIN
    };
    let records: Vec<_> = slices
        .iter()
        .zip(0..)
        .map(|(value, delta)| record(delta, NOW, value))
        .collect();
    let batch = encode(template, &records);
    let appended = log.append(batch.clone()).expect("appended");
    assert_eq!(
        usize::try_from(appended.base_offset).expect("small"),
        model.values.len()
    );
    if random.below(5) == 0 {
        let again = log.append(batch).expect("answered");
        assert!(again.duplicate);
        assert_eq!(again.base_offset, appended.base_offset);
    }
    model
        .sequences
        .insert(producer, sequence + i32::try_from(count).expect("small"));
    model.values.extend(values);
}

/// Compares a recovered log with the model; records that were never acknowledged may be missing from the end.
fn check(log: &PartitionLog, model: &Model, what: &str) {
    assert_eq!(log.stats().stopped, None, "{what}");
    let records = read_all(log);
    let end = usize::try_from(log.offsets().log_end).expect("small");
    let start = usize::try_from(log.offsets().log_start).expect("small");
    assert_eq!(
        log.offsets().high_watermark,
        log.offsets().log_end,
        "{what}"
    );
    assert!(
        end >= model.durable,
        "{what}: {end} of {} durable",
        model.durable
    );
    assert!(end <= model.values.len(), "{what}");
    assert!(start <= model.start.max(end), "{what}");
    assert_eq!(records.len(), end - start, "{what}");
    for ((offset, value), expected) in records.iter().zip(start..) {
        assert_eq!(usize::try_from(*offset).expect("small"), expected, "{what}");
        assert_eq!(value, &model.values[expected], "{what}");
    }
}

/// One history: appends, commits, retention and restarts; then crashes of both kinds at its end.
fn history(seed: u64) {
    let mut random = Random(seed);
    let mut fixture = Fixture::new();
    fixture.topic.segment_bytes = 4096 + 2000 + random.below(20_000);
    fixture.topic.retention_bytes = 40_000;
    fixture.config.recycle_bytes = 200_000;
    fixture.config.flush_max_delay = std::time::Duration::from_secs(3600);
    fixture.disk.faults.set_boot_id([1; 16]);
    let mut model = Model::default();
    let mut number = 0;
    let mut logs = fixture.open();
    let mut log = fixture.partition(&logs, 1);
    let root = fixture.directory.path().to_owned();
    let mut synced = image(&root);
    for _ in 0..20 + random.size(60) {
        match random.below(12) {
            0 => {
                commit(&log);
                model.durable = model.values.len();
                synced = image(&root);
            }
            1 => {
                commit(&log);
                logs.enforce_retention();
                model.durable = model.values.len();
                model.start = usize::try_from(log.offsets().log_start).expect("small");
                synced = image(&root);
            }
            2 if random.below(3) == 0 => {
                let clean = random.below(2) == 0;
                if clean {
                    logs.shutdown();
                }
                drop((log, logs));
                logs = fixture.open();
                log = fixture.partition(&logs, 1);
                // The process ended, not the machine: everything that was appended is there.
                model.durable = model.values.len();
                check(&log, &model, "restart");
                synced = image(&root);
            }
            _ => grow(&log, &mut model, &mut random, &mut number),
        }
    }
    drop((log, logs));
    let now = image(&root);
    killed(&fixture, &now, &model, &mut random);
    lost_power(&fixture, &synced, &now, &model, &mut random);
}

/// `kill -9`: the page cache survives as it is.
fn killed(fixture: &Fixture, now: &Image, model: &Model, random: &mut Random) {
    let folder = TempDir::new().expect("temporary folder");
    restore(now, folder.path());
    let logs = fixture.open_at(folder.path());
    let log = fixture.partition(&logs, 1);
    let mut more = Model {
        values: model.values.clone(),
        durable: model.values.len(),
        start: model.start,
        sequences: model.sequences.clone(),
    };
    check(&log, &more, "killed");
    let mut number = 1 << 20;
    for _ in 0..5 {
        grow(&log, &mut more, random, &mut number);
    }
    commit(&log);
    check(&log, &more, "after the kill");
}

fn lost_power(fixture: &Fixture, synced: &Image, now: &Image, model: &Model, random: &mut Random) {
    let Ok(Loaded::Good(checkpoint)) = Checkpoint::load(&fixture.disk, &fixture.folder(1)) else {
        return;
    };
    let clean = checkpoint.segments.last().expect("a segment").next_offset;
    let clean = usize::try_from(clean).expect("small");
    let model = Model {
        values: model.values.clone(),
        durable: model.durable.max(clean),
        start: model.start,
        ..Model::default()
    };
    fixture.disk.faults.set_boot_id([2; 16]);
    for round in 0..6 {
        let folder = TempDir::new().expect("temporary folder");
        let left = after_power_loss(synced, now, &checkpoint, random);
        restore(&left, folder.path());
        let logs = fixture.open_at(folder.path());
        let log = fixture.partition(&logs, 1);
        check(&log, &model, &format!("power lost, round {round}"));
        let end = log.offsets().log_end;
        assert_eq!(append(&log, &[b"on"]).base_offset, end);
        commit(&log);
        let records = read_all(&log);
        drop((log, logs));
        let logs = fixture.open_at(folder.path());
        let log = fixture.partition(&logs, 1);
        assert_eq!(read_all(&log), records, "round {round}");
    }
    fixture.disk.faults.set_boot_id([1; 16]);
}

#[test]
fn random_histories_lose_double_and_damage_nothing() {
    let mut random = Random::seeded("random_histories");
    for _ in 0..20 {
        let seed = random.next() | 1;
        println!("history {seed}");
        history(seed);
    }
}
