//! Produce through plugins: dedupe where the client sent, place where the plugin says.
//!
//! A *lane* is the partition that the client chose. The batch is checked against the lane's producer state first, so that a
//! retry is answered as the first try was and no plugin sees it. Then the partitioner names a partition for each record as
//! its client sent it, the transforms change or drop records, and the *slices* are appended, one for each target partition,
//! in the order of the lane. Invariants:
//!
//! - a slice is appended once: when a target refuses, the slices that are left wait in the lane for the client's retry;
//! - the records of one lane keep their order in each target;
//! - the answer has the true base offset when every record stayed in its lane, otherwise −1 (unknown, as for `acks=0`).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::topics::TopicHandle;
use crate::config::TransformFailure;
use crate::log::batch::Batch;
use crate::log::records::{self, BatchTemplate, Record};
use crate::log::{AppendError, Appended, PartitionLog, Sequence};
use crate::plugin::{
    BatchOrigin, FailureKind, KEEP_PARTITION, PluginFailure, PluginHost, RecordReject, Transformed,
};
use crate::types::{Offset, PartitionIndex};

/// Interrupted placements that one lane remembers at most; the oldest is forgotten.
const MAX_INTERRUPTED: usize = 64;

/// One partition as its producers see it.
#[derive(Debug, Default)]
pub struct Lane {
    interrupted: Mutex<VecDeque<Interrupted>>,
}

/// A placement that stopped between two slices. The client's retry goes on with what is left.
#[derive(Debug)]
struct Interrupted {
    identity: (i64, i16, i32),
    left: VecDeque<Slice>,
}

/// The records of one batch that go to one partition.
#[derive(Debug)]
struct Slice {
    target: PartitionIndex,
    batch: Batch,
}

/// Where a batch ended up.
#[derive(Debug)]
pub struct Placed {
    pub appended: Appended,
    /// What `acks=all` waits for: in each log, the last offset.
    pub waits: Vec<(Arc<PartitionLog>, Offset)>,
}

/// Why nothing (more) was placed.
#[derive(Debug)]
pub enum PlacementError {
    Append(AppendError),
    Plugin(PluginFailure),
    Rejected(Vec<RecordReject>),
}

impl From<AppendError> for PlacementError {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

/// A batch on its way, and where its client sent it.
struct Request<'a> {
    plugins: &'a PluginHost,
    topic: &'a TopicHandle,
    lane: PartitionIndex,
    log: &'a Arc<PartitionLog>,
    batch: Batch,
}

/// Takes one checked batch through the topic's plugins and appends what comes out.
pub fn place(
    plugins: &PluginHost,
    topic: &TopicHandle,
    lane: PartitionIndex,
    batch: Batch,
    max_decompressed: usize,
) -> Result<Placed, PlacementError> {
    let (Some(log), Some(state)) = (
        topic.log(lane),
        usize::try_from(lane).ok().and_then(|i| topic.lanes.get(i)),
    ) else {
        return Err(AppendError::Deleted.into());
    };
    if batch.header.is_transactional() && topic.config.partitioner.is_some() {
        return Err(AppendError::Invalid(
            "the topic has a partitioner, which takes no transactional batches: send without a transaction, or take \
             `tidegate.partitioner` off the topic"
                .into(),
        )
        .into());
    }
    // Held to the end where records move, so that of two tries of one batch the second finds what the first did.
    let mut interrupted = topic
        .config
        .partitioner
        .as_ref()
        .map(|_| state.interrupted.lock());
    if let Sequence::Duplicate(appended) = log.check_sequence(&batch)? {
        return Ok(Placed {
            appended,
            waits: waits_of_duplicate(topic, log, &appended),
        });
    }
    let request = Request {
        plugins,
        topic,
        lane,
        log,
        batch,
    };
    if let Some(interrupted) = interrupted.as_deref_mut()
        && let Some(left) = take_interrupted(interrupted, &request.batch)
    {
        return request.append_slices(left, interrupted);
    }
    let records = records::decode(&request.batch, max_decompressed)?;
    let targets = request.assign(&records)?;
    let outcome = request.transform(records)?;
    match (targets, interrupted.as_deref_mut()) {
        (Some(targets), Some(interrupted)) => {
            let left = request.slices(outcome, &targets)?;
            request.append_slices(left, interrupted)
        }
        _ => request.append_in_lane(outcome),
    }
}

/// What the transforms left of a batch.
enum Outcome {
    Unchanged(Vec<Record>),
    /// Each record with the position, in the client's batch, of the record it came of.
    Changed(Vec<(usize, Record)>),
}

impl Request<'_> {
    fn origin(&self) -> BatchOrigin<'_> {
        let header = &self.batch.header;
        BatchOrigin {
            topic: self.topic.topic.name.as_str(),
            partition: self.lane,
            base_sequence: (header.producer_id >= 0).then_some(header.base_sequence),
        }
    }

    /// A target for each record, or `None` when all stay in their lane.
    fn assign(&self, records: &[Record]) -> Result<Option<Vec<PartitionIndex>>, PlacementError> {
        let Some(partitioner) = &self.topic.config.partitioner else {
            return Ok(None);
        };
        let count = u32::try_from(self.topic.logs.len()).unwrap_or(u32::MAX);
        let answer = match self
            .plugins
            .assign(partitioner, &self.origin(), count, records)
        {
            Ok(answer) => answer,
            // A record that the plugin will never accept is no failure of the plugin.
            Err(PluginFailure {
                kind: FailureKind::Rejected(records),
                ..
            }) => return Err(PlacementError::Rejected(records)),
            Err(_) if self.topic.config.partitioner_failure_client_choice => return Ok(None),
            Err(failure) => return Err(PlacementError::Plugin(failure)),
        };
        let target = |choice: u32| match choice {
            KEEP_PARTITION => self.lane,
            choice => PartitionIndex::try_from(choice).unwrap_or(self.lane),
        };
        let targets: Vec<_> = answer.into_iter().map(target).collect();
        Ok(targets
            .iter()
            .any(|target| *target != self.lane)
            .then_some(targets))
    }

    fn transform(&self, records: Vec<Record>) -> Result<Outcome, PlacementError> {
        let mut outcome = Outcome::Unchanged(records);
        for name in &self.topic.config.transforms {
            let answer = match &outcome {
                Outcome::Unchanged(records) => {
                    self.plugins.transform(name, &self.origin(), records)
                }
                Outcome::Changed(pairs) => {
                    let records: Vec<Record> =
                        pairs.iter().map(|(_, record)| record.clone()).collect();
                    self.plugins.transform(name, &self.origin(), &records)
                }
            };
            match (answer, self.topic.config.transform_failure) {
                (Ok(Transformed::Rejected(rejects)), _) => {
                    return Err(PlacementError::Rejected(rejects));
                }
                (Ok(answer), _) => outcome = outcome.apply(answer),
                (Err(failure), TransformFailure::Reject) => {
                    return Err(PlacementError::Plugin(failure));
                }
                (Err(_), TransformFailure::Pass) => {}
                (Err(_), TransformFailure::Drop) => outcome = Outcome::Changed(Vec::new()),
            }
        }
        Ok(outcome)
    }

    /// Every record stays where its client sent it: one batch with the client's identity, and gaps where records were
    /// dropped, so that sequences and offsets stay true.
    fn append_in_lane(self, outcome: Outcome) -> Result<Placed, PlacementError> {
        let batch = match outcome {
            Outcome::Unchanged(_) => self.batch,
            Outcome::Changed(pairs) => {
                let records: Vec<Record> = pairs.into_iter().map(|(_, record)| record).collect();
                records::encode(BatchTemplate::like(&self.batch.header), &records)?
            }
        };
        let appended = self.log.append(batch)?;
        Ok(Placed {
            appended,
            waits: vec![(self.log.clone(), appended.last_offset)],
        })
    }

    /// One new batch for each target, without the producer's identity: that is kept in the lane.
    fn slices(
        &self,
        outcome: Outcome,
        targets: &[PartitionIndex],
    ) -> Result<VecDeque<Slice>, PlacementError> {
        let mut by_target: Vec<(PartitionIndex, Vec<Record>)> = Vec::new();
        for (source, mut record) in outcome.into_pairs() {
            let target = targets.get(source).copied().unwrap_or(self.lane);
            let slot = match by_target.iter().position(|(known, _)| *known == target) {
                Some(slot) => slot,
                None => {
                    by_target.push((target, Vec::new()));
                    by_target.len() - 1
                }
            };
            let records = &mut by_target[slot].1;
            record.offset_delta = i32::try_from(records.len()).unwrap_or(i32::MAX);
            records.push(record);
        }
        let template = BatchTemplate {
            compression: BatchTemplate::like(&self.batch.header).compression,
            ..BatchTemplate::PLAIN
        };
        let encode = |(target, records): (PartitionIndex, Vec<Record>)| {
            Ok(Slice {
                target,
                batch: records::encode(template, &records)?,
            })
        };
        by_target.into_iter().map(encode).collect()
    }

    fn append_slices(
        self,
        mut left: VecDeque<Slice>,
        interrupted: &mut VecDeque<Interrupted>,
    ) -> Result<Placed, PlacementError> {
        let mut waits = Vec::with_capacity(left.len());
        while let Some(slice) = left.pop_front() {
            let target = self.topic.log(slice.target).ok_or(AppendError::Deleted);
            match target.and_then(|log| log.append(slice.batch.clone()).map(|done| (log, done))) {
                Ok((log, done)) => waits.push((log.clone(), done.last_offset)),
                Err(error) => {
                    left.push_front(slice);
                    remember_interrupted(interrupted, &self.batch, left);
                    return Err(error.into());
                }
            }
        }
        let elsewhere = Appended {
            base_offset: -1,
            last_offset: -1,
            log_append_time: None,
            log_start_offset: self.log.offsets().log_start,
            duplicate: false,
        };
        self.log.record_placed(&self.batch, elsewhere)?;
        Ok(Placed {
            appended: elsewhere,
            waits,
        })
    }
}

impl Outcome {
    fn into_pairs(self) -> Vec<(usize, Record)> {
        match self {
            Self::Unchanged(records) => records.into_iter().enumerate().collect(),
            Self::Changed(pairs) => pairs,
        }
    }

    /// The answer of the next transform on top of what the ones before it left.
    fn apply(self, answer: Transformed) -> Self {
        match answer {
            Transformed::Unchanged | Transformed::Rejected(_) => self,
            Transformed::Keep(keep) => {
                let pairs = self.into_pairs().into_iter().zip(keep);
                Self::Changed(
                    pairs
                        .filter_map(|(pair, keep)| keep.then_some(pair))
                        .collect(),
                )
            }
            Transformed::Replaced(replaced) => {
                let pairs = self.into_pairs();
                let trace = |(index, mut record): (u32, Record)| {
                    let (source, origin) = pairs.get(index as usize)?;
                    record.offset_delta = origin.offset_delta;
                    Some((*source, record))
                };
                Self::Changed(replaced.into_iter().filter_map(trace).collect())
            }
        }
    }
}

/// A duplicate waits for what the first try wrote. Where that went elsewhere the offsets are not kept, so it waits for
/// everything that the topic's partitions held by now, which covers it.
fn waits_of_duplicate(
    topic: &TopicHandle,
    log: &Arc<PartitionLog>,
    first: &Appended,
) -> Vec<(Arc<PartitionLog>, Offset)> {
    if first.base_offset >= 0 {
        return vec![(log.clone(), first.last_offset)];
    }
    topic
        .logs
        .iter()
        .map(|log| (log.clone(), log.offsets().log_end - 1))
        .collect()
}

fn identity(batch: &Batch) -> (i64, i16, i32) {
    (
        batch.header.producer_id,
        batch.header.producer_epoch,
        batch.header.base_sequence,
    )
}

fn take_interrupted(
    interrupted: &mut VecDeque<Interrupted>,
    batch: &Batch,
) -> Option<VecDeque<Slice>> {
    let identity = identity(batch);
    let position = interrupted
        .iter()
        .position(|placement| placement.identity == identity)?;
    interrupted.remove(position).map(|placement| placement.left)
}

/// Only an idempotent producer's retry can be told from a new batch.
fn remember_interrupted(
    interrupted: &mut VecDeque<Interrupted>,
    batch: &Batch,
    left: VecDeque<Slice>,
) {
    if batch.header.producer_id < 0 {
        return;
    }
    if interrupted.len() == MAX_INTERRUPTED {
        interrupted.pop_front();
    }
    interrupted.push_back(Interrupted {
        identity: identity(batch),
        left,
    });
}
