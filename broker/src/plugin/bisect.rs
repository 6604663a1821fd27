//! Whose fault is a fault? A call that trapped, ran out of time or memory, or gave a wrong answer says only that this plugin and
//! this input do not go together.
//!
//! First the plugin is given a **control**: the made-up records of its dry run, under the same origin. If it fails on those
//! too it is broken, and the breaker counts. If not, the input did it, by its size or by what is in it, and is **bisected**:
//! its halves are asked about one by one, and the halves of those that fail. Most often that is the answer already, for a
//! batch that was too much at once. A single record that a fresh instance fails on is **poison**: its sender's to mend. All
//! of it is bounded in calls and time, so that one batch costs what a few batches cost. Pure: the calls come in.

use std::ops::Range;

use super::{FailureKind, KEEP_PARTITION, OnPoison, RecordReject, Transformed};
use crate::log::records::Record;

/// Calls for one batch beyond the first and the control.
pub const MAX_CALLS: u32 = 64;

/// What is known of a part of the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<R> {
    pub range: Range<usize>,
    /// A single record's fault, or the answer on all of the part.
    pub answer: Result<R, FailureKind>,
}

/// Parts in order. When the bounds were met first, some are missing.
#[derive(Debug)]
pub struct Parts<R> {
    pub parts: Vec<Part<R>>,
    pub is_complete: bool,
}

impl<R> Parts<R> {
    pub fn has_poison(&self) -> bool {
        self.poison() > 0
    }

    /// Records that fail by themselves.
    pub fn poison(&self) -> usize {
        let failed = self.parts.iter().filter(|part| part.answer.is_err());
        failed.count()
    }
}

/// Asks about the halves of `count` records that failed as a whole. `goes_on` says before each call whether there is time for it.
/// Errs with what is no fault: then there is no answer at all.
pub fn bisect<R>(
    count: usize,
    mut goes_on: impl FnMut() -> bool,
    mut ask: impl FnMut(Range<usize>) -> Result<R, FailureKind>,
) -> Result<Parts<R>, FailureKind> {
    let mut parts = Vec::new();
    let mut open = Vec::new();
    halve(0..count, &mut open);
    let mut calls = 0;
    while let Some(range) = open.pop() {
        if calls == MAX_CALLS || !goes_on() {
            return Ok(Parts {
                parts,
                is_complete: false,
            });
        }
        calls += 1;
        match ask(range.clone()) {
            Err(kind) if !kind.is_fault() => return Err(kind),
            Err(_) if range.len() > 1 => halve(range, &mut open),
            answer => parts.push(Part { range, answer }),
        }
    }
    Ok(Parts {
        parts,
        is_complete: true,
    })
}

/// Puts the halves on top, the first one uppermost. A single record is asked about once more, by itself.
fn halve(range: Range<usize>, open: &mut Vec<Range<usize>>) {
    if range.len() <= 1 {
        open.push(range);
        return;
    }
    let middle = range.start + range.len() / 2;
    open.push(middle..range.end);
    open.push(range.start..middle);
}

/// One answer of a transform out of those on the parts.
pub fn transformed(
    parts: Vec<Part<Transformed>>,
    records: &[Record],
    on_poison: OnPoison,
) -> Transformed {
    let mut rejects = Vec::new();
    // What is left, by the record it came of; `None` for a record as it was.
    let mut left: Vec<(usize, Option<Record>)> = Vec::with_capacity(records.len());
    let mut is_rewritten = false;
    for Part { range, answer } in parts {
        let start = range.start;
        match answer {
            Ok(Transformed::Unchanged) => left.extend(range.map(|index| (index, None))),
            Ok(Transformed::Keep(keep)) => {
                let kept = range.zip(keep).filter(|(_, keep)| *keep);
                left.extend(kept.map(|(index, _)| (index, None)));
            }
            Ok(Transformed::Replaced(new)) => {
                is_rewritten = true;
                let moved = |(index, record): (u32, Record)| (start + index as usize, Some(record));
                left.extend(new.into_iter().map(moved));
            }
            Ok(Transformed::Rejected(found)) => rejects.extend(shifted(found, start)),
            Err(kind) => match on_poison {
                OnPoison::Reject => rejects.push(poison(start, &kind)),
                OnPoison::Keep => left.push((start, None)),
                OnPoison::Drop => {}
            },
        }
    }
    if !rejects.is_empty() {
        return Transformed::Rejected(rejects);
    }
    if is_rewritten {
        let made = |(index, record): (usize, Option<Record>)| {
            let record = record.unwrap_or_else(|| records[index].clone());
            (u32::try_from(index).unwrap_or(u32::MAX), record)
        };
        return Transformed::Replaced(left.into_iter().map(made).collect());
    }
    if left.len() == records.len() {
        return Transformed::Unchanged;
    }
    let mut keep = vec![false; records.len()];
    for (index, _) in left {
        keep[index] = true;
    }
    Transformed::Keep(keep)
}

/// One answer of a partitioner out of those on the parts.
pub fn assigned(
    parts: Vec<Part<Result<Vec<u32>, Vec<RecordReject>>>>,
    on_poison: OnPoison,
) -> Result<Vec<u32>, Vec<RecordReject>> {
    let mut partitions = Vec::new();
    let mut rejects = Vec::new();
    for Part { range, answer } in parts {
        match answer {
            Ok(Ok(found)) => partitions.extend(found),
            Ok(Err(found)) => rejects.extend(shifted(found, range.start)),
            Err(kind) if on_poison == OnPoison::Reject => {
                rejects.push(poison(range.start, &kind));
            }
            Err(_) => partitions.push(KEEP_PARTITION),
        }
    }
    match rejects.is_empty() {
        true => Ok(partitions),
        false => Err(rejects),
    }
}

fn shifted(rejects: Vec<RecordReject>, by: usize) -> impl Iterator<Item = RecordReject> {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    rejects.into_iter().map(move |mut reject| {
        reject.index = reject.index.saturating_add(by);
        reject
    })
}

fn poison(index: usize, kind: &FailureKind) -> RecordReject {
    RecordReject {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        code: "poison",
        message: format!("a plugin that answers other records {kind} on this one alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> FailureKind {
        FailureKind::Trap("as told".into())
    }

    /// What a plugin answers that fails on these records, and on more than `most` at once.
    fn ask(
        poison: &[usize],
        most: usize,
    ) -> impl Fn(Range<usize>) -> Result<Transformed, FailureKind> {
        move |range| {
            let fails = range.len() > most || poison.iter().any(|one| range.contains(one));
            match fails {
                true => Err(fault()),
                false => Ok(Transformed::Unchanged),
            }
        }
    }

    fn records(count: i32) -> Vec<Record> {
        let record = |offset_delta| Record {
            offset_delta,
            ..Record::default()
        };
        (0..count).map(record).collect()
    }

    fn part<R>(range: Range<usize>, answer: R) -> Part<R> {
        Part {
            range,
            answer: Ok(answer),
        }
    }

    #[test]
    fn what_was_too_much_at_once_is_answered_in_parts() {
        let found = bisect(100, || true, ask(&[], 13)).unwrap();
        assert!(found.is_complete && !found.has_poison());
        let starts: Vec<_> = found.parts.iter().map(|part| part.range.start).collect();
        assert!(starts.is_sorted());
        let answer = transformed(found.parts, &records(100), OnPoison::Reject);
        assert_eq!(answer, Transformed::Unchanged);
    }

    #[test]
    fn poison_is_found_by_its_index_and_what_becomes_of_it_is_told() {
        for poison in [vec![0], vec![999], vec![3, 500, 998]] {
            let found = || bisect(1000, || true, ask(&poison, 1000)).unwrap().parts;
            let rejected = transformed(found(), &records(1000), OnPoison::Reject);
            let Transformed::Rejected(rejects) = rejected else {
                panic!("{rejected:?}");
            };
            let indexes: Vec<_> = rejects.iter().map(|reject| reject.index as usize).collect();
            assert_eq!(indexes, poison);
            assert_eq!(
                rejects[0].message,
                "a plugin that answers other records trapped: as told on this one alone"
            );
            let kept = transformed(found(), &records(1000), OnPoison::Keep);
            assert_eq!(kept, Transformed::Unchanged);
            let Transformed::Keep(keep) = transformed(found(), &records(1000), OnPoison::Drop)
            else {
                panic!("poison is dropped");
            };
            let dropped: Vec<_> = (0..1000).filter(|index| !keep[*index]).collect();
            assert_eq!(dropped, poison);
        }
    }

    #[test]
    fn one_record_is_asked_about_once_more() {
        let mut calls = 0;
        let found = bisect(
            1,
            || true,
            |_| {
                calls += 1;
                Ok::<_, FailureKind>(Transformed::Unchanged)
            },
        );
        assert!(
            !found.unwrap().has_poison(),
            "a worn instance failed, not the record"
        );
        assert_eq!(calls, 1);
    }

    #[test]
    fn calls_and_time_are_bounded() {
        let mut calls = 0;
        let found = bisect(
            1_000_000,
            || true,
            |_| {
                calls += 1;
                Err::<Transformed, _>(fault())
            },
        );
        assert!(!found.unwrap().is_complete);
        assert_eq!(calls, MAX_CALLS);
        let mut left = 3;
        let in_time = || {
            left -= 1;
            left > 0
        };
        let found = bisect(8, in_time, ask(&[], 4)).unwrap();
        assert!(found.is_complete && found.parts.len() == 2);
        let found = bisect(8, || false, ask(&[], 4)).unwrap();
        assert!(!found.is_complete && found.parts.is_empty());
        let suspended = |_| Err::<Transformed, _>(FailureKind::Suspended);
        assert_eq!(
            bisect(8, || true, suspended).unwrap_err(),
            FailureKind::Suspended
        );
    }

    #[test]
    fn answers_on_parts_are_one_answer() {
        let input = records(6);
        let new = Record {
            timestamp: 7,
            ..Record::default()
        };
        let parts = vec![
            part(0..2, Transformed::Unchanged),
            part(2..4, Transformed::Keep(vec![false, true])),
            part(4..6, Transformed::Replaced(vec![(1, new.clone())])),
        ];
        let kept = |index: u32| (index, input[index as usize].clone());
        assert_eq!(
            transformed(parts.clone(), &input, OnPoison::Reject),
            Transformed::Replaced(vec![kept(0), kept(1), kept(3), (5, new)])
        );
        assert_eq!(
            transformed(parts[..2].to_vec(), &input[..4], OnPoison::Reject),
            Transformed::Keep(vec![true, true, false, true])
        );
        let reject = |index| RecordReject {
            index,
            code: "other",
            message: String::new(),
        };
        let rejected = vec![
            part(0..2, Transformed::Rejected(vec![reject(1)])),
            part(2..4, Transformed::Rejected(vec![reject(0)])),
        ];
        assert_eq!(
            transformed(rejected, &input[..4], OnPoison::Keep),
            Transformed::Rejected(vec![reject(1), reject(2)])
        );
        let parts = vec![part(0..2, Ok(vec![4, 5])), part(2..3, Err(vec![reject(0)]))];
        assert_eq!(
            assigned(parts[..1].to_vec(), OnPoison::Keep),
            Ok(vec![4, 5])
        );
        assert_eq!(assigned(parts, OnPoison::Keep), Err(vec![reject(2)]));
        let poison = vec![Part {
            range: 0..1,
            answer: Err(fault()),
        }];
        assert_eq!(
            assigned(poison.clone(), OnPoison::Keep),
            Ok(vec![KEEP_PARTITION])
        );
        assert_eq!(
            assigned(poison, OnPoison::Reject).unwrap_err()[0].code,
            "poison"
        );
    }
}
