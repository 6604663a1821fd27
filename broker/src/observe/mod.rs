//! Metrics, logs and health: what the broker says of itself.
//!
//! `table` lists every metric; `metrics` records and is asked; `store` keeps one entry for each *label set* of a *group* of
//! metrics; `budget` and `export` decide which label sets get series of their own, and write the text. Invariants: a
//! scrape never exports more than `max_series` series; counters in it never fall while the broker runs; what was
//! recorded is never lost from the sum over a metric's series.

pub mod audit;
mod budget;
mod export;
pub mod health;
mod metrics;
mod process;
mod store;
pub mod table;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod trace;

pub use health::Health;
pub use metrics::{Collector, GaugeSink, Metrics};
