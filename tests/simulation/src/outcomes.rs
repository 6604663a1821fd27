//! The auditor's look at transactions: what each partition's markers say, what readers of committed records are shown, what groups
//! are told, and what the broker says of its producers, compared with one another and with the shadow.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest,
};
use tidegate::log::Work;

use crate::auditor::{Asked, Asker, READ_COMMITTED, READ_UNCOMMITTED, Unanswered, offset, records};
use crate::ops::{fetch_offset, transaction};
use crate::shadow::transaction::Committed;
use crate::shadow::transactional::Instance;
use crate::shadow::{Shadow, Target, code};
use crate::wire::{self, Content, Read};

const LIST_VERSION: i16 = 1;
const DESCRIBE_VERSION: i16 = 0;
const LATEST: i64 = -1;
/// Milliseconds after which no transaction is open any more without its client: past every time-out, and some pauses.
const PATIENCE_MS: i64 = 200_000;
const STEP_MS: u64 = 500;

/// What was read of a partition, and the last stable offset before.
pub struct Seen<'a> {
    pub start: i64,
    pub last_stable: i64,
    pub reads: &'a [Read],
    /// Holes are read around.
    pub skips: bool,
}

/// Compares one partition's markers with what a reader of committed records is shown.
pub async fn partition(
    asker: Asker<'_>,
    shadow: &mut Shadow,
    target: &Target,
    seen: Seen<'_>,
) -> Asked<()> {
    let decides = shadow.tells_outcomes(target);
    let outcomes = shadow.transactions.observe_markers(seen.reads, decides)?;
    let is_open = |read: &&Read| read.transaction.is_some() && !outcomes.contains_key(&read.offset);
    let mut records_only = seen.reads.iter().filter(|read| read.number().is_some());
    if let Some(open) = records_only.find(is_open)
        && open.offset < seen.last_stable
    {
        return Err(format!(
            "a transaction is open from offset {} on; stable was what is below {}",
            open.offset, seen.last_stable
        )
        .into());
    }
    let range = (seen.start, seen.last_stable);
    let (found, shown) = records(asker, target, range, (READ_COMMITTED, seen.skips)).await?;
    let recording = &mut shadow.recording;
    recording.look(target, range, (&found, Some(&shown)));
    let mut expected = Committed::default();
    for read in seen.reads {
        let Some(number) = read.number().filter(|_| read.offset < seen.last_stable) else {
            continue;
        };
        let is_committed = outcomes.get(&read.offset) == Some(&true);
        match read.transaction.is_none() || is_committed {
            true => expected.shown.insert(number),
            false => expected.spared.insert(number),
        };
    }
    let below = |seen: &Committed| (seen.shown.len(), seen.spared.len());
    if !(expected.shown.is_subset(&shown.shown) && expected.spared.is_subset(&shown.spared)) {
        let wrong = expected.shown.symmetric_difference(&shown.shown).next();
        return Err(format!(
            "a reader of committed records is shown and spared {:?} records, by the markers {:?}; record {wrong:?} is one of them",
            below(&shown),
            below(&expected),
        )
        .into());
    }
    if decides {
        shadow.transactions.observe(&shown)?;
    }
    producers(asker, shadow, target, seen.reads).await
}

/// Every position that was committed in transactions.
pub async fn positions(asker: Asker<'_>, shadow: &mut Shadow) -> Asked<()> {
    for position in shadow.transactions.ledger.positions() {
        let acknowledged = shadow.transactions.ledger.acknowledged(&position);
        for is_stable in [false, true] {
            let request = transaction::fetch_request(&position, is_stable);
            let answer = asker.ask(fetch_offset::VERSION, &request).await?;
            let known = (&acknowledged, is_stable);
            transaction::judge_position(shadow, &position, known, &answer)?;
        }
    }
    Ok(())
}

/// What the broker says of transactional ids.
pub async fn ids(asker: Asker<'_>, shadow: &mut Shadow) -> Asked<()> {
    let answer = asker
        .ask(LIST_VERSION, &ListTransactionsRequest::default())
        .await?;
    let listed: BTreeMap<String, String> = answer
        .transaction_states
        .iter()
        .map(|one| {
            (
                one.transactional_id.to_string(),
                one.transaction_state.to_string(),
            )
        })
        .collect();
    let now_ms = asker.broker.services().clock.now_ms();
    for index in 0..shadow.transactions.clients.len() {
        let id = transaction::transactional_id(index);
        let client = &shadow.transactions.clients[index];
        let Some(newest) = client.newest else {
            continue;
        };
        let may_be_forgotten = client.live.may_be_forgotten(now_ms)
            || client.live.identity.is_none()
            || client.live.must_ask.is_some();
        if !listed.contains_key(&id) {
            if may_be_forgotten {
                continue;
            }
            return Err(format!("{id} is not listed").into());
        }
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(vec![wire::text(&id).into()]);
        let answer = asker.ask(DESCRIBE_VERSION, &request).await?;
        let described = answer.transaction_states.first();
        let described = described.ok_or("the answer names no transactional id")?;
        if described.error_code != code::NONE {
            return Err(format!("{id}: error {}", described.error_code).into());
        }
        let found = (described.producer_id.0, described.producer_epoch);
        if found.0 == newest.0 && found.1 < newest.1 {
            return Err(format!("{id} is {found:?}, and was {newest:?}").into());
        }
        if !must_be_open(&client.live) || found != newest {
            continue;
        }
        let state = described.transaction_state.as_str();
        if state != "Ongoing" {
            return Err(format!("{id} is in a transaction, and described as {state}").into());
        }
        let written = client.live.open.iter().flat_map(|open| &open.written);
        for target in written {
            let is_listed = described.topics.iter().any(|topic| {
                *topic.topic.0 == *target.topic && topic.partitions.contains(&target.partition)
            });
            if !is_listed && shadow.topics.contains_key(&target.topic) {
                return Err(format!("the transaction of {id} does not have {target:?}").into());
            }
        }
    }
    Ok(())
}

/// Whether nothing can have ended the client's transaction.
fn must_be_open(live: &Instance) -> bool {
    let open = live.open.as_ref();
    !live.may_be_fenced
        && live.must_ask.is_none()
        && open.is_some_and(|open| {
            !open.written.is_empty() && open.ending.is_none() && !open.may_be_lost
        })
}

/// What a partition says of its producers.
async fn producers(
    asker: Asker<'_>,
    shadow: &Shadow,
    target: &Target,
    reads: &[Read],
) -> Asked<()> {
    let topic = TopicRequest::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partition_indexes(vec![target.partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let answer = asker.ask(DESCRIBE_VERSION, &request).await?;
    let partition = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let partition = partition.ok_or("the answer names no partition")?;
    if partition.error_code != code::NONE {
        return Err(format!("producers: error {}", partition.error_code).into());
    }
    for producer in &partition.active_producers {
        let newest = shadow.transactions.clients.iter().find_map(|client| {
            let newest = client.newest?;
            (newest.0 == producer.producer_id.0).then_some(newest)
        });
        let begun = producer.current_txn_start_offset;
        if begun < 0 {
            continue;
        }
        if newest.is_none() {
            return Err(format!(
                "producer {} is in a transaction, and nobody is that",
                producer.producer_id.0
            )
            .into());
        }
        let is_ended = reads.iter().any(|read| {
            read.offset > begun
                && read.transaction == Some(producer.producer_id.0)
                && matches!(read.content, Content::Marker { .. })
        });
        if is_ended {
            return Err(format!(
                "producer {} is said to be in a transaction from offset {begun} on, which has its marker",
                producer.producer_id.0
            )
            .into());
        }
    }
    Ok(())
}

/// Lets time pass until no transaction is open.
///
/// # Errors
/// When one stays open for ever.
pub async fn await_end(asker: Asker<'_>, shadow: &Shadow) -> Asked<()> {
    if shadow.may_stop {
        return Ok(());
    }
    let clock = &asker.broker.services().clock;
    let until = clock.now_ms() + PATIENCE_MS;
    while let Some(open) = whatever_is_open(asker, shadow).await? {
        if asker.disk.has_crashed() {
            return Err(Unanswered::Crashed);
        }
        if clock.now_ms() > until {
            return Err(format!("a transaction stays open: {open}").into());
        }
        clock.advance(i64::try_from(STEP_MS).unwrap_or(0));
        tokio::time::advance(Duration::from_millis(STEP_MS)).await;
        for work in Work::ALL {
            while asker.broker.step(work) {}
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A transaction that has not ended, as its coordinator or as a partition tells.
async fn whatever_is_open(asker: Asker<'_>, shadow: &Shadow) -> Asked<Option<String>> {
    let request = ListTransactionsRequest::default();
    let answer = asker.ask(LIST_VERSION, &request).await?;
    for one in answer.transaction_states {
        let state = one.transaction_state.as_str();
        if !matches!(state, "Empty" | "CompleteCommit" | "CompleteAbort") {
            return Ok(Some(format!(
                "{} is {state}",
                one.transactional_id.as_str()
            )));
        }
    }
    for target in shadow.targets() {
        let stable = offset(asker, &target, (LATEST, READ_COMMITTED)).await?;
        let end = offset(asker, &target, (LATEST, READ_UNCOMMITTED)).await?;
        if stable != end {
            return Ok(Some(format!(
                "{target:?} is stable below {stable} of {end}"
            )));
        }
    }
    Ok(None)
}
