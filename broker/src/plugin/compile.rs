//! Compiling within bounds. A component that is legal and small can take its compiler a minute and a gigabyte, and a compiler
//! that runs in this process can be neither bounded nor ended. So it runs in a **child**: the broker's own binary, which bounds its
//! own memory and processor time before it reads the component, and whose end is this process's to bring about.
//!
//! What passes between the two is the engine's cache of compiled code, a folder that only this broker writes: the child compiles
//! into it and the broker loads from it, by the same binary and the same settings. Nothing that is loaded as native code comes from
//! anywhere else. A mark beside it says which components are there, so that a start or a rollback needs no child.
//!
//! One component is compiled at a time; others wait. A process that is not the broker's binary, such as one that has this
//! library built in, names no program and compiles in itself, without these bounds.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::DeployError;
use super::component::compile_into_cache;
use super::engine::PluginEngine;
use crate::config::PluginConfig;
use crate::env;
use crate::types::TimestampMs;

/// What the child says when it fails, in bytes.
const MAX_ERROR_BYTES: u64 = 4 << 10;

#[derive(Debug)]
pub struct Compiler {
    program: Option<PathBuf>,
    timeout: Duration,
    memory_bytes: u64,
    cache: PathBuf,
    /// Held while a component is compiled.
    turn: Mutex<()>,
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    status: Compiling,
    /// Once it has started.
    child: Option<Arc<Mutex<Child>>>,
    is_cancelled: bool,
}

/// A component on its way to becoming a revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiling {
    pub plugin: String,
    pub since_ms: TimestampMs,
    pub size_bytes: u64,
}

/// While it lives the component is listed as being compiled.
#[derive(Debug)]
pub struct Compilation<'a> {
    compiler: &'a Compiler,
    plugin: String,
}

impl Drop for Compilation<'_> {
    fn drop(&mut self) {
        self.compiler.running.lock().remove(&self.plugin);
    }
}

impl Compiler {
    pub fn new(config: &PluginConfig, cache: PathBuf) -> Self {
        Self {
            program: config.compiler.clone(),
            timeout: config.compile_timeout,
            memory_bytes: config.compile_memory_bytes,
            cache,
            turn: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Sorted by name.
    pub fn running(&self) -> Vec<Compiling> {
        let running = self.running.lock();
        running.values().map(|one| one.status.clone()).collect()
    }

    /// Ends what is compiled for this plugin; false when nothing is.
    pub fn cancel(&self, plugin: &str) -> bool {
        let mut running = self.running.lock();
        let Some(one) = running.get_mut(plugin) else {
            return false;
        };
        one.is_cancelled = true;
        let child = one.child.clone();
        drop(running);
        if let Some(child) = child {
            end(&child);
        }
        true
    }

    /// Lists a component as being compiled.
    pub fn begin(&self, status: Compiling) -> Result<Compilation<'_>, DeployError> {
        let plugin = status.plugin.clone();
        let mut running = self.running.lock();
        if running.contains_key(&plugin) {
            return Err(DeployError::Busy(plugin));
        }
        let entry = Running {
            status,
            child: None,
            is_cancelled: false,
        };
        running.insert(plugin.clone(), entry);
        Ok(Compilation {
            compiler: self,
            plugin,
        })
    }

    fn mark(&self, engine: &PluginEngine, digest: &str) -> PathBuf {
        // Other compilers and other settings have other keys; a mark that is wrong all the same costs one compilation in this process.
        let mut hasher = DefaultHasher::new();
        engine
            .engine()
            .precompile_compatibility_hash()
            .hash(&mut hasher);
        let name = format!("{digest}-{:016x}.compiled", hasher.finish());
        self.cache.join(name)
    }
}

impl Compilation<'_> {
    /// Sees to it that the component's compiled code is in the cache. Blocking, for as long as the bounds allow, and while others
    /// are compiled.
    pub fn run(&self, engine: &PluginEngine, component: &[u8], digest: &str) -> Result<(), String> {
        let compiler = self.compiler;
        let Some(program) = &compiler.program else {
            return Ok(());
        };
        let mark = compiler.mark(engine, digest);
        if mark.exists() {
            return Ok(());
        }
        let _turn = compiler.turn.lock();
        let child = self.start(program)?;
        let (told, outcome) = self.wait(&child, component);
        if self.is_cancelled() {
            return Err("compiling it was cancelled".into());
        }
        let (status, is_late) = outcome.map_err(|error| format!("its compiler: {error}"))?;
        if status.success() {
            // Without the mark the next start compiles it again.
            if let Err(error) = File::create(&mark) {
                tracing::warn!(path = %mark.display(), %error, "a compiled plugin is not marked");
            }
            return Ok(());
        }
        Err(self.explain(&told, status, is_late))
    }

    fn start(&self, program: &Path) -> Result<Arc<Mutex<Child>>, String> {
        let compiler = self.compiler;
        let child = Command::new(program)
            .args(["plugin", "compile", "--cache"])
            .arg(&compiler.cache)
            .args(["--memory", &compiler.memory_bytes.to_string()])
            .args(["--seconds", &compiler.timeout.as_secs().max(1).to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("its compiler does not start: {error}"))?;
        let child = Arc::new(Mutex::new(child));
        let mut running = compiler.running.lock();
        if let Some(one) = running.get_mut(&self.plugin) {
            one.child = Some(Arc::clone(&child));
            if one.is_cancelled {
                end(&child);
            }
        }
        Ok(child)
    }

    /// What the child said and how it ended, and whether it was ended for being late.
    fn wait(
        &self,
        child: &Arc<Mutex<Child>>,
        component: &[u8],
    ) -> (String, io::Result<(ExitStatus, bool)>) {
        let (input, output) = {
            let mut child = child.lock();
            (child.stdin.take(), child.stderr.take())
        };
        let mut told = Vec::new();
        let is_late = thread::scope(|scope| {
            let (ended, end_seen) = channel::<()>();
            let watch = scope.spawn(move || {
                let in_time = end_seen.recv_timeout(self.compiler.timeout);
                let is_late = in_time == Err(RecvTimeoutError::Timeout);
                if is_late {
                    end(child);
                }
                is_late
            });
            // A child that has ended takes no more; how it ended says why.
            let _ = input.map(|mut input| input.write_all(component));
            let _ = output.map(|mut output| {
                let beginning = (&mut output).take(MAX_ERROR_BYTES).read_to_end(&mut told);
                // To the end of the child, whatever else it says.
                beginning.and_then(|_| io::copy(&mut output, &mut io::sink()))
            });
            drop(ended);
            watch.join().unwrap_or(false)
        });
        let status = child.lock().wait();
        let told = String::from_utf8_lossy(&told).trim().to_owned();
        (told, status.map(|status| (status, is_late)))
    }

    fn is_cancelled(&self) -> bool {
        let running = self.compiler.running.lock();
        running
            .get(&self.plugin)
            .is_some_and(|one| one.is_cancelled)
    }

    fn explain(&self, told: &str, status: ExitStatus, is_late: bool) -> String {
        let (timeout, memory) = (self.compiler.timeout, self.compiler.memory_bytes);
        let is_out_of_memory = ["memory allocation of", "Cannot allocate memory"]
            .iter()
            .any(|sign| told.contains(sign));
        let is_out_of_time = is_late || status_signal(status) == Some(SIGXCPU);
        if is_out_of_time {
            format!("it does not compile within {timeout:?} (plugins.compile-timeout)")
        } else if is_out_of_memory {
            format!("it does not compile within {memory} bytes of memory (plugins.compile-memory)")
        } else if told.is_empty() {
            format!("its compiler ended with {status}")
        } else {
            format!("it does not compile: {told}")
        }
    }
}

const SIGXCPU: i32 = 24;

fn status_signal(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.signal()
}

/// It may have ended by itself.
fn end(child: &Mutex<Child>) {
    let _ = child.lock().kill();
}

/// What the child does: compiles what comes on its standard input into the cache, within these bounds. The error is for the
/// broker, which has started it.
pub fn compile_in_child(cache: &Path, memory_bytes: u64, seconds: u64) -> Result<(), String> {
    let bound = |resource, bound: u64| {
        let maximum = getrlimit(resource).maximum;
        let bound = maximum.map_or(bound, |maximum| maximum.min(bound));
        let limit = Rlimit {
            current: Some(bound),
            maximum: Some(bound),
        };
        setrlimit(resource, limit).map_err(|error| format!("{resource:?}: {error}"))
    };
    // A core of a compiler is of no use to anybody, and large.
    bound(Resource::Core, 0)?;
    bound(Resource::Data, memory_bytes)?;
    // The broker looks at the clock; this is for a broker that is gone. Compiling is done by several threads.
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    bound(Resource::Cpu, seconds.saturating_mul(threads))?;
    env::lower_priority();
    let mut component = Vec::new();
    io::stdin()
        .read_to_end(&mut component)
        .map_err(|error| format!("standard input: {error}"))?;
    compile_into_cache(cache, &component)
}

/// Deletes the marks of components that are not kept any more.
pub fn retain_marks(cache: &Path, digests: &std::collections::BTreeSet<&str>) {
    let Ok(files) = fs::read_dir(cache) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name();
        let Some(mark) = name
            .to_str()
            .and_then(|name| name.strip_suffix(".compiled"))
        else {
            continue;
        };
        let digest = mark.split('-').next().unwrap_or_default();
        // One that stays costs nothing.
        if !digests.contains(digest) {
            let _ = fs::remove_file(file.path());
        }
    }
}
