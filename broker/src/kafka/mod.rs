//! The Kafka protocol: one table of APIs, a dispatcher, and one file an API.

pub mod acl_codes;
pub mod apis;
pub mod bare_tokens;
pub mod bounds;
pub mod broker_settings;
pub mod context;
pub mod dispatch;
pub mod error;
pub mod guard;
pub mod handlers;
pub mod lanes;
pub mod lists;
pub mod long;
pub mod namespace;
pub mod permission;
pub mod placement;
pub mod resources;
pub mod room;
pub mod session;
pub mod settings;
pub mod topics;

pub use kafka_protocol::ResponseError;
