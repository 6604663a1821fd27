//! A plugin revision that answers calls: its compiled form, its waiting instances, its breakers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bisect::{Parts, bisect};
use super::breaker::{BreakerSettings, Breakers};
use super::component::{Compiled, World};
use super::decisions::DecisionCache;
use super::host::GuestContext;
use super::instance::{Instance, InstanceSettings};
use super::pool::Pool;
use super::rate::LineRate;
use super::{Effort, FailureKind, PluginFailure};
use crate::config::PluginConfig;
use crate::observe::Metrics;

/// Lines a second that say that a plugin's call failed; the others are counted in the next one.
const FAILURE_LINES_PER_SECOND: u32 = 5;
/// Time for bisecting one batch, in deadlines: a record that runs into its deadline is found among some thousands.
const BISECTING_DEADLINES: u32 = 16;
/// How long a call may take on a thread that serves others, too; then it is made again where it holds nobody up.
const QUICK_DEADLINE: Duration = Duration::from_millis(2);
/// The input of a call that the average is of; the time of a larger one counts in proportion.
const USUAL_INPUT_BYTES: u128 = 64 << 10;
/// The newest call weighs one part in so many in the average.
const PACE_MEMORY: u32 = 8;
/// One call counts for at most so many times the average and microseconds more: a thread that the machine did not run for a while
/// says nothing of the plugin.
const PACE_LEAP: (u32, u32) = (4, 50);

#[derive(Debug)]
pub struct Active {
    pub context: Arc<GuestContext>,
    pub decisions: DecisionCache,
    compiled: Compiled,
    settings: InstanceSettings,
    pool: Pool,
    breakers: Mutex<Breakers>,
    /// The breakers have nothing to remember, so that a call which succeeds need not lock them.
    quiet: AtomicBool,
    /// Microseconds that a call took of late; nobody knows at first.
    pace: AtomicU32,
    failure_lines: Mutex<LineRate>,
}

/// What a call is about, for the log, the metrics and the breaker.
#[derive(Clone, Copy, Debug)]
pub struct CallSite<'a> {
    pub metrics: &'a Metrics,
    /// Empty for an authorizer.
    pub topic: &'a str,
    pub partition: i32,
    /// Records, or actions.
    pub count: usize,
    pub effort: Effort,
}

/// What a call came to.
#[derive(Debug)]
pub enum Outcome<R> {
    Whole(R),
    /// The input as a whole was too much or held what the plugin cannot take, and was asked about in parts. With the fault.
    Bisected(Parts<R>, FailureKind),
}

impl Active {
    pub fn new(compiled: Compiled, context: GuestContext, config: &PluginConfig) -> Self {
        let deadline = match compiled.inspected.world {
            World::Partitioner => config.partitioner_deadline,
            World::Authorizer => config.authorizer_deadline,
            World::Transform => config.transform_deadline,
        };
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
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
            breakers: Mutex::new(Breakers::new(BreakerSettings {
                faults: config.breaker_faults,
                window_ms: ms(config.breaker_window),
                backoff_ms: ms(config.breaker_backoff),
            })),
            quiet: AtomicBool::new(true),
            pace: AtomicU32::new(u32::MAX),
            failure_lines: Mutex::new(LineRate::new(FAILURE_LINES_PER_SECOND)),
        }
    }

    pub fn world(&self) -> World {
        self.compiled.inspected.world
    }

    /// The topics for which it is suspended; an authorizer's is the empty one.
    pub fn suspended_topics(&self) -> Vec<String> {
        self.breakers.lock().tripped()
    }

    pub fn idle_instances(&self) -> usize {
        self.pool.idle()
    }

    /// How long a call may take, and with it whoever waits for one.
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// What a call on so many bytes is likely to take, by those of late.
    pub fn likely(&self, bytes: usize) -> Duration {
        let pace = Duration::from_micros(self.pace.load(Ordering::Relaxed).into());
        let times = (bytes as u128).div_ceil(USUAL_INPUT_BYTES).max(1);
        pace.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
    }

    /// One call on `site.count` records or actions, counted and contained: whatever comes of it, the next call finds a sound
    /// instance. `ask` is about a part of the input, `control` about what the plugin is known to answer.
    pub fn call<R>(
        &self,
        site: CallSite<'_>,
        ask: impl Fn(&mut Instance, Range<usize>) -> Result<R, FailureKind>,
        control: impl FnOnce(&mut Instance) -> Result<(), FailureKind>,
    ) -> Result<Outcome<R>, PluginFailure> {
        // A probe is for a call that is made to its end.
        if site.effort == Effort::Quick && !self.quiet.load(Ordering::Relaxed) {
            return Err(self.failure(FailureKind::NotQuick));
        }
        if !self.admit(site.topic) {
            site.metrics
                .plugin_fault(&self.context.plugin, FailureKind::Suspended.name());
            return Err(self.failure(FailureKind::Suspended));
        }
        let started = Instant::now();
        let deadline = match site.effort {
            Effort::Quick => self.settings.deadline.min(QUICK_DEADLINE),
            Effort::Full => self.settings.deadline,
        };
        let whole = |guest: &mut Instance| ask(guest, 0..site.count);
        let result = match self.attempt((site.effort, deadline), whole) {
            Err(kind) if site.effort == Effort::Quick && !kind.is_answer() => {
                return Err(self.failure(FailureKind::NotQuick));
            }
            Err(kind) if kind.is_fault() => self.examine(site, kind, ask, control),
            Err(kind) => {
                if kind.is_answer() {
                    self.success(site.topic);
                }
                Err(kind)
            }
            Ok(answer) => {
                self.success(site.topic);
                Ok(Outcome::Whole(answer))
            }
        };
        site.metrics.plugin_call(
            &self.context.plugin,
            self.world().name(),
            started.elapsed(),
            site.count as u64,
        );
        result.map_err(|kind| {
            self.report(site, &kind);
            self.failure(kind)
        })
    }

    /// One call that nothing counts.
    pub fn try_out<R>(
        &self,
        ask: impl FnOnce(&mut Instance) -> Result<R, FailureKind>,
    ) -> Result<R, FailureKind> {
        self.attempt((Effort::Full, self.settings.deadline), ask)
    }

    fn attempt<R>(
        &self,
        (effort, deadline): (Effort, Duration),
        ask: impl FnOnce(&mut Instance) -> Result<R, FailureKind>,
    ) -> Result<R, FailureKind> {
        let started = Instant::now();
        let mut instance = self.pool.take(|| match effort {
            // Starting one runs its `init`, which has the whole deadline.
            Effort::Quick => Err(FailureKind::NotQuick),
            Effort::Full => self.start(),
        })?;
        instance.set_deadline(deadline);
        let result = ask(&mut instance);
        self.note_pace(started.elapsed(), instance.given_bytes());
        self.give_back(instance, &result);
        result
    }

    fn start(&self) -> Result<Instance, FailureKind> {
        Instance::start(&self.compiled, &self.context, self.settings)
    }

    fn give_back<R>(&self, instance: Instance, result: &Result<R, FailureKind>) {
        let is_sound = result
            .as_ref()
            .err()
            .is_none_or(FailureKind::spares_instance);
        if is_sound {
            self.pool.give(instance);
        }
    }

    /// After a fault: whose it is, and what the parts of the input come to. Fresh instances are asked, so that nothing that an
    /// earlier call left behind is taken for what the input does.
    fn examine<R>(
        &self,
        site: CallSite<'_>,
        kind: FailureKind,
        ask: impl Fn(&mut Instance, Range<usize>) -> Result<R, FailureKind>,
        control: impl FnOnce(&mut Instance) -> Result<(), FailureKind>,
    ) -> Result<Outcome<R>, FailureKind> {
        let mut fresh = None;
        match self.ask_fresh(&mut fresh, control) {
            Err(broken) if broken.is_fault() => {
                self.fault(site.topic);
                return Err(kind);
            }
            Err(other) if !other.is_answer() => return Err(other),
            _ => self.success(site.topic),
        }
        let until = Instant::now() + self.settings.deadline * BISECTING_DEADLINES;
        let parts = bisect(
            site.count,
            || Instant::now() < until,
            |range| self.ask_fresh(&mut fresh, |guest| ask(guest, range)),
        )?;
        if let Some(instance) = fresh {
            self.pool.give(instance);
        }
        if parts.has_poison() {
            self.report(site, &kind);
        }
        Ok(Outcome::Bisected(parts, kind))
    }

    /// Asks an instance that has not failed yet.
    fn ask_fresh<R>(
        &self,
        kept: &mut Option<Instance>,
        ask: impl FnOnce(&mut Instance) -> Result<R, FailureKind>,
    ) -> Result<R, FailureKind> {
        let mut instance = match kept.take() {
            Some(instance) => instance,
            None => self.start()?,
        };
        let result = ask(&mut instance);
        if result
            .as_ref()
            .err()
            .is_none_or(FailureKind::spares_instance)
        {
            *kept = Some(instance);
        }
        result
    }

    fn note_pace(&self, took: Duration, given_bytes: usize) {
        let usual =
            took.as_micros() * USUAL_INPUT_BYTES / USUAL_INPUT_BYTES.max(given_bytes as u128);
        let usual = u32::try_from(usual).unwrap_or(u32::MAX);
        // Of two calls that end at once one is forgotten, which an average bears.
        let pace = next_pace(self.pace.load(Ordering::Relaxed), usual);
        self.pace.store(pace, Ordering::Relaxed);
    }

    fn admit(&self, topic: &str) -> bool {
        let now = self.context.clock.now_ms();
        self.quiet.load(Ordering::Relaxed) || self.breakers.lock().admit(topic, now)
    }

    fn fault(&self, topic: &str) {
        let mut breakers = self.breakers.lock();
        self.quiet.store(false, Ordering::Relaxed);
        if breakers.fault(topic, self.context.clock.now_ms()) {
            let (plugin, revision) = (self.context.plugin.as_str(), self.context.revision);
            tracing::error!(
                plugin,
                revision,
                topic,
                "plugin suspended after repeated faults"
            );
        }
    }

    fn success(&self, topic: &str) {
        if self.quiet.load(Ordering::Relaxed) {
            return;
        }
        let mut breakers = self.breakers.lock();
        if breakers.success(topic, self.context.clock.now_ms()) {
            let (plugin, revision) = (self.context.plugin.as_str(), self.context.revision);
            tracing::info!(plugin, revision, topic, "plugin answers again");
        }
        self.quiet.store(breakers.quiet(), Ordering::Relaxed);
    }

    /// Tells of a call that failed, or of records that made it fail.
    pub fn report(&self, site: CallSite<'_>, kind: &FailureKind) {
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

    pub fn failure(&self, kind: FailureKind) -> PluginFailure {
        PluginFailure {
            plugin: self.context.plugin.clone(),
            revision: self.context.revision,
            kind,
        }
    }
}

/// The average after another call; `u32::MAX` before the first.
fn next_pace(pace: u32, took: u32) -> u32 {
    if pace == u32::MAX {
        return took.min(u32::MAX - 1);
    }
    let (times, more) = PACE_LEAP;
    let took = took.min(pace.saturating_mul(times).saturating_add(more));
    pace - pace / PACE_MEMORY + took / PACE_MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_plugin_and_not_one_call_that_was_held_up() {
        assert_eq!(next_pace(u32::MAX, 3000), 3000);
        assert_eq!(next_pace(u32::MAX, u32::MAX), u32::MAX - 1);
        let after =
            |start, took: &[u32]| took.iter().fold(start, |pace, took| next_pace(pace, *took));
        assert!(
            after(3000, &[20; 30]) < 100,
            "a first call starts an instance"
        );
        assert!(after(20, &[20_000]) < 50, "one that was held up");
        assert!(
            after(20, &[11_000; 20]) > 1000,
            "a plugin that has become slow"
        );
    }
}
