//! Opening a partition's log: from its last clean point to a state that is whole, or to one that says what is not.
//!
//! What was synced at the clean point is believed; every batch after it is checked. A **torn tail** is what a crash leaves behind
//! the last batch that was written whole: it was never answered, and is cut off. **Damage** is a hole in front of
//! batches that are whole, or something missing that had been synced: nothing is cut then, the log stays readable around
//! it and does not accept. After a loss of power, pages may have reached the disk out of order, so that a hole after
//! the clean point is a torn tail; within one run of the operating system no page is ever lost, so that it is damage.
//!
//! Damage may be **given up**, by the topic's choice or an operator's: then it is noted, and the log goes on behind it as if it were
//! whole. That is refused where it is not known which offset comes next.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Cleaning, Loaded, Replacing};
use super::compact;
use super::control::{Control, SliceId};
use super::damage::{DamagedRange, next_whole};
use super::file::{Access, Disk, File};
use super::index::Index;
use super::marks::{Landed, Mark, Marks};
use super::producers::Producers;
use super::scan::{BODIES, Found, Scanner};
use super::seal::{BadHeader, HEADER_BLOCK, SegmentHeader};
use super::segment::{
    self, Extent, Segment, base_of, build_index, index_path, log_path, stored_index,
};
use super::set::Shared;
use super::transactions::{Change, Transactions};
use super::{Appended, control};
use crate::env::defects::{self, Defect};
use crate::types::{Offset, PartitionId};

/// The mark of a log that stopped after a failed write or sync.
const SUSPECT: &str = "suspect";
/// Stands in the folder of a partition that a recovery found damaged, until one finds it whole or gives the damage up.
const DAMAGED: &str = "damaged";
/// How far behind a hole whole batches are looked for.
const RESYNC_WINDOW: u64 = 4 << 20;

/// A partition's log as recovery found or made it.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub log_start: Offset,
    pub next_offset: Offset,
    pub segments: Vec<Arc<Segment>>,
    pub producers: Producers,
    pub transactions: Transactions,
    pub marks: Marks,
    pub cleaning: Cleaning,
    /// Bytes after the clean point.
    pub unchecked: u64,
    /// The names of the partition's folder and of its topic's may not be durable.
    pub parents_unsynced: bool,
    /// Why the log must not accept.
    pub damage: Option<String>,
    pub has_checkpoint: bool,
    /// What cannot be read, given up or not.
    pub damaged: Vec<DamagedRange>,
}

/// How a partition is recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Verification {
    /// The log goes on behind damage.
    pub gives_up_damage: bool,
    /// What is checked is read from the disk, whatever the page cache holds.
    pub from_disk: bool,
}

struct Recovery<'a> {
    shared: &'a Shared,
    id: PartitionId,
    folder: &'a Arc<Path>,
    /// A hole in front of whole batches cannot be the work of a crash.
    hole_is_damage: bool,
    verification: Verification,
    /// The segment of the clean point, when there is a checkpoint.
    clean: Option<Extent>,
    state: Recovered,
    /// A mark whose slice has to come next.
    pending: Option<(Mark, SliceId)>,
}

/// What a segment's walk came to.
enum Outcome {
    GoOn,
    /// The log ends here: later files hold nothing that was ever answered.
    LogEnds,
}

/// Recovers one partition. `Err` only when the folder cannot be read at all.
pub(super) fn recover(
    shared: &Shared,
    id: PartitionId,
    folder: &Arc<Path>,
    verification: Verification,
) -> Result<Recovered, String> {
    let context = |error: io::Error| format!("recovering {}: {error}", folder.display());
    let entries = shared.disk.list(folder).map_err(context)?;
    let bases: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| base_of(&entry.name))
        .collect();
    let loaded = Checkpoint::load(&shared.disk, folder).map_err(context)?;
    let suspect = folder.join(SUSPECT);
    let is_suspect = shared.disk.exists(&suspect).map_err(context)?;
    let damaged = folder.join(DAMAGED);
    let was_damaged = shared.disk.exists(&damaged).map_err(context)?;
    let mut recovery = Recovery {
        shared,
        id,
        folder,
        hole_is_damage: match &loaded {
            // Readers were shown what lies behind it, whatever has become of the machine since.
            _ if was_damaged => true,
            Loaded::Good(checkpoint) => {
                checkpoint.boot_id != [0; 16] && checkpoint.boot_id == shared.boot_id
            }
            // A partition gets its first checkpoint some time after its first batch.
            Loaded::Missing => bases.len() > 1 || bases.first().is_some_and(|base| *base > 0),
            Loaded::Damaged => true,
        },
        verification: Verification {
            // A write or sync failed in the last run.
            from_disk: verification.from_disk || is_suspect,
            ..verification
        },
        clean: None,
        state: Recovered::default(),
        pending: None,
    };
    if let Err(error) = recovery.run(bases, loaded) {
        // Perhaps a sync: the next recovery must not believe the page cache.
        mark_suspect(&shared.disk, folder);
        return Err(context(error));
    }
    if entries.iter().any(|entry| entry.name == compact::NEW_FILE) {
        let path = folder.join(compact::NEW_FILE);
        shared.disk.remove(&path).map_err(context)?;
    }
    if is_suspect && recovery.state.damage.is_none() {
        shared.disk.remove(&suspect).map_err(context)?;
    }
    match recovery.state.damage.is_some() {
        true if !was_damaged => mark_damaged(&shared.disk, folder),
        // What is given up keeps its mark until a clean point lies behind it.
        false if was_damaged && recovery.state.damaged.is_empty() => {
            unmark_damaged(&shared.disk, folder).map_err(context)?;
        }
        _ => {}
    }
    let mut state = recovery.state;
    if defects::has(Defect::ForgetProducers) {
        state.producers = Producers::default();
        state.marks = Marks::default();
    }
    let (now, limits) = (shared.clock.now_ms(), shared.producer_limits());
    state.producers.expire(now, &limits);
    state.marks.expire(now, &limits);
    Ok(state)
}

/// Tells the next recovery that a write or sync has failed: the kernel calls pages clean that it failed to write.
pub(super) fn mark_suspect(disk: &Disk, folder: &Path) {
    let mark = folder.join(SUSPECT);
    if let Err(error) = disk.open(&mark, Access::Replace) {
        tracing::warn!(path = %mark.display(), %error, "not marked; drop the page cache before the broker starts again");
    }
}

/// Tells the next recovery, should the power be lost before it, that a hole here is damage and not a torn tail.
fn mark_damaged(disk: &Disk, folder: &Path) {
    let mark = folder.join(DAMAGED);
    let marked = disk
        .open(&mark, Access::Replace)
        .and_then(|_| disk.sync_folder(folder));
    if let Err(error) = marked {
        tracing::warn!(path = %mark.display(), %error, "not marked; a loss of power may cut off what is behind the damage");
    }
}

/// Takes the mark away: there is no hole any more, or a clean point lies behind it.
pub(super) fn unmark_damaged(disk: &Disk, folder: &Path) -> io::Result<()> {
    disk.remove(&folder.join(DAMAGED))
}

/// Splits off the segments that lie within a listed one, which compaction put in their place.
fn without_covered(bases: &[Offset], listed: &[Extent]) -> (Vec<Offset>, Vec<Offset>) {
    bases.iter().partition(|base| {
        let covers = |extent: &Extent| extent.base_offset < **base && **base < extent.next_offset;
        listed.iter().any(covers)
    })
}

impl Recovery<'_> {
    fn run(&mut self, bases: Vec<Offset>, loaded: Loaded) -> io::Result<()> {
        self.state.has_checkpoint = matches!(loaded, Loaded::Good(_));
        let synced: Vec<Offset> = match &loaded {
            Loaded::Good(checkpoint) => checkpoint.segments.iter().map(|s| s.base_offset).collect(),
            Loaded::Missing | Loaded::Damaged => Vec::new(),
        };
        let walked = match loaded {
            Loaded::Good(mut checkpoint) => {
                if let Some(replacing) = checkpoint.cleaning.replacing.take() {
                    self.finish_replacing(replacing, &mut checkpoint.segments)?;
                }
                self.begin_at(*checkpoint, &bases)?
            }
            Loaded::Missing | Loaded::Damaged => {
                let bases = self.without_replaced(bases)?;
                let first = bases.first().copied().unwrap_or(0);
                self.state.log_start = first;
                self.state.next_offset = first;
                bases
            }
        };
        for (index, base) in walked.iter().enumerate() {
            let next = walked.get(index + 1).copied();
            match self.segment(*base, next)? {
                Outcome::GoOn => {}
                Outcome::LogEnds => {
                    self.discard(&walked[index + 1..])?;
                    break;
                }
            }
        }
        if self.state.damage.is_none() {
            self.sync_names(&synced)?;
        }
        Ok(())
    }

    /// What was compacted when the checkpoint was written holds either the old segments or the new one: the header of
    /// the first tells. Whatever else lies within the new one is given away later.
    fn finish_replacing(&self, replacing: Replacing, segments: &mut Vec<Extent>) -> io::Result<()> {
        let Some(extent) = self.compacted(replacing.base_offset)? else {
            return Ok(());
        };
        if extent.next_offset == replacing.next_offset {
            let is_replaced =
                |one: &Extent| (extent.base_offset..extent.next_offset).contains(&one.base_offset);
            segments.retain(|one| !is_replaced(one));
            let at = segments.partition_point(|one| one.base_offset < extent.base_offset);
            segments.insert(at, extent);
            // The new one's name outlives the old ones' files.
            self.shared.disk.sync_folder(self.folder)?;
        }
        Ok(())
    }

    /// What a segment file holds when compaction wrote it.
    fn compacted(&self, base: Offset) -> io::Result<Option<Extent>> {
        let path = log_path(self.folder, base);
        if !self.shared.disk.exists(&path)? {
            return Ok(None);
        }
        let file = self.shared.disk.open(&path, Access::Read)?;
        let header = segment::read_header(&file, self.id, base)?;
        Ok(header.ok().and_then(|header| header.compacted))
    }

    /// Gives away segments that a compacted one stands for; only a crash leaves them.
    fn without_replaced(&self, bases: Vec<Offset>) -> io::Result<Vec<Offset>> {
        let mut kept = Vec::with_capacity(bases.len());
        let mut covered = Offset::MIN;
        for base in bases {
            if base < covered {
                self.shared.disk.sync_folder(self.folder)?;
                self.discard(&[base])?;
                continue;
            }
            if let Some(extent) = self.compacted(base)? {
                covered = extent.next_offset;
            }
            kept.push(base);
        }
        Ok(kept)
    }

    /// Takes over what the checkpoint says. Answers the segments that have to be walked.
    fn begin_at(&mut self, checkpoint: Checkpoint, bases: &[Offset]) -> io::Result<Vec<Offset>> {
        let log_start = checkpoint.log_start;
        self.state.log_start = log_start;
        // Its name may not be durable, and what is given away by it must not come back with an older one.
        if bases.iter().any(|base| *base < log_start) {
            self.shared.disk.sync_folder(self.folder)?;
        }
        let (replaced, bases) = without_covered(bases, &checkpoint.segments);
        let open = checkpoint.producers.open_transactions();
        let open = open.iter().map(|one| (one.first_offset, one.producer_id));
        self.state.transactions = Transactions::restore(open, checkpoint.aborted);
        self.state.producers = checkpoint.producers;
        self.state.marks = checkpoint.marks;
        self.state.cleaning = checkpoint.cleaning;
        let Some((mut clean, mut sealed)) = checkpoint.segments.split_last() else {
            return Ok(bases);
        };
        // One that had only just begun may turn out blank: then the log goes on in the one before it.
        if clean.end == HEADER_BLOCK
            && let Some((before, rest)) = sealed.split_last()
            && before.next_offset > log_start
        {
            (clean, sealed) = (before, rest);
        }
        for extent in sealed
            .iter()
            .filter(|extent| extent.next_offset > log_start)
        {
            if !bases.contains(&extent.base_offset) {
                self.state.next_offset = extent.base_offset;
                self.damaged(
                    extent.base_offset,
                    extent.next_offset,
                    "the segment file is missing",
                );
                continue;
            }
            self.state
                .segments
                .push(Arc::new(Segment::known(self.id, self.folder, *extent)));
        }
        self.clean = Some(*clean);
        self.state.next_offset = clean.base_offset;
        if !bases.contains(&clean.base_offset) {
            if clean.end > HEADER_BLOCK {
                let after = bases.iter().find(|base| **base > clean.base_offset);
                self.lost(clean, after.copied(), "the segment file is missing");
            }
            self.state.next_offset = clean.next_offset;
        }
        let (before, rest): (Vec<Offset>, Vec<Offset>) =
            bases.iter().partition(|base| **base < clean.base_offset);
        // Only their files were still there.
        self.discard(&replaced)?;
        for base in before {
            let is_known = sealed
                .iter()
                .any(|extent| extent.base_offset == base && extent.next_offset > log_start);
            if is_known {
                continue;
            }
            if base < log_start {
                // Retention had let go of it.
                self.discard(&[base])?;
            } else {
                self.stopped(base, "the checkpoint does not know this segment");
            }
        }
        Ok(rest)
    }

    /// Walks one segment and takes it into the log.
    fn segment(&mut self, base: Offset, next: Option<Offset>) -> io::Result<Outcome> {
        let known = self.clean.filter(|extent| extent.base_offset == base);
        let extent = known.unwrap_or_else(|| Extent::empty(base));
        if base != self.state.next_offset {
            let message = format!("offset {} should come next", self.state.next_offset);
            if base > self.state.next_offset && !self.hole_is_damage {
                self.discard(&[base])?;
                return Ok(Outcome::LogEnds);
            }
            if base > self.state.next_offset {
                self.damaged(base, base, &message);
            } else {
                self.stopped(base, &message);
            }
        }
        let file = self
            .shared
            .disk
            .open(&log_path(self.folder, base), Access::Write)?;
        if self.verification.from_disk {
            file.sync()?;
            file.drop_cache()?;
        }
        // A file that is shorter than the block is as good as blank.
        let found = match file.len()? < HEADER_BLOCK {
            true => Err(BadHeader::Blank),
            false => segment::read_header(&file, self.id, base)?,
        };
        let header = match found {
            Ok(header) => header,
            Err(BadHeader::Blank) if extent.end == HEADER_BLOCK && !self.hole_before(next) => {
                self.discard(&[base])?;
                return Ok(Outcome::LogEnds);
            }
            Err(bad) => {
                let message = match bad {
                    BadHeader::Blank => "the segment header is blank".into(),
                    BadHeader::Damaged(message) => message,
                };
                self.unreadable(extent, next, &message);
                return Ok(Outcome::GoOn);
            }
        };
        let length = file.len()?;
        if length < extent.end && known.is_none() && !self.hole_before(next) {
            // Not even its header block had become durable.
            self.discard(&[base])?;
            return Ok(Outcome::LogEnds);
        }
        if length < extent.end {
            let message = format!("{length} bytes are left of {} that were synced", extent.end);
            self.unreadable(extent, next, &message);
            return Ok(Outcome::GoOn);
        }
        // A loss of power may have left one copy of the header. A damaged log is left as it is.
        if self.state.damage.is_none() {
            segment::mend_header(&file)?;
        }
        self.state.next_offset = extent.next_offset;
        if let Some(whole) = header.compacted
            && known.is_none_or(|extent| extent.end == HEADER_BLOCK)
        {
            return self.walk_compacted(&file, header, whole);
        }
        self.walk(&file, header, extent, next)
    }

    /// Whether a blank or torn segment stands in front of one that may hold answered batches.
    fn hole_before(&self, next: Option<Offset>) -> bool {
        next.is_some() && self.hole_is_damage
    }

    /// Keeps a segment that cannot be read, so that reads of its offsets say so.
    fn unreadable(&mut self, mut extent: Extent, next: Option<Offset>, message: &str) {
        self.state.next_offset = extent.base_offset;
        self.lost(&extent, next, message);
        extent.next_offset = next.unwrap_or(extent.next_offset).max(extent.next_offset);
        self.state.next_offset = extent.next_offset;
        self.state
            .segments
            .push(Arc::new(Segment::known(self.id, self.folder, extent)));
    }

    /// Checks every batch from the extent's end on, and cuts off what is torn.
    fn walk(
        &mut self,
        file: &File,
        header: SegmentHeader,
        mut extent: Extent,
        next: Option<Offset>,
    ) -> io::Result<Outcome> {
        let length = file.len()?;
        let start = extent.end;
        if length == start && next.is_none_or(|next| next == extent.next_offset) {
            self.keep(Segment::known(self.id, self.folder, extent));
            return Ok(Outcome::GoOn);
        }
        let mut index = self.index_before(file, &header, start)?;
        let mut scanner = Scanner::new(file, header.salt, start, length, BODIES);
        let torn = loop {
            match next_whole(&mut scanner, self.state.next_offset)? {
                Ok(None) => break None,
                Ok(Some(found)) => {
                    index.note(
                        found.header.base_offset,
                        found.position,
                        extent.max_timestamp,
                    );
                    self.take(&found, &mut scanner, &mut extent)?;
                }
                Err(message) => {
                    let is_complete = next == Some(self.state.next_offset);
                    if is_complete || !self.skip_hole(&mut scanner, &message, &extent)? {
                        break Some(message).filter(|_| !is_complete);
                    }
                }
            }
        };
        let mut outcome = Outcome::GoOn;
        if let Some(next) = next
            && next != self.state.next_offset
        {
            if self.hole_is_damage {
                let message = torn.unwrap_or_else(|| "batches are missing at its end".into());
                self.damaged(extent.base_offset, next, &message);
                self.state.next_offset = next;
            } else {
                outcome = Outcome::LogEnds;
            }
        }
        let is_sealed = next.is_some() && matches!(outcome, Outcome::GoOn);
        self.finish(file, &extent, length)?;
        self.state.unchecked += extent.end - start;
        let segment = Segment::known(self.id, self.folder, extent);
        segment.adopt(header, index);
        if is_sealed {
            segment.save_index(&self.shared.disk, extent.end, false);
        }
        self.keep(segment);
        Ok(outcome)
    }

    /// Checks every batch of a segment that compaction wrote. It was synced before it got its name, so that whatever is
    /// missing is damage.
    fn walk_compacted(
        &mut self,
        file: &File,
        header: SegmentHeader,
        whole: Extent,
    ) -> io::Result<Outcome> {
        let base = whole.base_offset;
        let mut extent = Extent::empty(base);
        let mut index = Index::new(base, segment::REBUILT_INTERVAL);
        let mut scanner = Scanner::new(file, header.salt, HEADER_BLOCK, whole.end, BODIES);
        loop {
            let message = match next_whole(&mut scanner, self.state.next_offset)? {
                Ok(None) => break,
                Ok(Some(found)) => {
                    let offset = found.header.base_offset;
                    index.note(offset, found.position, extent.max_timestamp);
                    self.take(&found, &mut scanner, &mut extent)?;
                    continue;
                }
                Err(message) => message,
            };
            let again = scanner.resync(u64::MAX, self.state.next_offset)?;
            let until = again.map_or(whole.next_offset, |found| found.header.base_offset);
            self.damaged(base, until, &message);
            if again.is_none() {
                break;
            }
        }
        self.state.next_offset = whole.next_offset;
        self.state.unchecked += whole.end - HEADER_BLOCK;
        let segment = Segment::known(self.id, self.folder, whole);
        segment.adopt(header, index);
        segment.save_index(&self.shared.disk, whole.end, false);
        self.keep(segment);
        Ok(Outcome::GoOn)
    }

    /// Finds the whole batch behind a hole where that means damage. False: the hole is the end.
    fn skip_hole(
        &mut self,
        scanner: &mut Scanner<'_>,
        message: &str,
        extent: &Extent,
    ) -> io::Result<bool> {
        if !self.hole_is_damage {
            return Ok(false);
        }
        let found = scanner.resync(RESYNC_WINDOW, self.state.next_offset)?;
        let Some(found) = found else {
            return Ok(false);
        };
        let message = format!(
            "{message}; whole batches go on at position {} with offset {}",
            found.position, found.header.base_offset
        );
        self.damaged(extent.base_offset, found.header.base_offset, &message);
        Ok(true)
    }

    /// Takes a whole batch into the log, the producers and their transactions.
    fn take(
        &mut self,
        found: &Found,
        scanner: &mut Scanner<'_>,
        extent: &mut Extent,
    ) -> io::Result<()> {
        let header = &found.header;
        let next_offset = header.last_offset().saturating_add(1);
        extent.extend(
            found.position + header.size as u64,
            next_offset,
            header.max_timestamp,
        );
        self.state.next_offset = next_offset;
        let answer = Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: header.is_log_append_time().then_some(header.max_timestamp),
            log_start_offset: self.state.log_start,
            duplicate: false,
        };
        let now = self.shared.clock.now_ms();
        let limits = self.shared.producer_limits();
        let pending = self.pending.take();
        if pending.is_none() && !header.is_control() {
            let change = self.state.producers.record(header, &answer, now, &limits);
            self.note(change);
            return Ok(());
        }
        let bytes = scanner.bytes(found.position, header.size)?;
        let (producers, marks) = (&mut self.state.producers, &mut self.state.marks);
        let change = match control::decode(header, bytes) {
            Some(Control::Marker(marker)) => {
                producers.record_marker(&marker, header.base_offset, now, &limits)
            }
            Some(Control::Mark(mark, None)) => {
                marks.note(&mark, Landed::alone(answer.last_offset), now, &limits);
                None
            }
            Some(Control::Mark(mark, Some(slice))) => {
                self.pending = Some((mark, slice));
                None
            }
            None => {
                if let Some((mark, slice)) = pending
                    && slice == SliceId::of(bytes)
                {
                    let landed = Landed::slice(&mark, &answer, self.id.index);
                    marks.note(&mark, landed, now, &limits);
                    None
                } else {
                    producers.record(header, &answer, now, &limits)
                }
            }
        };
        self.note(change);
        Ok(())
    }

    fn note(&mut self, change: Option<Change>) {
        if let Some(change) = change {
            self.state.transactions.apply(change);
        }
    }

    /// Cuts the file behind its last batch and makes what was found durable, so that it may be shown. A damaged log
    /// is left as it is.
    fn finish(&self, file: &File, extent: &Extent, length: u64) -> io::Result<()> {
        if self.state.damage.is_some() {
            return Ok(());
        }
        if length > extent.end && !defects::has(Defect::KeepTornTail) {
            tracing::info!(
                partition = %self.id,
                segment = extent.base_offset,
                position = extent.end,
                bytes = length - extent.end,
                "cut off what followed the last whole batch"
            );
            file.set_len(extent.end)?;
        }
        file.sync()
    }

    fn index_before(&self, file: &File, header: &SegmentHeader, end: u64) -> io::Result<Index> {
        let path = index_path(self.folder, header.base_offset);
        match stored_index(&self.shared.disk, &path, header.salt, end) {
            Some(index) => Ok(index),
            None => build_index(header.base_offset, file, header.salt, end),
        }
    }

    fn keep(&mut self, segment: Segment) {
        self.state.segments.push(Arc::new(segment));
    }

    /// Gives away files whose batches were never answered, or that retention had let go of.
    fn discard(&self, bases: &[Offset]) -> io::Result<()> {
        if self.state.damage.is_some() {
            return Ok(());
        }
        for base in bases {
            let path = log_path(self.folder, *base);
            self.shared.pool.retire(&self.shared.disk, &path)?;
            self.shared.disk.remove(&index_path(self.folder, *base))?;
        }
        Ok(())
    }

    /// Notes that the offsets from the next one expected up to `until` cannot be read, because of something in this segment.
    fn damaged(&mut self, base: Offset, until: Offset, message: &str) {
        let path = log_path(self.folder, base);
        let range = DamagedRange {
            first: self.state.next_offset,
            until,
            message: format!("{}: {message}", path.display()),
        };
        tracing::error!(partition = %self.id, %range, given_up = self.verification.gives_up_damage, "log is damaged");
        self.state.damaged.push(range);
        if !self.verification.gives_up_damage {
            self.stop(base, message);
        }
    }

    /// As `damaged`, of all that a segment holds. Without a later segment it is not known how much that was.
    fn lost(&mut self, extent: &Extent, next: Option<Offset>, message: &str) {
        self.state.next_offset = extent.base_offset;
        self.damaged(
            extent.base_offset,
            next.unwrap_or(extent.next_offset),
            message,
        );
        if next.is_none() {
            self.stop(extent.base_offset, message);
        }
    }

    /// Notes what nobody can give up, for it is not known what comes next.
    fn stopped(&mut self, base: Offset, message: &str) {
        tracing::error!(partition = %self.id, segment = base, message, "log is damaged");
        self.stop(base, message);
    }

    /// The first reason is the one that is told, for the others often follow from it.
    fn stop(&mut self, base: Offset, message: &str) {
        let path = log_path(self.folder, base);
        self.state.damage.get_or_insert_with(|| {
            format!("{}: {message} (see `tidegate log verify`)", path.display())
        });
    }

    /// Makes the names of segments durable that no checkpoint lists: one is written after every name was synced.
    fn sync_names(&mut self, synced: &[Offset]) -> io::Result<()> {
        let is_new = |segment: &Arc<Segment>| !synced.contains(&segment.base_offset);
        if self.state.segments.iter().any(is_new) {
            self.shared.disk.sync_folder(self.folder)?;
        }
        self.state.parents_unsynced = synced.is_empty() && !self.state.segments.is_empty();
        Ok(())
    }
}
