//! InitProducerId of a transactional producer: what was answered fences every instance before, and ends its transaction.

use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

use super::{Sender, Told, fenced, leave, line, other_line, told, transactional_id};
use crate::network::Request;
use crate::ops::Surroundings;
use crate::shadow::Shadow;
use crate::shadow::transactional::{Asking, Identity, Instance, Style, Zombie};
use crate::wire;

pub(super) const VERSION: i16 = 4;
/// Transaction time-outs that clients choose from, in milliseconds.
const TIMEOUTS: &[i32] = &[500, 10_000, 60_000, 60_000];

impl Instance {
    /// The next thing it does is to raise its epoch.
    pub(super) fn raise_epoch(&mut self) {
        self.must_ask = Some(Asking {
            tells_identity: true,
            is_in_flight: false,
        });
    }
}

pub(super) fn request(index: usize, next: &Instance, known: Identity) -> InitProducerIdRequest {
    let timeout_ms = i32::try_from(next.timeout_ms).unwrap_or(1000);
    InitProducerIdRequest::default()
        .with_transactional_id(Some(wire::text(&transactional_id(index)).into()))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(known.0))
        .with_producer_epoch(known.1)
}

pub(super) fn instance(around: &mut Surroundings<'_>) -> Instance {
    let timeout_ms = *around.random.pick(TIMEOUTS).unwrap_or(&1000);
    Instance {
        idle_since_ms: around.now_ms,
        style: match around.random.percent(60) {
            true => Style::Implicit,
            false => Style::Explicit,
        },
        timeout_ms: i64::from(timeout_ms),
        ..Instance::default()
    }
}

/// The client asks who it is.
pub(super) fn ask(around: &mut Surroundings<'_>, index: usize) -> Option<Request> {
    // Of two who ask at once nobody could tell which is the newer.
    if around.client(index).is_being_replaced {
        return None;
    }
    let next = instance(around);
    let live = &mut around.client(index).live;
    let asking = live.must_ask.as_mut()?;
    asking.is_in_flight = true;
    let tells_identity = asking.tells_identity;
    let known = live.identity.filter(|_| tells_identity);
    // The answer may be lost, and with it the epoch that it would have told of.
    live.may_be_fenced |= tells_identity;
    let sender = Sender {
        index,
        generation: live.generation,
        key: live.open.as_ref().map_or(0, |open| open.key),
    };
    let request = request(index, &next, known.unwrap_or((-1, -1)));
    let label = format!("client {index} asks who it is, being {known:?}");
    let settle = move |shadow: &mut Shadow, answer: Option<_>| {
        let Some(live) = super::live(shadow, sender) else {
            return Ok(());
        };
        if let Some(asking) = &mut live.must_ask {
            asking.is_in_flight = false;
        }
        let Some(answer) = answer else { return Ok(()) };
        let answer: kafka_protocol::messages::InitProducerIdResponse = answer;
        match told(shadow, answer.error_code)? {
            Told::Done => accept(shadow, (index, tells_identity), &answer, next),
            Told::Again => Ok(()),
            Told::Fenced if tells_identity => fenced(shadow, sender),
            Told::Fenced | Told::Forgotten | Told::Outside => {
                Err(format!("refused with {}", answer.error_code))
            }
        }
    };
    Some(around.request(line(index), label, (VERSION, &request), settle))
}

/// Another instance of the client asks, while the first goes on.
pub(super) fn replace(around: &mut Surroundings<'_>, index: usize) -> Request {
    let next = instance(around);
    around.client(index).is_being_replaced = true;
    let request = request(index, &next, (-1, -1));
    let label = format!("another client {index} asks who it is");
    around.request(
        other_line(index),
        label,
        (VERSION, &request),
        move |shadow, answer| {
            let client = &mut shadow.transactions.clients[index];
            client.is_being_replaced = false;
            client.live.may_be_fenced = true;
            let Some(answer) = answer else { return Ok(()) };
            match told(shadow, answer.error_code)? {
                Told::Done => accept(shadow, (index, false), &answer, next),
                Told::Again => Ok(()),
                _ => Err(format!("refused with error {}", answer.error_code)),
            }
        },
    )
}

pub(super) fn accept(
    shadow: &mut Shadow,
    (index, was_raised): (usize, bool),
    answer: &kafka_protocol::messages::InitProducerIdResponse,
    next: Instance,
) -> Result<(), String> {
    let identity = (answer.producer_id.0, answer.producer_epoch);
    take(shadow, index, identity)?;
    shadow.count("transactional ids");
    let client = &mut shadow.transactions.clients[index];
    if let Some(before) = client.live.identity {
        client.zombie = Some(Zombie {
            identity: before,
            style: client.live.style,
            was_raised,
        });
    }
    let next = Instance {
        identity: Some(identity),
        ..next
    };
    leave(shadow, index, next)
}

/// A client is given an identity, which must be newer than any other that it had.
pub(super) fn take(shadow: &mut Shadow, index: usize, identity: Identity) -> Result<(), String> {
    let newest = shadow.transactions.clients[index].newest;
    shadow.transactions.clients[index].newest = Some(identity);
    match newest {
        Some(newest) if newest.0 == identity.0 && newest.1 < identity.1 => Ok(()),
        Some(newest) if newest.0 == identity.0 => Err(format!(
            "given epoch {}, having had {}",
            identity.1, newest.1
        )),
        _ if shadow.producer_ids.insert(identity.0) => Ok(()),
        _ => Err(format!("producer id {} was given twice", identity.0)),
    }
}
