//! Produce of an idempotent producer: batches are numbered, several are on their way at once, and each is sent again until
//! it is answered. Whatever is lost on the way, each is written once and in order.

use kafka_protocol::messages::InitProducerIdRequest;
use kafka_protocol::messages::ProducerId;
use tidegate::log::records::BatchTemplate;

use super::{SHARED_LINES, Surroundings, produce};
use crate::network::Request;
use crate::recording::Sender;
use crate::shadow::{Presence, Shadow, Target, Unanswered, code};
use crate::wire;

pub(super) const PRODUCERS: usize = 3;
const INIT_VERSION: i16 = 4;

pub fn issue(around: &mut Surroundings<'_>) -> Option<Request> {
    around
        .shadow
        .producers
        .resize_with(PRODUCERS, Default::default);
    let index = around.random.index(PRODUCERS);
    let producer = &around.shadow.producers[index];
    if producer.identity.is_none() {
        return (!producer.is_initializing).then(|| initialize(around, index));
    }
    let (id, epoch) = producer.identity?;
    let target = producer.target.clone()?;
    if around.shadow.same(&target)?.presence != Presence::Present {
        return None;
    }
    let producer = &around.shadow.producers[index];
    if let Some(place) = producer.to_repeat() {
        return Some(send(around, index, place));
    }
    if !producer.next_batch_fits() {
        return None;
    }
    let base_sequence = producer.next_sequence;
    let numbers = produce::numbers_for(around, &target);
    let now = around.now_ms;
    around.shadow.partition(&target)?.send(&numbers, now, true);
    let template = BatchTemplate {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence,
        ..BatchTemplate::PLAIN
    };
    let batch = wire::batch(template, now, &numbers);
    let producer = &mut around.shadow.producers[index];
    producer.next_sequence += i32::try_from(numbers.len()).unwrap_or(0);
    producer.window.push_back(Unanswered {
        base_sequence,
        numbers,
        batch,
        is_in_flight: false,
    });
    let place = producer.window.len() - 1;
    Some(send(around, index, place))
}

fn line(index: usize) -> usize {
    usize::try_from(SHARED_LINES).unwrap_or(0) + index
}

fn initialize(around: &mut Surroundings<'_>, index: usize) -> Request {
    around.shadow.producers[index].is_initializing = true;
    let generation = around.shadow.producers[index].generation;
    let target = around.any_target();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let label = format!("producer {index} asks for an id");
    around.request(
        line(index),
        label,
        (INIT_VERSION, &request),
        move |shadow, answer| {
            let producer = &mut shadow.producers[index];
            if producer.generation != generation {
                return Ok(());
            }
            producer.is_initializing = false;
            let (Some(answer), Some(target)) = (answer, target) else {
                return Ok(());
            };
            match answer.error_code {
                code::NONE => {}
                _ if shadow.had_fault => return Ok(()),
                error => return Err(format!("refused with error {error}")),
            }
            producer.identity = Some((answer.producer_id.0, answer.producer_epoch));
            producer.target = Some(target);
            if !shadow.producer_ids.insert(answer.producer_id.0) {
                return Err(format!(
                    "producer id {} was given twice",
                    answer.producer_id.0
                ));
            }
            Ok(())
        },
    )
}

fn send(around: &mut Surroundings<'_>, index: usize, place: usize) -> Request {
    let producer = &mut around.shadow.producers[index];
    let generation = producer.generation;
    let target = producer.target.clone().unwrap_or(Target {
        topic: String::new(),
        incarnation: 0,
        partition: 0,
    });
    let batch = &mut producer.window[place];
    batch.is_in_flight = true;
    let sequence = batch.base_sequence;
    let request = produce::request(&target, -1, batch.batch.clone());
    let label = format!(
        "producer {index} sends {} (sequence {sequence}) to {}-{}",
        produce::named(&batch.numbers),
        target.topic,
        target.partition
    );
    let numbers = batch.numbers.clone();
    let sender = Sender::Idempotent(index);
    let sent = around.shadow.recording.send(sender, &target, &numbers);
    let (mut held, mut changes) = (false, 0);
    if let Some(topic) = around.shadow.same(&target) {
        topic.flights += 1;
        (held, changes) = (topic.is_synced(), topic.durability_changes);
    }
    around.request(
        line(index),
        label,
        (produce::VERSION, &request),
        move |shadow, answer| {
            if let Some(topic) = shadow.same(&target) {
                topic.flights -= 1;
                held &= topic.durability_changes == changes;
            }
            let producer = &mut shadow.producers[index];
            let found = producer
                .window
                .iter()
                .position(|batch| batch.base_sequence == sequence);
            let Some(place) = found.filter(|_| producer.generation == generation) else {
                return Ok(());
            };
            producer.window[place].is_in_flight = false;
            let Some(answer) = answer else { return Ok(()) };
            let outcome = produce::outcome(answer)?;
            match outcome.error_code {
                code::NONE => {
                    let batch = producer.window.remove(place).ok_or("no such batch")?;
                    shadow.recording.acknowledge(sent, outcome.base_offset);
                    let partition = shadow.partition(&target).ok_or("no such partition")?;
                    partition.acknowledge(&batch.numbers, outcome.base_offset, held)?;
                    shadow.count("idempotent");
                    Ok(())
                }
                code::KAFKA_STORAGE_ERROR if shadow.had_fault => Ok(()),
                // One before it was refused or is still unanswered.
                code::OUT_OF_ORDER_SEQUENCE if place > 0 => Ok(()),
                error => refused(shadow, index, error),
            }
        },
    )
}

/// A producer on a topic that is not always synced can lose what it had an answer for: it begins anew.
fn refused(shadow: &mut Shadow, index: usize, error: i16) -> Result<(), String> {
    let target = shadow.producers[index].target.clone();
    let may_forget = target
        .and_then(|target| shadow.same(&target).map(|topic| topic.ever_os))
        .unwrap_or(true);
    // With its first batch refused for a fault, the second may have been taken as that of an unknown producer.
    if (may_forget || shadow.had_fault) && error == code::OUT_OF_ORDER_SEQUENCE {
        give_up(shadow, index);
        return Ok(());
    }
    Err(format!("refused with error {error}"))
}

fn give_up(shadow: &mut Shadow, index: usize) {
    let producer = &mut shadow.producers[index];
    let target = producer.target.clone();
    let open: Vec<u64> = producer
        .window
        .iter()
        .flat_map(|batch| batch.numbers.clone())
        .collect();
    producer.reset();
    if let Some(partition) = target.and_then(|target| shadow.partition(&target)) {
        partition.abandon(&open);
    }
}
