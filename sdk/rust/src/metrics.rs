//! The plugin's own metrics. Natively they go nowhere.

#[cfg(target_family = "wasm")]
use crate::bindings::partitioner::tidegate::plugin::metrics;

/// Adds to a counter. `labels` are names and values; at most 64 series a plugin.
pub fn counter_add(name: &str, labels: &[(String, String)], by: u64) {
    #[cfg(target_family = "wasm")]
    metrics::counter_add(name, labels, by);
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, labels, by);
}

/// Sets a gauge.
pub fn gauge_set(name: &str, labels: &[(String, String)], to: f64) {
    #[cfg(target_family = "wasm")]
    metrics::gauge_set(name, labels, to);
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, labels, to);
}
