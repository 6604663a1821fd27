//! Tidegate, the broker. The modules stand in layer order: each imports only what is above it in this list
//! (`tests/tidy` checks it); `broker/ARCHITECTURE.md` tells what each must never know.

// Layer 0: imported by all, imports nothing above itself.
pub mod config;
pub mod env;
pub mod observe;
pub mod types;

// Layer 1: durable truth.
pub mod catalog;
pub mod log;

// Layer 2: decisions, without sockets or wire types.
pub mod coordinator;
#[cfg(not(fuzzing))]
pub mod plugin;
#[cfg(not(fuzzing))]
pub mod security;

// Layer 3: the edges.
#[cfg(not(fuzzing))]
pub mod admin;
#[cfg(not(fuzzing))]
pub mod kafka;
#[cfg(not(fuzzing))]
pub mod net;

// Layers 4 and 5: the composition root, and the commands.
#[cfg(not(fuzzing))]
pub mod broker;
#[cfg(not(fuzzing))]
pub mod cli;

// Fuzzing (`tests/fuzz`) builds the readers of untrusted bytes alone, without sockets and WebAssembly.
#[cfg(any(test, fuzzing))]
pub mod fuzz;
/// What of `kafka` reads bytes that nobody has checked yet.
#[cfg(fuzzing)]
pub mod kafka {
    pub mod guard;
}
