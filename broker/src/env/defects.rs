//! Deliberate bugs, so that a test can prove that it would find them.
//!
//! A **defect** is a line of the broker left out or done too early. None is compiled in without the Cargo feature `defects`, which
//! no build of the product has: [`has`] is a constant false then. With the feature a defect is in force on one thread,
//! while a [`Planted`] lives on it.

#[cfg(feature = "defects")]
use std::cell::Cell;

/// What can be wrong. Each says what the broker does instead of what it must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// A segment counts as synced without a sync.
    SkipSync,
    /// `acks=all` is answered when the batch is in the page cache.
    AcknowledgeBeforeSync,
    /// A failed sync counts as done.
    IgnoreFailedSync,
    /// The name of a new segment file is never made durable.
    SkipSegmentNameSync,
    /// The name of a new checkpoint is never made durable.
    SkipCheckpointNameSync,
    /// A checkpoint is written without syncing what it calls clean.
    CheckpointBeforeSync,
    /// Expired segments go before the checkpoint says that the log begins after them.
    RemoveBeforeCheckpoint,
    /// A restart knows no idempotent producer.
    ForgetProducers,
    /// A batch of an idempotent producer is appended whatever its sequence.
    SkipSequenceCheck,
    /// Reads show what is not committed yet.
    ServePastHighWatermark,
    /// A read gives its batches twice.
    FetchTwice,
    /// Recovery believes a batch whose body does not match its checksum.
    SkipChecksumAtRecovery,
    /// Recovery leaves what follows the last whole batch in the file.
    KeepTornTail,
    /// A segment file is recycled with its old header.
    RecycleWithoutBlanking,
    /// A committed group offset is answered when it is in the page cache.
    AnswerOffsetCommitBeforeSync,
    /// Producer ids are given without reserving them in the catalog.
    ReuseProducerIds,
    /// The catalog's changes are never synced.
    CatalogWithoutSync,
}

impl Defect {
    pub const ALL: [Self; 17] = [
        Self::SkipSync,
        Self::AcknowledgeBeforeSync,
        Self::IgnoreFailedSync,
        Self::SkipSegmentNameSync,
        Self::SkipCheckpointNameSync,
        Self::CheckpointBeforeSync,
        Self::RemoveBeforeCheckpoint,
        Self::ForgetProducers,
        Self::SkipSequenceCheck,
        Self::ServePastHighWatermark,
        Self::FetchTwice,
        Self::SkipChecksumAtRecovery,
        Self::KeepTornTail,
        Self::RecycleWithoutBlanking,
        Self::AnswerOffsetCommitBeforeSync,
        Self::ReuseProducerIds,
        Self::CatalogWithoutSync,
    ];
}

/// Whether a defect is in force here. False in every build of the product.
#[cfg(not(feature = "defects"))]
#[inline(always)]
pub const fn has(_defect: Defect) -> bool {
    false
}

#[cfg(feature = "defects")]
thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// Whether a defect is in force on this thread.
#[cfg(feature = "defects")]
pub fn has(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Keeps a defect in force on this thread for as long as it lives.
#[cfg(feature = "defects")]
#[derive(Debug)]
pub struct Planted {
    /// It belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

#[cfg(feature = "defects")]
impl Planted {
    /// Puts one defect in force, in place of any other.
    pub fn plant(defect: Defect) -> Self {
        PLANTED.set(Some(defect));
        Self {
            _thread: std::marker::PhantomData,
        }
    }
}

#[cfg(feature = "defects")]
impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}
