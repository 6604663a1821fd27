//! Who is asking, and whether they may. No transports, no Kafka error codes.

pub mod authorize;
pub mod certificate;
pub mod guesses;
pub mod logins;
pub mod sasl;
pub mod secret;
