//! The WebAssembly plugin host: components in, decisions on batches out. Knows no partitions' logs, groups or sockets.
//!
//! Three lifetimes. The *engine* is of the process and made with the first plugin. A *revision* is a component with its
//! configuration, checked and compiled once when it is deployed. An *instance* is one running guest of a revision; it is used
//! again while it behaves, and may vanish between any two calls.
//!
//! What holds: nothing that a guest does or returns reaches further than its own call. Its time, memory and answers are
//! bounded, its answers are checked, and after a fault its instance is thrown away. A change (deploy, roll back, remove) is
//! seen by the next call and never within one.
//!
//! A call runs on the calling thread, and the serving threads are not for long ones: [`workers`] has others. One of `Effort::Quick` is over within two milliseconds or is given up, so that it may be made
//! on a thread that serves others; whoever makes one of `Effort::Full` has a thread for it.

mod active;
mod bindings;
mod bisect;
mod breaker;
mod columns;
mod compile;
mod component;
mod control;
mod decisions;
mod deploy;
mod engine;
mod failure;
mod host;
mod instance;
mod limits;
mod pool;
mod rate;
mod schedule;
mod store;
mod wasi;
mod workers;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use self::active::{Active, CallSite, Outcome};
use self::compile::Compiler;
use self::component::World;
use self::engine::PluginEngine;
use self::host::GuestMetrics;
pub use self::instance::AuthorizerCaller;
use self::store::Artifacts;
use crate::catalog::{Catalog, PluginEntry};
use crate::config::PluginConfig;
use crate::env::{self, Clock};
use crate::log::records::Record;
use crate::observe::Metrics;

pub use self::compile::{Compiling, compile_in_child};
use self::failure::INPUT;
pub use self::failure::{DeployError, FailureKind, PluginFailure, RecordReject};
pub use self::host::{GuestSeries, GuestValue, Labels};
pub use self::store::RevisionStore;
pub use self::workers::{Job, LaneKey, Turn, Workers};

/// The folder of compiled code, in the plugins' own.
const CACHE: &str = "cache";

/// Actions that an authorizer is asked about at once: its deadline is for so many.
const MAX_ACTIONS: usize = 256;

/// What calls may be expected to take that are made on a serving thread.
const QUICK: Duration = Duration::from_millis(1);
/// Time for all that one request asks of an authorizer, in its deadlines.
const AUTHORIZING_DEADLINES: u32 = 16;

#[derive(Debug)]
pub struct PluginHost {
    directory: PathBuf,
    config: PluginConfig,
    store: Arc<dyn RevisionStore>,
    metrics: Arc<Metrics>,
    clock: Clock,
    artifacts: Artifacts,
    engine: Mutex<Option<PluginEngine>>,
    compiler: Compiler,
    /// Held by whoever changes `plugins`.
    change: Mutex<()>,
    plugins: ArcSwap<Plugins>,
    workers: Workers,
}

type Plugins = BTreeMap<String, Arc<Deployed>>;

#[derive(Debug)]
struct Deployed {
    entry: Arc<PluginEntry>,
    metrics: Arc<GuestMetrics>,
    /// Or why it could not be loaded.
    active: Result<Arc<Active>, String>,
}

/// Where a batch comes from, as a guest sees it.
#[derive(Clone, Debug)]
pub struct BatchOrigin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// Of the topic.
    pub partition_count: u32,
    pub base_sequence: Option<i32>,
}

impl<'a> BatchOrigin<'a> {
    /// Of the records in `range` when they are asked about by themselves.
    fn of_part(&self, records: &[Record], range: &Range<usize>) -> BatchOrigin<'a> {
        let first = match range.start {
            0 => 0,
            start => records.get(start).map_or(0, |record| record.offset_delta),
        };
        BatchOrigin {
            base_sequence: self
                .base_sequence
                .map(|base| base.wrapping_add(first) & i32::MAX),
            ..self.clone()
        }
    }
}

/// A transform's answer on a batch; indexes are positions in the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transformed {
    Unchanged,
    /// For each input record: keep it?
    Keep(Vec<bool>),
    /// New records with the index of the input each came of (ascending).
    Replaced(Vec<(u32, Record)>),
    /// At least one record is refused: nothing is to be written.
    Rejected(Vec<RecordReject>),
}

/// What becomes of a record that the plugin cannot take, when it takes others ([`bisect`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnPoison {
    /// Refused, by its index.
    Reject,
    /// Kept as it came, and where its client sent it.
    Keep,
    Drop,
}

/// What a call may cost its thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Two milliseconds. What takes longer or fails is `NotQuick` and nothing else.
    Quick,
    /// The plugin's deadline, and after a fault some more for finding out what did it.
    Full,
}

/// How a batch is put to a plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    pub on_poison: OnPoison,
    pub effort: Effort,
}

/// The guest keeps the record in the partition that its client chose.
pub const KEEP_PARTITION: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Allow,
    Deny(Option<String>),
    Abstain,
}

/// An action in Kafka's own codes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PluginAction {
    pub operation: i8,
    pub resource_type: i8,
    pub resource_name: String,
}

/// How a deployed plugin does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginStatus {
    pub name: String,
    pub revision: u32,
    /// The topics for which its calls are refused after repeated faults, but for a probe now and then. An authorizer's is
    /// the empty one.
    pub suspended_topics: Vec<String>,
    /// Why it could not be loaded at start; every call fails.
    pub unavailable: Option<String>,
    pub idle_instances: usize,
    /// Updates of its own metrics that went nowhere: too many series, or wrong names.
    pub metric_updates_dropped: u64,
}

impl PluginHost {
    /// Loads every deployed plugin from the catalog; artifacts live under `directory`. The engine starts with the first
    /// plugin. Blocking.
    pub fn open(
        directory: &Path,
        config: PluginConfig,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        Self::with_store(directory, config, catalog, metrics, clock)
    }

    /// As `open`, with entries kept by any store.
    pub fn with_store(
        directory: &Path,
        config: PluginConfig,
        store: Arc<dyn RevisionStore>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Arc<Self>, String> {
        let directory = std::path::absolute(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let host = Self {
            compiler: Compiler::new(&config, directory.join(CACHE)),
            workers: Workers::new(config.workers, config.max_queued_bytes),
            artifacts: Artifacts::new(directory.clone()),
            directory,
            config,
            store,
            metrics,
            clock,
            engine: Mutex::default(),
            change: Mutex::default(),
            plugins: ArcSwap::default(),
        };
        let restored: Plugins = host
            .store
            .entries()
            .into_iter()
            .map(|entry| (entry.name.clone(), Arc::new(host.restore(entry))))
            .collect();
        host.plugins.store(Arc::new(restored));
        host.preload()?;
        Ok(Arc::new(host))
    }

    fn preload(&self) -> Result<(), String> {
        for (name, plugin) in &self.config.preload {
            if self.plugins.load().contains_key(name) {
                continue;
            }
            let file = plugin.file.display();
            let component = std::fs::read(&plugin.file)
                .map_err(|error| format!("plugins.preload.{name}: {file}: {error}"))?;
            self.deploy(name, &component, plugin.config.clone())
                .map_err(|error| format!("plugins.preload.{name}: {file}: {error}"))?;
        }
        Ok(())
    }

    /// Sorted by name.
    pub fn list(&self) -> Vec<Arc<PluginEntry>> {
        let plugins = self.plugins.load();
        plugins
            .values()
            .map(|plugin| Arc::clone(&plugin.entry))
            .collect()
    }

    /// `partitioner`, `authorizer` or `transform`, when deployed.
    pub fn world(&self, name: &str) -> Option<String> {
        let plugins = self.plugins.load();
        let entry = &plugins.get(name)?.entry;
        entry
            .revisions
            .iter()
            .find(|revision| revision.revision == entry.active)
            .map(|revision| revision.world.clone())
    }

    /// What is being compiled at this moment.
    pub fn compiling(&self) -> Vec<Compiling> {
        self.compiler.running()
    }

    /// Ends what is being compiled under this name; false when nothing is. Its deployment is refused then.
    pub fn cancel(&self, name: &str) -> bool {
        self.compiler.cancel(name)
    }

    /// Sorted by name.
    pub fn status(&self) -> Vec<PluginStatus> {
        let plugins = self.plugins.load();
        plugins
            .values()
            .map(|plugin| {
                let active = plugin.active.as_ref();
                PluginStatus {
                    name: plugin.entry.name.clone(),
                    revision: plugin.entry.active,
                    suspended_topics: active
                        .map_or_else(|_| Vec::new(), |active| active.suspended_topics()),
                    unavailable: active.err().cloned(),
                    idle_instances: active.map_or(0, |active| active.idle_instances()),
                    metric_updates_dropped: plugin.metrics.dropped(),
                }
            })
            .collect()
    }

    /// Linear memory of all instances.
    pub fn memory_bytes(&self) -> usize {
        let engine = self.engine.lock();
        engine.as_ref().map_or(0, |engine| engine.memory().used())
    }

    /// The metrics that plugins keep about their own work, for export under their names.
    pub fn guest_series(&self) -> Vec<GuestSeries> {
        let plugins = self.plugins.load();
        plugins
            .iter()
            .flat_map(|(name, plugin)| plugin.metrics.series(name))
            .collect()
    }

    /// The threads for calls of `Effort::Full`.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What a batch is told for which the workers have no room.
    pub fn overloaded(&self, plugin: &str) -> PluginFailure {
        let bytes = self.config.max_queued_bytes;
        let kind = FailureKind::Overloaded(format!(
            "batches of {bytes} bytes wait for plugins at most, half of what is free for one topic (plugins.max-queued-bytes)"
        ));
        self.metrics.plugin_fault(plugin, kind.name());
        PluginFailure {
            plugin: plugin.to_owned(),
            revision: self.revision(plugin),
            kind,
        }
    }

    /// Of a batch that is too large for a quick call.
    pub fn not_quick(&self, plugin: &str) -> PluginFailure {
        PluginFailure {
            plugin: plugin.to_owned(),
            revision: self.revision(plugin),
            kind: FailureKind::NotQuick,
        }
    }

    /// What a batch is told whose call was not made or broke off.
    pub fn interrupted(&self, plugin: &str) -> PluginFailure {
        PluginFailure {
            plugin: plugin.to_owned(),
            revision: self.revision(plugin),
            kind: FailureKind::Unavailable("the broker ends, or the call broke off".into()),
        }
    }

    fn revision(&self, plugin: &str) -> u32 {
        let plugins = self.plugins.load();
        plugins.get(plugin).map_or(0, |plugin| plugin.entry.active)
    }

    /// Whether calls of all these plugins on a batch of so many bytes are likely to be over in a millisecond, by those of late.
    pub fn are_quick<'a>(&self, names: impl Iterator<Item = &'a str>, bytes: usize) -> bool {
        let plugins = self.plugins.load();
        let mut left = QUICK;
        for name in names {
            let active = plugins
                .get(name)
                .and_then(|plugin| plugin.active.as_ref().ok());
            let likely = active.map_or(Duration::MAX, |active| active.likely(bytes));
            match left.checked_sub(likely) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    }

    /// One partition for each record, each below the topic's partition count or `KEEP_PARTITION`.
    pub fn assign(
        &self,
        plugin: &str,
        origin: &BatchOrigin<'_>,
        records: &[Record],
        terms: Terms,
    ) -> Result<Vec<u32>, PluginFailure> {
        let active = self.active(plugin, World::Partitioner)?;
        let site = self.site(origin, records, terms.effort);
        let outcome = active.call(
            site,
            |guest, range| {
                let part = &records[range.clone()];
                match guest.assign(&origin.of_part(records, &range), part) {
                    Err(FailureKind::Rejected(rejects)) => Ok(Err(rejects)),
                    answer => answer.map(Ok),
                }
            },
            |guest| control::ask(guest, World::Partitioner, origin),
        );
        let settled = outcome.and_then(|outcome| match outcome {
            Outcome::Whole(answer) => Ok(answer),
            Outcome::Bisected(parts, fault) => {
                self.count_poison(plugin, parts.poison());
                let (is_complete, count) = (parts.is_complete, parts.poison());
                let answer = bisect::assigned(parts.parts, terms.on_poison);
                match is_complete || (answer.is_err() && count > 0) {
                    true => Ok(answer),
                    false => Err(active.failure(fault)),
                }
            }
        });
        let partitions = settled.and_then(|answer| {
            answer.map_err(|rejects| active.failure(FailureKind::Rejected(rejects)))
        });
        match &partitions {
            Ok(partitions) => {
                let kept = partitions
                    .iter()
                    .filter(|partition| **partition == KEEP_PARTITION)
                    .count();
                self.count(plugin, "kept", kept);
                self.count(plugin, "placed", records.len() - kept);
            }
            Err(failure) => self.count_failed(plugin, &failure.kind, records.len()),
        }
        partitions
    }

    /// What becomes of each record.
    pub fn transform(
        &self,
        plugin: &str,
        origin: &BatchOrigin<'_>,
        records: &[Record],
        terms: Terms,
    ) -> Result<Transformed, PluginFailure> {
        let active = self.active(plugin, World::Transform)?;
        let site = self.site(origin, records, terms.effort);
        let outcome = active.call(
            site,
            |guest, range| guest.apply(&origin.of_part(records, &range), &records[range.clone()]),
            |guest| control::ask(guest, World::Transform, origin),
        );
        let answer = outcome.and_then(|outcome| match outcome {
            Outcome::Whole(answer) => Ok(answer),
            Outcome::Bisected(parts, fault) => {
                self.count_poison(plugin, parts.poison());
                let is_complete = parts.is_complete;
                let answer = bisect::transformed(parts.parts, records, terms.on_poison);
                match is_complete || matches!(answer, Transformed::Rejected(_)) {
                    true => Ok(answer),
                    false => Err(active.failure(fault)),
                }
            }
        });
        let all = records.len();
        match &answer {
            Ok(Transformed::Unchanged) => self.count(plugin, "kept", all),
            Ok(Transformed::Keep(keep)) => {
                let kept = keep.iter().filter(|keep| **keep).count();
                self.count(plugin, "kept", kept);
                self.count(plugin, "dropped", all - kept);
            }
            Ok(Transformed::Replaced(new)) => {
                self.count(plugin, "rewritten", new.len());
                self.count(plugin, "dropped", all - new.len());
            }
            Ok(Transformed::Rejected(rejects)) => self.count(plugin, "rejected", rejects.len()),
            Err(failure) => self.count_failed(plugin, &failure.kind, all),
        }
        answer
    }

    /// One verdict for each action. Answers are cached for the time the plugin says. An action that the plugin cannot take is
    /// denied, and what is left when the time for one request is over, too.
    pub fn authorize(
        &self,
        plugin: &str,
        caller: &AuthorizerCaller<'_>,
        actions: &[PluginAction],
    ) -> Result<Vec<Verdict>, PluginFailure> {
        let active = self.active(plugin, World::Authorizer)?;
        let key = caller.key();
        let mut verdicts = active.decisions.get(&key, actions, self.clock.now_ms());
        let unknown: Vec<usize> = (0..actions.len())
            .filter(|index| verdicts[*index].is_none())
            .collect();
        let until = Instant::now() + active.deadline() * AUTHORIZING_DEADLINES;
        for indexes in unknown.chunks(MAX_ACTIONS) {
            if Instant::now() > until {
                return Err(active.failure(FailureKind::Overloaded(format!(
                    "{} actions are more than it decides on in {AUTHORIZING_DEADLINES} deadlines",
                    actions.len()
                ))));
            }
            let asked: Vec<_> = indexes.iter().map(|index| &actions[*index]).collect();
            let ask = |effort| self.ask_authorizer(&active, caller, &asked, effort);
            let quick = match active.likely(0) < QUICK && unknown.len() <= MAX_ACTIONS {
                true => Some(ask(Effort::Quick)),
                false => None,
            };
            let answers = match quick {
                Some(Ok(answers)) => answers,
                Some(Err(failure)) if failure.kind != FailureKind::NotQuick => return Err(failure),
                _ => env::in_place(|| ask(Effort::Full))?,
            };
            let now = self.clock.now_ms();
            for ((index, action), answer) in indexes.iter().zip(asked).zip(answers) {
                verdicts[*index] = Some(answer.0.clone());
                active.decisions.put(&key, action, answer, now);
            }
        }
        // Each action was known or was asked about; one that was neither would be denied.
        Ok(verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or(Verdict::Deny(None)))
            .collect())
    }

    fn ask_authorizer(
        &self,
        active: &Active,
        caller: &AuthorizerCaller<'_>,
        asked: &[&PluginAction],
        effort: Effort,
    ) -> Result<Vec<(Verdict, u32)>, PluginFailure> {
        let site = CallSite {
            metrics: &self.metrics,
            topic: "",
            partition: -1,
            count: asked.len(),
            effort,
        };
        let outcome = active.call(
            site,
            |guest, range| guest.check(caller, &asked[range]),
            |guest| control::ask(guest, World::Authorizer, &control::ORIGIN),
        )?;
        let parts = match outcome {
            Outcome::Whole(answers) => return Ok(answers),
            Outcome::Bisected(parts, _) => parts.parts,
        };
        // What was not answered is denied, for this time alone.
        let mut answers = vec![(Verdict::Deny(None), 0); asked.len()];
        for part in parts {
            for (index, answer) in part.range.zip(part.answer.unwrap_or_default()) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }

    /// Counts records that were written although their transform failed, because their topic says so.
    pub fn count_passed(&self, plugin: &str, records: usize) {
        self.count(plugin, "passed-unmasked", records);
    }

    fn count_poison(&self, plugin: &str, records: usize) {
        self.count(plugin, "poison", records);
    }

    /// Counts a batch that was too large to be shown to this plugin: its client's fault.
    pub fn count_refused(&self, plugin: &str) {
        self.metrics.plugin_fault(plugin, INPUT);
    }

    fn active(&self, name: &str, world: World) -> Result<Arc<Active>, PluginFailure> {
        let plugins = self.plugins.load();
        let failure = |revision, kind| PluginFailure {
            plugin: name.to_owned(),
            revision,
            kind,
        };
        let Some(plugin) = plugins.get(name) else {
            self.metrics
                .plugin_fault(name, FailureKind::NotDeployed.name());
            return Err(failure(0, FailureKind::NotDeployed));
        };
        let kind = match &plugin.active {
            Ok(active) if active.world() == world => return Ok(Arc::clone(active)),
            Ok(active) => FailureKind::WrongWorld(active.world().name().to_owned()),
            Err(reason) => FailureKind::Unavailable(reason.clone()),
        };
        self.metrics.plugin_fault(name, kind.name());
        Err(failure(plugin.entry.active, kind))
    }

    fn site<'a>(
        &'a self,
        origin: &BatchOrigin<'a>,
        records: &[Record],
        effort: Effort,
    ) -> CallSite<'a> {
        CallSite {
            metrics: &self.metrics,
            topic: origin.topic,
            partition: origin.partition,
            count: records.len(),
            effort,
        }
    }

    fn count(&self, plugin: &str, outcome: &'static str, records: usize) {
        if records > 0 {
            self.metrics.plugin_records(plugin, outcome, records as u64);
        }
    }

    fn count_failed(&self, plugin: &str, kind: &FailureKind, records: usize) {
        match kind {
            FailureKind::Rejected(rejects) => self.count(plugin, "rejected", rejects.len()),
            FailureKind::NotQuick => {}
            _ => self.count(plugin, "failed", records),
        }
    }
}
