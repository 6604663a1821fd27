//! Instances of a client that another has taken the place of: whatever they ask is refused, and nothing of it is written.

use kafka_protocol::messages::{EndTxnRequest, ProducerId};
use tidegate::log::records::BatchTemplate;

use super::{
    CONCURRENT_TRANSACTIONS, INVALID_PRODUCER_EPOCH, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED,
    ending, identity, other_line, transactional_id, write,
};
use crate::network::Request;
use crate::ops::{Surroundings, produce};
use crate::recording::Sender;
use crate::shadow::transactional::Zombie;
use crate::shadow::{Shadow, code};
use crate::wire;

pub(super) fn issue(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    let zombie = around.client(index).zombie.clone();
    match (zombie, around.random.below(4)) {
        (Some(zombie), 0 | 1) => send(around, index, &zombie),
        (Some(zombie), 2) => Some(end(around, index, &zombie)),
        (Some(zombie), _) if !zombie.was_raised => ask(around, index, &zombie),
        _ => None,
    }
}

/// Fenced, or not judged at all.
fn refused(shadow: &mut Shadow, error: i16) -> Result<(), String> {
    match error {
        // Forgotten since, or known by another producer id.
        INVALID_PRODUCER_ID_MAPPING => Ok(()),
        INVALID_PRODUCER_EPOCH | PRODUCER_FENCED => {
            shadow.count("zombies fenced");
            Ok(())
        }
        code::UNKNOWN_TOPIC_OR_PARTITION => Ok(()),
        code::KAFKA_STORAGE_ERROR
        | code::COORDINATOR_NOT_AVAILABLE
        | code::UNKNOWN_SERVER_ERROR
            if shadow.had_fault =>
        {
            Ok(())
        }
        error => Err(format!("a fenced producer was answered with {error}")),
    }
}

fn send(around: &mut Surroundings<'_>, index: usize, zombie: &Zombie) -> Option<Request> {
    let target = around.target()?;
    let (id, epoch) = zombie.identity;
    let numbers = produce::numbers(around);
    let now = around.now_ms;
    let partition = around.shadow.partition(&target)?;
    partition.send(&numbers, now, false);
    partition.refuse(&numbers);
    let sender = Sender::Fenced(index);
    around.shadow.recording.send(sender, &target, &numbers);
    around.shadow.same(&target)?.flights += 1;
    let template = BatchTemplate {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: 0,
        is_transactional: true,
        ..BatchTemplate::PLAIN
    };
    let batch = wire::batch(template, now, &numbers);
    let request = produce::request(&target, -1, batch)
        .with_transactional_id(Some(wire::text(&transactional_id(index)).into()));
    let label = format!(
        "a former client {index} sends {}..{} to {}-{}, being {id}/{epoch}",
        numbers[0],
        numbers[0] + numbers.len() as u64,
        target.topic,
        target.partition
    );
    let version = write::version(zombie.style);
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        if let Some(topic) = shadow.same(&target) {
            topic.flights -= 1;
        }
        let Some(answer) = answer else { return Ok(()) };
        refused(shadow, produce::outcome(answer)?.error_code)
    };
    Some(around.request(other_line(index), label, (version, &request), settle))
}

fn end(around: &mut Surroundings<'_>, index: usize, zombie: &Zombie) -> Request {
    let (id, epoch) = zombie.identity;
    let is_commit = around.random.percent(50);
    let request = EndTxnRequest::default()
        .with_transactional_id(wire::text(&transactional_id(index)).into())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_committed(is_commit);
    let label = format!("a former client {index} ends a transaction, being {id}/{epoch}");
    let version = ending::version(zombie.style);
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        let Some(answer) = answer else { return Ok(()) };
        let answer: kafka_protocol::messages::EndTxnResponse = answer;
        refused(shadow, answer.error_code)
    };
    around.request(other_line(index), label, (version, &request), settle)
}

/// Where its transactional id was forgotten, a former client is as good as any.
fn ask(around: &mut Surroundings<'_>, index: usize, zombie: &Zombie) -> Option<Request> {
    let client = around.client(index);
    let is_asking = client
        .live
        .must_ask
        .is_some_and(|asking| asking.is_in_flight);
    if client.is_being_replaced || is_asking {
        return None;
    }
    client.is_being_replaced = true;
    let next = identity::instance(around);
    let (id, epoch) = zombie.identity;
    let request = identity::request(index, &next, zombie.identity);
    let label = format!("a former client {index} asks who it is, being {id}/{epoch}");
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        let now_ms = shadow.now_ms;
        let client = &mut shadow.transactions.clients[index];
        client.is_being_replaced = false;
        let may_be_forgotten = client.live.may_be_forgotten(now_ms);
        let Some(answer) = answer else { return Ok(()) };
        let answer: kafka_protocol::messages::InitProducerIdResponse = answer;
        match answer.error_code {
            // Of an end that is under way everybody is told to wait.
            CONCURRENT_TRANSACTIONS => Ok(()),
            code::NONE if may_be_forgotten => {
                identity::accept(shadow, (index, false), &answer, next)
            }
            error => refused(shadow, error),
        }
    };
    let version = identity::VERSION;
    Some(around.request(other_line(index), label, (version, &request), settle))
}
