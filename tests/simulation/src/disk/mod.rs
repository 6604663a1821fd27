//! A disk in memory that does what the broker's own seam for files asks for, and misbehaves on demand.
//!
//! - A **process crash** keeps every write that was made; the call under way may have ended half-way.
//! - A **loss of power** keeps what was synced, and any part of the rest: sectors in any combination, names likewise.
//! - A **fault** makes one call fail; after a failed sync the cache shows what the platter does not hold.
//! - A **full** disk takes no new blocks until it is given room.
//!
//! A crash is planned ahead for the n-th call that changes something; from then on every call of that **life** of the
//! process errs, whoever makes it, until the next life begins.

mod names;
mod node;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate::env::Clock;
use tidegate::env::files::{Access, Disk, Entry, File};

use crate::random::Random;
use crate::trace::{HASH_START, hash_on};
use names::{Item, Names};
use node::{Node, SECTOR};

/// How the broker's process ends without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    Process,
    Power,
}

#[derive(Debug)]
struct State {
    random: Random,
    clock: Clock,
    names: Names,
    nodes: Vec<Node>,
    /// Counts the processes that have run on this disk.
    life: u64,
    /// Counts the runs of the machine.
    boot: u64,
    has_crashed: bool,
    /// Calls that still succeed before the crash.
    until_crash: Option<u64>,
    /// Calls that still succeed before one that fails.
    until_fault: Option<u64>,
    /// A call failed since this was last asked.
    had_fault: bool,
    /// Bytes that fit; `None` is without a bound.
    capacity: Option<u64>,
    used: u64,
    /// Of every call that changed something, in their order.
    hash: u64,
    /// Each of them is printed.
    prints: bool,
}

/// The disk. Cloning gives another handle of the same.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    node: usize,
    life: u64,
}

/// What becomes of a call that changes something.
#[derive(PartialEq, Eq)]
enum Gate {
    Pass,
    /// The process or the machine ends during this call.
    Crash,
    /// It fails.
    Fail,
}

fn gone() -> io::Error {
    io::Error::other("the process has ended")
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    /// A call of a process that has ended has no effect.
    fn alive(&self, life: u64) -> io::Result<()> {
        match self.has_crashed || life != self.life {
            true => Err(gone()),
            false => Ok(()),
        }
    }

    fn print(&self, line: &str) {
        if self.prints {
            println!("      disk: {line}");
        }
    }

    /// Whether a call that changes something comes through.
    fn gate(&mut self, life: u64, call: &str, target: &Path, number: u64) -> io::Result<Gate> {
        self.alive(life)?;
        for bytes in [
            call.as_bytes(),
            target.as_os_str().as_encoded_bytes(),
            &number.to_le_bytes(),
        ] {
            self.hash = hash_on(self.hash, bytes);
        }
        if self.prints {
            println!("      disk: {call} {} {number}", target.display());
        }
        if let Some(left) = &mut self.until_crash {
            if *left == 0 {
                self.has_crashed = true;
                self.print("the call that the crash hits");
                return Ok(Gate::Crash);
            }
            *left -= 1;
        }
        if let Some(left) = &mut self.until_fault {
            if *left == 0 {
                self.until_fault = None;
                self.had_fault = true;
                self.print("the call that fails");
                return Ok(Gate::Fail);
            }
            *left -= 1;
        }
        Ok(Gate::Pass)
    }

    /// As `gate`, for calls that happen whole or not at all.
    fn whole(&mut self, life: u64, call: &str, target: &Path) -> io::Result<()> {
        match self.gate(life, call, target, 0)? {
            Gate::Pass => Ok(()),
            Gate::Crash => Err(gone()),
            Gate::Fail => Err(failed()),
        }
    }

    fn room(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used))
    }

    /// Takes blocks for a file that grows to `length`, or gives them back.
    fn resize(&mut self, node: usize, length: u64) -> io::Result<()> {
        let before = self.nodes[node].length();
        if length > before && length - before > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used = (self.used + length).saturating_sub(before);
        Ok(())
    }

    fn count_used(&mut self) {
        self.used = self
            .names
            .files()
            .map(|(_, node)| self.nodes[node].length())
            .sum();
    }

    fn open(&mut self, life: u64, path: &Path, access: Access) -> io::Result<usize> {
        self.alive(life)?;
        match self.names.get(path) {
            Some(Item::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Item::File(node)) => {
                if access == Access::Replace && self.nodes[node].length() > 0 {
                    self.whole(life, "replace", path)?;
                    self.resize(node, 0)?;
                    self.nodes[node].set_length(0);
                    self.nodes[node].modified = self.clock.now_ms();
                }
                Ok(node)
            }
            None if matches!(access, Access::Read | Access::Existing) => Err(missing()),
            None => {
                let folder = path.parent().unwrap_or(path);
                if self.names.get(folder) != Some(Item::Folder) {
                    return Err(missing());
                }
                self.whole(life, "create", path)?;
                let node = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[node].modified = self.clock.now_ms();
                self.names.put(path, Item::File(node));
                Ok(node)
            }
        }
    }
}

impl SimulatedDisk {
    /// An empty disk; files carry the clock's time. `prints`: every call that changes something goes to standard output.
    pub fn new(random: Random, clock: Clock, prints: bool) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random,
                clock,
                names: Names::default(),
                nodes: Vec::new(),
                life: 0,
                boot: 1,
                has_crashed: false,
                until_crash: None,
                until_fault: None,
                had_fault: false,
                capacity: None,
                used: 0,
                hash: HASH_START,
                prints,
            })),
        }
    }

    /// Lets the process end during the n-th call that changes something from now on.
    pub fn plan_crash(&self, calls: u64) {
        self.state.lock().until_crash = Some(calls);
    }

    /// Ends the process now.
    pub fn crash(&self) {
        self.state.lock().has_crashed = true;
    }

    /// Lets the n-th call that changes something from now on fail.
    pub fn plan_fault(&self, calls: u64) {
        self.state.lock().until_fault = Some(calls);
    }

    /// Whether a planned fault has come since this was last asked.
    pub fn take_fault(&self) -> bool {
        std::mem::take(&mut self.state.lock().had_fault)
    }

    /// Leaves room for so many more bytes; `None`: as many as come.
    pub fn set_room(&self, bytes: Option<u64>) {
        let mut state = self.state.lock();
        state.count_used();
        state.capacity = bytes.map(|bytes| state.used + bytes);
    }

    /// Whether the planned crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().has_crashed
    }

    /// Begins the next life of the process, after whatever ended the last. `None`: it ended in order.
    pub fn restart(&self, crash: Option<Crash>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.life += 1;
        state.has_crashed = false;
        state.until_crash = None;
        if crash == Some(Crash::Power) {
            state.boot += 1;
            state.until_fault = None;
            state.names.lose_power(&mut state.random);
            for node in &mut state.nodes {
                node.lose_power(&mut state.random);
            }
        }
        state.count_used();
    }

    /// Of every change up to now.
    pub fn hash(&self) -> u64 {
        self.state.lock().hash
    }

    /// Paths and lengths of all files, in the order of their names.
    pub fn files(&self) -> Vec<(std::path::PathBuf, u64)> {
        let state = self.state.lock();
        let files = state.names.files();
        files
            .map(|(path, node)| (path.to_owned(), state.nodes[node].length()))
            .collect()
    }

    /// What reads of a file see.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let Some(Item::File(node)) = state.names.get(path) else {
            return None;
        };
        let node = &state.nodes[node];
        let mut content = Vec::with_capacity(usize::try_from(node.length()).ok()?);
        node.read(&mut content, 0);
        Some(content)
    }

    /// Turns over one bit of a file; false when it has no such position.
    pub fn flip(&self, path: &Path, position: u64, bit: u32) -> bool {
        let mut state = self.state.lock();
        match state.names.get(path) {
            Some(Item::File(node)) => state.nodes[node].flip(position, bit),
            _ => false,
        }
    }

    fn life(&self) -> u64 {
        self.state.lock().life
    }
}

/// One process's view of the disk: it ends with the process.
#[derive(Clone, Debug)]
pub struct Mounted {
    disk: SimulatedDisk,
    life: u64,
}

impl Mounted {
    /// The disk as the process sees it that begins now.
    pub fn new(disk: &SimulatedDisk) -> Self {
        Self {
            life: disk.life(),
            disk: disk.clone(),
        }
    }
}

impl Disk for Mounted {
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.alive(self.life)?;
        let mut folders: Vec<&Path> = path
            .ancestors()
            .filter(|folder| folder.parent().is_some())
            .collect();
        folders.reverse();
        for folder in folders {
            if state.names.get(folder).is_none() {
                state.whole(self.life, "folder", folder)?;
                state.names.put(folder, Item::Folder);
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.disk.state.lock();
        state.alive(self.life)?;
        let entries = state.names.list(path).into_iter();
        Ok(entries
            .map(|(name, item)| Entry {
                name,
                is_folder: item == Item::Folder,
            })
            .collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let node = self.disk.state.lock().open(self.life, path, access)?;
        Ok(Box::new(SimulatedFile {
            state: Arc::clone(&self.disk.state),
            node,
            life: self.life,
        }))
    }

    fn modified(&self, path: &Path) -> io::Result<i64> {
        let state = self.disk.state.lock();
        state.alive(self.life)?;
        match state.names.get(path) {
            Some(Item::File(node)) => Ok(state.nodes[node].modified),
            Some(Item::Folder) => Ok(0),
            None => Err(missing()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole(self.life, "rename", to)?;
        if !state.names.rename(from, to) {
            return Err(missing());
        }
        state.count_used();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.alive(self.life)?;
        if state.names.get(path).is_none() {
            return Err(missing());
        }
        state.whole(self.life, "remove", path)?;
        state.names.remove(path);
        state.count_used();
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole(self.life, "sync folder", path)?;
        if path.parent().is_some() && state.names.get(path) != Some(Item::Folder) {
            return Err(missing());
        }
        state.names.sync(path);
        Ok(())
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some(u128::from(self.disk.state.lock().boot).to_be_bytes())
    }
}

impl SimulatedFile {
    fn gate(&self, state: &mut State, call: &str, number: u64) -> io::Result<Gate> {
        let name = format!("{}", self.node);
        state.gate(self.life, call, Path::new(&name), number)
    }
}

impl File for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.alive(self.life)?;
        Ok(state.nodes[self.node].length())
    }

    fn read_at(&self, buffer: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        let state = self.state.lock();
        state.alive(self.life)?;
        Ok(state.nodes[self.node].read(buffer, position))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        for part in parts {
            state.hash = hash_on(state.hash, part);
        }
        let gate = self.gate(&mut state, "write", position)?;
        let count = match gate {
            Gate::Pass => total,
            // A call ends early at the end of a sector.
            Gate::Crash | Gate::Fail => {
                let end = position + state.random.below(total as u64 + 1);
                usize::try_from((end - end % SECTOR).saturating_sub(position)).unwrap_or(0)
            }
        };
        let length = state.nodes[self.node].length();
        let fits = length.saturating_add(state.room()).saturating_sub(position);
        let count = count.min(usize::try_from(fits).unwrap_or(usize::MAX));
        if count > 0 {
            let end = length.max(position + count as u64);
            state.resize(self.node, end)?;
            let now = state.clock.now_ms();
            state.nodes[self.node].write(parts, position, count);
            state.nodes[self.node].modified = now;
        }
        match gate {
            Gate::Pass if count == 0 && total > 0 => Err(io::ErrorKind::StorageFull.into()),
            Gate::Pass => Ok(count),
            Gate::Crash => Err(gone()),
            Gate::Fail => Err(failed()),
        }
    }

    fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        let end = position + length;
        let is_longer = self.length()? < end;
        if is_longer {
            self.set_length(end)?;
        }
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        match self.gate(&mut state, "length", length)? {
            Gate::Pass => {}
            Gate::Crash => return Err(gone()),
            Gate::Fail => return Err(failed()),
        }
        state.resize(self.node, length)?;
        let now = state.clock.now_ms();
        state.nodes[self.node].set_length(length);
        state.nodes[self.node].modified = now;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        match self.gate(&mut state, "sync", 0)? {
            Gate::Pass => state.nodes[self.node].sync(),
            Gate::Crash => return Err(gone()),
            Gate::Fail => {
                let state = &mut *state;
                state.nodes[self.node].fail_sync(&mut state.random);
                return Err(failed());
            }
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(self.life)?;
        state.nodes[self.node].drop_cache();
        state.count_used();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.state.lock();
        state.alive(self.life)?;
        let node = &mut state.nodes[self.node];
        if node.locked_in == Some(self.life) {
            return Ok(false);
        }
        node.locked_in = Some(self.life);
        Ok(true)
    }
}
