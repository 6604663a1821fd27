//! Deadlines of many groups, and the one sleep until the earliest of them.
//!
//! A group has at most one entry, which may be earlier than its deadline and never later: a group that is woken too early
//! says when to come again. So a heartbeat, which only ever moves a deadline away, costs nothing here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Moment and group id, the earliest first.
    entries: Mutex<BTreeSet<(Duration, Arc<str>)>>,
    earlier: Notify,
}

impl Timers {
    /// Sets a group's entry in the place of its `previous` one.
    pub fn schedule(&self, group: &Arc<str>, previous: Option<Duration>, at: Duration) {
        let mut entries = self.entries.lock();
        if let Some(previous) = previous {
            entries.remove(&(previous, Arc::clone(group)));
        }
        let is_earliest = entries.first().is_none_or(|(first, _)| at < *first);
        entries.insert((at, Arc::clone(group)));
        drop(entries);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    pub fn cancel(&self, group: &Arc<str>, at: Duration) {
        self.entries.lock().remove(&(at, Arc::clone(group)));
    }

    /// The earliest group whose moment has come.
    pub fn pop_due(&self, now: Duration) -> Option<(Duration, Arc<str>)> {
        let mut entries = self.entries.lock();
        entries.first().filter(|(at, _)| *at <= now)?;
        entries.pop_first()
    }

    pub fn next(&self) -> Option<Duration> {
        self.entries.lock().first().map(|(at, _)| *at)
    }

    /// Resolves when a deadline was set that is earlier than all before it, also when that was before the call.
    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn groups_come_in_the_order_of_their_deadlines_and_never_early() {
        let timers = Timers::default();
        for (seconds, group) in [(3, "c"), (1, "a"), (2, "b")] {
            timers.schedule(&group.into(), None, seconds * SECOND);
        }
        assert_eq!(timers.pop_due(SECOND / 2), None);
        assert_eq!(timers.next(), Some(SECOND));
        assert_eq!(timers.pop_due(2 * SECOND), Some((SECOND, "a".into())));
        assert_eq!(timers.pop_due(2 * SECOND), Some((2 * SECOND, "b".into())));
        assert_eq!(timers.pop_due(2 * SECOND), None);
    }

    #[test]
    fn a_group_has_one_entry_at_most() {
        let timers = Timers::default();
        let group: Arc<str> = "a".into();
        timers.schedule(&group, None, 2 * SECOND);
        timers.schedule(&group, Some(2 * SECOND), SECOND);
        assert_eq!(timers.pop_due(3 * SECOND), Some((SECOND, group.clone())));
        assert_eq!(timers.pop_due(3 * SECOND), None);
        timers.schedule(&group, None, SECOND);
        timers.cancel(&group, SECOND);
        assert_eq!(timers.next(), None);
    }

    #[tokio::test]
    async fn only_an_earlier_deadline_wakes_the_sleeper() {
        let timers = Timers::default();
        timers.schedule(&"a".into(), None, 2 * SECOND);
        timers.earlier().await;
        timers.schedule(&"b".into(), None, 3 * SECOND);
        let unwoken = tokio::time::timeout(Duration::from_millis(1), timers.earlier()).await;
        assert!(unwoken.is_err());
        timers.schedule(&"c".into(), None, SECOND);
        timers.earlier().await;
    }
}
