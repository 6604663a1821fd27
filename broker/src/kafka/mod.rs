//! The Kafka protocol: one table of APIs, a dispatcher, and one file an API.

pub mod acl_codes;
pub mod broker_settings;
pub mod context;
pub mod error;
pub mod guard;
pub mod handlers;
pub mod permissions;
pub mod settings;
pub mod topics;

pub use kafka_protocol::ResponseError;
