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

    /// Another partition of the topic, over the same connection. It must have the same leader, or the broker refuses.
    pub fn sibling(&self, partition: i32) -> Self {
        Self {
            partition,
            ..self.clone()
        }
    }

    /// Asks for up to `max_bytes` from an offset on; the broker waits up to `max_wait` while there is nothing.
    pub fn fetch(
        &self,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<impl Future<Output = Result<RawFetch>> + Send + use<>> {
        let answer = self.fetch_all(&[(self.partition, offset)], max_bytes, max_wait)?;
        let this = self.clone();
        Ok(async move {
            let mut partitions = answer.await?.into_iter();
            let first = partitions.next().map(|(_, fetched)| fetched);
            first.ok_or_else(|| this.missing(FetchRequest::NAME))
        })
    }

    /// As [`fetch`](Self::fetch), from several partitions of the topic together, each from an offset on. They must have the same
    /// leader. What the answer tells of each comes by its number.
    pub fn fetch_all(
        &self,
        from: &[(i32, i64)],
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<impl Future<Output = Result<Vec<(i32, RawFetch)>>> + Send + use<>> {
        let partition = |(partition, offset): &(i32, i64)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(max_bytes)
        };
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.topic))
            .with_partitions(from.iter().map(partition).collect());
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
            let fetched = partitions.map(|partition| {
                let number = partition.partition_index;
                this.sibling(number)
                    .check(partition.error_code, FetchRequest::NAME, None)?;
                let fetched = RawFetch {
                    batches: partition.records.unwrap_or_default(),
                    high_watermark: partition.high_watermark,
                };
                Ok((number, fetched))
            });
            fetched.collect()
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
