//! The transactions of one partition: which are open, which were aborted, and so what a committed reader may see.
//!
//! A transaction is **open** from its producer's first batch in the partition to its **marker**. It still counts as open
//! while the marker is at or above the high watermark: a crash could take the marker back. The **last stable offset** is
//! the first offset of the earliest transaction that counts as open, or the high watermark. Of each aborted transaction it
//! is kept what a reader needs to pass over its records. Semantics as in Kafka's `ProducerStateManager` and
//! `TransactionIndex` (KIP-98). Pure.

use std::collections::{BTreeMap, VecDeque};

use super::codec::Reader;
use super::{AbortedTransaction, MarkerOutcome};
use crate::env::defects::{self, Defect};
use crate::types::Offset;

const ABORTED_BYTES: usize = 32;

/// What a batch did to its producer's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Began {
        producer_id: i64,
        first_offset: Offset,
    },
    Ended {
        producer_id: i64,
        first_offset: Offset,
        /// The marker's.
        last_offset: Offset,
        outcome: MarkerOutcome,
    },
}

/// A transaction that was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Aborted {
    pub producer_id: i64,
    pub first_offset: Offset,
    /// The marker's.
    pub last_offset: Offset,
    /// The last stable offset once the marker was seen: no transaction that ended later began below it.
    pub last_stable_offset: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Transactions {
    /// Producers of open transactions by their first offset.
    open: BTreeMap<Offset, i64>,
    /// Marker offsets by first offset, of those that ended at or above the high watermark.
    unseen: BTreeMap<Offset, Offset>,
    /// In the order of their markers.
    aborted: VecDeque<Aborted>,
}

impl Transactions {
    /// From a snapshot: the open ones as `(first offset, producer id)`.
    pub fn restore(open: impl Iterator<Item = (Offset, i64)>, aborted: Vec<Aborted>) -> Self {
        let mut restored = Self {
            open: open.collect(),
            unseen: BTreeMap::new(),
            aborted: aborted.into(),
        };
        if defects::has(Defect::ForgetAborted) {
            restored.aborted.clear();
        }
        if defects::has(Defect::ForgetOpen) {
            restored.open.clear();
        }
        restored
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Began {
                producer_id,
                first_offset,
            } => {
                self.open.insert(first_offset, producer_id);
            }
            Change::Ended {
                producer_id,
                first_offset,
                last_offset,
                outcome,
            } => {
                self.open.remove(&first_offset);
                self.unseen.insert(first_offset, last_offset);
                if outcome == MarkerOutcome::Abort {
                    let earliest = self.open.first_key_value().map(|(first, _)| *first);
                    self.aborted.push_back(Aborted {
                        producer_id,
                        first_offset,
                        last_offset,
                        last_stable_offset: earliest.unwrap_or(last_offset + 1),
                    });
                }
            }
        }
    }

    /// The last stable offset under a high watermark that never falls.
    pub fn last_stable(&mut self, high_watermark: Offset, log_start: Offset) -> Offset {
        self.unseen.retain(|_, marker| *marker >= high_watermark);
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let unseen = self.unseen.first_key_value().map(|(first, _)| *first);
        let unstable = open.into_iter().chain(unseen).min();
        unstable.map_or(high_watermark, |first| {
            first.max(log_start).min(high_watermark)
        })
    }

    /// Those that a reader of the offsets from `from` to below `below` has to know, where `below` is not above the last
    /// stable offset.
    pub fn aborted(&self, from: Offset, below: Offset) -> Vec<AbortedTransaction> {
        let first = self.aborted.partition_point(|one| one.last_offset < from);
        let mut found = Vec::new();
        for one in self.aborted.range(first..) {
            if one.first_offset < below {
                found.push(AbortedTransaction {
                    producer_id: one.producer_id,
                    first_offset: one.first_offset,
                });
            }
            if one.last_stable_offset >= below {
                break;
            }
        }
        found
    }

    /// Forgets what nobody can read any more.
    pub fn forget_before(&mut self, log_start: Offset) {
        let gone = self
            .aborted
            .partition_point(|one| one.last_offset < log_start);
        self.aborted.drain(..gone);
    }

    /// Forgets aborted transactions whose markers, at these ascending offsets, are about to go from the log.
    pub fn forget_markers(&mut self, markers: &[Offset]) {
        if !markers.is_empty() {
            self.aborted
                .retain(|one| markers.binary_search(&one.last_offset).is_err());
        }
    }

    /// All aborted transactions that are remembered.
    pub fn snapshot(&self) -> Vec<Aborted> {
        self.aborted.iter().copied().collect()
    }
}

impl Aborted {
    /// Appends a list to `out`.
    pub fn encode_all(list: &[Self], out: &mut Vec<u8>) {
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for one in list {
            out.extend_from_slice(&one.producer_id.to_be_bytes());
            out.extend_from_slice(&one.first_offset.to_be_bytes());
            out.extend_from_slice(&one.last_offset.to_be_bytes());
            out.extend_from_slice(&one.last_stable_offset.to_be_bytes());
        }
    }

    /// Reads a list back; `None` when it is malformed.
    pub fn decode_all(reader: &mut Reader<'_>) -> Option<Vec<Self>> {
        let count = reader.count(ABORTED_BYTES)?;
        let mut list: Vec<Self> = Vec::with_capacity(count);
        for _ in 0..count {
            let one = Self {
                producer_id: reader.i64()?,
                first_offset: reader.i64()?,
                last_offset: reader.i64()?,
                last_stable_offset: reader.i64()?,
            };
            if list
                .last()
                .is_some_and(|before| before.last_offset >= one.last_offset)
            {
                return None;
            }
            list.push(one);
        }
        Some(list)
    }
}
