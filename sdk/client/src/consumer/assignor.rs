//! Who of a group reads which partition: computed by the group's leader, alike in every client.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use crate::client::{str_bytes, topic_name};
use crate::error::{Error, Result};

/// How partitions are shared out among a group's members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assignor {
    /// Each topic's partitions in contiguous ranges: partitions of equal number of two topics meet at one member.
    Range,
    /// All topics' partitions dealt out one after the other: the most even.
    RoundRobin,
}

/// The topics that each member reads.
pub(crate) type Subscriptions = BTreeMap<String, BTreeSet<String>>;
/// The partitions that each member was given, by topic.
pub(crate) type Assignments = BTreeMap<String, BTreeMap<String, Vec<i32>>>;

/// The version of both group messages that is written; newer ones only add fields that these assignors do not use.
const MESSAGE_VERSION: i16 = 0;

impl Assignor {
    /// The name in the group protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Shares out `partitions` (topic to count). Topics without partitions are nobody's.
    pub(crate) fn assign(
        self,
        members: &Subscriptions,
        partitions: &BTreeMap<String, i32>,
    ) -> Assignments {
        let mut assignments: Assignments = members
            .keys()
            .map(|member| (member.clone(), BTreeMap::new()))
            .collect();
        let mut give = |member: &str, topic: &str, partition: i32| {
            if let Some(topics) = assignments.get_mut(member) {
                topics.entry(topic.to_owned()).or_default().push(partition);
            }
        };
        match self {
            Self::Range => range(members, partitions, &mut give),
            Self::RoundRobin => round_robin(members, partitions, &mut give),
        }
        assignments
    }
}

fn range(
    members: &Subscriptions,
    partitions: &BTreeMap<String, i32>,
    give: &mut impl FnMut(&str, &str, i32),
) {
    for (topic, count) in partitions {
        let readers: Vec<&String> = readers(members, topic).collect();
        let share = *count as usize / readers.len().max(1);
        let extra = *count as usize % readers.len().max(1);
        let mut next = 0;
        for (index, member) in readers.into_iter().enumerate() {
            let end = next + share + usize::from(index < extra);
            (next..end).for_each(|partition| give(member, topic, partition as i32));
            next = end;
        }
    }
}

fn round_robin(
    members: &Subscriptions,
    partitions: &BTreeMap<String, i32>,
    give: &mut impl FnMut(&str, &str, i32),
) {
    let mut circle = members.iter().cycle();
    for (topic, count) in partitions {
        if readers(members, topic).next().is_none() {
            continue;
        }
        for partition in 0..*count {
            // Somebody reads the topic: the circle comes to it.
            let reader = circle.by_ref().find(|(_, topics)| topics.contains(topic));
            if let Some((member, _)) = reader {
                give(member, topic, partition);
            }
        }
    }
}

fn readers<'a>(members: &'a Subscriptions, topic: &'a str) -> impl Iterator<Item = &'a String> {
    members
        .iter()
        .filter(move |(_, topics)| topics.contains(topic))
        .map(|(member, _)| member)
}

pub(crate) fn encode_subscription(topics: &BTreeSet<String>) -> Result<Bytes> {
    let topics = topics.iter().map(|topic| str_bytes(topic)).collect();
    encode(&ConsumerProtocolSubscription::default().with_topics(topics))
}

pub(crate) fn decode_subscription(bytes: Bytes) -> Result<BTreeSet<String>, String> {
    let subscription: ConsumerProtocolSubscription = decode(bytes)?;
    Ok(subscription
        .topics
        .iter()
        .map(|topic| topic.to_string())
        .collect())
}

pub(crate) fn encode_assignment(topics: &BTreeMap<String, Vec<i32>>) -> Result<Bytes> {
    let topics = topics.iter().map(|(topic, partitions)| {
        TopicPartition::default()
            .with_topic(topic_name(topic))
            .with_partitions(partitions.clone())
    });
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(topics.collect()))
}

/// Members without partitions may get no bytes at all.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<BTreeMap<String, Vec<i32>>, String> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let assignment: ConsumerProtocolAssignment = decode(bytes)?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics
        .map(|topic| (topic.topic.to_string(), topic.partitions))
        .collect())
}

fn encode(message: &impl Encodable) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(MESSAGE_VERSION);
    message
        .encode(&mut bytes, MESSAGE_VERSION)
        .map_err(|error| Error::InvalidInput(format!("group message: {error}")))?;
    Ok(bytes.freeze())
}

fn decode<M: Decodable + Message>(mut bytes: Bytes) -> Result<M, String> {
    if bytes.len() < 2 {
        return Err("a group message is shorter than its version".into());
    }
    let version = bytes.get_i16().min(M::VERSIONS.max);
    M::decode(&mut bytes, version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(&str, &[&str])]) -> Subscriptions {
        list.iter()
            .map(|(member, topics)| {
                let topics = topics.iter().map(|topic| topic.to_string()).collect();
                (member.to_string(), topics)
            })
            .collect()
    }

    /// `a:t0,t1 b:t2` — what each member got.
    fn assigned(assignor: Assignor, list: &[(&str, &[&str])], counts: &[(&str, i32)]) -> String {
        let counts = counts
            .iter()
            .map(|(topic, count)| (topic.to_string(), *count))
            .collect();
        let lines = assignor
            .assign(&members(list), &counts)
            .into_iter()
            .map(|(member, topics)| {
                let partitions: Vec<_> = topics
                    .iter()
                    .flat_map(|(topic, list)| {
                        list.iter().map(move |index| format!("{topic}{index}"))
                    })
                    .collect();
                format!("{member}:{}", partitions.join(","))
            });
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn range_gives_contiguous_shares() {
        for (list, counts, expected) in [
            (
                &[("a", &["t"][..]), ("b", &["t"])][..],
                &[("t", 3)][..],
                "a:t0,t1 b:t2",
            ),
            (
                &[("a", &["t", "u"]), ("b", &["t", "u"])],
                &[("t", 3), ("u", 3)],
                "a:t0,t1,u0,u1 b:t2,u2",
            ),
            (
                &[("a", &["t"]), ("b", &["t"]), ("c", &["t"])],
                &[("t", 2)],
                "a:t0 b:t1 c:",
            ),
            (
                &[("a", &["t"]), ("b", &["u"])],
                &[("t", 2), ("u", 1)],
                "a:t0,t1 b:u0",
            ),
            (&[("a", &["t"])], &[("t", 0), ("x", 4)], "a:"),
        ] {
            assert_eq!(assigned(Assignor::Range, list, counts), expected);
        }
    }

    #[test]
    fn round_robin_deals_evenly() {
        for (list, counts, expected) in [
            (
                &[("a", &["t", "u"][..]), ("b", &["t", "u"])][..],
                &[("t", 3), ("u", 3)][..],
                "a:t0,t2,u1 b:t1,u0,u2",
            ),
            (
                &[("a", &["t"]), ("b", &["t", "u"])],
                &[("t", 2), ("u", 2)],
                "a:t0 b:t1,u0,u1",
            ),
            (&[("a", &["t"])], &[("u", 2)], "a:"),
        ] {
            assert_eq!(assigned(Assignor::RoundRobin, list, counts), expected);
        }
    }

    #[test]
    fn group_messages_round_trip() {
        let topics: BTreeSet<_> = ["x".to_owned(), "y".to_owned()].into();
        let bytes = encode_subscription(&topics).unwrap();
        assert_eq!(decode_subscription(bytes).unwrap(), topics);
        let assignment = BTreeMap::from([("x".to_owned(), vec![0, 3])]);
        let bytes = encode_assignment(&assignment).unwrap();
        assert_eq!(decode_assignment(bytes).unwrap(), assignment);
        assert!(decode_assignment(Bytes::new()).unwrap().is_empty());
        assert!(decode_subscription(Bytes::from_static(&[0])).is_err());
    }
}
