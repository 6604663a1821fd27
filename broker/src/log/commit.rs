//! Somebody's wait for records to be below the high watermark, and how it is made short.

use std::sync::Arc;

use tokio::sync::oneshot;

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

impl Drop for Commit {
    fn drop(&mut self) {
        if !self.is_asked {
            self.log.request_flush(false);
        }
    }
}
