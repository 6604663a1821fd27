//! One client that fills what coordinators keep: groups, transactional ids, the metadata of members. It gets its share and no more,
//! and a client at another address goes on joining groups and committing transactions as if it were alone.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use harness::{Broker, Dialect, RawClient, Transactional, batch};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    GroupId, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::TOPIC;

/// Who floods. The honest client is at 127.0.0.1.
const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const POLICY_VIOLATION: i16 = 44;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const MEMBER_ID_REQUIRED: i16 = 79;

const JOIN: i16 = 5;
const COMMIT: i16 = 8;
const INIT: i16 = 4;

/// What a share is here; the totals are four times as much, as they are by default.
const SHARE: usize = 100;
const SHARE_BYTES: u64 = 16 << 20;
const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[groups]
initial-rebalance-delay = "0ms"
max-groups = 400
max-groups-per-principal = 100
max-bytes = "64MiB"
max-bytes-per-principal = "16MiB"

[transactions]
max-ids = 400
max-ids-per-principal = 100

[admin]
bind = "127.0.0.1:0"
"#;

fn broker() -> Broker {
    let broker = Broker::builder()
        .config(CONFIG)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let created = broker.connect().create_topic(TOPIC, 1, &[]);
    created.unwrap_or_else(|error| panic!("{error:#}"));
    broker
}

fn flooder(broker: &Broker) -> RawClient {
    RawClient::connect_from(FLOODER, broker.tcp()).unwrap_or_else(|error| panic!("{error:#}"))
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn join(group: &str, metadata: Bytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(metadata);
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(1_800_000)
        .with_rebalance_timeout_ms(1_800_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn commit(group: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn init(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(id))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

/// What the flooder asks for, once more with every number; the code it is answered with.
type Flood = fn(&mut RawClient, usize) -> anyhow::Result<i16>;

const FLOODS: &[(&str, Flood)] = &[
    ("groups with an offset", |client, number| {
        let answer = client.request(COMMIT, &commit(&format!("offsets-{number}")))?;
        Ok(answer.topics[0].partitions[0].error_code)
    }),
    ("groups that expect a member", |client, number| {
        let answer = client.request(JOIN, &join(&format!("expecting-{number}"), Bytes::new()))?;
        Ok(match answer.error_code {
            MEMBER_ID_REQUIRED => 0,
            code => code,
        })
    }),
    ("transactional ids", |client, number| {
        Ok(client
            .request(INIT, &init(&format!("id-{number}")))?
            .error_code)
    }),
];

/// One whole life of a consumer and of a transactional producer, both with new names.
fn work_honestly(client: &mut RawClient, round: usize) -> anyhow::Result<()> {
    let group = format!("honest-{round}");
    let mut request = join(&group, Bytes::from_static(b"subscription"));
    let told = client.request(JOIN, &request)?;
    anyhow::ensure!(
        told.error_code == MEMBER_ID_REQUIRED,
        "join: {}",
        told.error_code
    );
    request.member_id = told.member_id;
    let joined = client.request(JOIN, &request)?;
    anyhow::ensure!(joined.error_code == 0, "join: {}", joined.error_code);
    let leave = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(&*group)))
        .with_member_id(joined.member_id);
    let left = client.request(2, &leave)?;
    anyhow::ensure!(left.error_code == 0, "leave: {}", left.error_code);

    let mut producer = Transactional::new(format!("honest-{round}"), Dialect::Implicit);
    let code = producer.initialize(client, Duration::from_secs(60))?;
    anyhow::ensure!(code == 0, "init: {code}");
    let identity = batch::Producer {
        id: producer.producer_id,
        epoch: producer.epoch,
        base_sequence: 0,
    };
    let batch = batch::transactional(&[(None, b"value")], identity);
    producer.send_produce(client, TOPIC, 0, batch)?;
    let (code, _) = producer.receive_produce(client)?;
    anyhow::ensure!(code == 0, "produce: {code}");
    let code = producer.end(client, true)?;
    anyhow::ensure!(code == 0, "end: {code}");
    Ok(())
}

#[test]
fn a_flood_of_groups_or_ids_fills_a_share_and_nobody_else_notices() {
    for (what, flood) in FLOODS {
        let broker = broker();
        let mut honest = broker.connect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let mut client = flooder(&broker);
                let mut made = 0;
                let mut refused = 0;
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) || refused < SHARE {
                    match flood(&mut client, number) {
                        Ok(0) => made += 1,
                        Ok(POLICY_VIOLATION) => refused += 1,
                        other => panic!("{what}: {other:?}"),
                    }
                    number += 1;
                }
                made
            });
            for round in 0..12 {
                work_honestly(&mut honest, round).unwrap_or_else(|error| {
                    panic!("{what}, round {round}: {error:#}\n{}", broker.log_tail())
                });
            }
            is_over.store(true, Ordering::Relaxed);
            let made = flooding.join().expect("the flooder is answered");
            assert_eq!(made, SHARE, "{what}");
        });
        let refusals = broker.metric("tidegate_coordinator_refusals_total", "-per-principal");
        let refusals = refusals.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(refusals >= SHARE as f64, "{what}: {refusals} are counted");
    }
}

#[test]
fn members_that_went_away_hold_no_more_than_a_share_of_the_memory() {
    let broker = broker();
    let mut honest = broker.connect();
    work_honestly(&mut honest, 0).unwrap_or_else(|error| panic!("{error:#}"));
    let before = broker.memory_rss();
    let mut codes = Vec::new();
    for (size, count) in [(1_000_000, 20), (250 << 10, 300)] {
        let metadata = Bytes::from(vec![7; size]);
        for number in 0..count {
            let mut client = flooder(&broker);
            let request = join(&format!("{size}-{number}"), metadata.clone());
            // In version 3 a member is in the group at once. It is never heard of again.
            let answer = client.request(3, &request).unwrap_or_else(|error| {
                panic!("{size} bytes, {number}: {error:#}\n{}", broker.log_tail())
            });
            codes.push(answer.error_code);
        }
    }
    let (large, small) = codes.split_at(20);
    assert!(large.iter().all(|code| *code == GROUP_MAX_SIZE_REACHED));
    let held = small.iter().filter(|code| **code == 0).count();
    assert!((1..80).contains(&held), "{held} of 250 KiB are held");
    let refused = small
        .iter()
        .filter(|code| **code == COORDINATOR_NOT_AVAILABLE);
    assert!(refused.count() > 200);
    for round in 1..20 {
        work_honestly(&mut honest, round)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", broker.log_tail()));
    }
    let counted = broker.metric("tidegate_coordinator_bytes", "groups");
    let counted = counted.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(counted <= SHARE_BYTES as f64 + 1e6, "{counted}");
    if let (Some(before), Some(after)) = (before, broker.memory_rss()) {
        let allowed = before + SHARE_BYTES + (48 << 20);
        assert!(after < allowed, "{before} bytes became {after}");
    }
}
