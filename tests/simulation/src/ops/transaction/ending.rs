//! EndTxn: an outcome that was answered holds for everything that was written in the transaction, whatever comes after.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use tidegate_checker::OperationId;

use super::{
    Sender, Told, abandon, fenced, forgotten, identity, leave, line, open, told, transactional_id,
    write,
};
use crate::network::Request;
use crate::ops::Surroundings;
use crate::shadow::Shadow;
use crate::shadow::transactional::{Ending, Instance, Style};
use crate::wire;

pub(super) fn version(style: Style) -> i16 {
    style.pick(4, 5)
}

/// Ends the transaction that is open.
pub(super) fn end(around: &mut Surroundings<'_>, index: usize, is_commit: bool) -> Option<Request> {
    let open = around.client(index).live.open.as_mut()?;
    open.ending = Some(Ending {
        is_commit,
        is_in_flight: false,
    });
    send(around, index)
}

/// An end that was not answered is asked for again, or left to the next instance.
pub(super) fn again(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    let open = around.client(index).live.open.as_ref()?;
    let is_commit = open.ending.is_some_and(|ending| ending.is_commit);
    let is_waiting = open.is_waiting();
    if !is_commit && around.random.percent(50) {
        return write::late(around, index);
    }
    if is_waiting {
        return None;
    }
    if around.random.percent(10) {
        let live = &mut around.client(index).live;
        live.must_ask = Some(Default::default());
        return identity::ask(around, index);
    }
    send(around, index)
}

fn send(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    let live = &mut around.client(index).live;
    let ((id, epoch), style) = (live.identity?, live.style);
    let generation = live.generation;
    let open = live.open.as_mut()?;
    let key = open.key;
    let ending = open.ending.as_mut()?;
    ending.is_in_flight = true;
    let is_commit = ending.is_commit;
    let sender = Sender {
        index,
        generation,
        key,
    };
    if is_commit {
        around.shadow.transactions.ask_commit(key);
    }
    let asked = around.shadow.recording.end(index, key, is_commit);
    let request = EndTxnRequest::default()
        .with_transactional_id(wire::text(&transactional_id(index)).into())
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
        .with_committed(is_commit);
    let verb = if is_commit { "commits" } else { "aborts" };
    let label = format!("client {index} {verb} transaction {key}, being {id}/{epoch}");
    let settle = move |shadow: &mut Shadow, answer: Option<EndTxnResponse>| {
        if let Some(open) = super::open(shadow, sender)
            && let Some(ending) = &mut open.ending
        {
            ending.is_in_flight = false;
        }
        match answer {
            None => Ok(()),
            Some(answer) => {
                record(shadow, asked, &answer)?;
                settle(shadow, sender, (is_commit, style), &answer)
            }
        }
    };
    Some(around.request(line(index), label, (version(style), &request), settle))
}

/// Lets the recording know of an answer that says whether it was done.
fn record(shadow: &mut Shadow, asked: OperationId, answer: &EndTxnResponse) -> Result<(), String> {
    match told(shadow, answer.error_code)? {
        Told::Done => shadow.recording.ended(asked, true),
        // Refused before anything was stored.
        Told::Fenced | Told::Forgotten | Told::Outside => shadow.recording.ended(asked, false),
        Told::Again => {}
    }
    Ok(())
}

fn settle(
    shadow: &mut Shadow,
    sender: Sender,
    (is_commit, style): (bool, Style),
    answer: &EndTxnResponse,
) -> Result<(), String> {
    let told = told(shadow, answer.error_code)?;
    // Refused before anything was stored.
    if is_commit && matches!(told, Told::Fenced | Told::Forgotten | Told::Outside) {
        shadow.transactions.refuse_commit(sender.key);
    }
    match told {
        Told::Done => done(shadow, sender, (is_commit, style), answer),
        Told::Again => Ok(()),
        Told::Fenced => fenced(shadow, sender),
        Told::Forgotten => forgotten(shadow, sender),
        Told::Outside => {
            let had_fault = shadow.had_fault;
            let Some(open) = open(shadow, sender) else {
                return Ok(());
            };
            // What may not have come there at all cannot be aborted.
            if open.may_be_lost || had_fault || (!is_commit && !open.is_known()) {
                return leave(shadow, sender.index, Instance::default());
            }
            Err(format!("refused with error {}", answer.error_code))
        }
    }
}

fn done(
    shadow: &mut Shadow,
    sender: Sender,
    (is_commit, style): (bool, Style),
    answer: &EndTxnResponse,
) -> Result<(), String> {
    shadow.transactions.decide(sender.key, is_commit)?;
    shadow.count(if is_commit { "commits" } else { "aborts" });
    let Some(open) = open(shadow, sender).cloned() else {
        return Ok(());
    };
    abandon(shadow, &open);
    let live = &mut shadow.transactions.clients[sender.index].live;
    live.open = None;
    live.idle_since_ms = open.since_ms;
    match style {
        // Whether the broker has numbered the unanswered batches nobody knows.
        Style::Explicit if !open.batches.is_empty() => live.raise_epoch(),
        Style::Explicit => {}
        Style::Implicit => {
            let identity = (answer.producer_id.0, answer.producer_epoch);
            live.identity = Some(identity);
            live.sequences.clear();
            identity::take(shadow, sender.index, identity)?;
        }
    }
    Ok(())
}
