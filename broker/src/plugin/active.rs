//! A plugin revision that answers calls: its compiled form, its waiting instances, its breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::breaker::{Breaker, BreakerSettings};
use super::component::{Compiled, World};
use super::decisions::DecisionCache;
use super::host::GuestContext;
use super::instance::{Instance, InstanceSettings};
use super::pool::Pool;
use super::rate::LineRate;
use super::{FailureKind, PluginFailure};
use crate::config::PluginConfig;
use crate::observe::Metrics;

/// Lines a second that say that a plugin's call failed; the others are counted in the next one.
const FAILURE_LINES_PER_SECOND: u32 = 5;

#[derive(Debug)]
pub struct Active {
    pub context: Arc<GuestContext>,
    pub decisions: DecisionCache,
    compiled: Compiled,
    settings: InstanceSettings,
    pool: Pool,
    breaker: Mutex<Breaker>,
    /// The breaker has nothing to remember, so that a call which succeeds need not lock it.
    quiet: AtomicBool,
    failure_lines: Mutex<LineRate>,
}

/// What a call is about, for the log and the metrics.
#[derive(Clone, Copy, Debug)]
pub struct CallSite<'a> {
    pub metrics: &'a Metrics,
    /// Empty for an authorizer.
    pub topic: &'a str,
    pub partition: i32,
    /// Records, or actions.
    pub count: usize,
}

impl Active {
    pub fn new(compiled: Compiled, context: GuestContext, config: &PluginConfig) -> Self {
        let deadline = match compiled.inspected.world {
            World::Partitioner => config.partitioner_deadline,
            World::Authorizer => config.authorizer_deadline,
            World::Transform => config.transform_deadline,
        };
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self {
            context: Arc::new(context),
            decisions: DecisionCache::default(),
            compiled,
            settings: InstanceSettings {
                deadline,
                memory_bytes: bytes(config.max_memory_bytes),
                input_bytes: bytes(config.max_decompressed_bytes),
            },
            pool: Pool::new(),
            breaker: Mutex::new(Breaker::new(BreakerSettings {
                faults: config.breaker_faults,
                window_ms: ms(config.breaker_window),
                backoff_ms: ms(config.breaker_backoff),
            })),
            quiet: AtomicBool::new(true),
            failure_lines: Mutex::new(LineRate::new(FAILURE_LINES_PER_SECOND)),
        }
    }

    pub fn world(&self) -> World {
        self.compiled.inspected.world
    }

    pub fn suspended(&self) -> bool {
        self.breaker.lock().tripped()
    }

    pub fn idle_instances(&self) -> usize {
        self.pool.idle()
    }

    /// One call, counted and contained: whatever comes of it, the next call finds a sound instance.
    pub fn call<R>(
        &self,
        site: CallSite<'_>,
        call: impl FnOnce(&mut Instance) -> Result<R, FailureKind>,
    ) -> Result<R, PluginFailure> {
        if !self.admit() {
            site.metrics
                .plugin_fault(&self.context.plugin, FailureKind::Suspended.name());
            return Err(self.failure(FailureKind::Suspended));
        }
        let started = Instant::now();
        let result = self.run(call);
        site.metrics.plugin_call(
            &self.context.plugin,
            self.world().name(),
            started.elapsed(),
            site.count as u64,
        );
        match &result {
            Err(kind) if kind.is_fault() => self.fault(),
            // An answer, even one that refuses, says that the guest works.
            _ => self.success(),
        }
        result.map_err(|kind| {
            self.report(site, &kind);
            self.failure(kind)
        })
    }

    fn run<R>(
        &self,
        call: impl FnOnce(&mut Instance) -> Result<R, FailureKind>,
    ) -> Result<R, FailureKind> {
        let mut instance = self
            .pool
            .take(|| Instance::start(&self.compiled, &self.context, self.settings))?;
        let result = call(&mut instance);
        if !result.as_ref().is_err_and(FailureKind::is_fault) {
            self.pool.give(instance);
        }
        result
    }

    fn admit(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) || self.breaker.lock().admit(self.context.clock.now_ms())
    }

    fn fault(&self) {
        let mut breaker = self.breaker.lock();
        self.quiet.store(false, Ordering::Relaxed);
        if breaker.fault(self.context.clock.now_ms()) {
            let (plugin, revision) = (self.context.plugin.as_str(), self.context.revision);
            tracing::error!(plugin, revision, "plugin suspended after repeated faults");
        }
    }

    fn success(&self) {
        if self.quiet.load(Ordering::Relaxed) {
            return;
        }
        let mut breaker = self.breaker.lock();
        if breaker.success() {
            let (plugin, revision) = (self.context.plugin.as_str(), self.context.revision);
            tracing::info!(plugin, revision, "plugin answers again");
        }
        breaker.prune(self.context.clock.now_ms());
        self.quiet.store(breaker.quiet(), Ordering::Relaxed);
    }

    fn report(&self, site: CallSite<'_>, kind: &FailureKind) {
        if matches!(kind, FailureKind::Rejected(_)) {
            return;
        }
        let plugin = self.context.plugin.as_str();
        site.metrics.plugin_fault(plugin, kind.name());
        let now = self.context.clock.now_ms();
        if let Some(suppressed) = self.failure_lines.lock().admit(now) {
            tracing::warn!(
                plugin,
                revision = self.context.revision,
                topic = site.topic,
                partition = site.partition,
                failure = kind.name(),
                suppressed,
                "plugin call failed: it {kind}"
            );
        }
    }

    fn failure(&self, kind: FailureKind) -> PluginFailure {
        PluginFailure {
            plugin: self.context.plugin.clone(),
            revision: self.context.revision,
            kind,
        }
    }
}
