//! Transactional producers: each transactional id has a client that begins transactions, writes to several partitions and to a
//! group in each, and commits or aborts; what is not answered it asks again. Beside it, second instances of the client
//! take over, and what they took over from goes on as if nothing had happened.
//!
//! A client waits for the answers to what it wrote before it commits, as Kafka's do, and sends no second batch to a
//! partition before the first is answered.

mod ending;
mod identity;
mod offsets;
mod write;
mod zombie;

use super::{SHARED_LINES, Surroundings, idempotent};
use crate::network::Request;
use crate::shadow::transactional::{Client, Instance, Open, Style};
use crate::shadow::{Presence, Shadow, Target, code};

pub use offsets::issue_fetch;
pub(crate) use offsets::{fetch_request, judge_position};

const CLIENTS: usize = 2;
/// How long an unused transactional id is remembered, in milliseconds.
pub(crate) const EXPIRY_MS: u64 = 1_800_000;

const COORDINATOR_LOADING: i16 = 14;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTION_ABORTABLE: i16 = 120;

/// Whose request it was: the client, its instance, and the transaction.
#[derive(Clone, Copy)]
struct Sender {
    index: usize,
    generation: u64,
    key: usize,
}

/// What an error code means for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Done,
    /// It was not done, or nobody knows: ask again.
    Again,
    Fenced,
    /// The id was not used for so long that it was forgotten.
    Forgotten,
    /// It does not fit what the broker knows of the transaction.
    Outside,
}

fn told(shadow: &Shadow, error: i16) -> Result<Told, String> {
    match error {
        code::NONE => Ok(Told::Done),
        CONCURRENT_TRANSACTIONS | COORDINATOR_LOADING | NOT_ENOUGH_REPLICAS => Ok(Told::Again),
        INVALID_PRODUCER_EPOCH | PRODUCER_FENCED => Ok(Told::Fenced),
        INVALID_PRODUCER_ID_MAPPING => Ok(Told::Forgotten),
        INVALID_TXN_STATE | TRANSACTION_ABORTABLE | code::OUT_OF_ORDER_SEQUENCE => {
            Ok(Told::Outside)
        }
        code::KAFKA_STORAGE_ERROR
        | code::COORDINATOR_NOT_AVAILABLE
        | code::UNKNOWN_SERVER_ERROR
            if shadow.had_fault =>
        {
            Ok(Told::Again)
        }
        error => Err(format!("refused with error {error}")),
    }
}

pub(crate) fn transactional_id(index: usize) -> String {
    format!("transfer-{index}")
}

fn line(index: usize) -> usize {
    usize::try_from(SHARED_LINES).unwrap_or(0) + idempotent::PRODUCERS + index
}

/// Where other instances of a client talk to the broker.
fn other_line(index: usize) -> usize {
    line(CLIENTS + index)
}

impl Surroundings<'_> {
    fn client(&mut self, index: usize) -> &mut Client {
        &mut self.shadow.transactions.clients[index]
    }

    fn is_present(&mut self, target: &Target) -> bool {
        let topic = self.shadow.same(target);
        topic.is_some_and(|topic| topic.presence == Presence::Present)
    }
}

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    let clients = &mut around.shadow.transactions.clients;
    clients.resize_with(CLIENTS, Client::default);
    let index = around.random.index(CLIENTS);
    if around.random.percent(4) {
        return zombie::issue(around, index);
    }
    let client = around.client(index);
    if client.live.identity.is_none() && client.live.must_ask.is_none() {
        client.live.must_ask = Some(Default::default());
    }
    let is_being_replaced = client.is_being_replaced;
    if let Some(asking) = client.live.must_ask {
        return match asking.is_in_flight {
            true => None,
            false => identity::ask(around, index),
        };
    }
    if !is_being_replaced && around.random.percent(1) {
        return Some(identity::replace(around, index));
    }
    match &around.client(index).live.open {
        None => begin(around, index),
        Some(open) if open.ending.is_some() => ending::again(around, index),
        Some(_) => go_on(around, index),
    }
}

fn begin(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    if around.random.percent(3) {
        around.client(index).live.raise_epoch();
        return identity::ask(around, index);
    }
    around.shadow.count("transactions");
    let key = around.shadow.transactions.begin();
    let open = Open::new(key, around.now_ms);
    around.client(index).live.open = Some(open);
    let request = go_on(around, index);
    if request.is_none() {
        around.client(index).live.open = None;
    }
    request
}

/// The next request of a transaction that is open.
fn go_on(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    lose_deleted(around, index);
    let draw = around.random.below(100);
    let open = around.client(index).live.open.as_ref()?;
    if open.has_failed {
        return ending::end(around, index, false);
    }
    if open.may_commit() && draw < 50 {
        return ending::end(around, index, true);
    }
    // What is on its way, or unanswered, is left behind.
    if open.is_known() && draw < 4 {
        return ending::end(around, index, false);
    }
    if let Some(request) = write::again(around, index) {
        return Some(request);
    }
    if draw < 65 {
        return offsets::go_on(around, index);
    }
    let target = around.target()?;
    write::issue(around, index, target)
}

/// What was on its way to a topic that is gone is never answered: the transaction is given up.
fn lose_deleted(around: &mut Surroundings<'_>, index: usize) {
    let Some(open) = around.client(index).live.open.clone() else {
        return;
    };
    let batches = open.batches.iter().map(|batch| &batch.target);
    let offsets = open.offsets.iter().filter(|one| !one.is_acknowledged);
    let targets: Vec<&Target> = batches
        .chain(offsets.map(|offsets| &offsets.target))
        .collect();
    if targets.into_iter().any(|target| !around.is_present(target))
        && let Some(open) = &mut around.client(index).live.open
    {
        open.has_failed = true;
    }
}

fn live(shadow: &mut Shadow, sender: Sender) -> Option<&mut Instance> {
    let live = &mut shadow.transactions.clients[sender.index].live;
    (live.generation == sender.generation).then_some(live)
}

/// The transaction that a request was part of, if its client is still in it.
fn open(shadow: &mut Shadow, sender: Sender) -> Option<&mut Open> {
    let open = live(shadow, sender)?.open.as_mut()?;
    (open.key == sender.key).then_some(open)
}

/// A client was told that another took its place, or that its transaction ran out of time.
fn fenced(shadow: &mut Shadow, sender: Sender) -> Result<(), String> {
    let (now_ms, had_fault) = (shadow.now_ms, shadow.had_fault);
    let is_being_replaced = shadow.transactions.clients[sender.index].is_being_replaced;
    let Some(live) = live(shadow, sender) else {
        // Its time was up already.
        return shadow.transactions.end(sender.key);
    };
    let may_be_late = live.may_be_late(now_ms);
    let may_be_lost = live.open.as_ref().is_some_and(|open| open.may_be_lost);
    let is_right =
        live.may_be_fenced || may_be_late || may_be_lost || is_being_replaced || had_fault;
    if !is_right {
        return Err("fenced without a reason".into());
    }
    shadow.count(if may_be_late { "fenced late" } else { "fenced" });
    leave(shadow, sender.index, Instance::default())
}

/// A client was told that nobody knows its transactional id.
fn forgotten(shadow: &mut Shadow, sender: Sender) -> Result<(), String> {
    let now_ms = shadow.now_ms;
    let Some(live) = live(shadow, sender) else {
        return shadow.transactions.end(sender.key);
    };
    if !live.may_be_forgotten(now_ms) {
        return Err("forgotten without a reason".into());
    }
    shadow.count("forgotten");
    leave(shadow, sender.index, Instance::default())
}

/// A client goes on as another instance, without the transaction that it was in.
fn leave(shadow: &mut Shadow, index: usize, next: Instance) -> Result<(), String> {
    let client = &mut shadow.transactions.clients[index];
    client.next_generation += 1;
    let generation = client.next_generation;
    let next = Instance { generation, ..next };
    let before = std::mem::replace(&mut client.live, next);
    let Some(open) = before.open else {
        return Ok(());
    };
    abandon(shadow, &open);
    shadow.transactions.end(open.key)
}

/// Nobody will send its batches again.
fn abandon(shadow: &mut Shadow, open: &Open) {
    for batch in &open.batches {
        if let Some(partition) = shadow.partition(&batch.target) {
            partition.abandon(&batch.numbers);
        }
    }
}

/// A refusal that fits only what a loss of power or a fault may have taken.
fn outside(shadow: &mut Shadow, sender: Sender, error: i16) -> Result<(), String> {
    let had_fault = shadow.had_fault;
    // Where acknowledged batches are not synced, a loss of power takes the sequence, too: the client begins anew.
    let may_forget = shadow.had_loss && shadow.topics.values().any(|topic| topic.ever_os);
    if error == code::OUT_OF_ORDER_SEQUENCE && may_forget {
        return leave(shadow, sender.index, Instance::default());
    }
    let Some(open) = open(shadow, sender) else {
        return Ok(());
    };
    if !open.may_be_lost && !had_fault {
        return Err(format!("refused with error {error}"));
    }
    open.has_failed = true;
    Ok(())
}

impl Style {
    fn pick(self, explicit: i16, implicit: i16) -> i16 {
        match self {
            Self::Explicit => explicit,
            Self::Implicit => implicit,
        }
    }
}
