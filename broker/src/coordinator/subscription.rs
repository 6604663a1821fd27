//! What the members of a consumer group say that they read: the topics of Kafka's `ConsumerProtocolSubscription`, which is the
//! metadata of each of their protocols. Every version of it (0 to 3, and whatever will follow) begins with them.

use bytes::Buf;

/// The protocol type of groups whose members speak so.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// Hands every topic that a member subscribes to `each`. False when its metadata is no subscription; some may have been handed
/// over then.
pub fn for_each_topic(mut metadata: &[u8], mut each: impl FnMut(&str)) -> bool {
    let mut read = || {
        let version = metadata.try_get_i16().ok()?;
        let count = metadata.try_get_i32().ok()?;
        if version < 0 || count < 0 {
            return None;
        }
        for _ in 0..count {
            let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
            let (topic, rest) = metadata.split_at_checked(length)?;
            each(std::str::from_utf8(topic).ok()?);
            metadata = rest;
        }
        Some(())
    };
    read().is_some()
}

#[cfg(test)]
pub mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;

    /// A subscription of version 0 without user data.
    pub fn subscription(topics: &[&str]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(topics.len() as i32);
        for topic in topics {
            bytes.put_i16(topic.len() as i16);
            bytes.put_slice(topic.as_bytes());
        }
        bytes.put_i32(-1);
        bytes.freeze()
    }

    fn topics(metadata: &[u8]) -> Option<Vec<String>> {
        let mut topics = Vec::new();
        for_each_topic(metadata, |topic| topics.push(topic.to_owned())).then_some(topics)
    }

    #[test]
    fn topics_are_read_in_every_version_and_damage_is_told() {
        let two = subscription(&["orders", "äpfel"]);
        let later = [&[0, 9][..], &two[2..], &[1, 2, 3][..]].concat();
        let expected = Some(vec!["orders".to_owned(), "äpfel".to_owned()]);
        assert_eq!(topics(&two), expected);
        assert_eq!(topics(&later), expected, "of a version to come");
        assert_eq!(topics(&subscription(&[])), Some(vec![]));
        for length in 0..two.len() - 4 {
            assert_eq!(topics(&two[..length]), None, "{length} bytes of it");
        }
        let table: &[&[u8]] = &[
            b"subscription",
            &[0xff, 0xff, 0, 0, 0, 0],
            &[0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0x7f, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0, 0, 1, 0xff, 0xff],
            &[0, 0, 0, 0, 0, 1, 0, 1, 0xff],
        ];
        for damaged in table {
            assert_eq!(topics(damaged), None, "{damaged:?}");
        }
    }
}
