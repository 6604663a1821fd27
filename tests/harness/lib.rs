//! What every test that crosses a module of the broker needs.
//!
//! - A [`Broker`] is the real binary in a process of its own, on ports the system chose, with a data directory that goes
//!   away with it. Nothing here sleeps for it: it is ready when it prints `ready`.
//! - A [`RawClient`] is one TCP connection that speaks frames: typed requests through `kafka-protocol`, or any bytes.
//! - [`scram`] is the client's side of a login; [`RawClient::log_in`] does it whole.
//! - A [`batch`] is a record batch as a producer would send it, built and checked here independently of the broker's code.
//! - [`Transactional`] is what a producer with a transactional id asks for, in either dialect; [`fetch_all`] reads many
//!   partitions as a consumer of either isolation does.
//! - A [`Suite`] is a group of tests that need another language's tools: it finds or installs them under `target/`, and
//!   says plainly when it cannot.
//! - A [`Seed`] makes a randomised test repeatable: it is printed, and `TIDEGATE_SEED` replays it.

pub mod batch;
mod binary;
mod broker;
pub mod guests;
mod raw;
pub mod scram;
mod seed;
pub mod suite;
mod transactions;

pub use binary::{repository_root, target_directory, tidegate_binary};
pub use broker::{Addresses, Broker, BrokerBuilder};
pub use raw::{RawClient, encode, fetch_request};
pub use seed::Seed;
pub use suite::{Suite, say};
pub use transactions::{Dialect, Fetched, Transactional, fetch_all, stable_offset};

use std::net::{Ipv4Addr, TcpListener};

/// Whether this port of the loopback interface can be bound now.
pub fn port_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that was free a moment ago: for configuration that must name a port before anything listens on it.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface has a free port")
        .port()
}

/// A number from the environment, for the size of a test.
///
/// # Panics
/// When the variable holds no whole number.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a whole number, not `{text}`")),
        Err(_) => default,
    }
}
