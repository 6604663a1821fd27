//! Somebody's wait for records to be below the high watermark, and how it is made short.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::AppendError;
use super::partition::PartitionLog;

/// A registered wait. Nothing is synced for it before [`Commit::hurry`], so that several batches, or partitions, share a
/// sync; when it is dropped before, the records become durable at the log's own time.
#[derive(Debug)]
pub struct Commit {
    log: Arc<PartitionLog>,
    wait: Wait,
    is_asked: bool,
}

#[derive(Debug)]
enum Wait {
    Known(Result<(), AppendError>),
    Registered(oneshot::Receiver<Result<(), AppendError>>),
}

impl Commit {
    pub(super) fn known(log: Arc<PartitionLog>, answer: Result<(), AppendError>) -> Self {
        Self {
            log,
            wait: Wait::Known(answer),
            is_asked: true,
        }
    }

    pub(super) fn registered(
        log: Arc<PartitionLog>,
        answer: oneshot::Receiver<Result<(), AppendError>>,
    ) -> Self {
        Self {
            log,
            wait: Wait::Registered(answer),
            is_asked: false,
        }
    }

    /// Whether there is something to wait for.
    pub fn is_pending(&self) -> bool {
        matches!(self.wait, Wait::Registered(_))
    }

    /// Has the partition's lane sync the records now.
    pub fn hurry(&mut self) {
        self.is_asked = true;
        self.log.request_flush(true);
    }

    /// Resolves when the records are below the high watermark, or never will be.
    pub async fn wait(&mut self) -> Result<(), AppendError> {
        match &mut self.wait {
            Wait::Known(answer) => answer.clone(),
            // The sender lives in the log, which `self` keeps alive.
            Wait::Registered(answer) => answer.await.unwrap_or(Err(AppendError::Deleted)),
        }
    }
}

/// Waits until the high watermarks have passed all that these logs held when asked, and has it synced now, all of them side
/// by side: whoever was answered with `acks=1`, before the sync, finds the records in what is answered after this. Costs
/// nothing where all is synced. A log that has stopped is not waited for: its watermark as it stands is the truth. False when
/// the time was over before.
pub async fn catch_up<'a>(
    logs: impl IntoIterator<Item = &'a Arc<PartitionLog>>,
    limit: Duration,
) -> bool {
    let pending = logs.into_iter().filter_map(|log| log.behind());
    let mut pending: Vec<Commit> = pending.collect();
    if pending.is_empty() {
        return true;
    }
    pending.iter_mut().for_each(Commit::hurry);
    let all = async {
        for commit in &mut pending {
            // What stops the log ends the wait, too.
            let _ = commit.wait().await;
        }
    };
    timeout(limit, all).await.is_ok()
}

impl Drop for Commit {
    fn drop(&mut self) {
        if !self.is_asked {
            self.log.request_flush(false);
        }
    }
}
