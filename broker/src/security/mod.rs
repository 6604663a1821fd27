//! Who is asking, and whether they may. No transports, no Kafka error codes.

pub mod authorize;
pub mod certificate;
pub mod sasl;
