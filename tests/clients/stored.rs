//! What the broker holds of what clients sent, read by raw Fetch.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::{Broker, batch};

/// The development broker creates topics with this many partitions.
pub const PARTITIONS: i32 = 4;

/// Kafka's number of each codec, in a batch's attributes.
const CODECS: &[(&str, u8)] = &[
    ("none", 0),
    ("gzip", 1),
    ("snappy", 2),
    ("lz4", 3),
    ("zstd", 4),
];

/// Every batch of `codec-NAME` is stored as its client compressed it.
pub fn check_stored_codecs(broker: &Broker, codecs: &[&str]) {
    for (name, number) in CODECS.iter().filter(|(name, _)| codecs.contains(name)) {
        let found = stored_codecs(broker, &format!("codec-{name}"));
        assert_eq!(
            found,
            BTreeSet::from([*number]),
            "codecs of the batches that were sent with {name}"
        );
    }
}

/// The codecs of all batches of a topic; every batch's checksum is checked on the way.
pub fn stored_codecs(broker: &Broker, topic: &str) -> BTreeSet<u8> {
    let mut client = broker.connect();
    let mut codecs = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        loop {
            let fetched = client
                .fetch(topic, partition, offset, Duration::ZERO)
                .unwrap_or_else(|error| panic!("fetch {topic}: {error:#}"));
            assert_eq!(fetched.error_code, 0, "fetch {topic} [{partition}]");
            let headers = batch::headers(&fetched.records.unwrap_or_default())
                .unwrap_or_else(|error| panic!("{topic} [{partition}]: {error:#}"));
            let Some(last) = headers.last() else { break };
            offset = last.base_offset + i64::from(last.last_offset_delta) + 1;
            codecs.extend(headers.iter().map(|header| header.codec));
        }
    }
    codecs
}
