//! Other people's clients, unchanged, against this broker: what they send, read, share, seek and administer. The scenarios
//! are the scripts beside this file, one a client; each takes the broker's address from its environment and fails by its
//! exit code. What is checked from outside is what a script cannot see: how the broker stored what it was sent.
//!
//! `FINDINGS.md` tells where a client sees something else than with Apache Kafka.

mod kcat;
mod languages;
mod quickstart;
mod security;
mod stored;
