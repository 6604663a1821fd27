//! Metrics, logs and health: what the broker says of itself.

pub mod trace;

use std::time::Duration;

/// Every metric of the broker. Recording is wait-free or nearly so; exporting is bounded by the series budget.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    pub fn new(max_series: usize) -> Self {
        let _ = max_series;
        Self {}
    }

    /// One answered request. `error` is the protocol's name of the first error in the response, if any.
    pub fn request(&self, api: &'static str, elapsed: Duration, error: Option<&'static str>) {
        let _ = (api, elapsed, error);
    }
    pub fn produced(&self, topic: &str, bytes: u64, records: u64) {
        let _ = (topic, bytes, records);
    }
    pub fn fetched(&self, topic: &str, bytes: u64) {
        let _ = (topic, bytes);
    }
    pub fn connection_opened(&self, listener: &str) {
        let _ = listener;
    }
    pub fn connection_closed(&self, listener: &str) {
        let _ = listener;
    }
    /// A connection or request turned away; `reason` such as `too-many-connections`, `frame-too-large`, `handshake-timeout`.
    pub fn refused(&self, listener: &str, reason: &'static str) {
        let _ = (listener, reason);
    }
    /// Time that reading from connections stood still because a bound (in-flight bytes) was reached.
    pub fn throttled(&self, reason: &'static str, elapsed: Duration) {
        let _ = (reason, elapsed);
    }
    pub fn authentication(&self, mechanism: &'static str, success: bool) {
        let _ = (mechanism, success);
    }
    pub fn authorization_denied(&self, operation: &'static str) {
        let _ = operation;
    }
    /// One fdatasync and the bytes it covered.
    pub fn flushed(&self, elapsed: Duration, bytes: u64) {
        let _ = (elapsed, bytes);
    }
    pub fn plugin_call(&self, plugin: &str, world: &'static str, elapsed: Duration, records: u64) {
        let _ = (plugin, world, elapsed, records);
    }
    /// `fault` such as `trap`, `deadline`, `memory`, `bad-output`, `call-error`, `suspended`.
    pub fn plugin_fault(&self, plugin: &str, fault: &'static str) {
        let _ = (plugin, fault);
    }
    pub fn plugin_records(&self, plugin: &str, outcome: &'static str, records: u64) {
        let _ = (plugin, outcome, records);
    }
}
