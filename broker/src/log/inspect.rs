//! Looking at log files offline, without changing them: what `tidegate log inspect` and `tidegate log verify` print.
//!
//! A **finding** is something that an operator has to know: damage, with what is lost by it and what to do. Bytes behind
//! the last batch of the last segment are no finding: space reserved ahead, or what a crash cut short.

use std::path::{Path, PathBuf};

use super::batch::{BatchHeader, Compression};
use super::checkpoint::{Checkpoint, Loaded};
use super::compact::MAX_DECOMPRESSED;
use super::file::{Access, Disk, File};
use super::scan::{BODIES, Found, Scanner, Step};
use super::seal::{BadHeader, HEADER_BLOCK, HeaderBlock, SegmentHeader};
use super::segment::{
    Extent, base_of, index_path, is_index_intact, log_path, read_header_block, stored_index,
};
use super::validate;
use crate::types::{Offset, PartitionId, TimestampMs, TopicId};

/// A segment file and what its header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    pub path: PathBuf,
    pub base_offset: Offset,
    pub file_bytes: u64,
    /// Whose file it is and when it was begun, or what is wrong with its header.
    pub header: Result<(PartitionId, TimestampMs), String>,
    /// The segment was compacted, and stands for every offset below this one, whatever is left of them.
    pub compacted_until: Option<Offset>,
    /// The index file is there and belongs to this segment; otherwise it is rebuilt when it is needed.
    pub has_index: bool,
}

/// One batch as it stands in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchInfo {
    pub position: u64,
    pub size: usize,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub record_count: i32,
    /// `None` for a code that is not known.
    pub compression: Option<Compression>,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub is_log_append_time: bool,
    /// −1 without an idempotent producer.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Belongs to a transaction, or ends one.
    pub is_transactional: bool,
    /// Holds no data: a marker of a transaction, or a mark of placement.
    pub is_control: bool,
    /// The body matches Kafka's checksum. (The header is under its seal, or the walk would not have found the batch.)
    pub is_whole: bool,
}

impl BatchInfo {
    fn new(found: &Found, is_whole: bool) -> Self {
        let header: &BatchHeader = &found.header;
        Self {
            position: found.position,
            size: header.size,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            record_count: header.record_count,
            compression: header.compression(),
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            is_log_append_time: header.is_log_append_time(),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            is_transactional: header.is_transactional(),
            is_control: header.is_control(),
            is_whole,
        }
    }
}

/// Where the batches of a file end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndInfo {
    pub position: u64,
    /// Bytes behind that are no batch of this file: reserved, left by an earlier use, torn, or damaged.
    pub bytes_behind: u64,
}

/// What a finding costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FindingKind {
    /// Records cannot be read.
    Damage,
    /// A byte has changed where everything stands twice: nothing is lost.
    Flaw,
    /// What is derived from the segments is wrong; it is made anew by itself.
    Derivable,
    /// A batch is as its client sent it, and its records are not what it says: clients cannot read it.
    Contents,
    /// The largest time in a batch's header is not that of its records.
    Times,
}

impl FindingKind {
    /// Whether somebody has to do something.
    pub fn needs_care(self) -> bool {
        match self {
            Self::Damage | Self::Flaw | Self::Contents => true,
            Self::Derivable | Self::Times => false,
        }
    }
}

/// Something that an operator has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub kind: FindingKind,
    pub path: PathBuf,
    pub position: Option<u64>,
    /// The first offset that is affected.
    pub offset: Option<Offset>,
    /// The first offset that is whole again; `None` when none follows.
    pub whole_from: Option<Offset>,
    pub message: String,
    pub advice: String,
}

/// What a check of a whole log folder came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub partitions: usize,
    pub segments: usize,
    pub batches: u64,
    pub records: u64,
    /// Bytes of whole batches.
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

fn context(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

/// The header of a segment file, whoever it belongs to.
fn header_of(file: &File) -> std::io::Result<Result<HeaderBlock, String>> {
    let block = read_header_block(file)?;
    Ok(block.map_err(|bad| match bad {
        BadHeader::Blank => "segment header is blank: nothing in the file was ever answered".into(),
        BadHeader::Damaged(message) => message,
    }))
}

/// The segments of one partition folder (`<log>/<topic id>/<partition>`), the oldest first.
pub fn segments(partition_folder: &Path) -> Result<Vec<SegmentInfo>, String> {
    let disk = Disk::default();
    let entries = disk
        .list(partition_folder)
        .map_err(context(partition_folder))?;
    let mut segments = Vec::new();
    for base_offset in entries.iter().filter_map(|entry| base_of(&entry.name)) {
        let path = log_path(partition_folder, base_offset);
        let file = disk.open(&path, Access::Read).map_err(context(&path))?;
        let header = header_of(&file).map_err(context(&path))?;
        let header = header.map(|block| block.header);
        let has_index = header.as_ref().is_ok_and(|header| {
            let index = index_path(partition_folder, base_offset);
            stored_index(&disk, &index, header.salt, 0).is_some()
        });
        let compacted_until = header
            .as_ref()
            .ok()
            .and_then(|header| header.compacted)
            .map(|extent| extent.next_offset);
        segments.push(SegmentInfo {
            base_offset,
            file_bytes: file.len().map_err(context(&path))?,
            header: header.map(|header| (header.partition, header.created)),
            compacted_until,
            has_index,
            path,
        });
    }
    Ok(segments)
}

/// Shows `visit` every batch of a segment file until it says false or no sealed batch follows.
pub fn batches(
    segment: &Path,
    mut visit: impl FnMut(BatchInfo) -> bool,
) -> Result<EndInfo, String> {
    let disk = Disk::default();
    let file = disk.open(segment, Access::Read).map_err(context(segment))?;
    let header = header_of(&file)
        .map_err(context(segment))?
        .map_err(|message| format!("{}: {message}", segment.display()))?
        .header;
    let length = file.len().map_err(context(segment))?;
    let mut walk = Scanner::new(&file, header.salt, HEADER_BLOCK, length, BODIES);
    while let Step::Batch(found) = walk.step().map_err(context(segment))? {
        let is_whole = walk.is_whole(&found).map_err(context(segment))?;
        if !visit(BatchInfo::new(&found, is_whole)) {
            break;
        }
    }
    Ok(EndInfo {
        position: walk.position(),
        bytes_behind: length.saturating_sub(walk.position()),
    })
}

/// Checks every batch of every partition in a log folder (`<data>/log`). Reads everything, changes nothing.
pub fn verify(log_folder: &Path) -> Result<Report, String> {
    let disk = Disk::default();
    let mut report = Report::default();
    for topic in disk.list(log_folder).map_err(context(log_folder))? {
        let Ok(topic_id) = uuid::Uuid::parse_str(&topic.name) else {
            continue;
        };
        let topic_folder = log_folder.join(&topic.name);
        for entry in disk.list(&topic_folder).map_err(context(&topic_folder))? {
            let Ok(index) = entry.name.parse() else {
                continue;
            };
            let id = PartitionId {
                topic: TopicId(topic_id),
                index,
            };
            let folder = topic_folder.join(&entry.name);
            Partition::new(&disk, id, &folder, &mut report)
                .verify(|_| true)
                .map_err(context(&folder))?;
        }
    }
    Ok(report)
}

/// As `verify`, of one partition, and there of the checkpoint and the segments with these base offsets alone.
pub fn verify_segments(
    log_folder: &Path,
    id: PartitionId,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Report, String> {
    let folder = partition_folder(log_folder, id);
    let mut report = Report::default();
    Partition::new(&Disk::default(), id, &folder, &mut report)
        .verify(wanted)
        .map_err(context(&folder))?;
    Ok(report)
}

/// The folder of a partition's files.
pub fn partition_folder(log_folder: &Path, id: PartitionId) -> PathBuf {
    log_folder
        .join(id.topic.to_string())
        .join(id.index.to_string())
}

/// The check of one partition.
struct Partition<'a> {
    disk: &'a Disk,
    id: PartitionId,
    folder: &'a Path,
    report: &'a mut Report,
    expected: Option<Offset>,
    /// The segment was compacted.
    has_gaps: bool,
    /// Batches of the segment whose inside is not what they say.
    lies: u64,
}

/// Batches of one segment with a wrong inside that are told one by one.
const MOST_LIES: u64 = 10;

impl<'a> Partition<'a> {
    fn new(disk: &'a Disk, id: PartitionId, folder: &'a Path, report: &'a mut Report) -> Self {
        Self {
            disk,
            id,
            folder,
            report,
            expected: None,
            has_gaps: false,
            lies: 0,
        }
    }

    fn verify(&mut self, wanted: impl Fn(Offset) -> bool) -> std::io::Result<()> {
        self.report.partitions += 1;
        let mut clean = match Checkpoint::load(self.disk, self.folder)? {
            Loaded::Good(checkpoint) => checkpoint.segments,
            Loaded::Missing => Vec::new(),
            Loaded::Damaged => {
                self.report.findings.push(Finding {
                    kind: FindingKind::Derivable,
                    path: self.folder.join("checkpoint"),
                    position: None,
                    offset: None,
                    whole_from: None,
                    message: "the checkpoint is damaged".into(),
                    advice: "none needed: the next start checks the whole partition and writes a new one".into(),
                });
                Vec::new()
            }
        };
        let entries = self.disk.list(self.folder)?;
        let mut bases: Vec<Offset> = entries
            .iter()
            .filter_map(|entry| base_of(&entry.name))
            .collect();
        self.pass_over_replaced(&mut bases, &mut clean)?;
        for extent in clean.iter().filter(|extent| extent.end > HEADER_BLOCK) {
            if !bases.contains(&extent.base_offset) && bases.iter().any(|b| *b < extent.base_offset)
            {
                let message = "the segment file is missing";
                self.finding(extent.base_offset, None, Some(extent.next_offset), message);
            }
        }
        for (index, base) in bases.iter().enumerate() {
            let next = bases.get(index + 1).copied();
            let synced = clean.iter().find(|extent| extent.base_offset == *base);
            if wanted(*base) {
                self.segment(*base, next, synced)?;
            } else {
                self.expected = next;
            }
        }
        Ok(())
    }

    /// Leaves out what a compacted segment stands for: the start after a crash removes it.
    fn pass_over_replaced(
        &self,
        bases: &mut Vec<Offset>,
        clean: &mut Vec<Extent>,
    ) -> std::io::Result<()> {
        for base in bases.clone() {
            if !bases.contains(&base) {
                continue;
            }
            let file = self.disk.open(&log_path(self.folder, base), Access::Read)?;
            let header = header_of(&file)?.ok().map(|block| block.header);
            let own = header.filter(|it| it.partition == self.id && it.base_offset == base);
            let Some(whole) = own.and_then(|header| header.compacted) else {
                continue;
            };
            bases.retain(|other| *other <= base || *other >= whole.next_offset);
            clean.retain(|one| one.base_offset < base || one.base_offset >= whole.next_offset);
            clean.push(whole);
        }
        Ok(())
    }

    fn segment(
        &mut self,
        base: Offset,
        next: Option<Offset>,
        synced: Option<&Extent>,
    ) -> std::io::Result<()> {
        self.report.segments += 1;
        let synced = synced.map_or(HEADER_BLOCK, |extent| extent.end);
        if self.expected.is_some_and(|expected| expected != base) {
            self.finding(
                base,
                None,
                Some(base),
                "the offsets before this segment are missing",
            );
        }
        self.expected = Some(base);
        let file = self.disk.open(&log_path(self.folder, base), Access::Read)?;
        let HeaderBlock { header, flaw } = match header_of(&file)? {
            Ok(block) if block.header.partition == self.id && block.header.base_offset == base => {
                block
            }
            Ok(HeaderBlock { header, .. }) => {
                let message = format!(
                    "the file was written for partition {} from offset {} on",
                    header.partition, header.base_offset
                );
                self.finding(base, Some(0), next, &message);
                self.expected = next;
                return Ok(());
            }
            // A crash between the making of a file and its first sync.
            Err(_) if next.is_none() && synced == HEADER_BLOCK => return Ok(()),
            Err(message) => {
                self.finding(base, Some(0), next, &message);
                self.expected = next;
                return Ok(());
            }
        };
        if let Some(position) = flaw {
            self.report.findings.push(Finding {
                kind: FindingKind::Flaw,
                path: log_path(self.folder, base),
                position: Some(position as u64),
                offset: None,
                whole_from: None,
                message: "a byte of the header block has changed; the header itself is whole, and so is every record"
                    .into(),
                advice: "`tidegate log repair` writes it anew; a second changed byte may cost the segment, so watch the disk".into(),
            });
        }
        self.index(base)?;
        self.walk(&file, &header, next, synced)
    }

    fn walk(
        &mut self,
        file: &File,
        header: &SegmentHeader,
        next: Option<Offset>,
        synced: u64,
    ) -> std::io::Result<()> {
        let base = self.expected.unwrap_or(0);
        let length = file.len()?;
        let mut expected = base;
        self.has_gaps = header.compacted.is_some();
        self.lies = 0;
        let mut walk = Scanner::new(file, header.salt, HEADER_BLOCK, length, BODIES);
        loop {
            let position = walk.position();
            let message = match walk.step()? {
                Step::End if position >= synced => break,
                Step::End => format!("{} synced bytes are missing at the end", synced - position),
                Step::Bad(message) => message,
                Step::Batch(found) => match self.batch(&mut walk, &found, expected)? {
                    Ok(()) => {
                        expected = found.header.last_offset().saturating_add(1);
                        continue;
                    }
                    Err(message) => {
                        walk.move_to(walk.position() - 1);
                        message
                    }
                },
            };
            let is_complete = next == Some(expected) && position >= synced;
            let again = if is_complete {
                None
            } else {
                walk.resync(u64::MAX, expected)?
            };
            let whole_from = again.map(|found| found.header.base_offset).or(next);
            if whole_from.is_some_and(|from| from > expected) || position < synced {
                self.finding(base, Some(position), whole_from, &message);
                if let Some(finding) = self.report.findings.last_mut() {
                    finding.offset = Some(expected);
                }
            }
            match again {
                Some(found) => expected = found.header.base_offset,
                None => {
                    expected = next.unwrap_or(expected);
                    break;
                }
            }
        }
        self.tell_lies_left_out(base);
        let covered = header.compacted.map_or(expected, |whole| whole.next_offset);
        self.expected = Some(expected.max(covered));
        Ok(())
    }

    /// Checks the index file; one that is missing, or of an earlier use of the segment, is made anew when it is needed.
    fn index(&mut self, base: Offset) -> std::io::Result<()> {
        let path = index_path(self.folder, base);
        if !is_index_intact(self.disk, &path)? {
            self.report.findings.push(Finding {
                kind: FindingKind::Derivable,
                path,
                position: None,
                offset: None,
                whole_from: None,
                message: "the index is damaged".into(),
                advice: "none needed: it is made anew when it is asked for".into(),
            });
        }
        Ok(())
    }

    /// Counts a batch that is whole and in its place; otherwise says what is wrong.
    fn batch(
        &mut self,
        walk: &mut Scanner<'_>,
        found: &Found,
        expected: Offset,
    ) -> std::io::Result<Result<(), String>> {
        if !walk.is_whole(found)? {
            return Ok(Err(format!(
                "the batch at offset {} fails its checksum",
                found.header.base_offset
            )));
        }
        let found_offset = found.header.base_offset;
        if found_offset < expected || (found_offset > expected && !self.has_gaps) {
            return Ok(Err(format!(
                "a batch with offset {} stands where {expected} should",
                found.header.base_offset
            )));
        }
        let bytes = walk.bytes(found.position, found.header.size)?;
        let lie = lie_of(&found.header, bytes);
        if let Some((kind, message)) = lie {
            self.note_lie(found, kind, message);
        }
        self.report.batches += 1;
        self.report.records += u64::try_from(found.header.record_count).unwrap_or(0);
        self.report.bytes += found.header.size as u64;
        Ok(Ok(()))
    }

    /// Notes a batch that is whole and whose inside is not what it says.
    fn note_lie(&mut self, found: &Found, kind: FindingKind, message: String) {
        self.lies += 1;
        if self.lies > MOST_LIES {
            return;
        }
        let header = &found.header;
        let after = header.last_offset().saturating_add(1);
        let advice = match kind {
            FindingKind::Contents => format!(
                "a consumer stops here: let its group go on from offset {after}, or delete the records below it with                  DeleteRecords; batches like it are refused where tidegate.validation is full"
            ),
            _ => "none needed: retention looks at the records themselves; a search by time may pass them over until they                   expire"
                .into(),
        };
        self.report.findings.push(Finding {
            kind,
            path: log_path(self.folder, self.expected.unwrap_or(0)),
            position: Some(found.position),
            offset: Some(header.base_offset),
            whole_from: Some(after),
            message,
            advice,
        });
    }

    fn tell_lies_left_out(&mut self, base: Offset) {
        let more = self.lies.saturating_sub(MOST_LIES);
        if more == 0 {
            return;
        }
        let kind = self.report.findings.last().map(|finding| finding.kind);
        self.report.findings.push(Finding {
            kind: kind.unwrap_or(FindingKind::Contents),
            path: log_path(self.folder, base),
            position: None,
            offset: None,
            whole_from: None,
            message: format!("{more} more batches whose records are not what their headers say"),
            advice: "as for the ones before".into(),
        });
    }

    fn finding(
        &mut self,
        base: Offset,
        position: Option<u64>,
        whole_from: Option<Offset>,
        message: &str,
    ) {
        let path = log_path(self.folder, base);
        let cut = match position {
            Some(position) if position >= HEADER_BLOCK => format!(
                "or, to give up everything from here on, stop the broker, run `truncate -s {position} {}` and remove the \
                 folder's `checkpoint` and every later segment",
                path.display()
            ),
            _ => "or, to give it up, stop the broker and remove the folder's `checkpoint`, this segment and every later one"
                .into(),
        };
        self.report.findings.push(Finding {
            kind: FindingKind::Damage,
            path,
            position,
            offset: Some(base),
            whole_from,
            message: message.into(),
            advice: format!(
                "restore the partition's folder from a copy; or run `tidegate log repair`, which gives up these records alone; {cut}"
            ),
        });
    }
}

/// What a batch says of its records that is not so.
fn lie_of(header: &BatchHeader, bytes: &[u8]) -> Option<(FindingKind, String)> {
    let latest = match validate::examine(header, bytes, MAX_DECOMPRESSED) {
        Ok(latest) => latest,
        Err(message) => {
            let message = format!("the batch's records are not what it says: {message}");
            return Some((FindingKind::Contents, message));
        }
    };
    // Where records were taken out, their time may have stayed.
    let is_thinned = i64::from(header.record_count) <= i64::from(header.last_offset_delta);
    let told = header.max_timestamp;
    (told < latest || (told > latest && !is_thinned)).then(|| {
        let message = format!("the header's largest time is {told}, that of its records {latest}");
        (FindingKind::Times, message)
    })
}
