//! Records that move between partitions: each is there once, whatever crash comes between two slices, two tries or two
//! revisions of a plugin.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::log::lane::{self, Verdict};
use crate::log::marks::{Indexes, Mark};
use crate::types::PartitionIndex;

const PARTITIONS: i32 = 4;
const WINDOW: usize = 5;

fn partitions(fixture: &Fixture, logs: &LogSet) -> Vec<Arc<PartitionLog>> {
    let open = |index| {
        let id = PartitionId {
            topic: topic_id(1),
            index,
        };
        logs.open_partition(id, Arc::new(fixture.topic.clone()))
            .expect("the partition opens")
    };
    (0..PARTITIONS).map(open).collect()
}

/// What a plugin does with a record: drops some, whatever its revision, and places the others.
fn target(record: &Record, revision: u64) -> Option<PartitionIndex> {
    let value = record.value.as_ref().expect("a value");
    let number = value
        .iter()
        .fold(0_u64, |sum, byte| sum * 31 + u64::from(*byte));
    let place =
        (number ^ revision.wrapping_mul(0x9e37_79b9)) % u64::try_from(PARTITIONS).expect("small");
    (!is_dropped(value)).then(|| PartitionIndex::try_from(place).expect("small"))
}

fn is_dropped(value: &[u8]) -> bool {
    value.last().is_some_and(|byte| *byte == b'7')
}

/// How far a try gets before the process ends.
struct Budget {
    slices: usize,
}

enum Try {
    Placed(Vec<lane::Wait>),
    Refused(AppendError),
    /// The process ended between two slices.
    Ended,
}

/// A try as the produce path makes it.
fn place(
    logs: &[Arc<PartitionLog>],
    lane: PartitionIndex,
    batch: &Batch,
    revision: u64,
    budget: &mut Budget,
) -> Try {
    let (there, mut waits) = match lane::judge(logs, lane, &batch.header) {
        Ok(Verdict::Next) => (Indexes::default(), Vec::new()),
        Ok(Verdict::Partly { there, waits }) => (there, waits),
        Ok(Verdict::Duplicate { waits, .. }) => return Try::Placed(waits),
        Err(error) => return Try::Refused(error),
    };
    let mut slices: BTreeMap<PartitionIndex, (Vec<u32>, Vec<Record>)> = BTreeMap::new();
    let mut dropped = Vec::new();
    for record in records::decode(batch, 1 << 20).expect("decodes") {
        let index = u32::try_from(record.offset_delta).expect("small");
        if there.contains(index) {
            continue;
        }
        let Some(target) = target(&record, revision) else {
            dropped.push(index);
            continue;
        };
        let (indexes, records) = slices.entry(target).or_default();
        let delta = i32::try_from(records.len()).expect("small");
        indexes.push(index);
        records.push(Record {
            offset_delta: delta,
            ..record
        });
    }
    let mut dropped: Indexes = dropped.into_iter().collect();
    if slices.is_empty() {
        slices.insert(lane, (Vec::new(), Vec::new()));
    }
    for (target, (indexes, records)) in slices {
        if budget.slices == 0 {
            return Try::Ended;
        }
        budget.slices -= 1;
        let indexes: Indexes = indexes.into_iter().collect();
        let mark = Mark::new(
            lane,
            &batch.header,
            indexes.union(&std::mem::take(&mut dropped)),
        );
        let slice = (!records.is_empty())
            .then(|| records::encode(BatchTemplate::PLAIN, &records).expect("encodes"));
        let index = usize::try_from(target).expect("small");
        match logs[index].append_placed(&mark, slice.as_ref()) {
            Ok(done) => waits.push((index, done.last_offset)),
            Err(error) => return Try::Refused(error),
        }
    }
    Try::Placed(waits)
}

/// An idempotent producer of one lane: what it has sent and is not yet sure of, and what it will send.
struct Client {
    lane: PartitionIndex,
    producer: i64,
    next_sequence: i32,
    number: u32,
    /// Oldest first; placed or not, and what that waits for.
    window: VecDeque<(Batch, Option<Vec<lane::Wait>>)>,
    sent: Vec<Vec<u8>>,
    acknowledged: usize,
}

impl Client {
    fn new(lane: PartitionIndex, producer: i64, next_sequence: i32) -> Self {
        Self {
            lane,
            producer,
            next_sequence,
            number: 0,
            window: VecDeque::new(),
            sent: Vec::new(),
            acknowledged: 0,
        }
    }

    fn begin(&mut self, random: &mut Random) {
        if self.window.len() == WINDOW {
            return;
        }
        let count = 1 + i32::try_from(random.below(6)).expect("small");
        let values: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                self.number += 1;
                format!("{}/{}/{:06}", self.lane, self.producer, self.number).into_bytes()
            })
            .collect();
        let records: Vec<_> = (0..)
            .zip(&values)
            .map(|(delta, value)| record(delta, NOW, value))
            .collect();
        let template = BatchTemplate {
            producer_id: self.producer,
            producer_epoch: 3,
            base_sequence: self.next_sequence,
            ..BatchTemplate::PLAIN
        };
        self.window.push_back((encode(template, &records), None));
        let next = (i64::from(self.next_sequence) + i64::from(count)) % (1 << 31);
        self.next_sequence = i32::try_from(next).expect("on the ring");
        self.sent.extend(values);
    }

    /// Sends, in order, what is not known to be placed. False when the process ended on the way.
    fn send(&mut self, logs: &[Arc<PartitionLog>], revision: u64, budget: &mut Budget) -> bool {
        for (batch, placed) in &mut self.window {
            if placed.is_some() {
                continue;
            }
            match place(logs, self.lane, batch, revision, budget) {
                Try::Placed(waits) => *placed = Some(waits),
                Try::Refused(AppendError::Storage(_) | AppendError::Stopped(_)) => return true,
                Try::Refused(error) => panic!("{error}"),
                Try::Ended => return false,
            }
        }
        true
    }

    /// Takes answers, in order, for what has been committed.
    fn receive(&mut self, logs: &[Arc<PartitionLog>]) {
        while let Some((batch, Some(waits))) = self.window.front() {
            let is_committed = |wait: &lane::Wait| wait.1 < logs[wait.0].offsets().high_watermark;
            if !waits.iter().all(is_committed) {
                return;
            }
            self.acknowledged += usize::try_from(batch.header.record_count).expect("small");
            self.window.pop_front();
        }
    }

    /// The connection broke: everything that was not answered is sent again.
    fn reconnect(&mut self) {
        self.window
            .iter_mut()
            .for_each(|(_, placed)| *placed = None);
    }
}

/// What is synced of each partition's file.
type Synced = BTreeMap<PartitionIndex, u64>;

fn sync(logs: &[Arc<PartitionLog>], index: usize, synced: &mut Synced, checkpoint: bool) {
    let log = &logs[index];
    if checkpoint && log.offsets().log_end > 0 {
        log.checkpoint().expect("a clean point");
    } else {
        commit(log);
    }
    synced.insert(log.id().index, log.stats().size_bytes);
}

/// Takes what was not synced away, in part: a file's end, and some of the sectors before it.
fn lose_power(
    fixture: &Fixture,
    ends: &[(PartitionIndex, u64)],
    synced: &Synced,
    random: &mut Random,
) {
    for (index, end) in ends {
        let safe = synced.get(index).copied().unwrap_or(0);
        let folder = fixture
            .directory
            .path()
            .join(topic_id(1).to_string())
            .join(index.to_string());
        let path = folder.join(format!("{:020}.log", 0));
        if *end <= safe || !path.exists() {
            continue;
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .expect("file");
        let cut = safe + random.below(end - safe + 1);
        file.set_len(cut).expect("cut");
        for sector in (safe / 512..cut / 512)
            .filter(|_| random.below(5) == 0)
            .collect::<Vec<_>>()
        {
            let from = (sector * 512).max(safe);
            let length = usize::try_from((sector * 512 + 512).min(cut) - from).expect("small");
            file.seek(SeekFrom::Start(from)).expect("seeks");
            file.write_all(&vec![0; length]).expect("written");
        }
    }
}

/// Every record that is there, by partition.
fn contents(logs: &[Arc<PartitionLog>]) -> Vec<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for log in logs {
        let mut values = Vec::new();
        let mut next = 0;
        loop {
            let read = log
                .read(next, 1 << 20, true, Isolation::ReadCommitted)
                .expect("reads");
            if read.bytes.is_empty() {
                break;
            }
            for batch in batch::split(read.bytes, usize::MAX).expect("whole batches") {
                next = batch.header.last_offset() + 1;
                if !batch.header.is_control() {
                    let records = records::decode(&batch, 1 << 20).expect("decodes");
                    values.extend(
                        records
                            .into_iter()
                            .map(|one| one.value.expect("a value").to_vec()),
                    );
                }
            }
        }
        all.push(values);
    }
    all
}

fn check(logs: &[Arc<PartitionLog>], clients: &[Client], in_order: bool, what: &str) {
    let contents = contents(logs);
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for value in contents.iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    for client in clients {
        for (number, value) in client.sent.iter().enumerate() {
            let expected = usize::from(!is_dropped(value));
            let count = counts.get(&value[..]).copied().unwrap_or(0);
            let name = String::from_utf8_lossy(value);
            assert!(count <= expected, "{what}: {name} is there {count} times");
            if number < client.acknowledged {
                assert_eq!(count, expected, "{what}: {name} was acknowledged");
            }
        }
        let prefix = format!("{}/{}/", client.lane, client.producer);
        for values in &contents {
            let own = values
                .iter()
                .filter(|value| value.starts_with(prefix.as_bytes()));
            assert!(!in_order || own.is_sorted(), "{what}: out of order");
        }
    }
}

struct World {
    fixture: Fixture,
    logs: Option<(Arc<LogSet>, Vec<Arc<PartitionLog>>)>,
    synced: Synced,
    boot: u8,
}

impl World {
    fn new() -> Self {
        let mut fixture = Fixture::new();
        fixture.config.flush_max_delay = std::time::Duration::from_secs(3600);
        let mut world = Self {
            fixture,
            logs: None,
            synced: Synced::new(),
            boot: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.boot += 1;
        self.fixture.disk.faults.set_boot_id([self.boot; 16]);
        let logs = self.fixture.open();
        let partitions = partitions(&self.fixture, &logs);
        for log in &partitions {
            assert_eq!(log.stats().stopped, None);
            // Recovery syncs what it found.
            self.synced.insert(log.id().index, log.stats().size_bytes);
        }
        self.logs = Some((logs, partitions));
    }

    fn partitions(&self) -> &[Arc<PartitionLog>] {
        &self.logs.as_ref().expect("running").1
    }

    /// The process ends; perhaps with the machine.
    fn crash(&mut self, loses_power: bool, random: &mut Random) {
        let size = |log: &Arc<PartitionLog>| (log.id().index, log.stats().size_bytes);
        let ends: Vec<_> = self.partitions().iter().map(size).collect();
        self.logs = None;
        if loses_power {
            lose_power(&self.fixture, &ends, &self.synced, random);
        } else {
            self.boot -= 1;
        }
        self.start();
    }
}

fn history(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::new();
    let upgrades = random.below(2) == 0;
    let mut revision = random.next();
    let near_the_end = i32::MAX - 20;
    let mut clients = [
        Client::new(0, 1, 0),
        Client::new(0, 2, near_the_end),
        Client::new(3, 1, 0),
    ];
    for number in 0..30 + random.size(60) {
        let what = format!("seed {seed}, step {number}");
        let which = random.size(clients.len());
        // Few tries end between two slices.
        let mut budget = Budget {
            slices: if random.below(6) == 0 {
                random.size(6)
            } else {
                usize::MAX
            },
        };
        let mut is_up = true;
        match random.below(12) {
            0..=5 => {
                clients[which].begin(&mut random);
                is_up = clients[which].send(world.partitions(), revision, &mut budget);
            }
            6..=7 => {
                let index = random.size(world.partitions().len());
                let logs = world.partitions().to_vec();
                sync(&logs, index, &mut world.synced, random.below(3) == 0);
            }
            8 => clients[which].receive(world.partitions()),
            9 if upgrades => revision = random.next(),
            10 => {
                clients[which].reconnect();
                is_up = clients[which].send(world.partitions(), revision, &mut budget);
            }
            _ => is_up = random.below(2) == 0,
        }
        if !is_up {
            world.crash(random.below(2) == 0, &mut random);
            clients.iter_mut().for_each(Client::reconnect);
            if upgrades && random.below(2) == 0 {
                revision = random.next();
            }
            check(world.partitions(), &clients, false, &what);
        }
    }
    for client in &mut clients {
        let mut budget = Budget { slices: usize::MAX };
        assert!(client.send(world.partitions(), revision, &mut budget));
    }
    world.partitions().iter().for_each(|log| commit(log));
    for client in &mut clients {
        client.receive(world.partitions());
        assert!(client.window.is_empty());
    }
    check(
        world.partitions(),
        &clients,
        !upgrades,
        &format!("seed {seed}, end"),
    );
}

#[test]
fn random_crashes_and_upgrades_lose_and_double_nothing() {
    let mut random = Random::seeded("random_placement");
    for _ in 0..40 {
        history(random.next() | 1);
    }
}

/// A batch of six records, none of which is dropped.
fn six() -> Batch {
    let records: Vec<_> = (0..6)
        .map(|delta| record(delta, NOW, format!("r{delta}").as_bytes()))
        .collect();
    let template = BatchTemplate {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 0,
        ..BatchTemplate::PLAIN
    };
    encode(template, &records)
}

#[test]
fn a_mark_without_its_whole_slice_says_nothing() {
    let batch = six();
    let mut world = World::new();
    let mark = Mark::new(0, &batch.header, Indexes::below(6));
    world.partitions()[1]
        .append_placed(&mark, Some(&batch))
        .expect("appended");
    world.partitions()[1]
        .append(batch_of(&[b"behind"]))
        .expect("appended");
    let sizes: Vec<u64> = [six(), batch_of(&[b"behind"])]
        .iter()
        .map(|one| one.header.size as u64)
        .collect();
    let end = world.partitions()[1].stats().size_bytes;
    let slice_at = end - sizes[0] - sizes[1];
    let folder = world
        .fixture
        .directory
        .path()
        .join(topic_id(1).to_string())
        .join("1");
    let path = folder.join(format!("{:020}.log", 0));
    world.logs = None;
    let bytes = std::fs::read(&path).expect("file");
    for cut in [
        slice_at - 1,
        slice_at,
        slice_at + 1,
        end - sizes[1] - 1,
        end - sizes[1],
        end,
    ] {
        std::fs::write(&path, &bytes[..usize::try_from(cut).expect("small")]).expect("written");
        world.start();
        let verdict = lane::judge(world.partitions(), 0, &batch.header).expect("judged");
        let is_whole = cut >= end - sizes[1];
        assert_eq!(
            matches!(verdict, Verdict::Duplicate { .. }),
            is_whole,
            "cut at {cut}"
        );
        assert_eq!(verdict == Verdict::Next, !is_whole, "cut at {cut}");
        world.logs = None;
    }
}

#[test]
fn a_failed_write_leaves_the_batch_to_the_next_start() {
    use rustix::io::Errno;

    use crate::log::file::Operation;

    let batch = six();
    for errno in [Errno::IO, Errno::NOSPC] {
        let mut world = World::new();
        let first = Mark::new(0, &batch.header, (0..3).collect());
        let second = Mark::new(0, &batch.header, (3..6).collect());
        world.partitions()[1]
            .append_placed(&first, Some(&batch_of(&[b"a"])))
            .expect("appended");
        world.partitions()[2]
            .append(batch_of(&[b"open"]))
            .expect("appended");
        world.fixture.disk.faults.fail(Operation::Write, 0, errno);
        let refused = world.partitions()[2].append_placed(&second, Some(&batch_of(&[b"b"])));
        refused.expect_err("refused");
        world.fixture.disk.faults.heal();
        let verdict = lane::judge(world.partitions(), 0, &batch.header);
        if errno == Errno::IO {
            let error = verdict.expect_err("nobody knows what was written");
            assert!(matches!(error, AppendError::Stopped(_)), "{error}");
            world.logs = None;
            world.start();
        } else {
            assert!(matches!(verdict, Ok(Verdict::Partly { .. })));
        }
        let mut budget = Budget { slices: 9 };
        let placed = place(world.partitions(), 0, &batch, 5, &mut budget);
        assert!(matches!(placed, Try::Placed(_)));
    }
}

#[test]
fn indexes_are_let_go_once_everything_is_synced() {
    let world = World::new();
    let logs = world.partitions();
    let batches: Vec<Batch> = (0..6).map(|n| numbered(1, 0, n * 6, 6)).collect();
    for batch in &batches {
        assert_eq!(lane::judge(logs, 0, &batch.header), Ok(Verdict::Next));
        for (index, indexes) in [(1, 0..3), (2, 3..6)] {
            let mark = Mark::new(0, &batch.header, indexes.collect());
            logs[index]
                .append_placed(&mark, Some(&batch_of(&[b"x"])))
                .expect("appended");
        }
    }
    let is_settled = |index: usize, batch: usize| {
        let parts = logs[index].parts(0, 1).expect("known").expect("here");
        parts.batches[batch].indexes.is_none()
    };
    commit(&logs[1]);
    lane::judge(logs, 0, &batches[5].header).expect("judged");
    assert!(!is_settled(1, 0) && !is_settled(2, 0));
    commit(&logs[2]);
    let again = lane::judge(logs, 0, &batches[5].header).expect("judged");
    assert!(matches!(again, Verdict::Duplicate { .. }));
    assert!((0..5).all(|batch| is_settled(1, batch) && is_settled(2, batch)));
    for batch in &batches[1..] {
        let again = lane::judge(logs, 0, &batch.header).expect("judged");
        assert!(matches!(again, Verdict::Duplicate { .. }));
    }
}

#[test]
fn what_a_producer_sent_before_there_was_a_partitioner_is_known() {
    let world = World::new();
    let logs = world.partitions();
    let plain = numbered(1, 0, 0, 3);
    let first = logs[0].append(plain.clone()).expect("appended");
    let Ok(Verdict::Duplicate { answer, .. }) = lane::judge(logs, 0, &plain.header) else {
        panic!("a duplicate");
    };
    assert_eq!(
        (answer.base_offset, answer.last_offset),
        (first.base_offset, first.last_offset)
    );
    let gap = lane::judge(logs, 0, &numbered(1, 0, 4, 1).header);
    assert!(matches!(
        gap,
        Err(AppendError::OutOfOrderSequence { expected: 3, .. })
    ));
    // One that moves, one that stays: both are found, and the latter is answered as at first.
    let moved = numbered(1, 0, 3, 2);
    let mark = Mark::new(0, &moved.header, Indexes::below(2));
    logs[2]
        .append_placed(&mark, Some(&batch_of(&[b"x", b"y"])))
        .expect("appended");
    let stayed = numbered(1, 0, 5, 2);
    let mark = Mark::new(0, &stayed.header, Indexes::below(2));
    let answer = logs[0]
        .append_placed(&mark, Some(&stayed))
        .expect("appended");
    let Ok(Verdict::Duplicate { answer: again, .. }) = lane::judge(logs, 0, &stayed.header) else {
        panic!("a duplicate");
    };
    assert_eq!(
        (again.base_offset, again.last_offset),
        (answer.base_offset, answer.last_offset)
    );
    for batch in [&plain, &moved] {
        let verdict = lane::judge(logs, 0, &batch.header).expect("judged");
        assert!(matches!(verdict, Verdict::Duplicate { .. }));
    }
    assert_eq!(
        lane::judge(logs, 0, &numbered(1, 0, 7, 1).header),
        Ok(Verdict::Next)
    );
}
