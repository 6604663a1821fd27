//! Reads everything back through the broker's own requests after a start, and compares it with the shadow.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{DescribeConfigsRequest, ListOffsetsRequest, MetadataRequest};
use kafka_protocol::protocol::Request;
use tidegate::log::Work;
use tidegate::net::{Finished, FrameHandler, Reply, Started};

use crate::broker::Broker;
use crate::disk::SimulatedDisk;
use crate::ops::{fetch, fetch_offset};
use crate::outcomes;
use crate::shadow::transaction::Committed;
use crate::shadow::{DAMAGED_RECORDS, Looked, Presence, Shadow, Target, code};
use crate::wire::{self, Read};

const METADATA_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const DESCRIBE_CONFIGS_VERSION: i16 = 4;
const TOPIC: i8 = 2;
pub(crate) const READ_UNCOMMITTED: i8 = 0;
pub(crate) const READ_COMMITTED: i8 = 1;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Turns that a request may take until it is answered.
const PATIENCE: usize = 2000;

/// Asks the broker while nothing else happens.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub broker: &'a Broker,
    pub disk: &'a SimulatedDisk,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The process has ended.
    Crashed,
    Violation(String),
}

impl Unanswered {
    /// Says more of a violation.
    fn with(self, say: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Crashed => Self::Crashed,
            Self::Violation(message) => Self::Violation(say(message)),
        }
    }
}

impl From<String> for Unanswered {
    fn from(message: String) -> Self {
        Self::Violation(message)
    }
}

impl From<&str> for Unanswered {
    fn from(message: &str) -> Self {
        Self::Violation(message.to_owned())
    }
}

pub(crate) type Asked<T> = Result<T, Unanswered>;

impl Asker<'_> {
    /// Sends one request on a connection of its own and does the broker's work until it is answered.
    pub async fn ask<R: Request>(self, version: i16, request: &R) -> Asked<R::Response> {
        let reply = self.reply(wire::frame(version, 0, request)).await?;
        if self.disk.has_crashed() {
            return Err(Unanswered::Crashed);
        }
        let bytes = reply.concat().into();
        Ok(wire::answer::<R>(version, bytes)?)
    }

    async fn reply(self, frame: bytes::Bytes) -> Asked<Reply> {
        let mut connection = self.broker.connect();
        let mut waiting = match connection.start(frame).await {
            Started::Ready(reply) => return Ok(reply),
            Started::Later(waiting) | Started::InTurn(waiting) => waiting,
            Started::Silent => return Ok(Reply::new()),
            Started::Close { reason, .. } => return Err(reason.into()),
        };
        for _ in 0..PATIENCE {
            if let Poll::Ready(finished) = futures_util::poll!(&mut waiting) {
                return match finished {
                    Finished::Reply(reply) => Ok(reply),
                    Finished::Silent => Ok(Reply::new()),
                    Finished::Close { reason, .. } => Err(reason.into()),
                };
            }
            if self.disk.has_crashed() {
                return Err(Unanswered::Crashed);
            }
            for work in Work::ALL {
                while self.broker.step(work) {}
            }
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        Err("a request was never answered".into())
    }
}

/// Compares everything with the shadow, and lets the shadow know what had been open.
pub async fn audit(asker: Asker<'_>, shadow: &mut Shadow, now_ms: i64) -> Asked<()> {
    let stopped = asker.broker.stopped();
    if !stopped.is_empty() && !shadow.may_stop {
        return Err(format!("stopped without a fault: {}", stopped.join("; ")).into());
    }
    topics(asker, shadow).await?;
    let names: Vec<_> = shadow.topics.keys().cloned().collect();
    for name in &names {
        settings(asker, shadow, name).await?;
    }
    for target in shadow.targets() {
        partition(asker, shadow, &target, now_ms).await?;
    }
    for position in shadow.positions.keys().cloned().collect::<Vec<_>>() {
        let request = fetch_offset::request(&position);
        let answer = asker.ask(fetch_offset::VERSION, &request).await?;
        fetch_offset::check(shadow, &position, &answer)?;
    }
    outcomes::positions(asker, shadow).await?;
    outcomes::ids(asker, shadow).await
}

async fn topics(asker: Asker<'_>, shadow: &mut Shadow) -> Asked<()> {
    let request = MetadataRequest::default().with_topics(None);
    let answer = asker.ask(METADATA_VERSION, &request).await?;
    let mut found = BTreeMap::new();
    for topic in answer.topics {
        if !topic.is_internal {
            let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
            found.insert(name, (topic.partitions.len(), topic.topic_id));
        }
    }
    for name in found.keys() {
        if !shadow.topics.contains_key(name) {
            return Err(format!("topic {name} should not be there").into());
        }
    }
    for name in shadow.topics.keys().cloned().collect::<Vec<_>>() {
        let Some(topic) = shadow.topics.get_mut(&name) else {
            continue;
        };
        match (topic.presence, found.get(&name)) {
            (_, Some((partitions, _))) if *partitions != topic.partitions.len() => {
                return Err(format!("topic {name} has {partitions} partitions").into());
            }
            (_, Some((_, id))) => {
                topic.presence = Presence::Present;
                topic.id = Some(*id);
            }
            (Presence::Present, None) => return Err(format!("topic {name} is lost").into()),
            (_, None) => shadow.forget_topic(&name),
        }
    }
    Ok(())
}

async fn settings(asker: Asker<'_>, shadow: &mut Shadow, name: &str) -> Asked<()> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(wire::text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = asker.ask(DESCRIBE_CONFIGS_VERSION, &request).await?;
    let Some(topic) = shadow.topics.get_mut(name) else {
        return Ok(());
    };
    let configs = answer.results.into_iter().flat_map(|result| result.configs);
    let found: BTreeMap<String, (String, bool)> = configs
        .map(|config| {
            let value = config.value.map(|value| value.to_string());
            let is_own = config.config_source == 1;
            (config.name.to_string(), (value.unwrap_or_default(), is_own))
        })
        .collect();
    for (key, setting) in topic.settings.clone() {
        let (value, is_own) = found.get(&key).cloned().unwrap_or_default();
        let is_certain = match &setting.certain {
            Some(certain) => is_own && *certain == value,
            None => !is_own,
        };
        if !(is_certain || is_own && setting.possible.contains(&value)) {
            return Err(
                format!("{key} of {name} is {value} (own: {is_own}); known: {setting:?}").into(),
            );
        }
        if is_own {
            topic.settle(&key, &value);
        } else {
            topic.settings.remove(&key);
        }
    }
    Ok(())
}

pub(crate) async fn offset(
    asker: Asker<'_>,
    target: &Target,
    (timestamp, isolation): (i64, i8),
) -> Asked<i64> {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(target.partition)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(isolation)
        .with_topics(vec![topic]);
    let answer = asker.ask(LIST_OFFSETS_VERSION, &request).await?;
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    match partition {
        Some(partition) if partition.error_code == code::NONE => Ok(partition.offset),
        other => Err(format!("the ends of {target:?}: {other:?}").into()),
    }
}

/// Every record of a partition from an offset on, and what a reader of committed records makes of it; with `skips` what can
/// be read around holes.
pub(crate) async fn records(
    asker: Asker<'_>,
    target: &Target,
    (from, end): (i64, i64),
    (isolation, skips): (i8, bool),
) -> Asked<(Vec<Read>, Committed)> {
    let (mut found, mut shown) = (Vec::new(), Committed::default());
    let mut next = from;
    while next < end {
        let request = fetch::request(target, next, 1 << 20).with_isolation_level(isolation);
        let answer = asker.ask(fetch::VERSION, &request).await?;
        let topic = answer.responses.into_iter().next();
        let data = topic
            .and_then(|topic| topic.partitions.into_iter().next())
            .ok_or("the answer names no partition")?;
        if data.error_code != code::NONE && skips {
            next += 1;
            continue;
        }
        if data.error_code != code::NONE {
            return Err(format!("reading at {next}: error {}", data.error_code).into());
        }
        let bytes = data.records.clone().unwrap_or_default();
        let Some(until) = wire::next_offset(&bytes) else {
            break;
        };
        let records = wire::read_from(bytes, next)?;
        next = until.max(next + 1);
        if isolation == READ_COMMITTED {
            shown.extend(fetch::committed(&data, &records)?);
        }
        found.extend(records);
    }
    Ok((found, shown))
}

async fn partition(
    asker: Asker<'_>,
    shadow: &mut Shadow,
    target: &Target,
    now_ms: i64,
) -> Asked<()> {
    let start = offset(asker, target, (EARLIEST, READ_UNCOMMITTED)).await?;
    let last_stable = offset(asker, target, (LATEST, READ_COMMITTED)).await?;
    let end = offset(asker, target, (LATEST, READ_UNCOMMITTED)).await?;
    let has_stopped = asker.broker.has_stopped(&target.topic, target.partition);
    let skips = has_stopped
        || shadow
            .partition(target)
            .is_some_and(|partition| partition.has_damage());
    let how = (READ_UNCOMMITTED, skips);
    let records = records(asker, target, (start, end), how).await;

    let named = |error: String| format!("{}-{}: {error}", target.topic, target.partition);
    let (records, _) = records.map_err(|error| error.with(named))?;
    shadow.recording.note_stopped(target, has_stopped);
    if !has_stopped {
        let recording = &mut shadow.recording;
        recording.look(target, (start, end), (&records, None));
    }
    let may_stop = shadow.may_stop;
    let Some(topic) = shadow.same(target) else {
        return Ok(());
    };
    let skips_damage = topic.settings.get(DAMAGED_RECORDS).is_some_and(|setting| {
        let value = setting.certain.as_deref();
        value == Some("skip")
    });
    let looked = Looked {
        start,
        end,
        records: &records,
        now_ms,
        before: now_ms.saturating_sub(topic.min_retention_ms),
        any: topic.ever_bounded,
        is_sure: !may_stop,
        may_have_holes: may_stop && skips_damage,
    };
    let Some(partition) = shadow.partition(target) else {
        return Ok(());
    };
    match has_stopped {
        true => partition.audit_stopped(start, &records),
        false => partition.audit(looked),
    }
    .map_err(named)?;
    if !has_stopped {
        let seen = outcomes::Seen {
            start,
            last_stable,
            reads: &records,
            skips,
        };
        let judged = outcomes::partition(asker, shadow, target, seen).await;
        judged.map_err(|error| error.with(named))?;
    }
    shadow.count("audited partitions");
    Ok(())
}

/// Every partition takes a record, unless a fault may have stopped it.
pub async fn probe(asker: Asker<'_>, shadow: &mut Shadow, now_ms: i64) -> Asked<()> {
    if shadow.may_stop {
        return Ok(());
    }
    for target in shadow.targets() {
        let (request, sent) = crate::ops::probe(shadow, &target, now_ms);
        let answer = asker.ask(crate::ops::PRODUCE_VERSION, &request).await?;
        let topic = answer.responses.first();
        let partition = topic.and_then(|topic| topic.partition_responses.first());
        let error = partition.map_or(-1, |partition| partition.error_code);
        if let Some(partition) = partition.filter(|_| error == code::NONE) {
            shadow.recording.acknowledge(sent, partition.base_offset);
        }
        if error != code::NONE {
            return Err(format!("{target:?} accepts nothing: error {error}").into());
        }
    }
    Ok(())
}
