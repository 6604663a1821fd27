//! The life of a deployment: check, compile, initialise, dry run, keep, activate. A change is seen by the next call, never
//! within one; a change that fails leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::active::Active;
use super::compile::{self, Compiling};
use super::component::{Compiled, Inspected, World, inspect};
use super::control;
use super::engine::PluginEngine;
use super::host::{GuestContext, GuestMetrics};
use super::store::Artifacts;
use super::{CACHE, DeployError, Deployed, PluginHost, Plugins};
use crate::catalog::{PluginEntry, PluginRevision};

const MAX_NAME_BYTES: usize = 64;
const MAX_CONFIG_KEYS: usize = 1024;
const MAX_CONFIG_BYTES: usize = 256 << 10;

impl PluginHost {
    /// Validates, compiles, initialises, tries on made-up records and activates a component as the next revision. The same
    /// component with the same configuration as the active revision's changes nothing. Blocking; while it compiles, other
    /// plugins can be deployed, rolled back and removed, and [`Self::cancel`] ends it.
    pub fn deploy(
        &self,
        name: &str,
        component: &[u8],
        config: BTreeMap<String, String>,
    ) -> Result<Arc<PluginEntry>, DeployError> {
        let digest = Artifacts::digest(component);
        let inspected = self.check(name, component, &config)?;
        let world = inspected.world;
        if let Some(entry) = self.answering(name, &digest, &config) {
            return Ok(entry);
        }
        let compiled = self.compile(name, component, (&digest, inspected))?;

        let _change = self.change.lock();
        let plugins = self.plugins.load_full();
        // Another deployment may have come between.
        let reasons = self.refusals(name, &plugins, world);
        if !reasons.is_empty() {
            return Err(DeployError::Refused(reasons));
        }
        if let Some(entry) = self.answering(name, &digest, &config) {
            return Ok(entry);
        }
        let existing = plugins.get(name);
        let mut entry =
            existing.map_or_else(|| new_entry(name), |existing| (*existing.entry).clone());
        let latest = entry.revisions.iter().map(|kept| kept.revision).max();
        let revision = PluginRevision {
            revision: latest.unwrap_or(0) + 1,
            digest,
            world: world.name().to_owned(),
            config,
            deployed_ms: self.clock.now_ms(),
            size_bytes: component.len() as u64,
        };
        let active = self.activate(name, &revision, compiled, &guest_metrics(existing));
        Self::dry_run(&active).map_err(|failure| DeployError::Refused(vec![failure]))?;

        self.artifacts
            .put(&revision.digest, component)
            .map_err(DeployError::Storage)?;
        entry.active = revision.revision;
        entry.revisions.push(revision);
        let kept = self.config.max_revisions_kept.max(1);
        let surplus = entry.revisions.len().saturating_sub(kept);
        entry.revisions.drain(..surplus);
        self.install(entry, active)
    }

    /// Everything that can be said without compiling.
    fn check(
        &self,
        name: &str,
        component: &[u8],
        config: &BTreeMap<String, String>,
    ) -> Result<Inspected, DeployError> {
        let plugins = self.plugins.load_full();
        let mut reasons = wrong_request(name, config);
        match inspect(component, self.config.max_artifact_bytes) {
            Ok(inspected) => {
                reasons.extend(self.refusals(name, &plugins, inspected.world));
                if reasons.is_empty() {
                    return Ok(inspected);
                }
            }
            Err(wrong) => {
                reasons.extend(self.too_many(name, &plugins));
                reasons.extend(wrong);
            }
        }
        Err(DeployError::Refused(reasons))
    }

    /// What speaks against a plugin of this name and world beside those that are deployed.
    fn refusals(&self, name: &str, plugins: &Plugins, world: World) -> Vec<String> {
        let too_many = self.too_many(name, plugins);
        let other = other_world(name, plugins.get(name), world);
        too_many.into_iter().chain(other).collect()
    }

    fn too_many(&self, name: &str, plugins: &Plugins) -> Option<String> {
        let is_one_more = !plugins.contains_key(name) && plugins.len() >= self.config.max_plugins;
        is_one_more.then(|| {
            format!(
                "{} plugins are deployed already (plugins.max_plugins)",
                plugins.len()
            )
        })
    }

    /// The entry, when its active revision runs and is this component with this configuration.
    fn answering(
        &self,
        name: &str,
        digest: &str,
        config: &BTreeMap<String, String>,
    ) -> Option<Arc<PluginEntry>> {
        let plugins = self.plugins.load();
        let existing = plugins.get(name)?;
        let active = existing.active_revision()?;
        let is_same = active.digest == digest && active.config == *config;
        (existing.active.is_ok() && is_same).then(|| Arc::clone(&existing.entry))
    }

    fn compile(
        &self,
        name: &str,
        component: &[u8],
        (digest, inspected): (&str, Inspected),
    ) -> Result<Compiled, DeployError> {
        let engine = self.engine().map_err(DeployError::Storage)?;
        let compilation = self.compiler.begin(Compiling {
            plugin: name.to_owned(),
            since_ms: self.clock.now_ms(),
            size_bytes: component.len() as u64,
        })?;
        compilation
            .run(&engine, component, digest)
            .map_err(|reason| DeployError::Refused(vec![reason]))?;
        Compiled::new(&engine, component, inspected).map_err(DeployError::Refused)
    }

    /// Makes a kept revision active again; without a number the one before the active. Nothing is compiled that was compiled
    /// before. Blocking.
    pub fn rollback(
        &self,
        name: &str,
        revision: Option<u32>,
    ) -> Result<Arc<PluginEntry>, DeployError> {
        let _change = self.change.lock();
        let plugins = self.plugins.load_full();
        let existing = plugins
            .get(name)
            .ok_or_else(|| DeployError::Missing(name.to_owned()))?;
        let revisions = &existing.entry.revisions;
        let target = match revision {
            Some(number) => revisions.iter().find(|kept| kept.revision == number),
            None => revisions
                .iter()
                .filter(|kept| kept.revision < existing.entry.active)
                .max_by_key(|kept| kept.revision),
        }
        .ok_or_else(|| match revision {
            Some(wanted) => DeployError::MissingRevision(name.to_owned(), wanted),
            None => DeployError::NothingEarlier(name.to_owned(), existing.entry.active),
        })?;
        let active = self
            .load(name, target, &guest_metrics(Some(existing)))
            .map_err(DeployError::Storage)?;
        let mut entry = (*existing.entry).clone();
        entry.active = target.revision;
        self.install(entry, active)
    }

    /// Blocking.
    pub fn remove(&self, name: &str) -> Result<(), DeployError> {
        let _change = self.change.lock();
        if !self.plugins.load().contains_key(name) {
            return Err(DeployError::Missing(name.to_owned()));
        }
        if let Some(user) = self.store.user_of(name) {
            return Err(DeployError::InUse(name.to_owned(), user));
        }
        self.store.delete(name).map_err(DeployError::Storage)?;
        self.swap(|plugins| {
            plugins.remove(name);
        });
        Ok(())
    }

    /// What a start does for each entry of the store: a plugin that cannot be loaded is kept, and its calls say why they fail.
    pub(super) fn restore(&self, entry: Arc<PluginEntry>) -> Deployed {
        let metrics = Arc::new(GuestMetrics::default());
        let active = entry
            .revisions
            .iter()
            .find(|kept| kept.revision == entry.active)
            .ok_or_else(|| "its active revision is not kept".to_owned())
            .and_then(|revision| self.load(&entry.name, revision, &metrics));
        if let Err(error) = &active {
            tracing::error!(
                plugin = entry.name,
                revision = entry.active,
                "plugin cannot be loaded: {error}"
            );
        }
        Deployed {
            entry,
            metrics,
            active: active.map(Arc::new),
        }
    }

    fn load(
        &self,
        name: &str,
        revision: &PluginRevision,
        metrics: &Arc<GuestMetrics>,
    ) -> Result<Active, String> {
        let component = self.artifacts.get(&revision.digest)?;
        // It was within the bound when it was deployed; a bound that was lowered since stops no running plugin.
        let inspected = inspect(&component, u64::MAX).map_err(|reasons| reasons.join("; "))?;
        let compiled = self
            .compile(name, &component, (&revision.digest, inspected))
            .map_err(|error| error.to_string())?;
        Ok(self.activate(name, revision, compiled, metrics))
    }

    fn activate(
        &self,
        name: &str,
        revision: &PluginRevision,
        compiled: Compiled,
        metrics: &Arc<GuestMetrics>,
    ) -> Active {
        let context = GuestContext::new(
            name,
            revision.revision,
            revision.config.clone(),
            self.clock.clone(),
            Arc::clone(metrics),
        );
        Active::new(compiled, context, &self.config)
    }

    /// Keeps the entry, then lets calls see it.
    fn install(&self, entry: PluginEntry, active: Active) -> Result<Arc<PluginEntry>, DeployError> {
        self.store
            .put(entry.clone())
            .map_err(DeployError::Storage)?;
        let entry = Arc::new(entry);
        let deployed = Arc::new(Deployed {
            entry: Arc::clone(&entry),
            metrics: Arc::clone(&active.context.metrics),
            active: Ok(Arc::new(active)),
        });
        self.swap(|plugins| {
            plugins.insert(entry.name.clone(), deployed);
        });
        tracing::info!(
            plugin = entry.name,
            revision = entry.active,
            "plugin active"
        );
        Ok(entry)
    }

    fn swap(&self, change: impl FnOnce(&mut Plugins)) {
        let mut plugins = (*self.plugins.load_full()).clone();
        change(&mut plugins);
        let digests: BTreeSet<_> = plugins
            .values()
            .flat_map(|plugin| &plugin.entry.revisions)
            .map(|revision| revision.digest.as_str())
            .collect();
        self.artifacts.retain(&digests);
        compile::retain_marks(&self.directory.join(CACHE), &digests);
        self.plugins.store(Arc::new(plugins));
    }

    /// Faults on made-up records are found here instead of on a client's. Whatever comes of it is none of the live revision's
    /// doing, and counted nowhere.
    fn dry_run(active: &Active) -> Result<(), String> {
        let world = active.world();
        let outcome = active.try_out(|guest| control::ask(guest, world, &control::ORIGIN));
        match outcome {
            Err(kind) if !kind.is_answer() => Err(format!("in its dry run it {kind}")),
            _ => Ok(()),
        }
    }

    pub(super) fn engine(&self) -> Result<PluginEngine, String> {
        let mut engine = self.engine.lock();
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        Ok(engine
            .insert(PluginEngine::start(
                &self.directory.join(CACHE),
                usize::try_from(self.config.max_total_memory_bytes).unwrap_or(usize::MAX),
            )?)
            .clone())
    }
}

impl Deployed {
    fn active_revision(&self) -> Option<&PluginRevision> {
        self.entry
            .revisions
            .iter()
            .find(|kept| kept.revision == self.entry.active)
    }
}

fn new_entry(name: &str) -> PluginEntry {
    PluginEntry {
        name: name.to_owned(),
        active: 0,
        revisions: Vec::new(),
    }
}

/// Whoever uses a plugin counts on its world.
fn other_world(name: &str, existing: Option<&Arc<Deployed>>, world: World) -> Option<String> {
    let other = &existing?.active_revision()?.world;
    let world = world.name();
    (other != world)
        .then(|| format!("{name} is a {other} and this is a {world}; deploy it under another name"))
}

fn guest_metrics(existing: Option<&Arc<Deployed>>) -> Arc<GuestMetrics> {
    existing
        .map(|existing| Arc::clone(&existing.metrics))
        .unwrap_or_default()
}

fn wrong_request(name: &str, config: &BTreeMap<String, String>) -> Vec<String> {
    let mut reasons = Vec::new();
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(legal) {
        reasons.push(format!(
            "the name {name:?} is not made of 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' and '.'"
        ));
    }
    let bytes: usize = config
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if config.len() > MAX_CONFIG_KEYS || bytes > MAX_CONFIG_BYTES {
        reasons.push(format!(
            "its configuration has {} settings of {bytes} bytes; at most {MAX_CONFIG_KEYS} of {MAX_CONFIG_BYTES} bytes are kept",
            config.len()
        ));
    }
    reasons
}
