//! Connections to brokers: byte streams ([`transport`]), requests and answers on them ([`connection`]), login ([`sasl`]).

pub(crate) mod api;
pub(crate) mod connection;
pub(crate) mod sasl;
mod scram;
mod tls;
pub(crate) mod transport;
