//! What one call may use: processor time, memory, tables, and bytes handed to the host. [`enter`] is the only way into guest
//! code; it sets the limits and turns what went wrong into a [`FailureKind`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use wasmtime::{
    PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace,
};

use super::FailureKind;
use super::engine::{MAX_TABLE_ELEMENTS, PluginEngine, TICK};
use super::host::GuestState;

/// Bytes of strings and lists that a guest may hand to the host at once, beyond the answer's own bound.
pub const SPARE_HOSTCALL_BYTES: usize = 1 << 20;

/// Processor time that a call gets for each 64 KiB by which it lets its memory grow: the kernel hands out fresh pages while the guest
/// runs, which on a busy virtual machine takes it 15 µs each, and a new instance needs a thousand of them for a batch of a megabyte.
const TIME_TO_GROW: Duration = Duration::from_micros(250);
const WASM_PAGE_BYTES: usize = 64 << 10;

/// The bounds of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Processor time of the calling thread, to within two ticks of a millisecond, beyond what the growth of its memory takes.
    pub deadline: Duration,
    /// Bytes of an answer, as the host counts them while it copies.
    pub answer_bytes: usize,
}

/// Linear memory of all instances, which together stay under a bound.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// More than half is taken: no instance waits for a next call then.
    pub fn is_scarce(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit / 2
    }
}

/// Refuses growth over the bounds and remembers that it did: to the guest a refusal is a failed allocation, which it answers
/// with a trap that looks like any other.
#[derive(Debug)]
pub struct MemoryLimiter {
    limit: usize,
    used: usize,
    /// Bytes that were added during the call.
    grown: usize,
    refused: bool,
    /// All instances in sum.
    budget: Arc<MemoryBudget>,
    /// It was the sum that refused.
    is_short: bool,
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}

impl MemoryLimiter {
    pub fn new(limit: usize, budget: Arc<MemoryBudget>) -> Self {
        Self {
            limit,
            used: 0,
            grown: 0,
            refused: false,
            budget,
            is_short: false,
        }
    }

    fn begin_call(&mut self) {
        self.grown = 0;
        self.refused = false;
    }

    fn time_to_grow(&self) -> Duration {
        let pages = u32::try_from(self.grown / WASM_PAGE_BYTES).unwrap_or(u32::MAX);
        TIME_TO_GROW.saturating_mul(pages)
    }

    /// Bytes of linear memory of the instance, which never shrinks.
    pub fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        if !self.budget.take(used - self.used) {
            self.is_short = true;
            return Ok(false);
        }
        self.grown += used - self.used;
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        4
    }
}

/// A deadline in the calling thread's processor time, looked at on ticks of the wall clock: a thread that the machine did not
/// run is not the guest's fault. Nothing is read before the first tick, so that a short call costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    limit: Duration,
    started: Option<Duration>,
}

impl Deadline {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            started: None,
        }
    }

    /// `now` is the thread's processor time, `extra` what is allowed beyond the limit. Answers after how many ticks to look again;
    /// `None` when time is up.
    pub fn tick(&mut self, now: Duration, extra: Duration) -> Option<u64> {
        let started = *self.started.get_or_insert(now.saturating_sub(TICK));
        let left = (started + self.limit + extra).checked_sub(now)?;
        let ticks = left.as_nanos().div_ceil(TICK.as_nanos());
        (ticks > 0).then(|| u64::try_from(ticks).unwrap_or(u64::MAX))
    }
}

/// The C library's clock, and not rustix's: that one finds the kernel's own functions by itself, and under valgrind, which counts
/// the instructions of calls, they are not where the kernel says.
fn thread_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.ok().map(Duration::from)
}

/// A store whose memory, tables and time are bounded.
pub fn bounded_store(engine: &PluginEngine, state: GuestState) -> Store<GuestState> {
    let mut store = Store::new(engine.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        let extra = state.memory.time_to_grow();
        // A guest whose time cannot be told has no time.
        Ok(
            match thread_time().and_then(|now| state.deadline.tick(now, extra)) {
                Some(ticks) => UpdateDeadline::Continue(ticks),
                None => UpdateDeadline::Interrupt,
            },
        )
    });
    store
}

/// Runs guest code in `store` under `limits`. After an error the store must not be entered again.
pub fn enter<R>(
    engine: &PluginEngine,
    store: &mut Store<GuestState>,
    limits: Limits,
    call: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<R>,
) -> Result<R, FailureKind> {
    let _running = engine.running();
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(limits.answer_bytes.saturating_add(SPARE_HOSTCALL_BYTES));
    let state = store.data_mut();
    state.deadline = Deadline::new(limits.deadline);
    state.memory.begin_call();
    call(store).map_err(|error| failure(&error, store.data(), limits))
}

fn failure(error: &wasmtime::Error, state: &GuestState, limits: Limits) -> FailureKind {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return FailureKind::Deadline(
            u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX),
        );
    }
    if state.memory.refused {
        return FailureKind::Memory(state.memory.limit as u64);
    }
    if state.memory.is_short {
        return FailureKind::Overloaded(format!(
            "plugin instances hold {} bytes of memory (plugins.max-total-memory-bytes)",
            state.memory.budget.limit
        ));
    }
    if let Some(trap) = trap {
        let text = trap.to_string();
        return FailureKind::Trap(text.trim_start_matches("wasm trap: ").to_owned());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return FailureKind::Overloaded("too many plugin instances run at once".into());
    }
    let cause = error.root_cause().to_string();
    // An error with a backtrace came up through guest code, out of something that the guest called.
    if error.is::<WasmBacktrace>() {
        FailureKind::Trap(cause)
    } else {
        FailureKind::BadOutput(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_counts_the_threads_own_time() {
        let ms = Duration::from_millis;
        let mut deadline = Deadline::new(ms(20));
        assert_eq!(deadline.tick(ms(1000), ms(0)), Some(19));
        assert_eq!(
            deadline.tick(ms(1000), ms(0)),
            Some(19),
            "the machine ran somebody else"
        );
        assert_eq!(deadline.tick(ms(1018), ms(0)), Some(1));
        assert_eq!(deadline.tick(ms(1019), ms(0)), None);
        assert_eq!(deadline.tick(ms(2000), ms(0)), None);
        assert_eq!(deadline.tick(ms(1019), ms(3)), Some(3));
        assert_eq!(Deadline::new(ms(1)).tick(ms(5), ms(0)), None);
    }

    #[test]
    fn growing_gives_time_in_the_call_that_grows() {
        let mut limiter = alone(16 << 20);
        limiter.memory_growing(0, 1 << 20, None).unwrap();
        assert_eq!(limiter.time_to_grow(), TIME_TO_GROW * 16);
        limiter.begin_call();
        assert_eq!(limiter.time_to_grow(), Duration::ZERO);
    }

    #[test]
    fn memory_is_counted_over_all_of_an_instance() {
        let mut limiter = alone(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.refused);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert!(limiter.refused);
        assert_eq!(limiter.used(), 100);
        assert_eq!(limiter.time_to_grow(), Duration::ZERO, "less than a page");
        assert!(!alone(100).memory_growing(0, usize::MAX, None).unwrap());
    }

    fn alone(limit: usize) -> MemoryLimiter {
        MemoryLimiter::new(limit, Arc::new(MemoryBudget::new(usize::MAX)))
    }

    #[test]
    fn instances_share_a_bound_and_give_back_what_they_held() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut one = MemoryLimiter::new(80, Arc::clone(&budget));
        let mut other = MemoryLimiter::new(80, Arc::clone(&budget));
        assert!(one.memory_growing(0, 70, None).unwrap());
        assert!(budget.is_scarce());
        assert!(!other.memory_growing(0, 31, None).unwrap());
        assert!(other.is_short && !other.refused);
        assert!(other.memory_growing(0, 30, None).unwrap());
        drop(one);
        assert!(other.memory_growing(30, 80, None).unwrap());
        assert!(!other.memory_growing(80, 81, None).unwrap());
        assert!(other.refused, "its own bound");
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
