//! The broker's inner operations one by one, each ready to be done over and over: to be timed (`benches/timed.rs`), or
//! counted in instructions, which repeat where times do not (`src/main.rs`).
//!
//! A **case** does one operation through the broker's public modules, on a [`bed`](bed::Bed): a broker without listeners,
//! whose data is in a folder of its own and whose clock stands still. Nothing runs beside it on other threads, the
//! ticker of plugins' deadlines apart.

pub mod bed;
mod cases;
mod payload;

pub use cases::{CASES, Case, Entry, find};
