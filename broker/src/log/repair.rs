//! Mending one partition's files while no broker uses them: what `tidegate log repair` does.
//!
//! What is whole is kept, with its offsets; what is damaged is taken out and set aside as `<file>.damaged`:
//!
//! - a segment header is written anew from its second copy, or from what it must have been where one byte differs;
//! - a segment with damage between its batches is written anew without it, as one that was compacted: its offsets have **gaps**;
//! - a segment that cannot be read at all, or is missing, is replaced by an empty one that stands for its offsets;
//! - a torn tail is cut off; indexes and checkpoint are made anew from the segments.
//!
//! Every step leaves a folder that the next run can mend: a file is set aside by copying, and replaced by a rename.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::batch::HEADER_SIZE;
use super::checkpoint::{self, Checkpoint, Loaded};
use super::damage::next_whole;
use super::file::{Access, Disk, File};
use super::inspect::partition_folder;
use super::scan::{BODIES, Found, Scanner};
use super::seal::{self, BadHeader, HEADER_BLOCK, HeaderBlock, SegmentHeader};
use super::segment::{
    Extent, base_of, build_index, index_path, is_index_intact, log_path, read_header_block,
};
use super::set::{Background, LogSet};
use crate::config::{LogConfig, TopicConfig};
use crate::env::{Clock, random_bytes};
use crate::types::{Offset, PartitionId};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;
/// What stands behind the last batch is kept up to here: a torn batch, not what a recycled file held before.
const MAX_TAIL: u64 = 64 << 20;

/// Something that was done, or would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    pub path: PathBuf,
    pub message: String,
}

/// Mends a partition's files in a log folder (`<data>/log`) and says what was done; with `dry_run` what would be. Blocking.
///
/// # Errors
/// When the disk errs, a broker has the folder open, or something is left that cannot be mended.
pub fn repair(log_folder: &Path, id: PartitionId, dry_run: bool) -> Result<Vec<Action>, String> {
    let disk = Disk::default();
    let folder: Arc<Path> = partition_folder(log_folder, id).into();
    let context = |error: io::Error| format!("{}: {error}", folder.display());
    // Nobody else may write meanwhile; the lock is let go of when the log is opened at the end.
    let lock = LogSet::lock(&disk, log_folder)?;
    let loaded = Checkpoint::load(&disk, &folder).map_err(context)?;
    let mut repair = Repair {
        disk,
        id,
        folder: Arc::clone(&folder),
        dry_run,
        actions: Vec::new(),
        known: Vec::new(),
        log_start: 0,
        rewrote: false,
    };
    if let Loaded::Good(checkpoint) = &loaded {
        repair.known.clone_from(&checkpoint.segments);
        repair.log_start = checkpoint.log_start;
    }
    repair.segments().map_err(context)?;
    repair
        .checkpoint(matches!(loaded, Loaded::Damaged))
        .map_err(context)?;
    let mut actions = repair.actions;
    drop(lock);
    if !dry_run && !actions.is_empty() {
        open_and_close(log_folder, id)?;
        actions.push(Action {
            path: folder.to_path_buf(),
            message: "opened, verified and closed cleanly".into(),
        });
    }
    Ok(actions)
}

/// Recovers the partition as a start does, which makes indexes and checkpoint anew.
fn open_and_close(log_folder: &Path, id: PartitionId) -> Result<(), String> {
    let config = LogConfig {
        // Whatever the broker's own bounds are: nothing is to be forgotten or given away here.
        recycle_bytes: u64::MAX / 4,
        producer_expiry: Duration::from_secs(1 << 40),
        max_producers_per_partition: usize::MAX,
        ..LogConfig::default()
    };
    let clock = Clock::system();
    let logs = LogSet::open_on(
        Disk::default(),
        log_folder,
        config,
        clock,
        Background::Manual,
    )?;
    let log = logs.open_partition(id, Arc::new(TopicConfig::default()))?;
    if let Some(reason) = log.stats().stopped {
        return Err(format!("this is left and cannot be mended: {reason}"));
    }
    log.checkpoint()?;
    logs.shutdown();
    Ok(())
}

struct Repair {
    disk: Disk,
    id: PartitionId,
    folder: Arc<Path>,
    dry_run: bool,
    actions: Vec<Action>,
    /// Segments that the checkpoint lists.
    known: Vec<Extent>,
    log_start: Offset,
    /// The checkpoint says no longer where the segments end.
    rewrote: bool,
}

/// What a segment was found to hold.
struct Survey {
    whole: Vec<Found>,
    /// Stretches of offsets that are damaged, with the reason.
    holes: Vec<(Offset, Offset, String)>,
    /// The position after the last whole batch.
    end: u64,
    /// The offset after the last that the segment stands for.
    covered: Offset,
}

impl Repair {
    fn act(&mut self, path: &Path, message: String) {
        self.actions.push(Action {
            path: path.to_owned(),
            message,
        });
    }

    fn bases(&self) -> io::Result<Vec<Offset>> {
        let entries = self.disk.list(&self.folder)?;
        let bases = entries.iter().filter_map(|entry| base_of(&entry.name));
        Ok(bases.collect())
    }

    fn segments(&mut self) -> io::Result<()> {
        let bases = self.bases()?;
        let first_known = self.known.first().map(|extent| extent.base_offset);
        let first = first_known.or(bases.first().copied()).unwrap_or(0);
        let mut expected = first.max(self.log_start);
        for (index, base) in bases.iter().enumerate() {
            if index > 0 && *base < expected {
                let path = log_path(&self.folder, *base);
                self.set_aside(&path, "the segment before it stands for its offsets")?;
                self.remove(&path, true)?;
                continue;
            }
            if *base > expected {
                self.stand_in(expected, *base, "no segment holds")?;
            }
            let next = bases.get(index + 1).copied();
            expected = self.segment(*base, next)?.max(expected);
        }
        let known_end = self.known.last().map_or(0, |extent| extent.next_offset);
        if known_end > expected && !bases.is_empty() {
            self.stand_in(expected, known_end, "no segment holds")?;
            self.begin_after(known_end)?;
        }
        Ok(())
    }

    /// Mends one segment and answers the offset after it.
    fn segment(&mut self, base: Offset, next: Option<Offset>) -> io::Result<Offset> {
        let path = log_path(&self.folder, base);
        let file = self.disk.open(&path, Access::Read)?;
        let known = self.known.iter().find(|extent| extent.base_offset == base);
        let known_end = known.map_or(base, |extent| extent.next_offset);
        let Some(header) = self.header(&file, base)? else {
            let is_blank = matches!(read_header_block(&file)?, Err(BadHeader::Blank));
            let covered = next.unwrap_or(known_end);
            if is_blank && covered == base {
                return Ok(base);
            }
            self.set_aside(
                &path,
                "its header cannot be read, so that nothing in it can be",
            )?;
            if covered > base {
                self.stand_in(base, covered, "the unreadable segment held")?;
            }
            if next.is_none() {
                self.remove(&path, covered == base)?;
                self.begin_after(covered)?;
            }
            return Ok(covered);
        };
        let survey = survey(&file, &header, next, known_end)?;
        if survey.holes.is_empty() {
            if next.is_none() {
                self.cut_tail(&file, &path, survey.end)?;
            }
            self.index(&file, &header, survey.end)?;
        } else {
            self.rewrite(&file, &header, &survey)?;
            if next.is_none() {
                self.begin_after(survey.covered)?;
            }
        }
        Ok(survey.covered)
    }

    /// The segment's header, written anew where it is not as it was. `None` when it cannot be known.
    fn header(&mut self, file: &File, base: Offset) -> io::Result<Option<SegmentHeader>> {
        let mut block = Vec::new();
        file.read_at(&mut block, HEADER_BLOCK as usize, 0)?;
        let is_ours =
            |header: &SegmentHeader| header.partition == self.id && header.base_offset == base;
        let header = match SegmentHeader::decode(&block) {
            Ok(HeaderBlock { header, flaw: None }) if is_ours(&header) => return Ok(Some(header)),
            Ok(HeaderBlock { header, .. }) if is_ours(&header) => header,
            Ok(_) | Err(BadHeader::Blank) => return Ok(None),
            Err(BadHeader::Damaged(_)) => match self.mended(&block, file, base)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let path = log_path(&self.folder, base);
        self.act(&path, "the header block was written anew".into());
        if !self.dry_run {
            let kept = self.unused_name(&path)?;
            self.write_new(&kept, &block)?;
            let file = self.disk.open(&path, Access::Write)?;
            file.write_at(&header.encode(), &[], 0, u64::MAX)?;
            file.sync()?;
        }
        Ok(Some(header))
    }

    /// A header that differs from the block in one byte, is this segment's, and seals its first batch.
    fn mended(&self, block: &[u8], file: &File, base: Offset) -> io::Result<Option<SegmentHeader>> {
        let length = file.len()?;
        let mut bytes = block.to_vec();
        for position in 0..seal::COPY_BYTES.min(block.len()) {
            for change in 1..=u8::MAX {
                bytes[position] = block[position] ^ change;
                let Ok(HeaderBlock { header, .. }) = SegmentHeader::decode(&bytes) else {
                    continue;
                };
                if header.partition != self.id || header.base_offset != base {
                    continue;
                }
                let mut walk = Scanner::new(file, header.salt, HEADER_BLOCK, length, BODIES);
                if let Ok(Some(_)) = next_whole(&mut walk, base)? {
                    return Ok(Some(header));
                }
            }
            bytes[position] = block[position];
        }
        Ok(None)
    }

    /// Writes a segment anew with what is whole in it.
    fn rewrite(&mut self, file: &File, old: &SegmentHeader, survey: &Survey) -> io::Result<()> {
        let base = old.base_offset;
        let path = log_path(&self.folder, base);
        for (first, until, message) in &survey.holes {
            self.act(
                &path,
                format!("offsets {first} to {} are given up: {message}", until - 1),
            );
        }
        self.set_aside(&path, "what is whole in it was written anew")?;
        let mut extent = Extent::empty(base);
        for found in &survey.whole {
            let header = &found.header;
            extent.extend(
                extent.end + header.size as u64,
                header.last_offset() + 1,
                header.max_timestamp,
            );
        }
        extent.next_offset = survey.covered;
        self.write_segment(
            &SegmentHeader {
                salt: u64::from_be_bytes(random_bytes()),
                compacted: Some(extent),
                ..*old
            },
            file,
            &survey.whole,
        )
    }

    /// Puts an empty segment in the place of offsets that are lost.
    fn stand_in(&mut self, base: Offset, until: Offset, what: &str) -> io::Result<()> {
        let path = log_path(&self.folder, base);
        let last = until - 1;
        self.act(
            &path,
            format!("{what} offsets {base} to {last}: an empty segment stands for them"),
        );
        let mut extent = Extent::empty(base);
        extent.next_offset = until;
        let header = self.fresh_header(base, Some(extent));
        self.write_segment(&header, &NOTHING, &[])
    }

    /// Begins a segment that takes what is appended next: one with gaps takes nothing.
    fn begin_after(&mut self, base: Offset) -> io::Result<()> {
        let header = self.fresh_header(base, None);
        self.write_segment(&header, &NOTHING, &[])
    }

    fn fresh_header(&self, base_offset: Offset, compacted: Option<Extent>) -> SegmentHeader {
        SegmentHeader {
            leader_epoch: 0,
            base_offset,
            salt: u64::from_be_bytes(random_bytes()),
            created: Clock::system().now_ms(),
            partition: self.id,
            compacted,
        }
    }

    /// Writes a segment with these batches of another and puts it in its place.
    fn write_segment(
        &mut self,
        header: &SegmentHeader,
        from: &dyn Source,
        batches: &[Found],
    ) -> io::Result<()> {
        self.rewrote = true;
        if self.dry_run {
            return Ok(());
        }
        let path = log_path(&self.folder, header.base_offset);
        let new = path.with_extension("log.repair");
        let file = self.disk.open(&new, Access::Replace)?;
        file.write_at(&header.encode(), &[], 0, u64::MAX)?;
        let mut position = HEADER_BLOCK;
        let mut bytes = Vec::new();
        for batch in batches {
            from.read(&mut bytes, batch.header.size, batch.position)?;
            let Some((head, body)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let mut head = *head;
            seal::apply(header.salt, position, &mut head);
            file.write_at(&head, body, position, u64::MAX)?;
            position += batch.header.size as u64;
        }
        file.sync()?;
        self.disk.rename(&new, &path)?;
        self.disk
            .remove(&index_path(&self.folder, header.base_offset))?;
        self.disk.sync_folder(&self.folder)
    }

    /// Cuts off what stands behind the last whole batch.
    fn cut_tail(&mut self, file: &File, path: &Path, end: u64) -> io::Result<()> {
        let length = file.len()?;
        let mut tail = Vec::new();
        let count = (length - end).min(MAX_TAIL);
        file.read_at(&mut tail, usize::try_from(count).unwrap_or(0), end)?;
        // Space that was reserved and never written is cut off by every start.
        if tail.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.act(
            path,
            format!(
                "{} bytes behind the last whole batch were cut off",
                length - end
            ),
        );
        if self.dry_run {
            return Ok(());
        }
        let kept = self.unused_name(path)?;
        self.write_new(&kept, &tail)?;
        let file = self.disk.open(path, Access::Write)?;
        file.set_len(end)?;
        file.sync()
    }

    /// Makes an index anew that is damaged.
    fn index(&mut self, file: &File, header: &SegmentHeader, end: u64) -> io::Result<()> {
        let path = index_path(&self.folder, header.base_offset);
        if is_index_intact(&self.disk, &path)? {
            return Ok(());
        }
        self.set_aside(&path, "the index was made anew")?;
        if self.dry_run {
            return Ok(());
        }
        let index = build_index(header.base_offset, file, header.salt, end)?;
        let file = self.disk.open(&path, Access::Replace)?;
        file.write_at(&index.encode(header.salt, end), &[], 0, u64::MAX)?;
        file.sync()
    }

    /// Replaces a checkpoint that is damaged or no longer true by one that knows the log start alone, so that the start
    /// reads everything.
    fn checkpoint(&mut self, is_damaged: bool) -> io::Result<()> {
        let path = self.folder.join(checkpoint::FILE);
        let exists = self.disk.exists(&path)?;
        if !is_damaged && !self.rewrote {
            return Ok(());
        }
        if exists {
            self.set_aside(&path, "the checkpoint was made anew from the segments")?;
        }
        let Some(first) = self.bases()?.first().copied() else {
            return self.remove(&path, exists);
        };
        if self.dry_run {
            return Ok(());
        }
        let from_the_start = Checkpoint {
            // A hole that is left is damage and no torn tail.
            boot_id: self.disk.boot_id().unwrap_or_default(),
            log_start: self.log_start.max(first),
            segments: vec![Extent::empty(first)],
            ..Checkpoint::default()
        };
        from_the_start.save(&self.disk, &self.folder)
    }

    fn remove(&self, path: &Path, really: bool) -> io::Result<()> {
        if self.dry_run || !really {
            return Ok(());
        }
        self.disk.remove(path)?;
        self.disk.sync_folder(&self.folder)
    }

    /// Keeps a copy of a file that is about to be replaced.
    fn set_aside(&mut self, path: &Path, why: &str) -> io::Result<()> {
        let kept = self.unused_name(path)?;
        self.act(
            path,
            format!("{why}; as it was it is kept as {}", kept.display()),
        );
        if self.dry_run {
            return Ok(());
        }
        let from = self.disk.open(path, Access::Read)?;
        let to = self.disk.open(&kept, Access::Replace)?;
        let mut bytes = Vec::new();
        let mut position = 0;
        loop {
            from.read_at(&mut bytes, CHUNK, position)?;
            if bytes.is_empty() {
                break;
            }
            to.write_at(&bytes, &[], position, u64::MAX)?;
            position += bytes.len() as u64;
        }
        to.sync()?;
        self.disk.sync_folder(&self.folder)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.open(path, Access::Replace)?;
        file.write_at(bytes, &[], 0, u64::MAX)?;
        file.sync()?;
        self.disk.sync_folder(&self.folder)
    }

    /// `<file>.damaged`, or with a number where that is taken.
    fn unused_name(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut number = 1;
        loop {
            let suffix = match number {
                1 => String::new(),
                _ => format!("-{number}"),
            };
            let candidate = path.with_file_name(format!("{name}.damaged{suffix}"));
            if !self.disk.exists(&candidate)? {
                return Ok(candidate);
            }
            number += 1;
        }
    }
}

/// Where batches are copied from.
trait Source {
    fn read(&self, bytes: &mut Vec<u8>, count: usize, position: u64) -> io::Result<()>;
}

struct Nothing;
const NOTHING: Nothing = Nothing;

impl Source for Nothing {
    fn read(&self, bytes: &mut Vec<u8>, _count: usize, _position: u64) -> io::Result<()> {
        bytes.clear();
        Ok(())
    }
}

impl Source for File {
    fn read(&self, bytes: &mut Vec<u8>, count: usize, position: u64) -> io::Result<()> {
        self.read_at(bytes, count, position)
    }
}

/// Walks a whole segment. `next` is the offset with which the next one begins, `known_end` the one up to which the
/// checkpoint knew this one.
fn survey(
    file: &File,
    header: &SegmentHeader,
    next: Option<Offset>,
    known_end: Offset,
) -> io::Result<Survey> {
    let base = header.base_offset;
    let end = header.compacted.map_or(file.len()?, |whole| whole.end);
    let must_reach = match header.compacted {
        Some(whole) => whole.next_offset,
        None => next.unwrap_or(known_end),
    };
    let mut survey = Survey {
        whole: Vec::new(),
        holes: Vec::new(),
        end: HEADER_BLOCK,
        covered: base,
    };
    let mut walk = Scanner::new(file, header.salt, HEADER_BLOCK, end, BODIES);
    loop {
        let position = walk.position();
        let message = match next_whole(&mut walk, survey.covered)? {
            Ok(Some(found)) => {
                survey.covered = found.header.last_offset() + 1;
                survey.end = found.position + found.header.size as u64;
                survey.whole.push(found);
                continue;
            }
            Ok(None) if survey.covered >= must_reach || header.compacted.is_some() => break,
            Ok(None) => "the file ends too early".into(),
            Err(message) => message,
        };
        // A sealed segment is complete; what stands behind its last batch is nothing.
        let is_complete = survey.covered >= must_reach;
        let again = match is_complete && next.is_some() {
            true => None,
            false => walk.resync(u64::MAX, survey.covered)?,
        };
        let until = again.map_or(must_reach, |found| found.header.base_offset);
        if until > survey.covered || again.is_some() {
            let message = format!("{message} (position {position})");
            survey.holes.push((survey.covered, until, message));
        }
        survey.covered = survey.covered.max(until);
        if again.is_none() {
            break;
        }
    }
    survey.covered = survey.covered.max(must_reach);
    Ok(survey)
}
