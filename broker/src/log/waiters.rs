//! Those who wait for a partition's high watermark: producers for an offset, consumers for any progress.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::AppendError;
use crate::types::Offset;

/// Dead consumers' entries are looked for when there are so many entries at least.
const PURGE_FROM: usize = 32;

type Answer = Result<(), AppendError>;

#[derive(Debug, Default)]
struct Inner {
    commits: Vec<(Offset, oneshot::Sender<Answer>)>,
    /// Weak: a consumer whose request has ended must not be kept by the partitions that never moved.
    progress: Vec<Weak<Notify>>,
    purge_at: usize,
    /// Set once: why nothing will move any more.
    ended: Option<AppendError>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
}

impl Waiters {
    /// Waits for `offset` to be below the high watermark, which `watermark` reads under the lock that `advance` takes
    /// after raising it. `Err` holds what is known at once.
    pub fn commit(
        &self,
        offset: Offset,
        watermark: impl Fn() -> Offset,
    ) -> Result<oneshot::Receiver<Answer>, Answer> {
        let mut inner = self.inner.lock();
        if offset < watermark() {
            return Err(Ok(()));
        }
        if let Some(error) = &inner.ended {
            return Err(Err(error.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        inner.commits.push((offset, sender));
        Ok(receiver)
    }

    /// Registers a consumer for one notification; at once when the partition is gone. One that has merely stopped can be
    /// read and will not move: a consumer that were woken for it would find nothing new and come again, without end.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.ended {
            if *reason == AppendError::Deleted {
                waiter.notify_one();
            }
            return;
        }
        if inner.progress.len() >= inner.purge_at.max(PURGE_FROM) {
            inner.progress.retain(|entry| entry.strong_count() > 0);
            inner.purge_at = inner.progress.len() * 2;
        }
        inner.progress.push(Arc::downgrade(waiter));
    }

    /// Whether a consumer is waiting for progress.
    pub fn is_watched(&self) -> bool {
        let inner = self.inner.lock();
        inner.progress.iter().any(|entry| entry.strong_count() > 0)
    }

    /// Wakes whom a watermark that has just been raised to `watermark` satisfies.
    pub fn advance(&self, watermark: Offset) {
        let mut ready = Vec::new();
        let watching = {
            let mut inner = self.inner.lock();
            let mut index = 0;
            while index < inner.commits.len() {
                if inner.commits[index].0 < watermark {
                    ready.push(inner.commits.swap_remove(index).1);
                } else {
                    index += 1;
                }
            }
            std::mem::take(&mut inner.progress)
        };
        // Whoever waits may have gone away meanwhile.
        for sender in ready {
            let _ = sender.send(Ok(()));
        }
        for waiter in watching.iter().filter_map(Weak::upgrade) {
            waiter.notify_one();
        }
    }

    /// Wakes everybody: nothing will move any more. The first reason stands.
    pub fn end(&self, reason: &AppendError) {
        let (commits, watching) = {
            let mut inner = self.inner.lock();
            inner.ended.get_or_insert_with(|| reason.clone());
            (
                std::mem::take(&mut inner.commits),
                std::mem::take(&mut inner.progress),
            )
        };
        for (_, sender) in commits {
            let _ = sender.send(Err(reason.clone()));
        }
        for waiter in watching.iter().filter_map(Weak::upgrade) {
            waiter.notify_one();
        }
    }

    #[cfg(test)]
    pub fn watching(&self) -> usize {
        self.inner.lock().progress.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_exactly_those_whose_offset_is_below_the_watermark() {
        let waiters = Waiters::default();
        let mut early = waiters.commit(4, || 0).expect("has to wait");
        let mut late = waiters.commit(5, || 0).expect("has to wait");
        waiters.advance(5);
        assert_eq!(early.try_recv(), Ok(Ok(())));
        assert!(late.try_recv().is_err());
        assert_eq!(waiters.commit(4, || 5).map(|_| ()), Err(Ok(())));
        waiters.end(&AppendError::Deleted);
        assert_eq!(late.try_recv(), Ok(Err(AppendError::Deleted)));
        let again = waiters.commit(9, || 5).map(|_| ());
        assert_eq!(again, Err(Err(AppendError::Deleted)));
    }

    #[tokio::test]
    async fn a_consumer_of_a_stopped_partition_waits_and_one_of_a_deleted_does_not() {
        let notified = |reason: AppendError| async move {
            let waiters = Waiters::default();
            let waiter = Arc::new(Notify::new());
            waiters.watch(&waiter);
            waiters.end(&reason);
            waiter.notified().await;
            waiters.watch(&waiter);
            futures_util::poll!(std::pin::pin!(waiter.notified())).is_ready()
        };
        assert!(!notified(AppendError::Stopped("a failed sync".into())).await);
        assert!(notified(AppendError::Deleted).await);
    }

    #[test]
    fn forgets_consumers_that_went_away_from_an_idle_partition() {
        let waiters = Waiters::default();
        for _ in 0..10_000 {
            waiters.watch(&Arc::new(Notify::new()));
        }
        assert!(waiters.watching() <= 2 * PURGE_FROM);
        assert!(!waiters.is_watched());
    }
}
