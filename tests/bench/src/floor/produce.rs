//! Produce, versions 3 to 11: appends each batch where it lies in the request.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;

use crate::connection::{Output, Request};
use crate::log::Log;
use crate::wire::{Answer, Fields, code};

/// One topic's batches: partition, and where in the body its batch lies.
struct TopicBatches {
    name: Vec<u8>,
    batches: Vec<(i32, Range<usize>)>,
}

pub fn handle(request: Request<'_>, body: &mut [u8], out: &mut Output) -> Result<()> {
    let (acks, topics) = read(body, request.flexible)?;
    let version = request.header.version;
    let mut unanswered = Vec::new();
    let bytes = if acks == 0 {
        &mut unanswered
    } else {
        &mut out.bytes
    };
    let mut answer = Answer::begin(bytes, request.header.correlation, request.flexible);
    answer.length(topics.len());
    for topic in topics {
        answer.string(&topic.name);
        answer.length(topic.batches.len());
        for (partition, range) in topic.batches {
            let log = request.topics.log(&topic.name, partition);
            let (code, base_offset) = append(log, &mut body[range], &mut out.uncommitted);
            answer.i32(partition);
            answer.i16(code);
            answer.i64(base_offset);
            answer.i64(-1);
            if version >= 5 {
                answer.i64(0);
            }
            if version >= 8 {
                answer.length(0);
                answer.absent_string();
            }
            answer.tags();
        }
        answer.tags();
    }
    answer.i32(0);
    answer.tags();
    answer.end(0);
    Ok(())
}

/// The error code and the base offset of one batch.
fn append(log: Option<Arc<Log>>, batch: &mut [u8], uncommitted: &mut Vec<Arc<Log>>) -> (i16, i64) {
    let Some(log) = log else {
        return (code::UNKNOWN_TOPIC_OR_PARTITION, -1);
    };
    match log.append(batch) {
        Ok(base_offset) => {
            if uncommitted.iter().all(|known| !Arc::ptr_eq(known, &log)) {
                uncommitted.push(log);
            }
            (code::NONE, base_offset)
        }
        Err(error) => {
            eprintln!("a batch was refused: {error:#}");
            let code = if error.is::<std::io::Error>() {
                code::STORAGE_ERROR
            } else {
                code::CORRUPT_MESSAGE
            };
            (code, -1)
        }
    }
}

fn read(body: &[u8], flexible: bool) -> Result<(i16, Vec<TopicBatches>)> {
    let mut fields = Fields::new(body);
    fields.flexible = flexible;
    // The transactional id: transactions are not known here.
    fields.string()?;
    let acks = fields.i16()?;
    let _timeout = fields.i32()?;
    let mut topics = Vec::new();
    for _ in 0..fields.length()? {
        let name = fields.string()?.to_owned();
        let mut batches = Vec::new();
        for _ in 0..fields.length()? {
            let partition = fields.i32()?;
            let length = fields.length()?;
            let begin = fields.position();
            fields.skip(length)?;
            batches.push((partition, begin..begin + length));
            fields.tags()?;
        }
        topics.push(TopicBatches { name, batches });
        fields.tags()?;
    }
    Ok((acks, topics))
}
