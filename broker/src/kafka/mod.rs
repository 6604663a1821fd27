//! The Kafka protocol: one table of APIs, a dispatcher, and one file an API.

pub mod context;
pub mod guard;
pub mod handlers;
pub mod topics;

pub use kafka_protocol::ResponseError;
