//! The whole program over sockets, spoken to through a library in every version that it knows.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tempfile::TempDir;
use tidegate_client::Compression;
use tidegate_client::records::{BatchBuilder, Batches, ProducerStamp};

use crate::Mode;
use crate::connection::Connection;
use crate::files::Files;
use crate::stream::Stream;
use crate::topics::Topics;
use crate::wire::code;

const TOPIC: &str = "t";

pub fn batch(records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for number in 0..records {
        builder.push(
            1_700_000_000_000,
            None,
            Some(&Bytes::from(vec![number as u8; 50])),
            &[],
        );
    }
    let sealed = builder.seal(Compression::None).unwrap();
    sealed.stamped(ProducerStamp::NONE).concat()
}

struct Floor {
    topics: Arc<Topics>,
    listener: TcpListener,
    _folder: TempDir,
}

impl Floor {
    fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let topics = Arc::new(Topics::new(mode, files, 2));
        topics.create(TOPIC.as_bytes(), -1).unwrap();
        Self {
            topics,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            _folder: folder,
        }
    }

    /// Connected, and not served yet.
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Client(stream)
    }

    fn serve(&self) {
        let (stream, _) = self.listener.accept().unwrap();
        let stream = Stream::new(stream, None).unwrap();
        let connection = Connection::open(stream, self.topics.clone()).unwrap();
        std::thread::spawn(|| connection.serve().unwrap());
    }

    fn client(&self) -> Client {
        let client = self.connect();
        self.serve();
        client
    }

    fn end(&self, partition: i32) -> i64 {
        let log = self.topics.log(TOPIC.as_bytes(), partition).unwrap();
        log.visible_end()
    }
}

struct Client(TcpStream);

impl Client {
    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.0.write_all(&frame(request, version)).unwrap();
        self.answer::<R>(version)
    }

    fn answer<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).unwrap();
        let flexible = <R::Response as HeaderVersion>::header_version(version) > 0;
        assert_eq!(answer[..4], 7i32.to_be_bytes(), "the correlation");
        let mut body = Bytes::from(answer).slice(if flexible { 5 } else { 4 }..);
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "version {version}");
        response
    }
}

fn frame<R: Request>(request: &R, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    header
        .encode(&mut body, R::header_version(version))
        .unwrap();
    request.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.put(body);
    frame.freeze()
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// The same batch for each of the partitions.
fn produce(partitions: &[i32], batch: &[u8]) -> ProduceRequest {
    let data = |partition: &i32| {
        PartitionProduceData::default()
            .with_index(*partition)
            .with_records(Some(Bytes::copy_from_slice(batch)))
    };
    let topic = TopicProduceData::default()
        .with_name(name())
        .with_partition_data(partitions.iter().map(data).collect());
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic])
}

fn fetch(offsets: &[(i32, i64)], wait: i32) -> FetchRequest {
    let partition = |(partition, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic(name())
        .with_partitions(offsets.iter().map(partition).collect());
    FetchRequest::default()
        .with_max_wait_ms(wait)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

#[test]
fn every_version_stores_and_gives_back() {
    let floor = Floor::new(Mode::Log);
    let mut client = floor.client();
    let mut next = 0;
    for version in 3..=11 {
        let answer = client.call(&produce(&[0, 1, 9], &batch(3)), version);
        let partitions = &answer.responses[0].partition_responses;
        for stored in &partitions[..2] {
            assert_eq!((stored.error_code, stored.base_offset), (code::NONE, next));
        }
        assert_eq!(partitions[2].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
        next += 3;
    }
    for version in 4..=12 {
        let answer = client.call(&fetch(&[(1, 0), (0, 4)], 0), version);
        let partitions = &answer.responses[0].partitions;
        for (partition, first) in partitions.iter().zip([0, 3]) {
            assert_eq!((partition.error_code, partition.high_watermark), (0, next));
            let mut offset = first;
            // Verifies the checksums, too.
            for batch in Batches::new(partition.records.clone().unwrap()) {
                let batch = batch.unwrap();
                assert_eq!(batch.base_offset(), offset);
                offset = batch.next_offset();
            }
            assert_eq!(
                offset, next,
                "from the batch that holds the offset to the end"
            );
        }
        let answer = client.call(&fetch(&[(0, next + 1)], 60_000), version);
        let refused = &answer.responses[0].partitions[0];
        assert_eq!(refused.error_code, code::OFFSET_OUT_OF_RANGE);
    }
}

#[test]
fn a_damaged_batch_is_refused_and_not_stored() {
    let floor = Floor::new(Mode::Log);
    let mut client = floor.client();
    let mut damaged = batch(3);
    *damaged.last_mut().unwrap() ^= 1;
    let answer = client.call(&produce(&[0], &damaged), 9);
    let stored = &answer.responses[0].partition_responses[0];
    assert_eq!(stored.error_code, code::CORRUPT_MESSAGE);
    assert_eq!(floor.end(0), 0);
}

#[test]
fn a_waiting_fetch_is_answered_when_a_batch_comes() {
    for mode in [Mode::Log, Mode::Gc] {
        let floor = Floor::new(mode);
        let (mut reader, mut writer) = (floor.client(), floor.client());
        let request = frame(&fetch(&[(0, 0), (1, 0)], 60_000), 12);
        reader.0.write_all(&request).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        writer.call(&produce(&[1], &batch(1)), 9);
        let answer = reader.answer::<FetchRequest>(12);
        assert!(begun.elapsed() < Duration::from_secs(5), "{mode:?}");
        let sizes: Vec<usize> = answer.responses[0]
            .partitions
            .iter()
            .map(|partition| partition.records.as_ref().map_or(0, Bytes::len))
            .collect();
        assert_eq!(sizes, [0, batch(1).len()], "{mode:?}");
    }
}

#[test]
fn a_fetch_without_anything_to_read_ends_in_time() {
    let floor = Floor::new(Mode::Log);
    let begun = Instant::now();
    let answer = floor.client().call(&fetch(&[(0, 0)], 100), 12);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 0));
}

#[test]
fn requests_that_have_arrived_share_one_sync_before_any_is_answered() {
    const REQUESTS: i64 = 20;
    let floor = Floor::new(Mode::Gc);
    let mut client = floor.connect();
    let request = frame(&produce(&[0], &batch(2)), 9);
    for _ in 0..REQUESTS {
        client.0.write_all(&request).unwrap();
    }
    // All of them are in the socket before the first is looked at.
    floor.serve();
    for number in 0..REQUESTS {
        let answer = client.answer::<ProduceRequest>(9);
        if number == 0 {
            assert_eq!(floor.end(0), 2 * REQUESTS, "all are synced by now");
        }
        let stored = &answer.responses[0].partition_responses[0];
        assert_eq!((stored.error_code, stored.base_offset), (0, 2 * number));
    }
    let log = floor.topics.log(TOPIC.as_bytes(), 0).unwrap();
    assert_eq!(log.syncs(), 1);
}

#[test]
fn without_acks_nothing_is_answered() {
    let floor = Floor::new(Mode::Log);
    let mut client = floor.client();
    let silent = produce(&[0], &batch(1)).with_acks(0);
    client.0.write_all(&frame(&silent, 9)).unwrap();
    let answer = client.call(&produce(&[0], &batch(1)), 9);
    let stored = &answer.responses[0].partition_responses[0];
    assert_eq!(stored.base_offset, 1, "the first answer is the second's");
}

#[test]
fn null_counts_and_stores_nothing() {
    let floor = Floor::new(Mode::Null);
    let mut client = floor.client();
    client.call(&produce(&[0], &batch(5)), 9);
    let answer = client.call(&produce(&[0], &batch(5)), 9);
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 5);
    let answer = client.call(&fetch(&[(0, 0)], 0), 12);
    let records = &answer.responses[0].partitions[0].records;
    assert_eq!(records.as_ref().map_or(0, Bytes::len), 0);
}
