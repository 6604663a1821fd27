//! The WebAssembly engine of the process and its clock. Made with the first plugin: a broker without plugins has neither.
//!
//! Guests are stopped by epochs: one thread raises the engine's epoch each millisecond while calls are running, and sleeps when
//! there have been none for a while.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use super::limits::MemoryBudget;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

/// The unit of deadlines.
pub const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker sleeps until the next one: waking it costs a caller a system call.
const IDLE_TICKS: u32 = 1000;
/// Components that can run at once where memory for them is reserved ahead; each has at most three core instances.
const POOLED_COMPONENTS: u32 = 1000;
/// Stack of a guest's calls, in bytes, taken from the calling thread's.
const MAX_STACK_BYTES: usize = 512 << 10;
/// Elements of a guest's function tables.
pub const MAX_TABLE_ELEMENTS: usize = 20_000;

/// Cloning is cheap; the ticker stops with the last clone.
#[derive(Clone)]
pub struct PluginEngine {
    engine: Engine,
    ticker: Arc<Ticker>,
    memory: Arc<MemoryBudget>,
}

impl std::fmt::Debug for PluginEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginEngine").finish_non_exhaustive()
    }
}

impl PluginEngine {
    /// Compiled code is kept under `cache`, a folder that only this broker and its compilers write: it is loaded as native code.
    /// Instances hold `max_memory` bytes of linear memory in sum.
    pub fn start(cache: &Path, max_memory: usize) -> Result<Self, String> {
        let cache = open_cache(cache)?;
        let engine = Engine::new(config(cache.clone()).allocation_strategy(pooled()))
            .or_else(|refusal| {
                // Reserving address space is what a container's or a shell's limit may forbid.
                tracing::info!("plugin memory is not reserved ahead: {refusal:#}");
                Engine::new(config(cache).allocation_strategy(InstanceAllocationStrategy::OnDemand))
            })
            .map_err(|error| format!("the WebAssembly engine does not start: {error:#}"))?;
        let ticker = Ticker::start(&engine)?;
        Ok(Self {
            engine,
            ticker,
            memory: Arc::new(MemoryBudget::new(max_memory)),
        })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    /// To be held around every entry into guest code.
    pub fn running(&self) -> Running<'_> {
        self.ticker.enter()
    }
}

/// An engine that compiles as the broker's does, and runs nothing.
pub fn compiler(cache: &Path) -> Result<(Engine, Cache), String> {
    let cache = open_cache(cache)?;
    let engine = Engine::new(&config(cache.clone()))
        .map_err(|error| format!("the WebAssembly compiler does not start: {error:#}"))?;
    Ok((engine, cache))
}

fn open_cache(folder: &Path) -> Result<Cache, String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut settings = CacheConfig::new();
    settings.with_directory(folder);
    Cache::new(settings).map_err(|error| format!("{}: {error:#}", folder.display()))
}

/// Whatever decides what compiled code is like; the way memory is allocated does not.
fn config(cache: Cache) -> Config {
    let mut config = Config::new();
    config
        .cache(Some(cache))
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(MAX_STACK_BYTES)
        // The same answer on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

fn pooled() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOLED_COMPONENTS)
        .total_core_instances(4 * POOLED_COMPONENTS)
        .total_memories(POOLED_COMPONENTS)
        .total_tables(2 * POOLED_COMPONENTS)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_unused_warm_slots(8);
    InstanceAllocationStrategy::Pooling(pool)
}

struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// While it lives, epochs advance.
pub struct Running<'a>(&'a Shared);

impl Ticker {
    fn start(engine: &Engine) -> Result<Arc<Self>, String> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let engine = engine.clone();
        let handle = thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || tick(&engine, &seen))
            .map_err(|error| format!("the plugin ticker does not start: {error}"))?;
        Ok(Arc::new(Self {
            shared,
            thread: handle.thread().clone(),
        }))
    }

    fn enter(&self) -> Running<'_> {
        // Both sides write their own flag before they read the other's, in one total order: either the ticker sees this call,
        // or this call sees it asleep and wakes it.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    while !shared.stopped.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_TICKS {
            continue;
        }
        idle = 0;
        shared.asleep.store(true, Ordering::SeqCst);
        while shared.running.load(Ordering::SeqCst) == 0 && !shared.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_advance_while_a_call_runs_even_after_the_ticker_slept() {
        let directory = tempfile::tempdir().unwrap();
        let engine = PluginEngine::start(directory.path(), 1 << 20).unwrap();
        let shared = Arc::clone(&engine.ticker.shared);
        while !shared.asleep.load(Ordering::SeqCst) {
            thread::sleep(TICK);
        }
        let running = engine.running();
        while shared.asleep.load(Ordering::SeqCst) {
            thread::sleep(TICK);
        }
        drop(running);
        drop(engine);
        while Arc::strong_count(&shared) > 1 {
            thread::sleep(TICK);
        }
    }
}
