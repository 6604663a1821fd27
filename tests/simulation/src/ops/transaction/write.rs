//! Produce in a transaction, and AddPartitionsToTxn before it.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ProduceResponse, ProducerId};
use tidegate::log::records::BatchTemplate;
use tidegate_checker::OperationId;

use super::{
    Sender, Told, fenced, forgotten, line, open, other_line, outside, told, transactional_id,
};
use crate::network::Request;
use crate::ops::{Surroundings, produce};
use crate::recording;
use crate::shadow::transactional::{Batch, Style};
use crate::shadow::{Shadow, Target, code};
use crate::wire;

const ADD_VERSION: i16 = 3;

pub(super) fn version(style: Style) -> i16 {
    style.pick(11, 12)
}

/// Something for a partition that has nothing unanswered.
pub(super) fn issue(
    around: &mut Surroundings<'_>,
    index: usize,
    target: Target,
) -> Option<Request> {
    let live = &around.client(index).live;
    let open = live.open.as_ref()?;
    if open.batches.iter().any(|batch| batch.target == target) {
        return None;
    }
    if live.style == Style::Explicit && !open.added.contains(&target) {
        return add(around, index, target);
    }
    let place = make(around, index, target)?;
    send(around, index, place)
}

/// Makes the next batch for a partition; its place among those without an answer.
fn make(around: &mut Surroundings<'_>, index: usize, target: Target) -> Option<usize> {
    let live = &around.client(index).live;
    let (id, epoch) = live.identity?;
    let key = live.open.as_ref()?.key;
    let base_sequence = live.sequences.get(&target).copied().unwrap_or(0);
    let numbers = produce::numbers(around);
    let now = around.now_ms;
    around.shadow.partition(&target)?.send(&numbers, now, true);
    around.shadow.transactions.send(key, &numbers);
    let template = BatchTemplate {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    let bytes = wire::batch(template, now, &numbers);
    let live = &mut around.client(index).live;
    let next = base_sequence + i32::try_from(numbers.len()).unwrap_or(0);
    live.sequences.insert(target.clone(), next);
    let open = live.open.as_mut()?;
    open.batches.push(Batch {
        target,
        base_sequence,
        numbers,
        bytes,
        is_in_flight: false,
    });
    Some(open.batches.len() - 1)
}

/// What a client of version 1 had given up with its transaction comes after the end, on another connection.
pub(super) fn late(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    let live = &around.client(index).live;
    let open = live.open.as_ref()?;
    if live.style != Style::Explicit {
        return None;
    }
    if open.batches.is_empty() {
        let added: Vec<_> = open.added.iter().cloned().collect();
        let target = around.random.pick(&added)?.clone();
        if !around.is_present(&target) {
            return None;
        }
        make(around, index, target)?;
    }
    let open = around.client(index).live.open.as_ref()?;
    let (key, batch) = (open.key, open.batches.first()?.clone());
    if !around.is_present(&batch.target) {
        return None;
    }
    around.shadow.same(&batch.target)?.flights += 1;
    let request = produce::request(&batch.target, -1, batch.bytes.clone())
        .with_transactional_id(Some(wire::text(&transactional_id(index)).into()));
    let label = format!(
        "a late batch of client {index}, {}..{} to {}-{} in transaction {key}",
        batch.numbers[0],
        batch.numbers[0] + batch.numbers.len() as u64,
        batch.target.topic,
        batch.target.partition
    );
    let client = recording::Sender::Transactional(index, key);
    let recording = &mut around.shadow.recording;
    let sent = recording.send(client, &batch.target, &batch.numbers);
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        if let Some(topic) = shadow.same(&batch.target) {
            topic.flights -= 1;
        }
        let Some(answer) = answer else { return Ok(()) };
        let outcome = produce::outcome(answer)?;
        if outcome.error_code == code::NONE {
            shadow.recording.acknowledge(sent, outcome.base_offset);
        }
        match (outcome.error_code, shadow.partition(&batch.target)) {
            (code::NONE, Some(partition)) => {
                partition.acknowledge(&batch.numbers, outcome.base_offset, false)
            }
            (error, _) => told(shadow, error).map(drop),
        }
    };
    let version = version(Style::Explicit);
    Some(around.request(other_line(index), label, (version, &request), settle))
}

/// What was not answered is sent again.
pub(super) fn again(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    let open = around.client(index).live.open.as_ref()?;
    let place = open.batches.iter().position(|batch| !batch.is_in_flight)?;
    send(around, index, place)
}

fn send(around: &mut Surroundings<'_>, index: usize, place: usize) -> Option<Request> {
    let live = &mut around.client(index).live;
    let (generation, style) = (live.generation, live.style);
    let open = live.open.as_mut()?;
    let sender = Sender {
        index,
        generation,
        key: open.key,
    };
    let batch = open.batches.get_mut(place)?;
    batch.is_in_flight = true;
    let batch = batch.clone();
    let label = format!(
        "client {index} sends {}..{} (sequence {}) to {}-{} in transaction {}",
        batch.numbers[0],
        batch.numbers[0] + batch.numbers.len() as u64,
        batch.base_sequence,
        batch.target.topic,
        batch.target.partition,
        sender.key
    );
    let request = produce::request(&batch.target, -1, batch.bytes.clone())
        .with_transactional_id(Some(wire::text(&transactional_id(index)).into()));
    let client = recording::Sender::Transactional(index, sender.key);
    let recording = &mut around.shadow.recording;
    let sent = recording.send(client, &batch.target, &batch.numbers);
    let (mut held, mut changes) = (false, 0);
    if let Some(topic) = around.shadow.same(&batch.target) {
        topic.flights += 1;
        (held, changes) = (topic.is_synced(), topic.durability_changes);
    }
    let settle = move |shadow: &mut Shadow, answer| {
        if let Some(topic) = shadow.same(&batch.target) {
            topic.flights -= 1;
            held &= topic.durability_changes == changes;
        }
        settle(shadow, sender, (&batch, sent, held), answer)
    };
    Some(around.request(line(index), label, (version(style), &request), settle))
}

fn settle(
    shadow: &mut Shadow,
    sender: Sender,
    (sent, recorded, held): (&Batch, OperationId, bool),
    answer: Option<ProduceResponse>,
) -> Result<(), String> {
    let place = |batch: &Batch| batch.numbers == sent.numbers;
    if let Some(open) = open(shadow, sender)
        && let Some(batch) = open.batches.iter_mut().find(|batch| place(batch))
    {
        batch.is_in_flight = false;
    }
    let Some(answer) = answer else { return Ok(()) };
    let outcome = produce::outcome(answer)?;
    match told(shadow, outcome.error_code)? {
        Told::Done => {
            shadow.recording.acknowledge(recorded, outcome.base_offset);
            if let Some(open) = open(shadow, sender) {
                open.batches.retain(|batch| !place(batch));
                open.written.insert(sent.target.clone());
            }
            if let Some(partition) = shadow.partition(&sent.target) {
                partition.acknowledge(&sent.numbers, outcome.base_offset, held)?;
            }
            shadow.count("transactional");
            Ok(())
        }
        Told::Again => Ok(()),
        Told::Fenced => fenced(shadow, sender),
        Told::Forgotten => forgotten(shadow, sender),
        Told::Outside => outside(shadow, sender, outcome.error_code),
    }
}

fn add(around: &mut Surroundings<'_>, index: usize, target: Target) -> Option<Request> {
    let live = &mut around.client(index).live;
    let (id, epoch) = live.identity?;
    let generation = live.generation;
    let open_now = live.open.as_mut()?;
    if open_now.is_adding {
        return None;
    }
    open_now.is_adding = true;
    let sender = Sender {
        index,
        generation,
        key: open_now.key,
    };
    let topic = AddPartitionsToTxnTopic::default()
        .with_name(wire::topic_name(&target.topic))
        .with_partitions(vec![target.partition]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(wire::text(&transactional_id(index)).into())
        .with_v3_and_below_producer_id(ProducerId(id))
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(vec![topic]);
    let label = format!(
        "client {index} adds {}-{} to transaction {}",
        target.topic, target.partition, sender.key
    );
    around.shadow.same(&target)?.flights += 1;
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        if let Some(topic) = shadow.same(&target) {
            topic.flights -= 1;
        }
        if let Some(open) = open(shadow, sender) {
            open.is_adding = false;
        }
        let Some(answer) = answer else { return Ok(()) };
        let answer: kafka_protocol::messages::AddPartitionsToTxnResponse = answer;
        let topic = answer.results_by_topic_v3_and_below.first();
        let partition = topic.and_then(|topic| topic.results_by_partition.first());
        let error = partition.map_or(-1, |partition| partition.partition_error_code);
        match told(shadow, error)? {
            Told::Done => {
                if let Some(open) = open(shadow, sender) {
                    open.added.insert(target);
                }
                Ok(())
            }
            Told::Again => Ok(()),
            Told::Fenced => fenced(shadow, sender),
            Told::Forgotten => forgotten(shadow, sender),
            Told::Outside => Err(format!("refused with error {error}")),
        }
    };
    Some(around.request(line(index), label, (ADD_VERSION, &request), settle))
}
