//! A simulator of the whole broker: log, coordinator, catalog and request handlers on a simulated disk, clock and network, one
//! thread, all from one seed.
//!
//! - An **operation** is a request of some client, with what its answer means ([`ops`]).
//! - The **shadow** is the model: what must be true of the broker, given what was answered so far ([`shadow`]).
//! - The **auditor** reads everything back after each start and compares it with the shadow ([`auditor`]).
//! - The **recording** is what the clients saw; in the end the history checker judges it, whatever the shadow says ([`recording`]).
//! - A **life** is one run of the broker's process on the disk. It ends in order, in a crash of the process, or in a loss of
//!   power; then the next begins. After one that ended in order bits may flip on the disk ([`damage`]).
//!
//! A violation names its seed; the same seed gives the same run, line for line.

pub mod auditor;
pub mod broker;
pub mod damage;
pub mod disk;
pub mod network;
pub mod ops;
pub mod outcomes;
pub mod random;
pub mod recording;
pub mod runner;
pub mod shadow;
pub mod trace;
pub mod wire;
pub mod world;

pub use runner::{Options, Report, Violation, run};
