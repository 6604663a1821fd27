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
    /// The cleaner takes tombstones that readers may still need.
    DropTombstonesEarly,
    /// The cleaner keeps the oldest record of a key and takes the newer ones.
    KeepOlderValue,
    /// A compacted segment takes the place of the old ones before it is synced.
    ReplaceBeforeSync,
    /// The checkpoint does not say which segments are being replaced.
    ForgetReplacing,
    /// A deletion of records is answered before the log's new start is durable.
    AnswerDeletionBeforeCheckpoint,
    /// Readers are given batches whose bytes do not match their checksum.
    ServeDamaged,
    /// The end of a transaction is answered before its outcome is durable.
    AnswerEndBeforeSync,
    /// Markers are written before the outcome is durable.
    MarkBeforeDecision,
    /// One partition of a transaction gets no marker.
    SkipMarker,
    /// A transaction is complete before its markers are durable.
    CompleteBeforeMarkers,
    /// Readers of committed records are shown what is not stable yet.
    ReadPastLastStable,
    /// A restart does not know which transactions were aborted before the last checkpoint.
    ForgetAborted,
    /// A restart does not know which transactions were open at the last checkpoint.
    ForgetOpen,
    /// A new instance of a transactional producer gets the epoch of the one before.
    KeepEpoch,
    /// A transactional producer's identity is answered before it is durable.
    AnswerIdentityBeforeSync,
    /// Offsets that were committed in a transaction count at once.
    ShowPendingOffsets,
    /// A transaction that is being ended still takes records.
    WriteAfterDecision,
    /// A start leaves open what its transaction does not know of.
    KeepLostTransactions,
    /// A transaction never runs out of time.
    IgnoreTimeouts,
}

impl Defect {
    pub const ALL: [Self; 36] = [
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
        Self::DropTombstonesEarly,
        Self::KeepOlderValue,
        Self::ReplaceBeforeSync,
        Self::ForgetReplacing,
        Self::AnswerDeletionBeforeCheckpoint,
        Self::ServeDamaged,
        Self::AnswerEndBeforeSync,
        Self::MarkBeforeDecision,
        Self::SkipMarker,
        Self::CompleteBeforeMarkers,
        Self::ReadPastLastStable,
        Self::ForgetAborted,
        Self::ForgetOpen,
        Self::KeepEpoch,
        Self::AnswerIdentityBeforeSync,
        Self::ShowPendingOffsets,
        Self::WriteAfterDecision,
        Self::KeepLostTransactions,
        Self::IgnoreTimeouts,
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
