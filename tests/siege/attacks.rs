//! The attacks, one function each: what one client can send that costs the broker most.

use std::io::Write;
use std::iter::repeat_n;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use harness::Broker;
use harness::batch::{self, Producer};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::wire::{ask, attacker, send, skip_answer};

/// One way to attack.
pub struct Attack {
    pub name: &'static str,
    pub what: &'static str,
    /// Needs nothing but one plain listener. Otherwise the broker runs in development mode.
    pub listens_plainly: bool,
    /// Done before anything is measured: what the attack finds.
    pub prepare: fn(&Broker) -> Result<Prepared>,
    /// Attacks until the instant, and says what came of it.
    pub run: fn(&Broker, &Prepared, Instant) -> Result<String>,
}

/// What an attack made beforehand.
#[derive(Default)]
pub struct Prepared {
    batch: Bytes,
}

const fn plain(
    name: &'static str,
    what: &'static str,
    prepare: fn(&Broker) -> Result<Prepared>,
    run: fn(&Broker, &Prepared, Instant) -> Result<String>,
) -> Attack {
    Attack {
        name,
        what,
        listens_plainly: true,
        prepare,
        run,
    }
}

#[rustfmt::skip]
pub const ATTACKS: &[Attack] = &[
    plain("announced", "four connections announce 100 MB each and send nothing more", nothing, announced),
    plain("half-frames", "200 connections send half of a frame of 1 MB and wait", nothing, half_frames),
    plain("pipelined", "130 fetches of 50 MB behind a long poll, on one connection", heavy_topic, pipelined),
    plain("unread", "50 connections fetch 50 MB and read nothing", heavy_topic, unread),
    plain("readers", "50 connections fetch one topic again and again, and read", heavy_topic, readers),
    plain("search", "200 searches by time in a batch of some KB that inflates to 60 MB", bombed_topic, search),
    plain("metadata", "one topic named 10,000 times in Metadata", wide_topic, metadata_repeated),
    plain("offsets", "one group named 1,000 times in OffsetFetch", committed_group, offsets_repeated),
    plain("producers", "one partition named 20,000 times in DescribeProducers", wide_topic, producers_repeated),
    plain("configs", "one topic named 50,000 times in DescribeConfigs", wide_topic, configs_repeated),
    plain("strangers-names", "500,000 names in one Metadata", nothing, many_names),
    plain("members", "300 members join with 1 MB of metadata and go away", nothing, members),
    plain("groups", "one group after the other is joined and left", nothing, groups),
    plain("transactional-ids", "one transactional id after the other is made", nothing, transactional_ids),
    plain("topics", "20,000 topics by one Metadata", nothing, topics),
    plain("connections", "10,000 connections from one address", nothing, connections),
    plain("bombs", "batches of 300 KB that inflate to 300 MB are produced", bombed_topic, bombs),
    plain("headers", "a batch of some hundred bytes with 3.9 million empty headers, on a plain topic", headers_topic, bombs),
    plain("http", "1,000 half-open connections on the admin port", nothing, http),
];

/// Connections of a flood at once.
const FLOODERS: usize = 16;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn nothing(_: &Broker) -> Result<Prepared> {
    Ok(Prepared::default())
}

/// `heavy`: 60 MB in one partition.
fn heavy_topic(broker: &Broker) -> Result<Prepared> {
    let mut client = broker.connect();
    client.create_topic("heavy", 1, &[])?;
    client.create_topic("idle", 1, &[])?;
    let value: Vec<u8> = (0..900_000_u32).map(|at| (at % 251) as u8).collect();
    let batch = batch::of_values(&[value]);
    for _ in 0..66 {
        let sent = client.produce("heavy", 0, -1, batch.clone())?;
        ensure!(sent.error_code == 0, "produce: error {}", sent.error_code);
    }
    Ok(Prepared::default())
}

/// `wide`: a topic of 100 partitions.
fn wide_topic(broker: &Broker) -> Result<Prepared> {
    broker.connect().create_topic("wide", 100, &[])?;
    Ok(Prepared::default())
}

/// A batch of one record of `size` zeros, compressed by zstd.
fn bomb(size: usize) -> Result<Bytes> {
    let mut record = BytesMut::new();
    batch::put_record(&mut record, 0, None, &vec![0; size]);
    let body = zstd::bulk::compress(&record, 3)?;
    Ok(batch::with_header(&body, 4, 1, Producer::default()))
}

/// `bombed`: a topic with one small batch that inflates to 60 MB, if the broker takes it; and a larger bomb for later.
fn bombed_topic(broker: &Broker) -> Result<Prepared> {
    let mut client = broker.connect();
    client.create_topic("bombed", 1, &[])?;
    client.produce("bombed", 0, -1, bomb(60 << 20)?)?;
    Ok(Prepared {
        batch: bomb(300 << 20)?,
    })
}

/// `bombed`, and a batch whose one record has millions of empty headers.
fn headers_topic(broker: &Broker) -> Result<Prepared> {
    const HEADERS: usize = 3_900_000;
    broker.connect().create_topic("bombed", 1, &[])?;
    let mut record = BytesMut::new();
    record.put_slice(&[0, 0, 0, 1, 1]);
    batch::put_varint(&mut record, HEADERS as i64);
    record.put_bytes(0, 2 * HEADERS);
    let mut body = BytesMut::new();
    batch::put_varint(&mut body, record.len() as i64);
    body.put_slice(&record);
    let body = zstd::bulk::compress(&body, 3)?;
    Ok(Prepared {
        batch: batch::with_header(&body, 4, 1, Producer::default()),
    })
}

fn committed_group(broker: &Broker) -> Result<Prepared> {
    wide_topic(broker)?;
    let partition = |index| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("m".repeat(1000))))
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("wide")))
        .with_partitions((0..100).map(partition).collect());
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("group")))
        .with_topics(vec![topic]);
    broker.connect().request(8, &commit)?;
    Ok(Prepared::default())
}

fn wait_until(instant: Instant) {
    thread::sleep(instant.saturating_duration_since(Instant::now()));
}

fn many(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| attacker(address)).collect()
}

fn announced(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let mut streams = many(broker.tcp(), 4)?;
    for stream in &mut streams {
        stream.write_all(&(100_i32 << 20).to_be_bytes())?;
    }
    wait_until(ends);
    Ok("16 bytes were sent".to_owned())
}

fn half_frames(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let half = vec![0; 512 << 10];
    let mut streams = many(broker.tcp(), 200)?;
    let mut sent = 0;
    for stream in &mut streams {
        stream.set_write_timeout(Some(Duration::from_millis(20)))?;
        stream.write_all(&(1_i32 << 20).to_be_bytes())?;
        // What the broker does not take now it will not take later either.
        sent += usize::from(stream.write_all(&half).is_ok());
    }
    wait_until(ends);
    Ok(format!("{sent} halves were sent whole"))
}

fn fetch(topic: &str, max_wait: Duration) -> FetchRequest {
    let wanted = fetch_request::FetchPartition::default()
        .with_fetch_offset(0)
        .with_partition_max_bytes(i32::MAX);
    let topic = fetch_request::FetchTopic::default()
        .with_topic(TopicName(text(topic)))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn pipelined(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let mut stream = attacker(broker.tcp())?;
    send(&mut stream, 12, &fetch("idle", Duration::from_secs(300)))?;
    let mut sent = 0;
    for _ in 0..130 {
        sent += usize::from(send(&mut stream, 12, &fetch("heavy", Duration::ZERO)).is_ok());
    }
    wait_until(ends);
    Ok(format!("{sent} fetches wait"))
}

fn unread(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let mut streams = many(broker.tcp(), 50)?;
    for stream in &mut streams {
        send(stream, 12, &fetch("heavy", Duration::ZERO))?;
    }
    wait_until(ends);
    Ok("nothing was read".to_owned())
}

/// Many threads, each with a connection that does the same again and again; what they did together.
fn crowd(
    address: SocketAddr,
    count: usize,
    ends: Instant,
    work: impl Fn(&mut TcpStream, usize) -> Result<u64> + Sync,
) -> (u64, u64) {
    let one = |number: usize| {
        let (mut done, mut bytes) = (0, 0);
        while Instant::now() < ends {
            let Ok(mut stream) = attacker(address) else {
                continue;
            };
            let mut step = done as usize * count + number;
            while let (true, Ok(read)) = (Instant::now() < ends, work(&mut stream, step)) {
                (done, bytes) = (done + 1, bytes + read);
                step += count;
            }
        }
        (done, bytes)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let one = &one;
                    move || one(number)
                })
            })
            .collect();
        let done = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_default());
        done.fold((0, 0), |(done, bytes), (more, read)| {
            (done + more, bytes + read)
        })
    })
}

fn readers(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let work = |stream: &mut TcpStream, _| ask(stream, 12, &fetch("heavy", Duration::ZERO));
    let (done, bytes) = crowd(broker.tcp(), 50, ends, work);
    Ok(format!("{done} fetches brought {} MB", bytes >> 20))
}

fn search(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let wanted = list_offsets_request::ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_timestamp(1);
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(TopicName(text("bombed")))
        .with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic]);
    let (done, _) = crowd(broker.tcp(), 200, ends, |stream, _| {
        ask(stream, 7, &request)
    });
    Ok(format!("{done} searches"))
}

fn repeated<R: kafka_protocol::protocol::Request + Sync>(
    broker: &Broker,
    version: i16,
    request: &R,
    ends: Instant,
) -> Result<String> {
    let asked = harness::encode(1, version, request)?.len();
    let (done, bytes) = crowd(broker.tcp(), 4, ends, |stream, _| {
        ask(stream, version, request)
    });
    Ok(format!(
        "{done} requests of {} KB, answers of {} KB",
        asked >> 10,
        (bytes / done.max(1)) >> 10
    ))
}

fn metadata_repeated(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let topic =
        metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text("wide"))));
    let request = MetadataRequest::default().with_topics(Some(repeat_n(topic, 10_000).collect()));
    repeated(broker, 9, &request, ends)
}

fn offsets_repeated(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("group")))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(repeat_n(group, 1000).collect());
    repeated(broker, 8, &request, ends)
}

fn producers_repeated(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let topic = describe_producers_request::TopicRequest::default()
        .with_name(TopicName(text("wide")))
        .with_partition_indexes(vec![0; 20_000]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    repeated(broker, 0, &request, ends)
}

fn configs_repeated(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("wide"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(repeat_n(resource, 50_000).collect())
        .with_include_synonyms(true)
        .with_include_documentation(true);
    repeated(broker, 4, &request, ends)
}

fn names(count: usize, create: bool) -> MetadataRequest {
    let topic = |number| {
        metadata_request::MetadataRequestTopic::default()
            .with_name(Some(TopicName(text(format!("n{number}")))))
    };
    MetadataRequest::default()
        .with_topics(Some((0..count).map(topic).collect()))
        .with_allow_auto_topic_creation(create)
}

fn many_names(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    repeated(broker, 9, &names(500_000, false), ends)
}

fn topics(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    repeated(broker, 9, &names(20_000, true), ends)
}

fn join(group: &str, metadata: usize) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![0; metadata].into());
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(1_800_000)
        .with_rebalance_timeout_ms(1_800_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn members(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    // Versions below 4 make a member at once, without handing out its id first.
    let mut sent = 0;
    for number in 0..300 {
        let mut stream = attacker(broker.tcp())?;
        let request = join(&format!("group-{number}"), (1 << 20) - 64);
        sent += usize::from(send(&mut stream, 3, &request).is_ok());
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        let _ = skip_answer(&mut stream);
    }
    wait_until(ends);
    Ok(format!("{sent} members were sent"))
}

fn groups(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    // A join is answered when the group is complete, which is not waited for.
    let work = |stream: &mut TcpStream, step: usize| {
        send(stream, 3, &join(&format!("flood-{step}"), 10))?;
        // As many as one connection may have waiting.
        match step / FLOODERS % 200 {
            199 => bail!("on to the next connection"),
            _ => Ok(0),
        }
    };
    let (done, _) = crowd(broker.tcp(), FLOODERS, ends, work);
    Ok(format!("{done} groups were asked for"))
}

fn transactional_ids(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let work = |stream: &mut TcpStream, step| {
        let id = TransactionalId(text(format!("flood-{step}")));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id))
            .with_transaction_timeout_ms(60_000);
        ask(stream, 4, &request)
    };
    let (done, _) = crowd(broker.tcp(), FLOODERS, ends, work);
    Ok(format!("{done} ids were asked for"))
}

fn connections(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let mut open = Vec::new();
    while open.len() < 10_000 && Instant::now() < ends {
        match attacker(broker.tcp()) {
            Ok(stream) => open.push(stream),
            Err(error) => {
                wait_until(ends);
                return Ok(format!("{} connections, then: {error:#}", open.len()));
            }
        }
    }
    wait_until(ends);
    Ok(format!("{} connections", open.len()))
}

fn bombs(broker: &Broker, prepared: &Prepared, ends: Instant) -> Result<String> {
    let data = produce_request::PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(prepared.batch.clone()));
    let topic = produce_request::TopicProduceData::default()
        .with_name(TopicName(text("bombed")))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic]);
    let work = |stream: &mut TcpStream, _| ask(stream, 9, &request);
    let (done, _) = crowd(broker.tcp(), 4, ends, work);
    Ok(format!("{done} batches of {} bytes", prepared.batch.len()))
}

fn http(broker: &Broker, _: &Prepared, ends: Instant) -> Result<String> {
    let mut open = Vec::new();
    for _ in 0..1000 {
        let Ok(mut stream) = attacker(broker.admin()) else {
            break;
        };
        if stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").is_ok() {
            open.push(stream);
        }
    }
    let begun = Instant::now();
    let answered = broker.metrics().context("/metrics beside them");
    let took = begun.elapsed();
    wait_until(ends);
    answered?;
    Ok(format!(
        "{} open; /metrics answered after {took:.1?}",
        open.len()
    ))
}
