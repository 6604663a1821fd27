//! NATS JetStream through `async-nats`: one publish a record, thousands of acknowledgements awaited at once.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, consumer, stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::{Job, LONGEST, SILENCE, Tally, Written};
use crate::latency::{Plan, keep_schedule};
use crate::payload;

/// Acknowledgements that are awaited at once.
const OUTSTANDING: usize = 4000;
const FETCHED: usize = 5000;

async fn open(address: &str, job: &Job) -> Result<(jetstream::Context, stream::Stream)> {
    let client = async_nats::connect(address).await?;
    let context = jetstream::new(client);
    let config = stream::Config {
        name: job.stream.clone(),
        subjects: vec![job.stream.clone()],
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    let stream = context.get_or_create_stream(config).await?;
    Ok((context, stream))
}

pub async fn write(address: &str, job: &Job) -> Result<Written> {
    let (context, mut stream) = open(address, job).await?;
    let mut pending = VecDeque::with_capacity(OUTSTANDING);
    let begun = Instant::now();
    let mut records = 0;
    while records < job.total && begun.elapsed() < LONGEST {
        let answer = context
            .publish(job.stream.clone(), job.value.clone())
            .await?;
        pending.push_back(answer);
        records += 1;
        if pending.len() >= OUTSTANDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.await?;
        }
    }
    for answer in pending {
        answer.await?;
    }
    let elapsed = begun.elapsed();
    let stored = stream.info().await?.state.messages;
    if stored != records {
        bail!("{records} records were acknowledged and {stored} are stored");
    }
    Ok(Written { records, elapsed })
}

pub async fn delete(address: &str, job: &Job) -> Result<()> {
    let (context, _) = open(address, job).await?;
    context.delete_stream(&job.stream).await?;
    Ok(())
}

async fn reader(stream: &stream::Stream) -> Result<consumer::pull::Stream> {
    let config = consumer::pull::Config {
        ack_policy: consumer::AckPolicy::None,
        ..consumer::pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let messages = consumer.stream().max_messages_per_batch(FETCHED);
    Ok(messages.messages().await?)
}

pub async fn read(address: &str, job: &Job, records: u64) -> Result<()> {
    let (_, stream) = open(address, job).await?;
    let mut messages = reader(&stream).await?;
    for read in 0..records {
        let message = tokio::time::timeout(SILENCE, messages.next()).await;
        let message = message.with_context(|| format!("{read} of {records} records came back"))?;
        let message = message.context("the stream ended")??;
        let sequence = message
            .info()
            .map_err(anyhow::Error::from_boxed)?
            .stream_sequence;
        if sequence != read + 1 || message.payload.len() != job.value.len() {
            bail!("record {} came where {} was next", sequence, read + 1);
        }
    }
    Ok(())
}

pub async fn latency(address: &str, job: &Job, plan: Plan, tally: &mut Tally) -> Result<()> {
    let (_, stream) = open(address, job).await?;
    let mut messages = reader(&stream).await?;
    let (context, _) = open(address, job).await?;
    let runtime = tokio::runtime::Handle::current();
    let (sender, mut answers) = mpsc::unbounded_channel();
    let subject = job.stream.clone();
    // The connection lasts as long as this does: what is not flushed when its last handle goes is lost.
    let publisher = context.clone();
    std::thread::spawn(move || {
        keep_schedule(plan, |time| {
            let value = payload::timed_value(plan.size, time);
            let answer = runtime.block_on(publisher.publish(subject.clone(), value));
            sender.send(answer).is_ok()
        });
    });
    let acknowledged = tokio::spawn(async move {
        while let Some(answer) = answers.recv().await {
            answer?.await?;
        }
        anyhow::Ok(())
    });
    while !tally.complete() {
        let message = messages.try_next().await?.context("the stream ended")?;
        tally.note(&message.payload)?;
    }
    acknowledged.await??;
    drop(context);
    Ok(())
}
