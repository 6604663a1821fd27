//! Offsets of a group in a transaction: they count when it commits, and not before.

use std::collections::BTreeSet;

use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, OffsetFetchRequest, OffsetFetchResponse, ProducerId,
    TxnOffsetCommitRequest,
};

use super::{Sender, Told, fenced, forgotten, line, open, outside, told, transactional_id};
use crate::network::Request;
use crate::ops::{Surroundings, fetch_offset};
use crate::shadow::transactional::{Identity, Offsets, Style};
use crate::shadow::{Position, Presence, Shadow, code};
use crate::wire;

const ADD_VERSION: i16 = 3;
const UNSTABLE: i16 = 88;

/// The next request for the group of the transaction that is open.
pub(super) fn go_on(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    if around.client(index).live.open.as_ref()?.offsets.is_none() {
        let target = around.target()?;
        let offset = i64::try_from(around.shadow.numbers(1)[0]).unwrap_or(0);
        let position = Position {
            group: format!("ledger-{index}"),
            topic: target.topic.clone(),
            partition: target.partition,
        };
        around.client(index).live.open.as_mut()?.offsets = Some(Offsets {
            position,
            target,
            offset,
            is_added: false,
            is_acknowledged: false,
            is_in_flight: false,
        });
    }
    let live = &mut around.client(index).live;
    let (identity, style) = (live.identity?, live.style);
    let sender = Sender {
        index,
        generation: live.generation,
        key: live.open.as_ref()?.key,
    };
    let offsets = live.open.as_mut()?.offsets.as_mut()?;
    if offsets.is_acknowledged || offsets.is_in_flight {
        return None;
    }
    offsets.is_in_flight = true;
    let offsets = offsets.clone();
    match style == Style::Explicit && !offsets.is_added {
        true => Some(add(around, sender, identity, &offsets)),
        false => commit(around, sender, (identity, style), offsets),
    }
}

fn landed(shadow: &mut Shadow, sender: Sender) -> Option<&mut Offsets> {
    let offsets = open(shadow, sender)?.offsets.as_mut()?;
    offsets.is_in_flight = false;
    Some(offsets)
}

fn add(
    around: &mut Surroundings<'_>,
    sender: Sender,
    (id, epoch): Identity,
    offsets: &Offsets,
) -> Request {
    let index = sender.index;
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(wire::text(&transactional_id(index)).into())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_group_id(wire::text(&offsets.position.group).into());
    let label = format!(
        "client {index} adds its group to transaction {}",
        sender.key
    );
    around.request(
        line(index),
        label,
        (ADD_VERSION, &request),
        move |shadow, answer| {
            landed(shadow, sender);
            let Some(answer) = answer else { return Ok(()) };
            match told(shadow, answer.error_code)? {
                Told::Done => {
                    if let Some(offsets) = landed(shadow, sender) {
                        offsets.is_added = true;
                    }
                    Ok(())
                }
                Told::Again => Ok(()),
                Told::Fenced => fenced(shadow, sender),
                Told::Forgotten => forgotten(shadow, sender),
                Told::Outside => Err(format!("refused with error {}", answer.error_code)),
            }
        },
    )
}

fn commit(
    around: &mut Surroundings<'_>,
    sender: Sender,
    ((id, epoch), style): (Identity, Style),
    offsets: Offsets,
) -> Option<Request> {
    let index = sender.index;
    around.shadow.same(&offsets.target)?.flights += 1;
    let ledger = &mut around.shadow.transactions.ledger;
    ledger.ask(&offsets.position, sender.key, offsets.offset);
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(offsets.position.partition)
        .with_committed_offset(offsets.offset);
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(wire::topic_name(&offsets.position.topic))
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(wire::text(&transactional_id(index)).into())
        .with_group_id(wire::text(&offsets.position.group).into())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_topics(vec![topic]);
    let label = format!(
        "client {index} commits {} of {}-{} in transaction {}",
        offsets.offset, offsets.position.topic, offsets.position.partition, sender.key
    );
    let version = style.pick(3, 5);
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        if let Some(topic) = shadow.same(&offsets.target) {
            topic.flights -= 1;
        }
        landed(shadow, sender);
        let Some(answer) = answer else { return Ok(()) };
        let answer: kafka_protocol::messages::TxnOffsetCommitResponse = answer;
        let topic = answer.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        let error = partition.map_or(-1, |partition| partition.error_code);
        match told(shadow, error)? {
            Told::Done => {
                if let Some(offsets) = landed(shadow, sender) {
                    offsets.is_acknowledged = true;
                }
                let ledger = &mut shadow.transactions.ledger;
                ledger.acknowledge(&offsets.position, offsets.offset);
                shadow.count("transactional positions");
                Ok(())
            }
            Told::Again => Ok(()),
            Told::Fenced => fenced(shadow, sender),
            Told::Forgotten => forgotten(shadow, sender),
            Told::Outside => outside(shadow, sender, error),
        }
    };
    Some(around.request(line(index), label, (version, &request), settle))
}

/// Asks for one position, as it is now or as no open transaction can change it.
pub(crate) fn fetch_request(position: &Position, is_stable: bool) -> OffsetFetchRequest {
    fetch_offset::request(position).with_require_stable(is_stable)
}

/// Compares an answer with what is known; false when it has to be asked for again.
pub(crate) fn judge_position(
    shadow: &mut Shadow,
    position: &Position,
    (acknowledged, is_stable): (&BTreeSet<i64>, bool),
    answer: &OffsetFetchResponse,
) -> Result<bool, String> {
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    let (found, error) = partition.map_or((-1, answer.error_code), |partition| {
        (partition.committed_offset, partition.error_code)
    });
    match error {
        UNSTABLE if is_stable => return Ok(false),
        code::NONE => {}
        error => return Err(format!("error {error}")),
    }
    let transactions = &mut shadow.transactions;
    transactions.check_position(position, found, acknowledged, is_stable)?;
    Ok(true)
}

/// A group asks for a position that is committed in transactions.
pub fn issue_fetch(around: &mut Surroundings<'_>) -> Option<Request> {
    let known = around.shadow.transactions.ledger.positions();
    let position = around.random.pick(&known)?.clone();
    let is_stable = around.random.percent(50);
    let acknowledged = around.shadow.transactions.ledger.acknowledged(&position);
    let topic = around.shadow.topics.get(&position.topic)?;
    let incarnation = topic.incarnation;
    let request = fetch_request(&position, is_stable);
    let label = format!("position of {position:?}, stable: {is_stable}");
    let line = around.line();
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        let Some(answer) = answer else { return Ok(()) };
        let topic = shadow.topics.get(&position.topic);
        let is_there = topic.is_some_and(|topic| {
            topic.incarnation == incarnation && topic.presence == Presence::Present
        });
        if is_there {
            let known = (&acknowledged, is_stable);
            judge_position(shadow, &position, known, &answer)?;
            shadow.count("transactional positions read");
        }
        Ok(())
    };
    Some(around.request(line, label, (fetch_offset::VERSION, &request), settle))
}
