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
pub mod plugin;
pub mod security;

// Layer 3: the edges.
pub mod admin;
pub mod kafka;
pub mod net;

// Layers 4 and 5: the composition root, and the commands.
pub mod broker;
pub mod cli;
