//! The broker's settings that DescribeConfigs shows, by Kafka's names: what clients and tools look up, read-only.

use crate::config::Config;

/// One row. Values are read from the configuration, never kept twice.
pub struct BrokerSetting {
    pub name: &'static str,
    /// Kafka's type code: 1 boolean, 2 string, 3 int, 5 long, 7 list.
    pub type_code: i8,
    pub documentation: &'static str,
    pub value: fn(&Config) -> String,
}

const BOOLEAN: i8 = 1;
const INT: i8 = 3;
const LONG: i8 = 5;

pub const BROKER_SETTINGS: &[BrokerSetting] = &[
    BrokerSetting {
        name: "node.id",
        type_code: INT,
        documentation: "This node's number in the cluster.",
        value: |config| config.broker.id.to_string(),
    },
    BrokerSetting {
        name: "broker.id",
        type_code: INT,
        documentation: "The same as node.id, by its older name.",
        value: |config| config.broker.id.to_string(),
    },
    BrokerSetting {
        name: "auto.create.topics.enable",
        type_code: BOOLEAN,
        documentation: "Whether a topic is created when it is first used.",
        value: |config| config.broker.auto_create_topics.to_string(),
    },
    BrokerSetting {
        name: "delete.topic.enable",
        type_code: BOOLEAN,
        documentation: "Topics can always be deleted.",
        value: |_| true.to_string(),
    },
    BrokerSetting {
        name: "num.partitions",
        type_code: INT,
        documentation: "Partitions of a topic that is created without a number.",
        value: |config| config.broker.default_partitions.to_string(),
    },
    BrokerSetting {
        name: "default.replication.factor",
        type_code: INT,
        documentation: "Copies of a partition: one, on this node.",
        value: |_| 1.to_string(),
    },
    BrokerSetting {
        name: "log.retention.ms",
        type_code: LONG,
        documentation: "How long records are kept, in milliseconds; -1: without end.",
        value: |config| config.topic_defaults.retention_ms.to_string(),
    },
    BrokerSetting {
        name: "log.retention.bytes",
        type_code: LONG,
        documentation: "How many bytes of a partition are kept; -1: without bound.",
        value: |config| config.topic_defaults.retention_bytes.to_string(),
    },
    BrokerSetting {
        name: "log.segment.bytes",
        type_code: INT,
        documentation: "The size at which a segment of a log is closed and the next begun.",
        value: |config| config.topic_defaults.segment_bytes.to_string(),
    },
    BrokerSetting {
        name: "log.roll.ms",
        type_code: LONG,
        documentation: "The age at which a segment is closed and the next begun, in milliseconds.",
        value: |config| config.topic_defaults.segment_ms.to_string(),
    },
    BrokerSetting {
        name: "message.max.bytes",
        type_code: INT,
        documentation: "The largest record batch that is accepted, in bytes.",
        value: |config| config.topic_defaults.max_message_bytes.to_string(),
    },
    BrokerSetting {
        name: "fetch.max.bytes",
        type_code: INT,
        documentation: "The most bytes of records in one answer to a fetch.",
        value: |config| config.broker.fetch_max_bytes.to_string(),
    },
    BrokerSetting {
        name: "socket.request.max.bytes",
        type_code: INT,
        documentation: "The largest request that is read, in bytes.",
        value: |config| config.net.max_frame_bytes.to_string(),
    },
    BrokerSetting {
        name: "max.connections",
        type_code: INT,
        documentation: "Connections at most, over all listeners.",
        value: |config| config.net.max_connections.to_string(),
    },
    BrokerSetting {
        name: "connections.max.idle.ms",
        type_code: LONG,
        documentation: "How long a connection may be silent before it is closed, in milliseconds.",
        value: |config| config.net.idle_timeout.as_millis().to_string(),
    },
    BrokerSetting {
        name: "connections.max.reauth.ms",
        type_code: LONG,
        documentation: "How long a SASL login lasts until the client must log in again, in milliseconds; 0: as long as its connection.",
        value: |config| {
            let lifetime = config.security.connections_max_reauth;
            lifetime.as_millis().to_string()
        },
    },
    BrokerSetting {
        name: "offsets.topic.num.partitions",
        type_code: INT,
        documentation: "Partitions of the topic that keeps groups' offsets.",
        value: |config| config.groups.offsets_partitions.to_string(),
    },
    BrokerSetting {
        name: "offsets.retention.minutes",
        type_code: INT,
        documentation: "How long the offsets of a group without members are kept, in minutes.",
        value: |config| (config.groups.offsets_retention.as_secs() / 60).to_string(),
    },
    BrokerSetting {
        name: "transaction.state.log.num.partitions",
        type_code: INT,
        documentation: "Partitions of the topic that keeps transactions.",
        value: |config| config.transactions.state_partitions.to_string(),
    },
    BrokerSetting {
        name: "transaction.max.timeout.ms",
        type_code: INT,
        documentation: "The longest transaction timeout that a producer may ask for, in milliseconds.",
        value: |config| config.transactions.max_timeout.as_millis().to_string(),
    },
    BrokerSetting {
        name: "transactional.id.expiration.ms",
        type_code: INT,
        documentation: "How long a transactional id that is not used is remembered, in milliseconds.",
        value: |config| config.transactions.id_expiration.as_millis().to_string(),
    },
    BrokerSetting {
        name: "offset.metadata.max.bytes",
        type_code: INT,
        documentation: "The longest note that may go with a committed offset, in bytes.",
        value: |config| config.groups.max_metadata_bytes.to_string(),
    },
    BrokerSetting {
        name: "group.initial.rebalance.delay.ms",
        type_code: INT,
        documentation: "How long a new group waits for more members, in milliseconds.",
        value: |config| {
            config
                .groups
                .initial_rebalance_delay
                .as_millis()
                .to_string()
        },
    },
    BrokerSetting {
        name: "group.min.session.timeout.ms",
        type_code: INT,
        documentation: "The shortest session timeout that a member may ask for, in milliseconds.",
        value: |config| config.groups.min_session_timeout.as_millis().to_string(),
    },
    BrokerSetting {
        name: "group.max.session.timeout.ms",
        type_code: INT,
        documentation: "The longest session timeout that a member may ask for, in milliseconds.",
        value: |config| config.groups.max_session_timeout.as_millis().to_string(),
    },
    BrokerSetting {
        name: "group.max.size",
        type_code: INT,
        documentation: "Members of a group at most.",
        value: |config| config.groups.max_members.to_string(),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_values_are_the_configurations() {
        let mut names: Vec<_> = BROKER_SETTINGS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BROKER_SETTINGS.len());

        let mut config = Config::default();
        config.broker.default_partitions = 17;
        let row = BROKER_SETTINGS
            .iter()
            .find(|row| row.name == "num.partitions")
            .expect("the row is there");
        assert_eq!((row.value)(&config), "17");
    }
}
