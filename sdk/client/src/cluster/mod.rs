//! What is known of a cluster: its brokers and leaders ([`metadata`]), connections to them ([`pool`]), when to try again
//! ([`retry`]).

pub(crate) mod metadata;
pub(crate) mod pool;
pub(crate) mod retry;
