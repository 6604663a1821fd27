//! Reads records: as a member of a group, which shares out partitions and remembers offsets, or from partitions of one's
//! own choice.
//!
//! [`fetcher`] brings batches ahead of the application into [`partitions`]; [`reader`] turns them into records;
//! [`membership`] keeps the place in the group. An application that calls [`Consumer::recv`] or [`Consumer::poll`] in a
//! loop gives all of them their turns.

pub(crate) mod assignor;
mod fetcher;
mod membership;
mod partitions;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Client, str_bytes, topic_name};
use crate::cluster::pool::Connections;
use crate::cluster::retry::Retry;
use crate::error::{Error, ErrorCode, Result, check};
use crate::net::api::Api;
use crate::net::transport::lock;
use crate::records::ConsumerRecord;
pub use assignor::Assignor;
use fetcher::Fetcher;
use membership::{GroupEvent, Member, Membership};
pub use partitions::StartAt;
use partitions::{PartitionKey, Partitions};
use reader::Reader;

/// Records handed out between two looks at the group and the clock.
const SERVE_EVERY: usize = 500;

/// Where a consumer begins that has no committed offset, or one that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OffsetReset {
    Earliest,
    /// What comes from now on; Kafka's default.
    #[default]
    Latest,
    /// An error tells the application. Without a committed offset, as earliest.
    Error,
}

/// Which records of transactions are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    ReadUncommitted,
    /// Those of committed transactions; records behind an open one wait.
    #[default]
    ReadCommitted,
}

#[derive(Clone, Debug)]
pub(crate) struct ConsumerOptions {
    pub offset_reset: OffsetReset,
    pub isolation: Isolation,
    pub assignors: Vec<Assignor>,
    pub auto_commit: Option<Duration>,
    pub allow_create: bool,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    pub fetch_max_wait: Duration,
    pub fetch_min_bytes: i32,
    pub fetch_max_bytes: i32,
    pub partition_max_bytes: i32,
    pub prefetch_bytes: usize,
    pub max_decompressed_bytes: usize,
}

impl ConsumerOptions {
    /// The protocol's number.
    fn isolation_level(&self) -> i8 {
        match self.isolation {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// Options of a [`Consumer`]; made by [`Client::consumer`].
#[derive(Debug)]
pub struct ConsumerBuilder {
    client: Client,
    options: ConsumerOptions,
    group: Option<String>,
    topics: BTreeSet<String>,
    assignment: Vec<(PartitionKey, StartAt)>,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            options: ConsumerOptions {
                offset_reset: OffsetReset::default(),
                isolation: Isolation::default(),
                assignors: vec![Assignor::Range, Assignor::RoundRobin],
                auto_commit: Some(Duration::from_secs(5)),
                allow_create: true,
                session_timeout: Duration::from_secs(45),
                heartbeat_interval: Duration::from_secs(3),
                max_poll_interval: Duration::from_secs(300),
                fetch_max_wait: Duration::from_millis(500),
                fetch_min_bytes: 1,
                fetch_max_bytes: 50 << 20,
                partition_max_bytes: 1 << 20,
                prefetch_bytes: 16 << 20,
                max_decompressed_bytes: 128 << 20,
            },
            group: None,
            topics: BTreeSet::new(),
            assignment: Vec::new(),
        }
    }

    /// The group whose partitions are shared and whose offsets are committed.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Reads these topics as a member of the group.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Reads one partition, whoever else does. With a group, offsets can be committed to it.
    pub fn assign(mut self, topic: impl Into<Arc<str>>, partition: i32, start: StartAt) -> Self {
        self.assignment.push(((topic.into(), partition), start));
        self
    }

    /// Default [`OffsetReset::Latest`].
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.options.offset_reset = reset;
        self
    }

    /// Default [`Isolation::ReadCommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.options.isolation = isolation;
        self
    }

    /// What this member can share out partitions by, best first. Default range, then round robin.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.options.assignors = assignors.into_iter().collect();
        self
    }

    /// How often positions are committed by themselves; `None`: only by [`Consumer::commit`]. A record counts as
    /// processed when the next one is asked for. Default every 5 s.
    pub fn auto_commit(mut self, interval: Option<Duration>) -> Self {
        self.options.auto_commit = interval;
        self
    }

    /// Whether the broker may create topics that do not exist, if it is configured to. Default true.
    pub fn allow_create(mut self, allow: bool) -> Self {
        self.options.allow_create = allow;
        self
    }

    /// After so long without a heartbeat the group gives this member's partitions away. Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// Below a third of the session timeout. Default 3 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.heartbeat_interval = interval;
        self
    }

    /// The longest that the application may take between two calls before its partitions are given away. Default 5
    /// minutes.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.options.max_poll_interval = interval;
        self
    }

    /// How long the broker may hold a fetch that finds less than `fetch_min_bytes`. Default 500 ms.
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.options.fetch_max_wait = wait;
        self
    }

    /// Default 1.
    pub fn fetch_min_bytes(mut self, bytes: i32) -> Self {
        self.options.fetch_min_bytes = bytes;
        self
    }

    /// One answer's size, all partitions together. Default 50 MiB.
    pub fn fetch_max_bytes(mut self, bytes: i32) -> Self {
        self.options.fetch_max_bytes = bytes;
        self
    }

    /// One partition's share of an answer. A larger batch still comes, alone. Default 1 MiB.
    pub fn partition_max_bytes(mut self, bytes: i32) -> Self {
        self.options.partition_max_bytes = bytes;
        self
    }

    /// No more is fetched while so many bytes wait for the application. Default 16 MiB.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.options.prefetch_bytes = bytes;
        self
    }

    /// What one batch may decompress to; a larger one is an error. Default 128 MiB.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.options.max_decompressed_bytes = bytes;
        self
    }

    /// Starts the consumer; it joins its group in the background.
    pub fn build(self) -> Result<Consumer> {
        self.check()?;
        let partitions = Arc::new(Partitions::default());
        let connections = Arc::new(self.client.connections());
        let member = Arc::new(Member::new());
        let (events_sender, events) = mpsc::unbounded_channel();
        let (leave, leaving) = watch::channel(false);
        let membership = match (&self.group, self.topics.is_empty()) {
            (Some(group), false) => {
                let membership = Membership {
                    client: self.client.clone(),
                    options: self.options.clone(),
                    group: group.clone(),
                    topics: self.topics,
                    connections: connections.clone(),
                    member: member.clone(),
                    events: events_sender,
                    leaving,
                    coordinator: None,
                };
                Some(tokio::spawn(membership.run()))
            }
            _ => None,
        };
        partitions.assign(self.assignment);
        let fetcher = Fetcher::new(
            self.client.clone(),
            self.options.clone(),
            partitions.clone(),
        );
        Ok(Consumer {
            fetcher: tokio::spawn(fetcher.run()),
            client: self.client,
            options: self.options,
            group: self.group,
            connections,
            partitions,
            member,
            events,
            leave,
            membership,
            reader: None,
            until_serve: 0,
            revoking: None,
            failed: None,
            committed: BTreeMap::new(),
            next_commit: Instant::now(),
        })
    }

    fn check(&self) -> Result<()> {
        let wrong = |reason: &str| Err(Error::Config(format!("consumer: {reason}")));
        if self.topics.is_empty() && self.assignment.is_empty() {
            return wrong("name topics to read as a group, or assign partitions");
        }
        if !self.topics.is_empty() && !self.assignment.is_empty() {
            return wrong("topics and assigned partitions exclude each other");
        }
        if !self.topics.is_empty() && self.group.as_deref().is_none_or(str::is_empty) {
            return wrong("topics are read by a group: name it, or assign partitions");
        }
        if self.options.assignors.is_empty() {
            return wrong("assignors are empty");
        }
        if self.options.heartbeat_interval * 3 > self.options.session_timeout {
            return wrong("heartbeat_interval must be at most a third of session_timeout");
        }
        Ok(())
    }
}

/// Reads records. Dropping it leaves the group without a last commit; [`close`](Self::close) commits first.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    group: Option<String>,
    connections: Arc<Connections>,
    partitions: Arc<Partitions>,
    member: Arc<Member>,
    events: mpsc::UnboundedReceiver<GroupEvent>,
    leave: watch::Sender<bool>,
    membership: Option<JoinHandle<()>>,
    fetcher: JoinHandle<()>,
    reader: Option<Reader>,
    until_serve: usize,
    /// The group waits for this consumer to stop reading.
    revoking: Option<oneshot::Sender<()>>,
    failed: Option<Error>,
    committed: BTreeMap<PartitionKey, i64>,
    next_commit: Instant,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.abort();
        self.leave.send_replace(true);
    }
}

impl Consumer {
    /// The next record. Safe to cancel: a record that was not returned comes again.
    ///
    /// Errors that pass by themselves are not reported. After a reported error the next call goes on where it can.
    pub async fn recv(&mut self) -> Result<ConsumerRecord> {
        if self.until_serve > 0
            && let Some(record) = self.next_buffered()?
        {
            self.until_serve -= 1;
            return Ok(record);
        }
        loop {
            self.serve().await?;
            self.until_serve = SERVE_EVERY;
            if let Some(record) = self.next_buffered()? {
                return Ok(record);
            }
            let commit_due = self.next_commit;
            let commits = self.options.auto_commit.is_some() && self.group.is_some();
            tokio::select! {
                () = self.partitions.ready.notified() => {}
                Some(event) = self.events.recv() => self.accept(event),
                () = tokio::time::sleep_until(commit_due), if commits => {}
            }
        }
    }

    /// Up to `max` records: waits up to `timeout` for the first, takes what is there of the others. Empty when none came.
    pub async fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<ConsumerRecord>> {
        let mut records = Vec::new();
        if max == 0 {
            return Ok(records);
        }
        match tokio::time::timeout(timeout, self.recv()).await {
            Err(_) => return Ok(records),
            Ok(first) => records.push(first?),
        }
        while records.len() < max {
            match self.next_buffered() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) => {
                    // The records at hand come first; the error waits for the next call.
                    self.partitions.report(error);
                    break;
                }
            }
        }
        Ok(records)
    }

    /// The partitions that are read now.
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        self.partitions.keys()
    }

    /// The offset of the next record of a partition; `None` while it is not known.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.into(), partition);
        self.positions().get(&key).copied()
    }

    /// Goes on reading elsewhere.
    pub fn seek(&mut self, topic: &str, partition: i32, start: StartAt) -> Result<()> {
        let key = (topic.into(), partition);
        if self.partitions.seek(&key, start) {
            if self
                .reader
                .as_ref()
                .is_some_and(|reader| reader.source.key == key)
            {
                self.reader = None;
            }
            Ok(())
        } else {
            Err(Error::InvalidInput(format!(
                "{topic}-{partition} is not assigned to this consumer"
            )))
        }
    }

    /// Commits the positions of everything that was returned so far.
    pub async fn commit(&mut self) -> Result<()> {
        let positions = self.positions();
        self.commit_positions(positions).await
    }

    /// Commits offsets of one's own: each is the offset of the next record to read.
    pub async fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = ((Arc<str>, i32), i64)>,
    ) -> Result<()> {
        self.commit_positions(offsets.into_iter().collect()).await
    }

    /// Commits (with auto commit), leaves the group and ends.
    pub async fn close(mut self) -> Result<()> {
        let committed = if self.options.auto_commit.is_some() && self.group.is_some() {
            self.commit().await
        } else {
            Ok(())
        };
        self.leave.send_replace(true);
        if let Some(membership) = self.membership.take() {
            // A task that panicked has left as well as it can.
            let _ = membership.await;
        }
        committed
    }

    /// Gives the group and the timer their turn.
    async fn serve(&mut self) -> Result<()> {
        *lock(&self.member.last_poll) = Instant::now();
        self.member.polled.notify_one();
        while let Ok(event) = self.events.try_recv() {
            self.accept(event);
        }
        if self.revoking.is_some() {
            self.auto_commit().await;
            self.stop_reading();
            if let Some(revoked) = self.revoking.take() {
                // A membership that ended meanwhile needs no answer.
                let _ = revoked.send(());
            }
        }
        if let Some(interval) = self.options.auto_commit
            && Instant::now() >= self.next_commit
        {
            self.next_commit = Instant::now() + interval;
            self.auto_commit().await;
        }
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn accept(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(assigned) => {
                let reset = match self.options.offset_reset {
                    OffsetReset::Latest => StartAt::Latest,
                    OffsetReset::Earliest | OffsetReset::Error => StartAt::Earliest,
                };
                self.reader = None;
                self.committed = assigned
                    .iter()
                    .filter_map(|(key, offset)| Some((key.clone(), (*offset)?)))
                    .collect();
                self.partitions.assign(
                    assigned
                        .into_iter()
                        .map(|(key, offset)| (key, offset.map_or(reset, StartAt::Offset))),
                );
            }
            GroupEvent::Revoke(revoked) => self.revoking = Some(revoked),
            GroupEvent::Lost => self.stop_reading(),
            GroupEvent::Failed(error) => self.failed = Some(error),
        }
    }

    fn stop_reading(&mut self) {
        self.reader = None;
        self.committed.clear();
        self.partitions.assign([]);
    }

    fn next_buffered(&mut self) -> Result<Option<ConsumerRecord>> {
        loop {
            let Some(reader) = &mut self.reader else {
                if let Some(error) = self.partitions.take_error() {
                    return Err(error);
                }
                let Some(fetched) = self.partitions.take() else {
                    return Ok(None);
                };
                let position = self.partitions.position_in_term(&fetched.key, fetched.term);
                let limit = self.options.max_decompressed_bytes;
                self.reader = position.map(|position| Reader::new(fetched, position, limit));
                continue;
            };
            match reader.next() {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {
                    self.note_position();
                    self.reader = None;
                }
                Err(error) => {
                    let (key, position) = (reader.source.key.clone(), reader.position);
                    self.reader = None;
                    // Ask for it again, in case the damage came on the way.
                    let rest = Instant::now() + Duration::from_secs(1);
                    self.partitions
                        .restart(&key, StartAt::Offset(position), Some(rest));
                    return Err(Error::Malformed {
                        broker: format!("{}-{}", key.0, key.1).into(),
                        what: "record batch",
                        reason: error.to_string(),
                    });
                }
            }
        }
    }

    /// Positions move with the reader; others get to see it only here.
    fn note_position(&self) {
        if let Some(reader) = &self.reader {
            let source = &reader.source;
            self.partitions
                .advance(&source.key, source.term, reader.position);
        }
    }

    fn positions(&self) -> BTreeMap<PartitionKey, i64> {
        self.note_position();
        self.partitions.positions()
    }

    async fn auto_commit(&mut self) {
        if self.options.auto_commit.is_none() || self.group.is_none() {
            return;
        }
        if let Err(error) = self.commit().await {
            tracing::warn!(%error, "auto commit failed; the next one covers it");
        }
    }

    async fn commit_positions(&mut self, positions: BTreeMap<PartitionKey, i64>) -> Result<()> {
        let Some(group) = self.group.clone() else {
            return Err(Error::Config("consumer: a commit needs a group".into()));
        };
        let changed: BTreeMap<_, _> = positions
            .into_iter()
            .filter(|(key, offset)| self.committed.get(key) != Some(offset))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut retry = Retry::within(self.client.options().retry_timeout);
        loop {
            match self.commit_once(&group, &changed).await {
                Ok(()) => break,
                // Only joining the next generation mends it.
                Err(error) if error.code() == Some(ErrorCode::RebalanceInProgress) => {
                    return Err(error);
                }
                Err(error) => retry.after(error).await?,
            }
        }
        self.committed.extend(changed);
        Ok(())
    }

    async fn commit_once(&self, group: &str, offsets: &BTreeMap<PartitionKey, i64>) -> Result<()> {
        let endpoint = self.client.find_coordinator(group).await?;
        let connection = self.connections.get(&endpoint).await?;
        let identity = lock(&self.member.identity).clone();
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let one = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(str_bytes("")));
            topics.entry(topic).or_default().push(one);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(str_bytes(group)))
            .with_generation_id_or_member_epoch(identity.generation)
            .with_member_id(identity.member_id)
            .with_topics(topics.collect());
        let timeout = self.client.options().request_timeout;
        let response = connection.call(&request, timeout).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let subject = || {
                    format!(
                        "{}-{} for group {group}",
                        topic.name.as_str(),
                        partition.partition_index
                    )
                };
                check(
                    partition.error_code,
                    connection.broker(),
                    OffsetCommitRequest::NAME,
                    subject,
                    None,
                )?;
            }
        }
        Ok(())
    }
}
