//! Verifying a log that stopped, while the broker runs: what a restart would do, for one partition, when an operator says so.
//!
//! The log is recovered from the disk, not from what memory or the page cache hold of it. Readers that are under way
//! begin anew. Nobody appends meanwhile, for the log has stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::damage::Damage;
use super::partition::PartitionLog;
use super::read::Cursors;
use super::recover::{Recovered, Verification, recover};
use super::writer::Writer;
use crate::config::Durability;

impl PartitionLog {
    /// Verifies a log that stopped and lets it accept again; false when it had not stopped. With `accept_damage` what is
    /// damaged between whole batches is given up: it stays unreadable, and the log goes on behind it. Blocking.
    ///
    /// # Errors
    /// Says why the log stays stopped.
    pub fn recover_again(&self, accept_damage: bool) -> Result<bool, String> {
        self.verify_again(accept_damage)
            .inspect(|was_stopped| {
                if *was_stopped {
                    tracing::warn!(partition = %self.id(), accept_damage, "partition log verified, accepting again");
                }
            })
    }

    fn verify_again(&self, accept_damage: bool) -> Result<bool, String> {
        {
            let _checkpointing = self.checkpointing.lock();
            let _flushing = self.flushing.lock();
            let mut writer = self.writer.lock();
            if self.is_deleted() {
                return Err("the partition was deleted".into());
            }
            if self.stopped.load().is_none() {
                return Ok(false);
            }
            let verification = Verification {
                gives_up_damage: accept_damage || self.skips_damage(),
                from_disk: true,
            };
            writer.abandon();
            let recovered = recover(&self.shared, self.id(), &self.folder, verification)?;
            self.check_end(&recovered, accept_damage)?;
            self.take_over(&mut writer, recovered);
        }
        // What was given up must not stop the next start.
        self.checkpoint_given_up()?;
        Ok(true)
    }

    fn check_end(&self, recovered: &Recovered, accept_damage: bool) -> Result<(), String> {
        if let Some(reason) = &recovered.damage {
            self.is_damaged.store(true, Ordering::Relaxed);
            self.stopped.store(Some(Arc::new(reason.clone())));
            self.damage.lock().note_all(&recovered.damaged);
            return Err(reason.clone());
        }
        let (end, promised) = (
            recovered.next_offset,
            self.high_watermark.load(Ordering::SeqCst),
        );
        let was_synced = self.config.load().durability == Durability::Fsync;
        if end < promised && was_synced && !accept_damage {
            return Err(format!(
                "offsets {end} to {} had been synced and are gone from the disk; to go on without them, accept the damage",
                promised - 1
            ));
        }
        Ok(())
    }

    fn take_over(&self, writer: &mut Writer, recovered: Recovered) {
        let end = recovered.next_offset;
        for segment in self.segments.load().iter() {
            segment.retire();
        }
        // Recovery has given their files away, or taken them into the log again, below its start.
        self.doomed.lock().clear();
        self.segments.store(Arc::new(recovered.segments));
        self.shared.unchecked.remove(writer.uncheckpointed);
        *writer = Writer::new(end, recovered.producers);
        writer.uncheckpointed = recovered.unchecked;
        self.shared.add_unchecked(recovered.unchecked);
        *self.transactions.lock() = recovered.transactions;
        *self.marks.lock() = recovered.marks;
        *self.cursors.lock() = Cursors::default();
        *self.damage.lock() = Damage::new(recovered.damaged);
        self.log_start
            .fetch_max(recovered.log_start, Ordering::SeqCst);
        self.hot_from.store(end, Ordering::SeqCst);
        self.high_watermark.store(end, Ordering::SeqCst);
        self.synced.store(end, Ordering::SeqCst);
        self.log_end.store(end, Ordering::SeqCst);
        self.settle();
        self.folder_created
            .store(recovered.parents_unsynced, Ordering::SeqCst);
        self.folder_changed
            .store(recovered.parents_unsynced, Ordering::SeqCst);
        self.is_damaged.store(false, Ordering::Relaxed);
        self.stopped.store(None);
    }
}
