//! A data folder of known content: made by a broker, written down, packed, unpacked and checked.
//!
//! What is written down is what clients see: where each partition begins and ends and a checksum of every byte that a fetch
//! of it gives, the groups' offsets, and the last batch of an idempotent producer with the offset that it was given.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::batch::{self, Producer};
use harness::{Broker, Dialect, RawClient, Transactional, fetch_all};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    GroupId, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

/// What a folder holds, as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contents {
    pub partitions: Vec<Partition>,
    pub offsets: Vec<Committed>,
    pub producers: Vec<LastBatch>,
    /// From format 2 on.
    #[serde(default)]
    pub transactions: Vec<CommittedView>,
    /// From format 2 on: of a compacted topic, a checksum of the latest value of each key.
    #[serde(default)]
    pub latest: BTreeMap<String, u32>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    pub start: i64,
    pub end: i64,
    pub batches: usize,
    /// CRC-32C of everything that a fetch from the start to the end gives.
    pub fetched: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Committed {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What a `read_committed` consumer sees of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommittedView {
    pub topic: String,
    pub partition: i32,
    pub records: usize,
    /// CRC-32C of their values.
    pub values: u32,
}

/// The last batch of an idempotent producer: sent again, it is a duplicate with this base offset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastBatch {
    pub topic: String,
    pub partition: i32,
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    pub base_offset: i64,
}

impl LastBatch {
    /// The batch as its producer would send it again.
    pub fn again(&self) -> Bytes {
        let values = vec![b"again".to_vec(); self.count as usize];
        numbered(
            &values,
            Producer {
                id: self.id,
                epoch: self.epoch,
                base_sequence: self.base_sequence,
            },
        )
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn numbered(values: &[Vec<u8>], producer: Producer) -> Bytes {
    let records: Vec<_> = values
        .iter()
        .map(|value| (None, value.as_slice()))
        .collect();
    batch::build(&records, producer)
}

/// Records of about a kilobyte that a packer makes small.
fn values(name: &str, from: usize, count: usize) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|number| format!("{name} {number:06} ").repeat(75).into_bytes())
        .collect()
}

/// Of the packer: fixtures are made once and read often.
const COMPRESSION: i32 = 19;
const GROUPS: [&str; 2] = ["readers", "others"];
/// Settings of topics whose records no clock takes away.
const KEPT: (&str, &str) = ("retention.ms", "-1");
const SMALL_SEGMENTS: (&str, &str) = ("segment.bytes", "1048576");

/// Produces on a fresh broker everything that the format can hold by ordinary means.
pub fn fill(broker: &Broker) -> Result<Contents> {
    let mut client = broker.connect();
    client.create_topic("orders", 2, &[KEPT, SMALL_SEGMENTS])?;
    client.create_topic("numbered", 1, &[KEPT, SMALL_SEGMENTS])?;
    let stamped = ("message.timestamp.type", "LogAppendTime");
    client.create_topic("stamped", 1, &[KEPT, stamped])?;
    client.create_topic("shortened", 1, &[KEPT, SMALL_SEGMENTS])?;
    client.create_topic("removed", 1, &[KEPT, SMALL_SEGMENTS])?;
    client.create_topic("empty", 1, &[KEPT])?;
    for number in 0..55 {
        send(&mut client, "orders", 0, &values("order", number * 60, 60))?;
        send(
            &mut client,
            "shortened",
            0,
            &values("short", number * 60, 60),
        )?;
    }
    for number in 0..20 {
        send(&mut client, "orders", 1, &values("single", number, 1))?;
        send(&mut client, "stamped", 0, &values("stamped", number * 3, 3))?;
        send(
            &mut client,
            "removed",
            0,
            &values("removed", number * 60, 60),
        )?;
    }
    let producers = (0..3)
        .map(|_| number(&mut client, "numbered"))
        .collect::<Result<Vec<_>>>()?;
    for (index, group) in GROUPS.iter().enumerate() {
        for round in 0..30 {
            commit(&mut client, group, "orders", 0, index as i64 + round * 10)?;
            commit(&mut client, group, "orders", 1, round % 20)?;
        }
    }
    shorten(&mut client)?;
    delete(&mut client, "removed")?;
    transact(&mut client)?;
    compact(&mut client)?;
    let mut contents = Contents {
        partitions: Vec::new(),
        offsets: Vec::new(),
        producers,
        transactions: Vec::new(),
        latest: BTreeMap::new(),
    };
    contents.read(&mut client)?;
    Ok(contents)
}

/// Adds records behind what [`fill`] wrote, so that a kill leaves a log beyond its checkpoint.
pub fn fill_more(client: &mut RawClient, contents: &mut Contents) -> Result<()> {
    for number in 0..10 {
        send(client, "orders", 0, &values("more", number * 60, 60))?;
        send(client, "stamped", 0, &values("more", number, 1))?;
    }
    contents.producers.push(number(client, "numbered")?);
    commit(client, GROUPS[0], "orders", 1, 17)?;
    contents.read(client)
}

fn send(client: &mut RawClient, topic: &str, partition: i32, values: &[Vec<u8>]) -> Result<i64> {
    send_batch(client, topic, partition, batch::of_values(values))
}

/// Produces one batch with `acks=all`; its base offset.
pub fn send_batch(
    client: &mut RawClient,
    topic: &str,
    partition: i32,
    batch: Bytes,
) -> Result<i64> {
    let answer = client.produce(topic, partition, -1, batch)?;
    ensure!(
        answer.error_code == 0,
        "produce to {topic} [{partition}]: error {}",
        answer.error_code
    );
    Ok(answer.base_offset)
}

/// A new idempotent producer writes seven batches.
fn number(client: &mut RawClient, topic: &str) -> Result<LastBatch> {
    let (id, epoch) = client.init_producer_id()?;
    let mut last = LastBatch {
        topic: topic.to_owned(),
        partition: 0,
        id,
        epoch,
        base_sequence: 0,
        count: 5,
        base_offset: 0,
    };
    for round in 0..7 {
        last.base_sequence = round * last.count;
        let producer = Producer {
            id,
            epoch,
            base_sequence: last.base_sequence,
        };
        let values = values("numbered", last.base_sequence as usize, last.count as usize);
        last.base_offset = send_batch(client, topic, 0, numbered(&values, producer))?;
    }
    Ok(last)
}

/// Commits one offset for a consumer that assigns its partitions itself.
pub fn commit(
    client: &mut RawClient,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<()> {
    let wanted = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let wanted = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![wanted]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![wanted]);
    let answer = client.request(7, &request)?;
    let code = answer.topics[0].partitions[0].error_code;
    ensure!(code == 0, "commit of {group}: error {code}");
    Ok(())
}

pub fn committed(client: &mut RawClient, group: &str, topic: &str, partition: i32) -> Result<i64> {
    let wanted = OffsetFetchRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partition_indexes(vec![partition]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![wanted]));
    let answer = client.request(5, &request)?;
    ensure!(
        answer.error_code == 0,
        "offsets of {group}: error {}",
        answer.error_code
    );
    Ok(answer.topics[0].partitions[0].committed_offset)
}

/// Lets retention take the first segments of `shortened`.
fn shorten(client: &mut RawClient) -> Result<()> {
    let bound = AlterableConfig::default()
        .with_name(text("retention.bytes"))
        .with_value(Some(text("1800000")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("shortened"))
        .with_configs(vec![bound]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let code = client.request(1, &request)?.responses[0].error_code;
    ensure!(code == 0, "retention.bytes of shortened: error {code}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.list_offset("shortened", 0, -2)? == 0 {
        ensure!(Instant::now() < deadline, "retention took nothing");
        // Retention announces nothing; it comes by every 100 ms.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One transaction is committed, one aborted, one committed with a group's offset, and one left open.
fn transact(client: &mut RawClient) -> Result<()> {
    client.create_topic(TRANSACTIONAL, 1, &[KEPT])?;
    let mut producer = Transactional::new("fixture", Dialect::Implicit);
    retried(|| producer.initialize(client, TRANSACTION_TIMEOUT))?;
    for (round, end) in [Some(true), Some(false), Some(true), None]
        .into_iter()
        .enumerate()
    {
        let records = values("transaction", round * 5, 5);
        let records: Vec<_> = records.iter().map(|value| (None, &value[..])).collect();
        let identity = Producer {
            id: producer.producer_id,
            epoch: producer.epoch,
            base_sequence: 0,
        };
        let batch = batch::transactional(&records, identity);
        retried(|| {
            producer.send_produce(client, TRANSACTIONAL, 0, batch.clone())?;
            Ok(producer.receive_produce(client)?.0)
        })?;
        if round == 2 {
            retried(|| producer.commit_offset(client, GROUPS[1], ("orders", 0), 33))?;
        }
        if let Some(commit) = end {
            retried(|| producer.end(client, commit))?;
        }
    }
    Ok(())
}

/// Asks again while the answer is one of those that ask for it.
fn retried(mut ask: impl FnMut() -> Result<i16>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let code = ask()?;
        if code == 0 {
            return Ok(());
        }
        let again = TRY_AGAIN.contains(&code) && Instant::now() < deadline;
        ensure!(again, "a transactional request: error {code}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Fills a compacted topic, and waits until its sealed segments are compacted.
fn compact(client: &mut RawClient) -> Result<()> {
    let dirty = ("min.cleanable.dirty.ratio", "0.01");
    let policy = ("cleanup.policy", "compact");
    client.create_topic(COMPACTED, 1, &[policy, dirty, SMALL_SEGMENTS])?;
    let mut written = 0;
    for round in 0..55 {
        let values = values("keyed", round * 60, 60);
        let keys: Vec<_> = (0..60)
            .map(|number| format!("key-{}", number % 25))
            .collect();
        let keyed = keys.iter().zip(&values);
        let records: Vec<_> = keyed
            .map(|(key, value)| (Some(key.as_bytes()), &value[..]))
            .collect();
        send_batch(
            client,
            COMPACTED,
            0,
            batch::build(&records, Producer::default()),
        )?;
        written += records.len();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while read_committed(client, COMPACTED)?.len() > written / 2 {
        ensure!(Instant::now() < deadline, "nothing was compacted");
        // Compaction announces nothing; it looks every 100 ms.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Every record of partition 0 that a `read_committed` consumer sees now.
fn read_committed(client: &mut RawClient, topic: &str) -> Result<Vec<batch::Record>> {
    let mut records = Vec::new();
    let mut next = 0;
    loop {
        let mut fetched = fetch_all(client, &[(topic, 0, next)], true, Duration::ZERO)?;
        let fetched = fetched.pop().context("no answer on the partition")?;
        ensure!(
            fetched.error_code == 0,
            "fetch of {topic}: error {}",
            fetched.error_code
        );
        records.extend(fetched.records);
        if fetched.next == next {
            return Ok(records);
        }
        next = fetched.next;
    }
}

impl CommittedView {
    fn read(client: &mut RawClient, topic: &str) -> Result<Self> {
        let records = read_committed(client, topic)?;
        let values = records.iter().filter_map(|record| record.value.as_ref());
        Ok(Self {
            topic: topic.to_owned(),
            partition: 0,
            records: records.len(),
            values: values.fold(0, |crc, value| crc32c::crc32c_append(crc, value)),
        })
    }
}

fn latest(client: &mut RawClient) -> Result<BTreeMap<String, u32>> {
    let records = read_committed(client, COMPACTED)?;
    let of_record = |record: &batch::Record| {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        (
            String::from_utf8_lossy(key).into_owned(),
            crc32c::crc32c(value),
        )
    };
    Ok(records.iter().map(of_record).collect())
}

fn delete(client: &mut RawClient, topic: &str) -> Result<()> {
    let request = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(text(topic))])
        .with_timeout_ms(10_000);
    let code = client.request(3, &request)?.responses[0].error_code;
    ensure!(code == 0, "delete {topic}: error {code}");
    Ok(())
}

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, CONCURRENT_TRANSACTIONS.
const TRY_AGAIN: [i16; 4] = [14, 15, 16, 51];
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
const TRANSACTIONAL: &str = "transactional";
const COMPACTED: &str = "compacted";
const READ_BACK: [(&str, i32); 6] = [
    ("orders", 0),
    ("orders", 1),
    ("numbered", 0),
    ("stamped", 0),
    ("shortened", 0),
    ("empty", 0),
];

impl Contents {
    /// Writes down what clients see now.
    fn read(&mut self, client: &mut RawClient) -> Result<()> {
        self.partitions.clear();
        for (topic, partition) in READ_BACK {
            let end = client.list_offset(topic, partition, -1)?;
            self.partitions
                .push(Partition::read(client, topic, partition, end)?);
        }
        self.transactions = vec![CommittedView::read(client, TRANSACTIONAL)?];
        self.latest = latest(client)?;
        self.offsets.clear();
        for group in GROUPS {
            for partition in 0..2 {
                self.offsets.push(Committed {
                    group: group.to_owned(),
                    topic: "orders".to_owned(),
                    partition,
                    offset: committed(client, group, "orders", partition)?,
                });
            }
        }
        Ok(())
    }

    /// Compares with what clients see now; partitions may have grown.
    ///
    /// # Errors
    /// Names the first thing that differs.
    pub fn check(&self, client: &mut RawClient) -> Result<()> {
        for expected in &self.partitions {
            let (topic, partition) = (&expected.topic, expected.partition);
            let found = Partition::read(client, topic, partition, expected.end)
                .with_context(|| format!("{topic} [{partition}]"))?;
            ensure!(found == *expected, "{expected:?} was kept as {found:?}");
        }
        for expected in &self.offsets {
            let Committed {
                group,
                topic,
                partition,
                offset,
            } = expected;
            let found = committed(client, group, topic, *partition)?;
            ensure!(found == *offset, "{expected:?} was kept as {found}");
        }
        for expected in &self.transactions {
            let found = CommittedView::read(client, &expected.topic)?;
            ensure!(found == *expected, "{expected:?} was kept as {found:?}");
        }
        if !self.latest.is_empty() {
            ensure!(
                self.latest == latest(client)?,
                "the compacted topic has other values"
            );
        }
        Ok(())
    }
}

impl Partition {
    /// Fetches everything up to `end`.
    fn read(client: &mut RawClient, topic: &str, partition: i32, end: i64) -> Result<Self> {
        let start = client.list_offset(topic, partition, -2)?;
        let mut read = Self {
            topic: topic.to_owned(),
            partition,
            start,
            end,
            batches: 0,
            fetched: 0,
        };
        let mut next = start;
        while next < end {
            let answer = client.fetch(topic, partition, next, Duration::ZERO)?;
            ensure!(
                answer.error_code == 0,
                "fetch at {next}: error {}",
                answer.error_code
            );
            let bytes = answer.records.unwrap_or_default();
            let headers = batch::headers(&bytes)?;
            let mut taken = 0;
            for header in headers.iter().filter(|header| header.base_offset < end) {
                ensure!(
                    header.base_offset == next,
                    "{header:?} where {next} should stand"
                );
                next = header.base_offset + i64::from(header.last_offset_delta) + 1;
                read.batches += 1;
                taken += size_at(&bytes, taken);
            }
            ensure!(taken > 0, "nothing at offset {next}");
            read.fetched = crc32c::crc32c_append(read.fetched, &bytes[..taken]);
        }
        Ok(read)
    }
}

/// The size of the batch at a position of a Fetch answer.
fn size_at(bytes: &[u8], position: usize) -> usize {
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[position + 8..position + 12]);
    12 + u32::from_be_bytes(length) as usize
}

/// Packs a data folder without what each start makes anew.
pub fn pack(data: &Path, archive: &Path) -> Result<()> {
    let tar = Command::new("tar")
        .args(["--exclude=tidegate.toml", "--exclude=lock", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .args(["-cf", "-", "-C"])
        .arg(data)
        .arg(".")
        .output()
        .context("tar cannot be run")?;
    said_well(&tar)?;
    Ok(fs::write(
        archive,
        zstd::encode_all(tar.stdout.as_slice(), COMPRESSION)?,
    )?)
}

pub fn unpack(archive: &Path, data: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    let packed = fs::File::open(archive).with_context(|| archive.display().to_string())?;
    let mut tar = Command::new("tar")
        .args(["-xf", "-", "-C"])
        .arg(data)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("tar cannot be run")?;
    let input = tar.stdin.take().context("its input is piped")?;
    zstd::stream::copy_decode(packed, input)?;
    said_well(&tar.wait_with_output()?)
}

fn said_well(output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar: {said}");
    Ok(())
}
