//! Redis streams: `XADD` in pipelines, `XREAD` by thousands.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::mpsc;

use super::{Job, LONGEST, Tally, Written};
use crate::latency::{Plan, keep_schedule};
use crate::payload;

/// Records of one pipeline, and pipelines on the way.
const PIPELINED: u64 = 64;
const OUTSTANDING: usize = 32;
const FETCHED: usize = 1000;
const WAIT: Duration = Duration::from_millis(500);
/// Requests that wait for their turn on a connection.
const QUEUED: usize = 4096;
/// Longer than any answer takes that is not lost.
const TIMEOUT: Duration = Duration::from_secs(30);
const FIELD: &str = "v";

async fn open(address: &str) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(TIMEOUT))
        .set_pipeline_buffer_size(QUEUED);
    let client = Client::open(format!("redis://{address}"))?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

fn add(stream: &str, value: &[u8]) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*").arg(FIELD).arg(value);
    command
}

pub async fn write(address: &str, job: &Job) -> Result<Written> {
    let connection = open(address).await?;
    let mut pipeline = Pipeline::with_capacity(PIPELINED as usize);
    for _ in 0..PIPELINED {
        pipeline.add_command(add(&job.stream, &job.value)).ignore();
    }
    let pipeline = std::sync::Arc::new(pipeline);
    let mut pending = VecDeque::with_capacity(OUTSTANDING);
    let begun = Instant::now();
    let mut records = 0;
    while records < job.total && begun.elapsed() < LONGEST {
        let (pipeline, mut connection) = (pipeline.clone(), connection.clone());
        pending.push_back(tokio::spawn(async move {
            pipeline.exec_async(&mut connection).await
        }));
        records += PIPELINED;
        if pending.len() >= OUTSTANDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.await??;
        }
    }
    for answer in pending {
        answer.await??;
    }
    let elapsed = begun.elapsed();
    let mut connection = connection;
    let length = redis::cmd("XLEN").arg(&job.stream).clone();
    let stored: u64 = length.query_async(&mut connection).await?;
    if stored != records {
        bail!("{records} records were acknowledged and {stored} are stored");
    }
    Ok(Written { records, elapsed })
}

pub async fn delete(address: &str, job: &Job) -> Result<()> {
    let mut connection = open(address).await?;
    let command = redis::cmd("DEL").arg(&job.stream).clone();
    let _: Value = command.query_async(&mut connection).await?;
    Ok(())
}

/// Reads what follows an entry's name; tells the values, and moves the name to the last of them.
async fn fetch(
    connection: &mut MultiplexedConnection,
    stream: &str,
    after: &mut Vec<u8>,
) -> Result<Vec<Bytes>> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(FETCHED);
    command.arg("BLOCK").arg(WAIT.as_millis() as u64);
    command.arg("STREAMS").arg(stream).arg(after.as_slice());
    let answer: Value = command.query_async(connection).await?;
    entries(answer, after).context("an answer to XREAD of another shape")
}

/// `[[stream, [[name, [field, value]], …]]]`, or nothing.
fn entries(answer: Value, after: &mut Vec<u8>) -> Option<Vec<Bytes>> {
    let streams = match answer {
        Value::Nil => return Some(Vec::new()),
        other => array(other)?,
    };
    let entries = array(array(streams.into_iter().next()?)?.into_iter().nth(1)?)?;
    let mut values = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut parts = array(entry)?.into_iter();
        *after = bytes(parts.next()?)?;
        let fields = array(parts.next()?)?;
        values.push(bytes(fields.into_iter().nth(1)?)?.into());
    }
    Some(values)
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub async fn read(address: &str, job: &Job, records: u64) -> Result<()> {
    let mut connection = open(address).await?;
    let mut after = b"0".to_vec();
    let mut read = 0;
    while read < records {
        let values = fetch(&mut connection, &job.stream, &mut after).await?;
        if values.is_empty() {
            bail!("{read} of {records} records came back");
        }
        if values.iter().any(|value| value.len() != job.value.len()) {
            bail!("a record came back with another length");
        }
        read += values.len() as u64;
    }
    if read != records {
        bail!("{records} records were written and {read} came back");
    }
    Ok(())
}

/// Begins a request here and now, and leaves its answer for later: requests that tasks of their own began would overtake each other.
async fn begun<F: Future<Output: Send> + Send + 'static>(
    request: F,
) -> Pin<Box<dyn Future<Output = F::Output> + Send>> {
    let mut request = Box::pin(request);
    let first = poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
    match first {
        Poll::Ready(answer) => Box::pin(ready(answer)),
        Poll::Pending => request,
    }
}

pub async fn latency(address: &str, job: &Job, plan: Plan, tally: &mut Tally) -> Result<()> {
    let mut reading = open(address).await?;
    let writing = open(address).await?;
    let runtime = tokio::runtime::Handle::current();
    let (sender, mut answers) = mpsc::unbounded_channel();
    let stream = job.stream.clone();
    std::thread::spawn(move || {
        keep_schedule(plan, |time| {
            let command = add(&stream, &payload::timed_value(plan.size, time));
            let mut connection = writing.clone();
            let answer = async move { command.query_async::<Value>(&mut connection).await };
            sender.send(runtime.block_on(begun(answer))).is_ok()
        });
    });
    let acknowledged = tokio::spawn(async move {
        while let Some(answer) = answers.recv().await {
            answer.await?;
        }
        anyhow::Ok(())
    });
    let mut after = b"0".to_vec();
    while !tally.complete() {
        for value in fetch(&mut reading, &job.stream, &mut after).await? {
            tally.note(&value)?;
        }
    }
    acknowledged.await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn entries_are_found_in_an_answer() {
        let entry = |name: &str, value: &str| {
            let fields = Value::Array(vec![text("v"), text(value)]);
            Value::Array(vec![text(name), fields])
        };
        let entries_of = Value::Array(vec![entry("1-0", "a"), entry("1-1", "b")]);
        let answer = Value::Array(vec![Value::Array(vec![text("s"), entries_of])]);
        let mut after = b"0".to_vec();
        let values = entries(answer, &mut after).unwrap();
        assert_eq!(values, ["a", "b"]);
        assert_eq!(after, b"1-1");
        assert_eq!(entries(Value::Nil, &mut after), Some(Vec::new()));
        assert_eq!(entries(Value::Okay, &mut after), None);
    }
}
