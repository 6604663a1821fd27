//! One TCP connection that speaks Kafka frames: a length of four bytes, big-endian, then that many bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, ProduceRequest, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rustix::net::{self, AddressFamily, SocketType};

/// How long an answer may take. Wide: a debug build, and other tests on the same cores.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that a test accepts, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Versions in which the helpers below speak; topics are named, not numbered, in all of them.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const CREATE_TOPICS_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 4;

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;

/// A blocking client without memory: no metadata, no retries.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    correlation: i32,
}

impl RawClient {
    /// # Errors
    /// When nothing accepts the connection.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .with_context(|| format!("cannot connect to {address}"))?;
        Self::over(stream)
    }

    /// As [`Self::connect`], from this address of the loopback interface: to the broker, somebody else.
    ///
    /// # Errors
    /// When the machine has no such address, or nothing accepts the connection.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddr::from((source, 0)))
            .with_context(|| format!("cannot bind {source}"))?;
        net::connect(&socket, &address)
            .with_context(|| format!("cannot connect to {address} from {source}"))?;
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self {
            stream,
            correlation: 0,
        })
    }

    /// How long [`Self::receive`] waits. Half a minute until this is called.
    ///
    /// # Errors
    /// When `limit` is zero.
    pub fn set_answer_limit(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(limit))?)
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks, the answer is another request's, or it has bytes too few or too many.
    pub fn request<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation = self.send(version, request)?;
        let (answered, response) = self.receive::<R>(version)?;
        ensure!(
            answered == correlation,
            "asked {correlation}, was answered {answered}"
        );
        Ok(response)
    }

    /// Sends one request without waiting; returns its correlation id.
    ///
    /// # Errors
    /// When the request has no such version, or the connection breaks.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.correlation += 1;
        let frame = encode(self.correlation, version, request)?;
        self.send_raw(&frame)?;
        Ok(self.correlation)
    }

    /// Reads the next answer, which must be one to `R`; returns its correlation id with it.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has bytes too few or too many.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<(i32, R::Response)> {
        let mut body = self.receive_raw()?;
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version))?;
        let response = R::Response::decode(&mut body, version)?;
        ensure!(
            body.is_empty(),
            "{} bytes left behind an answer to API {} version {version}",
            body.len(),
            R::KEY
        );
        Ok((header.correlation_id, response))
    }

    /// Sends bytes as they are; the length prefix is the caller's.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads one frame without its length prefix.
    ///
    /// # Errors
    /// When the connection ends or nothing comes in time.
    pub fn receive_raw(&mut self) -> Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).context("no answer")?;
        let length = u32::from_be_bytes(prefix) as usize;
        ensure!(
            length <= MAX_ANSWER_BYTES,
            "an answer of {length} bytes is announced"
        );
        let mut body = vec![0; length];
        self.stream
            .read_exact(&mut body)
            .context("half an answer")?;
        Ok(body.into())
    }

    /// Whether the broker closes the connection within `limit`; answers that come before are read and let go.
    pub fn closed_by_broker(&mut self, limit: Duration) -> bool {
        if self.stream.set_read_timeout(Some(limit)).is_err() {
            return true;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Creates a topic with these settings.
    ///
    /// # Errors
    /// When the broker refuses: with its error code and message.
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let created = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![created])
            .with_timeout_ms(10_000);
        let response = self.request(CREATE_TOPICS_VERSION, &request)?;
        let answer = response.topics.first().context("no answer on the topic")?;
        if answer.error_code != 0 {
            let message = answer.error_message.as_deref().unwrap_or_default();
            bail!("create {topic}: error {} {message}", answer.error_code);
        }
        Ok(())
    }

    /// Sends one batch to one partition. With `acks` 0 there is no answer: use [`Self::send`].
    ///
    /// # Errors
    /// When the connection breaks; an error code of the partition is the caller's to judge.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> Result<PartitionProduceResponse> {
        let request = produce_request(topic, partition, acks, batch);
        let response = self.request(PRODUCE_VERSION, &request)?;
        one_partition(response, |response| {
            let topic = response.responses.into_iter().next()?;
            topic.partition_responses.into_iter().next()
        })
    }

    /// Sends one batch to one partition without waiting; see [`Self::receive_produce`].
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> Result<i32> {
        self.send(
            PRODUCE_VERSION,
            &produce_request(topic, partition, acks, batch),
        )
    }

    /// Reads the answer to the oldest [`Self::send_produce`] that has none yet.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn receive_produce(&mut self) -> Result<(i32, PartitionProduceResponse)> {
        let (correlation, response) = self.receive::<ProduceRequest>(PRODUCE_VERSION)?;
        let partition = one_partition(response, |response| {
            let topic = response.responses.into_iter().next()?;
            topic.partition_responses.into_iter().next()
        })?;
        Ok((correlation, partition))
    }

    /// Reads one partition from `offset` on; waits at most `max_wait` for a first byte.
    ///
    /// # Errors
    /// When the connection breaks; an error code of the partition is the caller's to judge.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait: Duration,
    ) -> Result<PartitionData> {
        let request = fetch_request(topic, partition, offset, max_wait);
        let response = self.request(FETCH_VERSION, &request)?;
        ensure!(
            response.error_code == 0,
            "fetch: error {}",
            response.error_code
        );
        one_partition(response, |response| {
            let topic = response.responses.into_iter().next()?;
            topic.partitions.into_iter().next()
        })
    }

    /// Asks for one partition from `offset` on, without reading the answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<i32> {
        let request = fetch_request(topic, partition, offset, Duration::ZERO);
        self.send(FETCH_VERSION, &request)
    }

    /// As [`Self::send_fetch`], and lets the broker wait for a first byte.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_long_poll(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait: Duration,
    ) -> Result<i32> {
        let request = fetch_request(topic, partition, offset, max_wait);
        self.send(FETCH_VERSION, &request)
    }

    /// Asks which APIs there are: the one question that is always allowed.
    ///
    /// # Errors
    /// When the connection breaks or the broker answers with an error.
    pub fn api_versions(&mut self) -> Result<ApiVersionsResponse> {
        let response = self.request(0, &ApiVersionsRequest::default())?;
        ensure!(
            response.error_code == 0,
            "ApiVersions: error {}",
            response.error_code
        );
        Ok(response)
    }

    /// The offset that `timestamp` asks for: −1 the end, −2 the start, else the first record at or after it.
    ///
    /// # Errors
    /// When the broker answers with an error.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let request = list_offset_request(topic, partition, timestamp);
        let response = self.request(LIST_OFFSETS_VERSION, &request)?;
        let answer = one_partition(response, |response| {
            let topic = response.topics.into_iter().next()?;
            topic.partitions.into_iter().next()
        })?;
        ensure!(
            answer.error_code == 0,
            "list offsets: error {}",
            answer.error_code
        );
        Ok(answer.offset)
    }

    /// As [`Self::list_offset`], without reading the answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send_list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i32> {
        let request = list_offset_request(topic, partition, timestamp);
        self.send(LIST_OFFSETS_VERSION, &request)
    }

    /// A producer id with its epoch, for an idempotent producer. A broker that says that it is still loading is asked
    /// again, as every client does.
    ///
    /// # Errors
    /// When the broker answers with an error.
    pub fn init_producer_id(&mut self) -> Result<(i64, i16)> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut response = self.request(INIT_PRODUCER_ID_VERSION, &request)?;
        while response.error_code == COORDINATOR_LOAD_IN_PROGRESS && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            response = self.request(INIT_PRODUCER_ID_VERSION, &request)?;
        }
        ensure!(
            response.error_code == 0,
            "init producer id: error {}",
            response.error_code
        );
        Ok((response.producer_id.0, response.producer_epoch))
    }
}

/// A whole frame, length prefix included.
///
/// # Errors
/// When the request has no such version.
pub fn encode<R: Request>(correlation: i32, version: i16, request: &R) -> Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("tidegate-tests")));
    let mut frame = BytesMut::zeroed(4);
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// A fetch of one partition from `offset` on, for [`RawClient::send`].
pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait: Duration) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(8 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(32 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn list_offset_request(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![wanted]);
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic])
}

fn one_partition<T, P>(response: T, take: impl FnOnce(T) -> Option<P>) -> Result<P> {
    take(response).context("the answer names no partition")
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
