//! `[plugins]`: what WebAssembly plugins may take, and which are deployed at start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Plugins deployed at start when the catalog does not have them yet: name to file.
    pub preload: BTreeMap<String, PreloadPlugin>,
    pub max_plugins: usize,
    pub max_artifact_bytes: u64,
    pub max_revisions_kept: usize,
    pub max_memory_bytes: u64,
    pub partitioner_deadline: Duration,
    pub authorizer_deadline: Duration,
    pub transform_deadline: Duration,
    /// The most a batch may decompress to before a plugin sees it.
    pub max_decompressed_bytes: u64,
    /// Faults within `breaker_window` that trip the breaker.
    pub breaker_faults: u32,
    pub breaker_window: Duration,
    pub breaker_backoff: Duration,
    /// Bytes of linear memory of all instances in sum.
    pub max_total_memory_bytes: u64,
    /// Threads for calls that take long; 0: one more than the machine has processors.
    pub workers: usize,
    /// Bytes of batches that wait for these threads.
    pub max_queued_bytes: u64,
    pub compile_timeout: Duration,
    pub compile_memory_bytes: u64,
    /// The broker's own binary, which compiles in a process of its own; not a setting: who runs the broker knows it. `None`: compile
    /// in this process, without bounds.
    pub compiler: Option<PathBuf>,
}

/// `[plugins.preload.NAME]`: one plugin that is deployed at start.
#[derive(Clone, Debug, Default)]
pub struct PreloadPlugin {
    pub file: PathBuf,
    pub config: BTreeMap<String, String>,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            preload: BTreeMap::new(),
            max_plugins: 256,
            max_artifact_bytes: 32 << 20,
            max_revisions_kept: 8,
            max_memory_bytes: 16 << 20,
            partitioner_deadline: Duration::from_millis(20),
            authorizer_deadline: Duration::from_millis(5),
            transform_deadline: Duration::from_millis(20),
            max_decompressed_bytes: 8 << 20,
            breaker_faults: 5,
            breaker_window: Duration::from_secs(30),
            breaker_backoff: Duration::from_secs(5),
            max_total_memory_bytes: 256 << 20,
            workers: 0,
            max_queued_bytes: 64 << 20,
            compile_timeout: Duration::from_secs(60),
            compile_memory_bytes: 1 << 30,
            compiler: None,
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        plugins.max_plugins,
        "max-plugins",
        Kind::Count {
            min: 0,
            max: 10_000
        },
        "Plugins deployed at most. Each takes compiled code and a few idle instances in memory."
    ),
    setting!(
        plugins.max_artifact_bytes,
        "max-artifact-bytes",
        Kind::Size {
            min: 1 << 10,
            max: 1 << 30
        },
        "The largest component that may be deployed. Compiling takes time and memory in proportion."
    ),
    setting!(
        plugins.max_revisions_kept,
        "max-revisions-kept",
        Kind::Count { min: 1, max: 1_000 },
        "Revisions of a plugin that stay on disk to roll back to; older ones are removed."
    ),
    setting!(
        plugins.max_memory_bytes,
        "max-memory-bytes",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 30
        },
        "Memory of one plugin instance at most. A call that asks for more fails and costs the instance."
    ),
    setting!(
        plugins.max_total_memory_bytes,
        "max-total-memory-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 40
        },
        "Memory of all plugin instances in sum. Above half of it no instance waits for its next call; a call that would go over it fails, and its producer tries again."
    ),
    setting!(
        plugins.workers,
        "workers",
        Kind::Count { min: 0, max: 1024 },
        "Threads for calls of plugins that take long, beside the threads that serve connections; short ones are made on those. All but one may work for the same topic. 0: one more than the machine has processors."
    ),
    setting!(
        plugins.max_queued_bytes,
        "max-queued-bytes",
        Kind::Size {
            min: 1 << 20,
            max: 1 << 40
        },
        "Batches that wait for these threads, in sum; one topic may have half of what is free. A batch beyond it is refused, and its producer tries again."
    ),
    setting!(
        plugins.compile_timeout,
        "compile-timeout",
        Kind::Duration {
            min: 1_000,
            max: 3_600_000
        },
        "The longest that a component may take to compile; then its deployment is refused. It is compiled in a process of its own, at the lowest priority, and can be cancelled before."
    ),
    setting!(
        plugins.compile_memory_bytes,
        "compile-memory",
        Kind::Size {
            min: 64 << 20,
            max: 1 << 40
        },
        "Memory of the process that compiles a component. One is compiled at a time."
    ),
    setting!(
        plugins.partitioner_deadline,
        "partitioner-deadline",
        Kind::Duration {
            min: 1,
            max: 10_000
        },
        "The longest a partitioner may run for one batch; then it is stopped and the topic's failure policy applies."
    ),
    setting!(
        plugins.authorizer_deadline,
        "authorizer-deadline",
        Kind::Duration {
            min: 1,
            max: 10_000
        },
        "The longest an authorizer may run for one request; then the request is denied."
    ),
    setting!(
        plugins.transform_deadline,
        "transform-deadline",
        Kind::Duration {
            min: 1,
            max: 10_000
        },
        "The longest a transform may run for one batch; then it is stopped and the topic's failure policy applies."
    ),
    setting!(
        plugins.max_decompressed_bytes,
        "max-decompressed-bytes",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 30
        },
        "The most that a batch may decompress to before a plugin sees it. Bounds what a compression bomb can cost."
    ),
    setting!(
        plugins.breaker_faults,
        "breaker-faults",
        Kind::Count {
            min: 1,
            max: 10_000
        },
        "Faults within breaker-window after which a plugin is suspended for a topic: the topic's failure policy then applies without a call. What single records or a batch's size bring about is no fault of the plugin."
    ),
    setting!(
        plugins.breaker_window,
        "breaker-window",
        Kind::Duration {
            min: 100,
            max: 86_400_000
        },
        "The time within which breaker-faults are counted."
    ),
    setting!(
        plugins.breaker_backoff,
        "breaker-backoff",
        Kind::Duration {
            min: 10,
            max: 3_600_000
        },
        "How long a suspended plugin rests before one call tries it again, and after each failed try."
    ),
];

pub(super) const PRELOAD: &[Setting<PreloadPlugin>] = &[
    setting!(file, "file", Kind::Path,
        "The component to deploy under this name when the catalog does not have the name yet. A plugin that was deployed later stays.",
        example: "\"plugins/route.wasm\""),
    setting!(
        config,
        "config",
        Kind::Map,
        "The plugin's own settings, which it reads by key."
    ),
];
