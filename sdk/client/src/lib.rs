//! An async client for every broker that speaks the Kafka protocol, over QUIC, TLS or TCP: producer, consumer, admin.
//!
//! ```no_run
//! use tidegate_client::{Client, OffsetReset, Record, TlsOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tidegate_client::Result<()> {
//! let client = Client::builder()
//!     .bootstrap("quic://localhost:9094")
//!     .tls(TlsOptions::new().ca_file("data/certificates/ca.pem"))
//!     .connect()
//!     .await?;
//!
//! // Idempotent, acks=all. `send` waits until the record is stored; `enqueue` returns before.
//! let producer = client.producer().build()?;
//! let stored = producer.send(Record::to("orders").key("customer-7").value("12 EUR")).await?;
//! println!("partition {} offset {:?}", stored.partition, stored.offset);
//! producer.close().await?;
//!
//! let mut consumer = client
//!     .consumer()
//!     .group("billing")
//!     .topics(["orders"])
//!     .offset_reset(OffsetReset::Earliest)
//!     .build()?;
//! let record = consumer.recv().await?;
//! println!("{:?}", record.value);
//! consumer.close().await
//! # }
//! ```
//!
//! `cargo run -p tidegate-client --example roundtrip -- tcp://localhost:9092` runs the same against a broker of yours.
//!
//! A [`Client`] knows a cluster; [`Producer`], [`Consumer`] and [`Admin`] are made from it and have connections of their
//! own. Errors are one type, [`Error`], whose [`kind`](Error::kind) says what a caller can do.

#![warn(missing_debug_implementations)]

mod admin;
mod client;
mod cluster;
mod consumer;
mod error;
mod net;
mod options;
mod producer;
mod raw;
pub mod records;

pub use admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType, Admin,
    ClusterDescription, ConfigChange, ConfigEntry, ConfigSource, GroupDescription, GroupListing,
    GroupMember, NewTopic, PartitionProducer, TopicDescription, TransactionDescription,
    TransactionFilter,
};
pub use client::{Client, ClientBuilder};
pub use cluster::metadata::{PartitionMetadata, TopicMetadata};
pub use consumer::{Assignor, Consumer, ConsumerBuilder, Isolation, OffsetReset, StartAt};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use options::{Bootstrap, Endpoint, Pem, SaslMechanism, SaslOptions, TlsOptions, Transport};
pub use producer::{Acks, Delivery, Producer, ProducerBuilder, RecordMetadata, partition_of_key};
pub use raw::{RawFetch, RawPartition};
pub use records::{Compression, ConsumerRecord, Header, Record};
