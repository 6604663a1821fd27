//! One partition's leader, batch by batch: for tools that move batches and never look at records (replay, mirroring,
//! measuring).
//!
//! Requests are pipelined: every call returns before its answer, in the order of the calls. The caller bounds how many
//! are in flight.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest};

use crate::client::{Client, topic_name};
use crate::error::{Error, Result, check};
use crate::net::api::Api;
use crate::net::connection::Connection;
use crate::producer::{Acks, TopicBatches, encode_produce};

/// A connection of its own to the leader of one partition.
#[derive(Clone, Debug)]
pub struct RawPartition {
    topic: Arc<str>,
    partition: i32,
    connection: Connection,
    timeout: Duration,
}

/// Batches as they were read.
#[derive(Clone, Debug)]
pub struct RawFetch {
    /// Whole batches; the last may be cut off. See [`Batches`](crate::records::Batches).
    pub batches: Bytes,
    /// The offset behind the newest record that may be read.
    pub high_watermark: i64,
}

impl Client {
    /// Connects to a partition's leader.
    pub async fn raw_partition(&self, topic: &str, partition: i32) -> Result<RawPartition> {
        let leader = self.find_leader(topic, partition).await?;
        Ok(RawPartition {
            topic: topic.into(),
            partition,
            connection: self.connections().get(&leader).await?,
            timeout: self.options().request_timeout,
        })
    }
}

impl RawPartition {
    /// Sends one sealed batch, given in chunks. The future resolves to its base offset; `None` when the broker does not say.
    /// The request is sent even when the future is never polled.
    pub fn append(
        &self,
        batch: &[Bytes],
        acks: Acks,
    ) -> Result<impl Future<Output = Result<Option<i64>>> + Send + use<>> {
        let version = self.connection.version::<ProduceRequest>()?;
        let topics = [TopicBatches {
            topic: self.topic.clone(),
            partitions: vec![(self.partition, batch.to_vec())],
        }];
        let body = encode_produce(
            version,
            acks.code(),
            self.timeout.as_millis() as i32,
            &topics,
        );
        let sent = if acks == Acks::None {
            Sent::Silent(
                self.connection
                    .start_unanswered::<ProduceRequest>(version, body)?,
            )
        } else {
            Sent::Answered(
                self.connection
                    .start_encoded::<ProduceRequest>(version, body)?,
            )
        };
        let this = self.clone();
        Ok(async move {
            let answer = match sent {
                Sent::Silent(written) => {
                    return written.await.map(|()| None).map_err(|_| Error::Closed);
                }
                Sent::Answered(answer) => answer,
            };
            let timeout = this.timeout + Duration::from_secs(5);
            let response = this
                .connection
                .within(timeout, ProduceRequest::NAME, answer.wait())
                .await?;
            let partitions = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partition_responses);
            let Some(partition) = partitions.into_iter().next() else {
                return Err(this.missing(ProduceRequest::NAME));
            };
            let message = partition.error_message.as_deref();
            this.check(partition.error_code, ProduceRequest::NAME, message)?;
            Ok((partition.base_offset >= 0).then_some(partition.base_offset))
        })
    }

    /// Asks for up to `max_bytes` from an offset on; the broker waits up to `max_wait` while there is nothing.
    pub fn fetch(
        &self,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<impl Future<Output = Result<RawFetch>> + Send + use<>> {
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes);
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(max_wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(max_bytes)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.connection.start(&request)?;
        let this = self.clone();
        Ok(async move {
            let timeout = this.timeout + max_wait;
            let response = this
                .connection
                .within(timeout, FetchRequest::NAME, answer.wait())
                .await?;
            this.check(response.error_code, FetchRequest::NAME, None)?;
            let partitions = response
                .responses
                .into_iter()
                .flat_map(|topic| topic.partitions);
            let Some(partition) = partitions.into_iter().next() else {
                return Err(this.missing(FetchRequest::NAME));
            };
            this.check(partition.error_code, FetchRequest::NAME, None)?;
            Ok(RawFetch {
                batches: partition.records.unwrap_or_default(),
                high_watermark: partition.high_watermark,
            })
        })
    }

    fn check(&self, code: i16, api: &'static str, message: Option<&str>) -> Result<()> {
        let subject = || format!("{}-{}", self.topic, self.partition);
        check(code, self.connection.broker(), api, subject, message)
    }

    fn missing(&self, what: &'static str) -> Error {
        Error::Malformed {
            broker: self.connection.broker().clone(),
            what,
            reason: format!("it says nothing of {}-{}", self.topic, self.partition),
        }
    }
}

enum Sent {
    Silent(tokio::sync::oneshot::Receiver<()>),
    Answered(crate::net::connection::Answer<ProduceRequest>),
}
