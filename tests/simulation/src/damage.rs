//! Bits that flip on the disk while the broker is down. Such a bit may cost the batch that it is in, and nothing else: not one
//! of a header block or of an index, and never may a reader be given other bytes than were sent.
//!
//! Bits flip after a stop in order alone: everything is behind the clean point then. Behind it a broker cannot tell a
//! changed byte from a write that a loss of power tore.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::broker::DATA;
use crate::disk::SimulatedDisk;
use crate::random::Random;
use crate::shadow::{Kind, Shadow, Target};

/// Where batches begin in a segment file (FORMAT.md).
const HEADER_BLOCK: usize = 4096;
/// Positions in a batch.
const LENGTH: usize = 8;
const AFTER_LENGTH: usize = 12;
const LAST_OFFSET_DELTA: usize = 23;

/// Flips a bit of one file, and lets the shadow know; what happened, when something did.
pub fn flip(disk: &SimulatedDisk, shadow: &mut Shadow, random: &mut Random) -> Option<String> {
    let mut targets = shadow.targets();
    targets.retain(|target| {
        let topic = shadow.topics.get(&target.topic);
        topic.is_some_and(|topic| topic.kind == Kind::Frail)
    });
    let target = random.pick(&targets)?.clone();
    let topic = shadow.topics.get(&target.topic)?;
    let folder = PathBuf::from(format!(
        "{DATA}/log/{}/{}",
        topic.id?.hyphenated(),
        target.partition
    ));
    let is_of_log = |path: &Path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        path.starts_with(&folder) && matches!(ending, Some("log" | "index"))
    };
    let mut files = disk.files();
    files.retain(|(path, length)| is_of_log(path) && *length > 0);
    let (path, length) = random.pick(&files)?.clone();
    // A second flip could meet the other copy of a header, or mend what the first one did.
    if shadow.flipped.contains(&path) {
        return None;
    }
    let position = match random.percent(30) {
        true => random.below(length.min(HEADER_BLOCK as u64)),
        false => random.below(length),
    };
    let bit = u32::try_from(random.below(8)).unwrap_or(0);
    let content = disk.content(&path)?;
    if !disk.flip(&path, position, bit) {
        return None;
    }
    shadow.flipped.insert(path.clone());
    let is_segment = path.extension().is_some_and(|ending| ending == "log");
    let hit = usize::try_from(position).ok().filter(|_| is_segment);
    let hit = hit.and_then(|position| batch_at(&content, position));
    if let Some(offsets) = hit.clone() {
        note(shadow, &target, offsets);
    }
    Some(format!(
        "bit {bit} at {position} of {} flips: offsets {hit:?}",
        path.display()
    ))
}

fn note(shadow: &mut Shadow, target: &Target, offsets: Range<i64>) {
    shadow.count("flipped bits");
    if let Some(partition) = shadow.partition(target) {
        partition.damage(offsets);
    }
}

/// The offsets of the batch that a position of a segment file is in.
fn batch_at(content: &[u8], position: usize) -> Option<Range<i64>> {
    let mut at = HEADER_BLOCK;
    while at <= position {
        let batch = content.get(at..)?;
        let base = i64::from_be_bytes(*batch.first_chunk()?);
        let length = i32::from_be_bytes(*batch.get(LENGTH..)?.first_chunk()?);
        let delta = i32::from_be_bytes(*batch.get(LAST_OFFSET_DELTA..)?.first_chunk()?);
        let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
        at += AFTER_LENGTH + length;
        if position < at {
            return Some(base..base + i64::from(delta) + 1);
        }
    }
    None
}
