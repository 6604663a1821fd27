//! Requests and answers.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use tidegate::kafka::apis::IntoAnswer;
use tidegate::kafka::context::Context;
use tidegate::kafka::dispatch::KafkaConnection;
use tidegate::kafka::guard;
use tidegate::kafka::handlers::fetch::{self, FetchAnswer};
use tidegate::kafka::session::Session;
use tidegate::kafka::topics::TopicHandle;
use tidegate::net::{Finished, FrameHandler, Started};

use super::Case;
use crate::bed::{self, Bed};
use crate::payload;

/// What librdkafka and the Java client speak by now.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const TOPIC: &str = "measured";

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// A request on the wire, without its length.
fn frame<R: Request + Encodable>(request: &R, version: i16) -> Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("measured")));
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, R::header_version(version))?;
    request.encode(&mut bytes, version)?;
    Ok(bytes.freeze())
}

fn produce(partitions: i32) -> Result<ProduceRequest> {
    let records = payload::batch_of(1, 1000)?;
    let data = (0..partitions).map(|index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records.clone()))
    });
    let topic = TopicProduceData::default()
        .with_name(topic_name())
        .with_partition_data(data.collect());
    Ok(ProduceRequest::default()
        .with_acks(1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]))
}

/// Asks each partition for what follows `offset`, and does not wait for it.
fn fetch(partitions: i32, offset: i64) -> FetchRequest {
    let asked = (0..partitions).map(|index| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(topic_name())
        .with_partitions(asked.collect());
    FetchRequest::default()
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// What the dispatcher does with a frame before its handler begins.
pub struct Decode {
    frame: Bytes,
    version: i16,
    key: ApiKey,
}

impl Decode {
    pub fn produce() -> Result<Self> {
        Ok(Self {
            frame: frame(&produce(10)?, PRODUCE_VERSION)?,
            version: PRODUCE_VERSION,
            key: ApiKey::Produce,
        })
    }

    pub fn fetch() -> Result<Self> {
        Ok(Self {
            frame: frame(&fetch(100, 0), FETCH_VERSION)?,
            version: FETCH_VERSION,
            key: ApiKey::Fetch,
        })
    }
}

impl Case for Decode {
    fn run(&mut self) {
        let mut rest = self.frame.clone();
        let header_version = self.key.request_header_version(self.version);
        let header = guard::decode_prefix(&mut rest, header_version);
        black_box(header.expect("the header is right"));
        match self.key {
            ApiKey::Produce => {
                let request = guard::decode::<ProduceRequest>(rest, self.version);
                black_box(request.expect("the request is right"));
            }
            _ => {
                let request = guard::decode::<FetchRequest>(rest, self.version);
                black_box(request.expect("the request is right"));
            }
        }
    }
}

/// A topic whose partitions hold one batch each.
fn filled(bed: &Bed, partitions: i32) -> Result<Arc<TopicHandle>> {
    let handle = bed.topic(TOPIC, partitions)?;
    let batch = payload::checked(payload::batch_of(1, 1000)?)?;
    for log in &handle.logs {
        log.append(batch.clone())?;
    }
    bed.flush();
    Ok(handle)
}

/// What becomes of a Fetch answer before it goes to the connection.
pub struct EncodeFetch {
    context: Context,
    request: FetchRequest,
    answers: VecDeque<FetchAnswer>,
    _bed: Bed,
}

impl EncodeFetch {
    pub fn new() -> Result<Self> {
        let partitions = 10;
        let bed = Bed::make()?;
        filled(&bed, partitions)?;
        let session = Session::new(bed::connection());
        let services = bed.services().clone();
        let context = Context::new(services, Arc::new(session), FETCH_VERSION, None);
        Ok(Self {
            context,
            request: fetch(partitions, 0),
            answers: VecDeque::new(),
            _bed: bed,
        })
    }
}

impl Case for EncodeFetch {
    fn prepare(&mut self, count: usize) {
        for _ in 0..count {
            let answer = fetch::handle(&self.context, self.request.clone()).now_or_never();
            self.answers
                .push_back(answer.expect("a hot read waits for nothing"));
        }
    }

    fn run(&mut self) {
        let answer = self.answers.pop_front().expect("it was prepared");
        let encoded = answer
            .into_answer(&self.context, 1)
            .expect("it can be encoded");
        assert_eq!(encoded.error, 0);
        black_box(encoded);
    }
}

/// A whole request, from its frame to the answer's bytes.
pub struct Serve {
    connection: KafkaConnection,
    frame: Bytes,
    /// Of the answer: what is written or read is checked once, when the case is made.
    answer_bytes: usize,
    bed: Bed,
}

impl Serve {
    pub fn produce() -> Result<Self> {
        let bed = Bed::make()?;
        let handle = bed.topic(TOPIC, 1)?;
        let serve = Self::of(bed, frame(&produce(1)?, PRODUCE_VERSION)?)?;
        let log = handle.log(0).context("the topic has a partition")?;
        ensure!(
            log.offsets().log_end == 1,
            "the first request was not written"
        );
        Ok(serve)
    }

    pub fn fetch() -> Result<Self> {
        let bed = Bed::make()?;
        filled(&bed, 1)?;
        let serve = Self::of(bed, frame(&fetch(1, 0), FETCH_VERSION)?)?;
        ensure!(serve.answer_bytes > 1000, "the first answer holds no batch");
        Ok(serve)
    }

    fn of(bed: Bed, frame: Bytes) -> Result<Self> {
        let mut serve = Self {
            connection: bed.connect(),
            frame,
            answer_bytes: 0,
            bed,
        };
        serve.answer_bytes = serve.answer()?;
        Ok(serve)
    }

    /// The size of the answer to the request.
    fn answer(&mut self) -> Result<usize> {
        let started = self.connection.start(self.frame.clone()).now_or_never();
        let finished = match started {
            Some(Started::Ready(reply)) => Some(Finished::Reply(reply)),
            // Nothing is before it on its connection.
            Some(Started::InTurn(answer)) => answer.now_or_never(),
            Some(Started::Close { reply, reason }) => Some(Finished::Close { reply, reason }),
            _ => None,
        };
        match finished {
            Some(Finished::Reply(reply)) => Ok(black_box(reply).iter().map(Bytes::len).sum()),
            Some(Finished::Close { reason, .. }) => bail!("the connection was closed: {reason}"),
            _ => bail!("the request was not answered at once"),
        }
    }
}

impl Case for Serve {
    fn prepare(&mut self, _count: usize) {
        self.bed.flush();
        self.bed.services().logs.enforce_retention();
    }

    fn run(&mut self) {
        let bytes = self.answer().expect("the broker answers");
        // Offsets and times have a fixed width.
        assert_eq!(bytes, self.answer_bytes);
    }
}
