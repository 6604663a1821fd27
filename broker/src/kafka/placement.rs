//! Produce through plugins: dedupe where the client sent, place where the plugin says.
//!
//! A *lane* is the partition that the client chose. The batch is looked for first: a retry is answered as the first try was,
//! and no plugin sees it. Then the partitioner names a partition for each record as its client sent it, the transforms
//! change or drop records, and the *slices* are appended, one for each target partition, in the order of the lane. Each
//! carries its *mark* (`log::marks`), which says whose records it holds. A lane does one batch at a time (`lanes.rs`), from the look
//! for it to its last slice, so that of two tries the second finds what the first did. Invariants:
//!
//! - a record of an idempotent producer is appended once: what a crash, a loss of power or a refusal left undone of a
//!   batch is found by the marks, and the client's retry places only that, whichever revision of a plugin is active then;
//! - the records of one lane keep their order in each target;
//! - the answer has the true base offset when every record stayed in its lane, otherwise −1 (unknown, as for `acks=0`).

use std::sync::Arc;

use super::topics::TopicHandle;
use crate::config::TransformFailure;
use crate::coordinator::transaction::TransactionError;
use crate::log::batch::Batch;
use crate::log::lane::{self, Verdict, Wait};
use crate::log::marks::{Indexes, Mark};
use crate::log::records::{self, BatchTemplate, Bounds, Record};
use crate::log::{AppendError, Appended, PartitionLog, Sequence};
use crate::plugin::{
    BatchOrigin, Effort, FailureKind, KEEP_PARTITION, OnPoison, PluginFailure, PluginHost,
    RecordReject, Terms, Transformed,
};
use crate::types::{Offset, PartitionIndex};

/// What a batch may take in memory when it is taken apart, in multiples of what it may decompress to: a short record is held
/// by ten times its bytes.
const MEMORY_FACTOR: usize = 4;

/// The records of one batch that go to one partition, and the indexes of the client's batch that they account for.
#[derive(Debug)]
struct Slice {
    target: PartitionIndex,
    indexes: Indexes,
    /// `None`: every record was dropped, and only the mark is left.
    batch: Option<Batch>,
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
    Transaction(TransactionError),
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
    effort: Effort,
    /// What an earlier try has left in the partitions, and the offsets it left it at.
    there: Indexes,
    waits: Vec<Wait>,
}

/// A batch that has been put to the plugins, and is to be appended before anything else of its lane is.
pub struct Prepared<'a> {
    request: Request<'a>,
    step: Step,
}

enum Step {
    /// An earlier try had appended all of it.
    There(Placed),
    InLane(Batch),
    InSlices(Vec<Slice>),
}

/// Takes one checked batch through the topic's plugins. `effort` is of each call, and whatever does not come to an end within it
/// is `NotQuick`. Nobody else may be at work on the lane until the batch is appended.
pub fn prepare<'a>(
    plugins: &'a PluginHost,
    topic: &'a TopicHandle,
    lane: PartitionIndex,
    batch: Batch,
    (max_decompressed, effort): (usize, Effort),
) -> Result<Prepared<'a>, PlacementError> {
    let log = topic.log(lane).ok_or(AppendError::Deleted)?;
    if batch.header.is_transactional() && topic.config.partitioner.is_some() {
        return Err(AppendError::Invalid(
            "the topic has a partitioner, which takes no transactional batches: send without a transaction, or take \
             `tidegate.partitioner` off the topic"
                .into(),
        )
        .into());
    }
    let mut request = Request {
        plugins,
        topic,
        lane,
        log,
        batch,
        effort,
        there: Indexes::default(),
        waits: Vec::new(),
    };
    let step = request.next_step(max_decompressed)?;
    Ok(Prepared { request, step })
}

impl Prepared<'_> {
    pub fn append(self) -> Result<Placed, PlacementError> {
        match self.step {
            Step::There(placed) => Ok(placed),
            Step::InLane(batch) => self.request.append_in_lane(batch),
            Step::InSlices(slices) => self.request.append_slices(&slices),
        }
    }
}

/// The place of a record in the batch that its client sent, which has no gaps.
fn index_of(record: &Record) -> u32 {
    u32::try_from(record.offset_delta).unwrap_or(0)
}

impl PlacementError {
    /// Rejections counted in the records that a plugin was shown, as the client counts them.
    fn with_indexes(self, indexes: &[u32]) -> Self {
        let Self::Rejected(mut rejects) = self else {
            return self;
        };
        for reject in &mut rejects {
            let shown = usize::try_from(reject.index).unwrap_or(usize::MAX);
            reject.index = indexes.get(shown).copied().unwrap_or(reject.index);
        }
        Self::Rejected(rejects)
    }
}

/// What the transforms left of a batch.
enum Outcome {
    Unchanged(Vec<Record>),
    /// Each record with the position, among those that the partitioner saw, of the record it came of; ascending.
    Changed(Vec<(usize, Record)>),
}

impl Request<'_> {
    fn next_step(&mut self, max_decompressed: usize) -> Result<Step, PlacementError> {
        if let Some(placed) = self.look_up()? {
            return Ok(Step::There(placed));
        }
        if self.topic.plugins().next().is_none() && self.there.is_empty() {
            return Ok(Step::InLane(self.batch.clone()));
        }
        let mut records = self.decode(max_decompressed)?;
        records.retain(|record| !self.there.contains(index_of(record)));
        let indexes: Vec<u32> = records.iter().map(index_of).collect();
        let targets = self
            .assign(&records)
            .map_err(|error| error.with_indexes(&indexes))?;
        let outcome = self.transform(records)?;
        if targets.is_none() && self.there.is_empty() {
            return Ok(Step::InLane(self.in_place(outcome)?));
        }
        let targets = targets.unwrap_or_else(|| vec![self.lane; indexes.len()]);
        Ok(Step::InSlices(self.slices(outcome, &indexes, &targets)?))
    }

    fn origin(&self) -> BatchOrigin<'_> {
        let header = &self.batch.header;
        BatchOrigin {
            topic: self.topic.topic.name.as_str(),
            partition: self.lane,
            partition_count: u32::try_from(self.topic.logs.len()).unwrap_or(u32::MAX),
            base_sequence: (header.producer_id >= 0).then_some(header.base_sequence),
        }
    }

    /// The batch's records, as far as plugins may be shown them. What goes over the bound is the client's fault, and is counted.
    fn decode(&self, max_decompressed: usize) -> Result<Vec<Record>, PlacementError> {
        let bounds = Bounds {
            decompressed: max_decompressed,
            memory: max_decompressed.saturating_mul(MEMORY_FACTOR),
            setting: "plugins.max-decompressed-bytes",
        };
        records::decode_within(&self.batch, bounds).map_err(|error| {
            if let (AppendError::Invalid(_), Some(plugin)) = (&error, self.topic.plugins().next()) {
                if self.effort == Effort::Quick {
                    return PlacementError::Plugin(self.plugins.not_quick(plugin));
                }
                self.plugins.count_refused(plugin);
            }
            error.into()
        })
    }

    /// A target for each record, or `None` when all stay in their lane.
    fn assign(&self, records: &[Record]) -> Result<Option<Vec<PartitionIndex>>, PlacementError> {
        let Some(partitioner) = &self.topic.config.partitioner else {
            return Ok(None);
        };
        let keeps = self.topic.config.partitioner_failure_client_choice;
        let terms = Terms {
            on_poison: match keeps {
                true => OnPoison::Keep,
                false => OnPoison::Reject,
            },
            effort: self.effort,
        };
        let answer = match self
            .plugins
            .assign(partitioner, &self.origin(), records, terms)
        {
            Ok(answer) => answer,
            // A record that the plugin will never accept is no failure of the plugin.
            Err(PluginFailure {
                kind: FailureKind::Rejected(records),
                ..
            }) => return Err(PlacementError::Rejected(records)),
            Err(failure) if keeps && failure.kind != FailureKind::NotQuick => return Ok(None),
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
        let on_failure = self.topic.config.transform_failure;
        let terms = Terms {
            on_poison: match on_failure {
                TransformFailure::Reject => OnPoison::Reject,
                TransformFailure::PassUnmasked => OnPoison::Keep,
                TransformFailure::Drop => OnPoison::Drop,
            },
            effort: self.effort,
        };
        let mut outcome = Outcome::Unchanged(records);
        for name in &self.topic.config.transforms {
            let answer = match &outcome {
                Outcome::Unchanged(records) => {
                    self.plugins.transform(name, &self.origin(), records, terms)
                }
                Outcome::Changed(pairs) => {
                    let records: Vec<Record> =
                        pairs.iter().map(|(_, record)| record.clone()).collect();
                    self.plugins
                        .transform(name, &self.origin(), &records, terms)
                }
            };
            match (answer, on_failure) {
                (Ok(Transformed::Rejected(rejects)), _) => {
                    let error = PlacementError::Rejected(rejects);
                    return Err(error.with_indexes(&outcome.indexes()));
                }
                (Ok(answer), _) => outcome = outcome.apply(answer),
                (Err(failure), _) if failure.kind == FailureKind::NotQuick => {
                    return Err(PlacementError::Plugin(failure));
                }
                (Err(failure), TransformFailure::Reject) => {
                    return Err(PlacementError::Plugin(failure));
                }
                (Err(_), TransformFailure::PassUnmasked) => {
                    self.plugins.count_passed(name, outcome.len());
                }
                (Err(_), TransformFailure::Drop) => outcome = Outcome::Changed(Vec::new()),
            }
        }
        Ok(outcome)
    }

    /// What is there of the batch already; all of it: the answer.
    fn look_up(&mut self) -> Result<Option<Placed>, PlacementError> {
        if !self.has_marks() {
            let Sequence::Duplicate(appended) = self.log.check_sequence(&self.batch)? else {
                return Ok(None);
            };
            let waits = vec![(self.log.clone(), appended.last_offset)];
            return Ok(Some(Placed { appended, waits }));
        }
        match lane::judge(&self.topic.logs, self.lane, &self.batch.header)? {
            Verdict::Next => Ok(None),
            Verdict::Partly { there, waits } => {
                (self.there, self.waits) = (there, waits);
                Ok(None)
            }
            Verdict::Duplicate { answer, waits } => {
                self.waits = waits;
                Ok(Some(Placed {
                    appended: answer,
                    waits: self.earlier_waits(),
                }))
            }
        }
    }

    /// Whether the batch goes with marks: only an idempotent producer's retry can be told from a new batch, and a
    /// transaction stays where its producer sent it.
    fn has_marks(&self) -> bool {
        let header = &self.batch.header;
        self.topic.is_placed && header.is_idempotent() && !header.is_transactional()
    }

    fn earlier_waits(&self) -> Vec<(Arc<PartitionLog>, Offset)> {
        let wait =
            |(partition, offset): &Wait| Some((self.topic.logs.get(*partition)?.clone(), *offset));
        self.waits.iter().filter_map(wait).collect()
    }

    /// Every record stays where its client sent it: one batch with the client's identity, and gaps where records were
    /// dropped, so that sequences and offsets stay true.
    fn in_place(&self, outcome: Outcome) -> Result<Batch, AppendError> {
        match outcome {
            Outcome::Unchanged(_) => Ok(self.batch.clone()),
            Outcome::Changed(pairs) => {
                let records: Vec<Record> = pairs.into_iter().map(|(_, record)| record).collect();
                records::encode(BatchTemplate::like(&self.batch.header), &records)
            }
        }
    }

    fn append_in_lane(self, batch: Batch) -> Result<Placed, PlacementError> {
        let appended = if self.has_marks() {
            let mut mark = Mark::new(self.lane, &self.batch.header, Indexes::default());
            mark.indexes = Indexes::below(mark.record_count);
            self.log.append_placed(&mark, Some(&batch))?
        } else {
            self.log.append(batch)?
        };
        Ok(Placed {
            appended,
            waits: vec![(self.log.clone(), appended.last_offset)],
        })
    }

    /// One new batch for each target, without the producer's identity: that is in its mark. Records that a transform dropped
    /// are accounted for by the first.
    fn slices(
        &self,
        outcome: Outcome,
        indexes: &[u32],
        targets: &[PartitionIndex],
    ) -> Result<Vec<Slice>, PlacementError> {
        let mut by_target: Vec<(PartitionIndex, Vec<u32>, Vec<Record>)> = Vec::new();
        let mut dropped: Vec<u32> = Vec::new();
        let mut pairs = outcome.into_pairs().into_iter().peekable();
        for (source, index) in indexes.iter().enumerate() {
            let Some((_, mut record)) = pairs.next_if(|(from, _)| *from == source) else {
                dropped.push(*index);
                continue;
            };
            let target = targets.get(source).copied().unwrap_or(self.lane);
            let slot = match by_target.iter().position(|(known, ..)| *known == target) {
                Some(slot) => slot,
                None => {
                    by_target.push((target, Vec::new(), Vec::new()));
                    by_target.len() - 1
                }
            };
            let (_, indexes, records) = &mut by_target[slot];
            record.offset_delta = i32::try_from(records.len()).unwrap_or(i32::MAX);
            indexes.push(*index);
            records.push(record);
        }
        let dropped: Indexes = dropped.into_iter().collect();
        if by_target.is_empty() {
            return Ok(vec![Slice {
                target: self.lane,
                indexes: dropped,
                batch: None,
            }]);
        }
        let mut slices = Vec::with_capacity(by_target.len());
        for (target, indexes, records) in by_target {
            slices.push(Slice {
                target,
                indexes: indexes.into_iter().collect(),
                batch: Some(self.encode_slice(&records)?),
            });
        }
        slices[0].indexes = slices[0].indexes.union(&dropped);
        Ok(slices)
    }

    fn encode_slice(&self, records: &[Record]) -> Result<Batch, AppendError> {
        let template = BatchTemplate {
            compression: BatchTemplate::like(&self.batch.header).compression,
            ..BatchTemplate::PLAIN
        };
        let batch = records::encode(template, records)?;
        let limit = usize::try_from(self.topic.config.max_message_bytes).unwrap_or(usize::MAX);
        // Before anything of the batch is appended: it could never be completed.
        match batch.header.size {
            size if size > limit => Err(AppendError::TooLarge { size, limit }),
            _ => Ok(batch),
        }
    }

    fn append_slices(self, slices: &[Slice]) -> Result<Placed, PlacementError> {
        let mut waits = self.earlier_waits();
        for slice in slices {
            let log = self.topic.log(slice.target).ok_or(AppendError::Deleted)?;
            let done = match (&slice.batch, self.has_marks()) {
                (batch, true) => {
                    let indexes = slice.indexes.clone();
                    let mark = Mark::new(self.lane, &self.batch.header, indexes);
                    log.append_placed(&mark, batch.as_ref())?
                }
                (Some(batch), false) => log.append(batch.clone())?,
                (None, false) => continue,
            };
            waits.push((log.clone(), done.last_offset));
        }
        let elsewhere = Appended {
            base_offset: -1,
            last_offset: -1,
            log_append_time: None,
            log_start_offset: self.log.offsets().log_start,
            duplicate: false,
        };
        Ok(Placed {
            appended: elsewhere,
            waits,
        })
    }
}

impl Outcome {
    fn len(&self) -> usize {
        match self {
            Self::Unchanged(records) => records.len(),
            Self::Changed(pairs) => pairs.len(),
        }
    }

    /// The indexes, in the client's batch, of the records that are left.
    fn indexes(&self) -> Vec<u32> {
        match self {
            Self::Unchanged(records) => records.iter().map(index_of).collect(),
            Self::Changed(pairs) => pairs.iter().map(|(_, record)| index_of(record)).collect(),
        }
    }

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
