//! Nobody learns of a resource that is not theirs: a topic, a group or a transactional id that exists and one that does not
//! are answered alike, bit for bit, where the principal has no right to the kind.
//!
//! Driven by the broker's own table: every API in every version that it serves is asked what [`requests`] makes for it, once
//! naming what is there and once what is not. An API without a line there fails the test.

pub mod requests;

use std::collections::BTreeMap;
use std::fs;

use harness::{Broker, RawClient};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiKey, CreateAclsRequest, InitProducerIdRequest, MetadataRequest,
    ProducerId, TransactionalId, add_partitions_to_txn_request, metadata_request,
};
use tidegate::kafka::apis::APIS;
use uuid::Uuid;

use crate::support::{ask, commit_request, text, topic};
use requests::{Generator, NAMES_NOTHING, Named, generator};

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"
sasl-mechanisms = ["SCRAM-SHA-256"]

[security]
authorization = true
super-users = ["User:root"]
scram-iterations = 4096

[admin]
bind = "127.0.0.1:0"
"#;

const PASSWORD: &str = "existence-password";

/// Kafka's codes of resource types, of "every operation" and of "allow".
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const ALL: i8 = 2;
const ALLOW: i8 = 3;

/// Each user with the kinds of resources to which it has every right. What it has none to must stay hidden.
const USERS: [(&str, &[i8]); 4] = [
    ("stranger", &[]),
    ("without-topics", &[GROUP, TRANSACTIONAL_ID]),
    ("without-groups", &[TOPIC, TRANSACTIONAL_ID]),
    ("without-transactions", &[TOPIC, GROUP]),
];
const KINDS: [i8; 3] = [TOPIC, GROUP, TRANSACTIONAL_ID];

/// Names of equal length: those that are there, and those that are not.
const THERE: [&str; 3] = ["orders", "readers", "billing"];
const MISSING: [&str; 3] = ["absent", "missing", "nowhere"];

pub fn broker_with_users() -> Broker {
    let broker = Broker::builder()
        .config(CONFIG)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(&file, PASSWORD).expect("a temporary file can be written");
    let path = file.path().display().to_string();
    for user in USERS.iter().map(|(user, _)| *user).chain(["root"]) {
        broker
            .command(&["user", "create", user, "--password-file", &path])
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    broker
}

/// A connection of one of [`USERS`], or of `root`.
pub fn connect(broker: &Broker, user: &str) -> RawClient {
    let mut client = broker.connect();
    client
        .log_in(user, PASSWORD)
        .unwrap_or_else(|error| panic!("{user}: {error:#}"));
    client
}

/// Makes the resources that are there, and gives the users their rights.
fn prepare(root: &mut RawClient) -> Named {
    let [name, group, transactional_id] = THERE;
    root.create_topic(name, 1, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    let committed = ask(root, 8, &commit_request(group, 0, 1));
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(transactional_id))))
        .with_transaction_timeout_ms(600_000);
    let producer = ask(root, 4, &init);
    assert_eq!(producer.error_code, 0);
    let partitions = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![0]);
    let begin = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text(transactional_id)))
        .with_v3_and_below_producer_id(producer.producer_id)
        .with_v3_and_below_producer_epoch(producer.producer_epoch)
        .with_v3_and_below_topics(vec![partitions]);
    let begun = &ask(root, 3, &begin).results_by_topic_v3_and_below[0];
    assert_eq!(begun.results_by_partition[0].partition_error_code, 0);
    let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
    let metadata = MetadataRequest::default().with_topics(Some(vec![wanted]));
    let topic_id = ask(root, 12, &metadata).topics[0].topic_id;
    for (user, kinds) in USERS {
        let allow = |kind: &i8| {
            AclCreation::default()
                .with_resource_type(*kind)
                .with_resource_name(text("*"))
                .with_resource_pattern_type(LITERAL)
                .with_principal(text(&format!("User:{user}")))
                .with_host(text("*"))
                .with_operation(ALL)
                .with_permission_type(ALLOW)
        };
        let request =
            CreateAclsRequest::default().with_creations(kinds.iter().map(allow).collect());
        let created = ask(root, 3, &request).results;
        assert!(created.iter().all(|result| result.error_code == 0));
    }
    Named {
        topic: name,
        topic_id,
        group,
        transactional_id,
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
    }
}

impl Named {
    /// Names of nothing.
    pub fn nothing() -> Self {
        let [topic, group, transactional_id] = MISSING;
        Self {
            topic,
            topic_id: Uuid::from_u128(0x5157_u128 << 100 | 0x4000_8000),
            group,
            transactional_id,
            producer_id: ProducerId(0),
            producer_epoch: 0,
        }
    }

    /// Every name as the wire and messages carry it. Those of what is missing are as long as those of what is there.
    fn bytes(&self) -> [Vec<u8>; 5] {
        [
            self.topic.as_bytes().to_vec(),
            self.group.as_bytes().to_vec(),
            self.transactional_id.as_bytes().to_vec(),
            self.topic_id.as_bytes().to_vec(),
            self.topic_id.to_string().into_bytes(),
        ]
    }

    /// The same, but for one kind's resource, which is one that does not exist.
    fn without(&self, kind: i8) -> Self {
        let mut names = self.clone();
        let nothing = Self::nothing();
        match kind {
            TOPIC => (names.topic, names.topic_id) = (nothing.topic, nothing.topic_id),
            GROUP => names.group = nothing.group,
            _ => names.transactional_id = nothing.transactional_id,
        }
        names
    }
}

/// One user who has no right to one kind of resource, asking about it.
struct Asker<'a> {
    broker: &'a Broker,
    user: &'static str,
    kind: i8,
    there: &'a Named,
    missing: Named,
    client: RawClient,
    complaints: Vec<String>,
}

impl<'a> Asker<'a> {
    fn new(broker: &'a Broker, user: &'static str, kind: i8, there: &'a Named) -> Self {
        Self {
            broker,
            user,
            kind,
            there,
            missing: there.without(kind),
            client: connect(broker, user),
            complaints: Vec::new(),
        }
    }

    /// Compares the answers of one API in one version. Returns how many of its requests name the kind.
    fn compare(&mut self, key: ApiKey, generate: Generator, version: i16) -> usize {
        let there = generate(version, self.there);
        let pairs: Vec<_> = there
            .into_iter()
            .zip(generate(version, &self.missing))
            .filter(|(there, missing)| there != missing)
            .collect();
        for (index, (for_there, for_missing)) in pairs.iter().enumerate() {
            let answers = (self.answer(for_there), self.answer(for_missing));
            let told = match answers {
                (Some(one), Some(other)) if one == other => continue,
                (Some(one), Some(other)) => {
                    format!("what exists is answered with {one:?}, what does not with {other:?}")
                }
                _ => "the connection was closed".to_owned(),
            };
            self.complaints.push(format!(
                "{key:?} version {version}, request {index}, {}, kind {}: {told}",
                self.user, self.kind
            ));
        }
        pairs.len()
    }

    /// An answer, with the names of what is missing as if they were of what is there; `None` when the connection was closed.
    fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let answer = self.client.send_raw(frame);
        let answer = answer.and_then(|()| self.client.receive_raw());
        let Ok(answer) = answer else {
            self.client = connect(self.broker, self.user);
            return None;
        };
        let mut answer = answer.to_vec();
        for (from, to) in self.missing.bytes().iter().zip(self.there.bytes()) {
            let mut at = 0;
            while let Some(found) = answer[at..].windows(from.len()).position(|it| it == from) {
                answer[at + found..at + found + from.len()].copy_from_slice(&to);
                at += found + from.len();
            }
        }
        Some(answer)
    }
}

#[test]
fn what_exists_and_what_does_not_are_answered_alike_by_every_api() {
    let broker = broker_with_users();
    let there = prepare(&mut connect(&broker, "root"));
    let mut complaints = Vec::new();
    let mut named = BTreeMap::new();
    for (user, rights) in USERS {
        for kind in KINDS.into_iter().filter(|kind| !rights.contains(kind)) {
            let mut asker = Asker::new(&broker, user, kind, &there);
            for api in APIS {
                for version in api.versions.clone() {
                    let generate = generator(api.key);
                    let generate = generate.filter(|it| !it(version, &there).is_empty());
                    if let Some(generate) = generate {
                        let compared = asker.compare(api.key, generate, version);
                        *named.entry((api.name, version)).or_insert(0) += compared;
                    }
                }
            }
            complaints.append(&mut asker.complaints);
        }
    }
    for api in APIS.iter().filter(|api| generator(api.key).is_none()) {
        if !NAMES_NOTHING.contains(&api.key) {
            complaints.push(format!(
                "{} has no line in tests/protocol/existence/requests.rs: make the requests there by which it names a topic, a \
                 group or a transactional id, or add it to those that name none",
                api.name
            ));
        }
    }
    let useless = named.iter().filter(|(_, compared)| **compared == 0);
    complaints.extend(useless.map(|((api, version), _)| {
        format!("{api} version {version}: none of its requests names anything")
    }));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
