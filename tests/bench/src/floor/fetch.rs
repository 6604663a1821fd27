//! Fetch, versions 4 to 12: batches go from the file to the socket. There are no fetch sessions: every answer is a whole one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::connection::Request;
use crate::log::{Log, Slice};
use crate::stream::Stream;
use crate::wire::{Answer, Fields, Header, code};

/// One partition that is asked for.
struct Wanted {
    partition: i32,
    offset: i64,
    max_bytes: usize,
    log: Option<Arc<Log>>,
}

/// What one partition gets.
struct Got {
    code: i16,
    end: i64,
    slice: Option<Slice>,
}

pub struct Fetch {
    header: Header,
    flexible: bool,
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    topics: Vec<(Vec<u8>, Vec<Wanted>)>,
}

impl Fetch {
    pub fn read(request: Request<'_>, body: &[u8]) -> Result<Self> {
        let Request {
            header,
            flexible,
            topics,
        } = request;
        let mut fields = Fields::new(body);
        fields.flexible = flexible;
        let _replica = fields.i32()?;
        let mut fetch = Self {
            header,
            flexible,
            max_wait: Duration::from_millis(u64::try_from(fields.i32()?).unwrap_or(0)),
            min_bytes: size(fields.i32()?),
            max_bytes: size(fields.i32()?),
            topics: Vec::new(),
        };
        let _isolation = fields.i8()?;
        if header.version >= 7 {
            let (_session, _epoch) = (fields.i32()?, fields.i32()?);
        }
        for _ in 0..fields.length()? {
            let name = fields.string()?;
            let mut partitions = Vec::new();
            for _ in 0..fields.length()? {
                let mut wanted = read_partition(&mut fields, header.version)?;
                wanted.log = topics.log(name, wanted.partition);
                partitions.push(wanted);
            }
            fetch.topics.push((name.to_owned(), partitions));
            fields.tags()?;
        }
        // What follows is of sessions and racks.
        Ok(fetch)
    }

    /// Waits until there is enough, or for as long as the client wants to wait; then sends.
    pub fn answer(self, stream: &mut Stream) -> Result<()> {
        let deadline = Instant::now() + self.max_wait;
        let mut waiting = false;
        loop {
            if waiting {
                self.register();
            }
            let got = self.gather();
            let failed = got.iter().any(|got| got.code != code::NONE);
            let bytes: usize = got.iter().map(Got::bytes).sum();
            let left = deadline.saturating_duration_since(Instant::now());
            if failed || bytes >= self.min_bytes || left.is_zero() {
                return self.send(stream, &got);
            }
            if waiting {
                std::thread::park_timeout(left);
            }
            // The first time round it looked before it was registered: what came in between would be missed.
            waiting = true;
        }
    }

    fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.topics.iter().flat_map(|(_, partitions)| partitions)
    }

    fn register(&self) {
        let thread = std::thread::current();
        for log in self.wanted().filter_map(|wanted| wanted.log.as_ref()) {
            log.notify(&thread);
        }
    }

    /// What there is now, in the order of the partitions asked for.
    fn gather(&self) -> Vec<Got> {
        let mut left = self.max_bytes;
        let one = |wanted: &Wanted| {
            let Some(log) = &wanted.log else {
                return Got::error(code::UNKNOWN_TOPIC_OR_PARTITION);
            };
            // At least one batch is sent however large it is, but not of every partition.
            let slice = if left == 0 {
                Ok(None)
            } else {
                log.read(wanted.offset, wanted.max_bytes.min(left))
            };
            let Ok(slice) = slice else {
                return Got::error(code::OFFSET_OUT_OF_RANGE);
            };
            left = left.saturating_sub(slice.as_ref().map_or(0, |slice| slice.length));
            Got {
                code: code::NONE,
                end: log.visible_end(),
                slice,
            }
        };
        self.wanted().map(one).collect()
    }

    fn send(&self, stream: &mut Stream, got: &[Got]) -> Result<()> {
        let total: usize = got.iter().map(Got::bytes).sum();
        let mut out = Vec::with_capacity(256);
        // Up to where the text goes before each slice of a file.
        let mut cuts: Vec<(usize, &Slice)> = Vec::new();
        let version = self.header.version;
        let mut answer = Answer::begin(&mut out, self.header.correlation, self.flexible);
        answer.i32(0);
        if version >= 7 {
            answer.i16(code::NONE);
            answer.i32(0);
        }
        answer.length(self.topics.len());
        let mut results = got.iter();
        for (name, partitions) in &self.topics {
            answer.string(name);
            answer.length(partitions.len());
            for (wanted, got) in partitions.iter().zip(&mut results) {
                put_partition(&mut answer, version, wanted.partition, got);
                if let Some(slice) = &got.slice {
                    cuts.push((answer.position(), slice));
                }
                answer.tags();
            }
            answer.tags();
        }
        answer.tags();
        answer.end(total);
        let mut sent = 0;
        for (cut, slice) in cuts {
            stream.write(&out[sent..cut], true)?;
            stream.write_file(&slice.stored.file, slice.position, slice.length)?;
            sent = cut;
        }
        if sent < out.len() {
            stream.write(&out[sent..], false)?;
        }
        Ok(())
    }
}

impl Got {
    fn error(code: i16) -> Self {
        Self {
            code,
            end: -1,
            slice: None,
        }
    }

    fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, |slice| slice.length)
    }
}

fn read_partition(fields: &mut Fields<'_>, version: i16) -> Result<Wanted> {
    let partition = fields.i32()?;
    if version >= 9 {
        let _leader_epoch = fields.i32()?;
    }
    let offset = fields.i64()?;
    if version >= 12 {
        let _last_fetched_epoch = fields.i32()?;
    }
    if version >= 5 {
        let _log_start = fields.i64()?;
    }
    let max_bytes = size(fields.i32()?);
    fields.tags()?;
    Ok(Wanted {
        partition,
        offset,
        max_bytes,
        log: None,
    })
}

/// Everything of a partition up to its batches.
fn put_partition(answer: &mut Answer<'_>, version: i16, partition: i32, got: &Got) {
    answer.i32(partition);
    answer.i16(got.code);
    answer.i64(got.end);
    answer.i64(got.end);
    if version >= 5 {
        answer.i64(0);
    }
    // No aborted transactions.
    answer.length(0);
    if version >= 11 {
        answer.i32(-1);
    }
    answer.length(got.bytes());
}

/// Sizes below nothing are nothing, which is what clients mean.
fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}
