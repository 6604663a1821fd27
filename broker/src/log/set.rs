//! All partition logs of a broker: opening, finding, deleting and closing them, and what they share.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::cleaner::{Cleaner, CleanerStats, Partitions};
use super::file::{Disk, File, is_full};
use super::flush::{Chore, Keeper, Lane, Threads};
use super::handles::HandleStats;
use super::partition::PartitionLog;
use super::pool::Pool;
use super::producers::Limits;
use super::recover::{Verification, recover};
use super::reserve::Reserve;
use super::segment::base_of;
use super::validate::Turns;
use crate::config::{DamagedRecords, LogConfig, TopicConfig};
use crate::env::Clock;
use crate::env::files;
use crate::types::{PartitionId, TopicId};

const RECYCLE_FOLDER: &str = "recycle";
const LOCK_FILE: &str = "lock";
/// Threads that open partitions at a start and close them at a stop: each mostly waits for the disk, which commits their
/// syncs together.
const WORKERS: usize = 16;
/// Threads that write checkpoints when many partitions need one.
const KEEPERS: usize = 4;

/// Told of each flush of a partition: its duration and the bytes it covered. Called from the threads that sync.
pub type FlushObserver = Arc<dyn Fn(Duration, u64) + Send + Sync>;

pub(super) struct Observer(pub FlushObserver);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Who does the work behind: the flush lanes', the keeper's and the cleaner's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Background {
    /// Threads of the set's own.
    #[default]
    Threads,
    /// Nobody but [`LogSet::step`], which the simulator calls.
    Manual,
}

/// The kinds of work behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Syncing a partition that somebody waits for.
    Flush,
    /// Syncing a partition that nobody waits for.
    LazyFlush,
    /// Writing a partition's checkpoint.
    Checkpoint,
    /// One round of compaction of the dirtiest partition.
    Clean,
}

impl Work {
    pub const ALL: [Self; 4] = [Self::Flush, Self::LazyFlush, Self::Checkpoint, Self::Clean];
}

/// What became of the disk's reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReserveStats {
    /// Bytes kept now.
    pub kept: u64,
    /// Times that it was released since the start.
    pub released: u64,
}

/// The work behind, in the hands of whoever does it.
#[derive(Debug)]
enum Workers {
    Threads(#[expect(dead_code, reason = "dropping it ends the threads")] Threads),
    /// The keeper's place is taken by the caller.
    Manual(Mutex<Keeper>),
}

/// Bytes behind the partitions' clean points, all together: what a recovery would have to read.
#[derive(Debug)]
pub(super) struct Unchecked {
    bytes: AtomicU64,
    /// The keeper is asked to write checkpoints when there are so many.
    bound: AtomicU64,
    asked: AtomicBool,
}

impl Unchecked {
    fn new(bound: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bound: AtomicU64::new(bound),
            asked: AtomicBool::new(false),
        }
    }

    pub fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The keeper begins; what comes from now on may ask again.
    pub fn begin(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    pub fn bound_to(&self, bound: u64) {
        self.bound.store(bound, Ordering::Relaxed);
    }
}

/// What every partition log uses.
#[derive(Debug)]
pub(super) struct Shared {
    pub disk: Disk,
    pub config: LogConfig,
    pub clock: Clock,
    pub pool: Pool,
    pub reserve: Reserve,
    pub boot_id: [u8; 16],
    pub chores: Sender<Chore>,
    pub observer: OnceLock<Observer>,
    pub unchecked: Unchecked,
    /// For batches that take long to decompress.
    pub turns: Turns,
    /// The last one is for partitions whose records nobody waits to be synced.
    pub lanes: Arc<[Arc<Lane>]>,
    folder: PathBuf,
    /// Held as long as anybody may write here.
    _lock: File,
}

impl Shared {
    pub fn producer_limits(&self) -> Limits {
        Limits {
            max_producers: self.config.max_producers_per_partition,
            expiry_ms: i64::try_from(self.config.producer_expiry.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// The lane of a partition that is to be synced soon.
    pub fn lane_of(&self, id: PartitionId) -> &Lane {
        let (high, low) = id.topic.0.as_u64_pair();
        // Partitions of one topic follow one another from lane to lane.
        let place = (high ^ low).wrapping_add(u64::from(id.index.unsigned_abs()));
        let index = place % (self.lanes.len() as u64 - 1);
        &self.lanes[usize::try_from(index).unwrap_or(0)]
    }

    /// The lane of all partitions whose durability is the operating system's: a gigabyte of theirs may take its time there,
    /// and holds up no commit.
    pub fn late_lane(&self) -> &Lane {
        &self.lanes[self.lanes.len() - 1]
    }

    /// Makes the names of a partition's folder and of its topic's durable.
    pub fn sync_parents(&self, partition_folder: &Path) -> std::io::Result<()> {
        if let Some(topic) = partition_folder.parent() {
            self.disk.sync_folder(topic)?;
        }
        self.disk.sync_folder(&self.folder)
    }

    /// Gives space to a disk that is full: of what is kept for speed first. False when there is none to give.
    pub fn make_room(&self) -> bool {
        self.pool.release(&self.disk) || self.reserve.release(&self.disk)
    }

    /// Does something that gives space back, again with more room as long as there is any.
    pub fn with_room<T>(&self, attempt: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
        loop {
            match attempt() {
                Err(error) if is_full(&error) && self.make_room() => {}
                outcome => return outcome,
            }
        }
    }

    /// Makes the disk's reserve again where it is out; false when the disk has no room for it yet.
    pub fn refill_reserve(&self) -> bool {
        let reserve = &self.reserve;
        reserve.refill(&self.disk) || (self.pool.release(&self.disk) && reserve.refill(&self.disk))
    }

    /// Counts bytes behind a clean point, and asks the keeper for checkpoints when there are too many.
    pub fn add_unchecked(&self, bytes: u64) {
        let unchecked = &self.unchecked;
        let sum = unchecked.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if sum >= unchecked.bound.load(Ordering::Relaxed)
            && !unchecked.asked.swap(true, Ordering::SeqCst)
        {
            // A keeper that has ended means that the set of logs is being dropped.
            let _ = self.chores.send(Chore::Sweep);
        }
    }
}

/// A partition that was asked for.
enum Open {
    /// Open already.
    Known(Arc<PartitionLog>),
    /// Recovered and not shown yet; whether the names of its folder and its topic's may not be durable.
    Fresh(Arc<PartitionLog>, bool),
}

/// Does the same with each item on a few threads; the answers in the order of the items.
pub(super) fn in_parallel<I: Sync, O: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I) -> O + Sync,
) -> Vec<O> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut done: Vec<(usize, O)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, output)| output).collect()
}

/// All partition logs of this broker. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct LogSet {
    shared: Arc<Shared>,
    partitions: Partitions,
    cleaner: Arc<Cleaner>,
    /// Recovery of one partition must not run twice at once, and not while its topic's files are given away.
    opening: Mutex<()>,
    workers: Workers,
}

impl LogSet {
    /// Opens the folder, prepares recycling and starts the threads behind. Partitions are opened one by one after it. The
    /// folder is the log's own (`<data>/log`); another process that has it open is an error.
    pub fn open(directory: &Path, config: LogConfig, clock: Clock) -> Result<Arc<Self>, String> {
        Self::open_on(
            Disk::default(),
            directory,
            config,
            clock,
            Background::Threads,
        )
    }

    /// As `open`, on a disk of the caller's, and with the work behind in the hands that `background` says.
    pub fn open_with(
        disk: Arc<dyn files::Disk>,
        directory: &Path,
        config: LogConfig,
        clock: Clock,
        background: Background,
    ) -> Result<Arc<Self>, String> {
        Self::open_on(Disk::new(disk), directory, config, clock, background)
    }

    pub(super) fn open_on(
        disk: Disk,
        directory: &Path,
        config: LogConfig,
        clock: Clock,
        background: Background,
    ) -> Result<Arc<Self>, String> {
        let context =
            |error: std::io::Error| format!("log folder {}: {error}", directory.display());
        disk.create_folders(directory).map_err(context)?;
        // The folder's own name: without it everything in it would be lost, however well it was synced.
        if let Some(parent) = directory.parent() {
            disk.sync_folder(parent).map_err(context)?;
        }
        let lock = Self::lock(&disk, directory)?;
        let disk = match config.max_open_segments {
            0 => disk,
            bound => disk.with_handles(bound),
        };
        let reserve = Reserve::open(&disk, directory, config.disk_reserve).map_err(context)?;
        let pool = Pool::open(&disk, &directory.join(RECYCLE_FOLDER), config.recycle_bytes)
            .map_err(context)?;
        let soon = std::iter::repeat_n(config.flush_max_delay, config.flush_lanes.max(1));
        let lanes: Arc<[Arc<Lane>]> = soon
            .chain([config.os_flush_delay])
            .map(|delay| Arc::new(Lane::new(delay)))
            .collect();
        let (chores, receiver) = mpsc::channel();
        let partitions = Partitions::default();
        let paced = background == Background::Threads;
        let cleaner = Cleaner::new(Arc::clone(&partitions), clock.clone(), &config, paced);
        let cleaner = Arc::new(cleaner);
        let shared = Arc::new(Shared {
            boot_id: disk.boot_id().unwrap_or_default(),
            disk,
            unchecked: Unchecked::new(config.unchecked_bytes),
            turns: Turns::default(),
            config,
            clock,
            pool,
            reserve,
            chores,
            observer: OnceLock::new(),
            lanes,
            folder: directory.to_owned(),
            _lock: lock,
        });
        let workers = match background {
            Background::Threads => {
                let keeper = Keeper::new(receiver, &partitions, KEEPERS);
                Workers::Threads(Threads::start(&shared, keeper, &cleaner).map_err(context)?)
            }
            Background::Manual => {
                Workers::Manual(Mutex::new(Keeper::new(receiver, &partitions, 1)))
            }
        };
        Ok(Arc::new(Self {
            shared,
            partitions,
            cleaner,
            opening: Mutex::new(()),
            workers,
        }))
    }

    /// Takes the log folder's lock for as long as the answer lives.
    pub(super) fn lock(disk: &Disk, directory: &Path) -> Result<File, String> {
        let lock = disk.lock(&directory.join(LOCK_FILE));
        let lock = lock.map_err(|error| format!("log folder {}: {error}", directory.display()))?;
        lock.ok_or_else(|| {
            format!(
                "log folder {} is in use by another process: stop it, or give this broker another data folder",
                directory.display()
            )
        })
    }

    /// Does one unit of the given work on the caller's thread; false when there is none of it, or when threads do it.
    pub fn step(&self, work: Work) -> bool {
        let Workers::Manual(keeper) = &self.workers else {
            return false;
        };
        match work {
            Work::Flush => self.shared.lanes.iter().any(|lane| lane.step(true)),
            Work::LazyFlush => self.shared.lanes.iter().any(|lane| lane.step(false)),
            Work::Checkpoint => keeper.lock().step(),
            Work::Clean => self.cleaner.step(),
        }
    }

    /// What compaction has done so far.
    pub fn cleaner_stats(&self) -> CleanerStats {
        self.cleaner.stats()
    }

    /// Says who is told of each flush. The first call counts.
    pub fn on_flush(&self, observer: FlushObserver) {
        let _ = self.shared.observer.set(Observer(observer));
    }

    /// Opens a partition's log, creating or recovering it. Blocking. A damaged log opens, too: it is readable around
    /// the damage, refuses appends, and says why in `stats().stopped`.
    pub fn open_partition(
        &self,
        id: PartitionId,
        config: Arc<TopicConfig>,
    ) -> Result<Arc<PartitionLog>, String> {
        let mut opened = self.open_partitions(vec![(id, config)])?;
        opened.pop().ok_or_else(|| format!("{id} was not opened"))
    }

    /// Opens partitions, none of them named twice, as `open_partition` does, several at a time. Answers in the order of
    /// the question.
    pub fn open_partitions(
        &self,
        wanted: Vec<(PartitionId, Arc<TopicConfig>)>,
    ) -> Result<Vec<Arc<PartitionLog>>, String> {
        let _one = self.opening.lock();
        let threads = match self.workers {
            Workers::Threads(_) => WORKERS.min(wanted.len()),
            Workers::Manual(_) => 1,
        };
        let opened = in_parallel(threads, &wanted, |(id, config)| {
            self.recover_one(*id, config)
        });
        let fresh = opened.iter().filter_map(|one| match one {
            Ok(Open::Fresh(log, parents)) => Some((log, *parents)),
            _ => None,
        });
        self.publish(fresh.collect())?;
        opened
            .into_iter()
            .map(|one| one.map(|(Open::Known(log) | Open::Fresh(log, _))| log))
            .collect()
    }

    fn recover_one(&self, id: PartitionId, config: &Arc<TopicConfig>) -> Result<Open, String> {
        if let Some(log) = self.get(id) {
            log.set_config(Arc::clone(config));
            return Ok(Open::Known(log));
        }
        let folder: Arc<Path> = self
            .topic_folder(id.topic)
            .join(id.index.to_string())
            .into();
        let verification = Verification {
            gives_up_damage: config.damaged_records == DamagedRecords::Skip,
            from_disk: false,
        };
        let recovered = recover(&self.shared, id, &folder, verification)?;
        let parents = recovered.parents_unsynced;
        let log = PartitionLog::new(id, &self.shared, Arc::clone(config), folder, recovered);
        Ok(Open::Fresh(log, parents))
    }

    /// Shows partitions that were recovered. The names of their folders are durable first, each topic's once.
    fn publish(&self, recovered: Vec<(&Arc<PartitionLog>, bool)>) -> Result<(), String> {
        let topics: BTreeSet<TopicId> = recovered
            .iter()
            .filter(|(_, parents_unsynced)| *parents_unsynced)
            .map(|(log, _)| log.id().topic)
            .collect();
        let root = (!topics.is_empty()).then(|| self.shared.folder.clone());
        let folders = topics.iter().map(|topic| self.topic_folder(*topic));
        for folder in folders.chain(root) {
            let synced = self.shared.disk.sync_folder(&folder);
            synced.map_err(|error| format!("syncing {}: {error}", folder.display()))?;
        }
        for (log, _) in &recovered {
            log.settle_given_up();
        }
        let mut partitions = self.partitions.write();
        for (log, _) in recovered {
            partitions.insert(log.id(), Arc::clone(log));
        }
        Ok(())
    }

    pub fn get(&self, id: PartitionId) -> Option<Arc<PartitionLog>> {
        self.partitions.read().get(&id).cloned()
    }

    /// Verifies a partition's log that stopped, from the disk, and lets it accept again; false when it had not stopped.
    /// With `accept_damage` what is damaged between whole batches is given up. Blocking.
    ///
    /// # Errors
    /// Says why the log stays stopped.
    pub fn recover_partition(&self, id: PartitionId, accept_damage: bool) -> Result<bool, String> {
        let log = self.get(id).ok_or_else(|| format!("{id} is not open"))?;
        log.recover_again(accept_damage)
    }

    /// Every open partition, in the order of their ids.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        let mut logs: Vec<_> = self.partitions.read().values().cloned().collect();
        logs.sort_unstable_by_key(|log| log.id());
        logs
    }

    fn topic_folder(&self, topic: TopicId) -> PathBuf {
        self.shared.folder.join(topic.to_string())
    }

    /// Removes every partition of a topic: its waiters are woken, its files go to be recycled. Blocking. A topic that is
    /// not there is no error.
    pub fn delete_topic(&self, topic: TopicId) -> Result<(), String> {
        let _one = self.opening.lock();
        let folder = self.topic_folder(topic);
        let logs: Vec<_> = {
            let mut partitions = self.partitions.write();
            let mut ids: Vec<_> = partitions
                .keys()
                .filter(|id| id.topic == topic)
                .copied()
                .collect();
            ids.sort_unstable();
            ids.iter().filter_map(|id| partitions.remove(id)).collect()
        };
        let context = |error: std::io::Error| format!("deleting {}: {error}", folder.display());
        // Every log is taken out of use, whatever becomes of the files of another.
        let outcomes: Vec<_> = logs.iter().map(|log| log.delete()).collect();
        for outcome in outcomes {
            outcome.map_err(context)?;
        }
        self.recycle_folder(&folder).map_err(context)?;
        self.shared.refill_reserve();
        self.shared
            .disk
            .sync_folder(&self.shared.folder)
            .map_err(context)
    }

    /// Gives space to a disk that is full, so that something can be deleted. False when there is none to give.
    pub fn make_room(&self) -> bool {
        self.shared.make_room()
    }

    /// Makes the disk's reserve again where it is out, and looks whether every partition's files are still there.
    /// Blocking; called from a background thread at the configured interval.
    pub fn check_files(&self) {
        self.shared.refill_reserve();
        for log in self.partitions() {
            log.check_files();
        }
    }

    /// The segment files that are open for writing.
    pub fn handle_stats(&self) -> HandleStats {
        self.shared.disk.handles().stats()
    }

    pub fn reserve_stats(&self) -> ReserveStats {
        ReserveStats {
            kept: self.shared.reserve.kept(),
            released: self.shared.reserve.released(),
        }
    }

    /// Gives away the segments of partitions that are not open, and removes the topic's folder.
    fn recycle_folder(&self, folder: &Path) -> std::io::Result<()> {
        let disk = &self.shared.disk;
        for partition in disk.list(folder)?.iter().filter(|entry| entry.is_folder) {
            let partition = folder.join(&partition.name);
            for file in disk.list(&partition)? {
                if base_of(&file.name).is_some() {
                    self.shared.pool.retire(disk, &partition.join(&file.name))?;
                }
            }
        }
        disk.remove_folder(folder)
    }

    /// Folders of topics that are on disk, so that the caller can remove those which the catalog no longer names.
    pub fn topics_on_disk(&self) -> Result<Vec<TopicId>, String> {
        let folder = &self.shared.folder;
        let entries = self
            .shared
            .disk
            .list(folder)
            .map_err(|error| format!("log folder {}: {error}", folder.display()))?;
        Ok(entries
            .iter()
            .filter(|entry| entry.is_folder)
            .filter_map(|entry| uuid::Uuid::parse_str(&entry.name).ok())
            .map(TopicId)
            .collect())
    }

    /// Applies retention to every partition. Blocking; called from a background thread at the configured interval.
    pub fn enforce_retention(&self) {
        for log in self.partitions() {
            log.enforce_retention();
        }
    }

    /// Syncs everything and writes the clean-stop markers. Blocking. Appends are refused from now on.
    pub fn shutdown(&self) {
        self.cleaner.stop();
        let logs = self.partitions();
        if matches!(self.workers, Workers::Manual(_)) {
            logs.iter().for_each(|log| log.close());
            return;
        }
        in_parallel(WORKERS, &logs, |log| log.close());
    }

    #[cfg(test)]
    pub(super) fn pool_bytes(&self) -> u64 {
        self.shared.pool.bytes()
    }
}

impl Drop for LogSet {
    /// What is queued holds its log, and the log holds the queues.
    fn drop(&mut self) {
        for lane in self.shared.lanes.iter() {
            lane.stop();
        }
    }
}
