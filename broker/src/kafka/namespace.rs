//! The one place that every topic, group and transactional id of a request passes on its way in and out. Today every
//! session sees the broker's own names; a tenant's session will map them here and nowhere else.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// Kafka's bound on a topic's name, so that `name-partition` stays a legal file name.
const MAX_TOPIC_NAME: usize = 249;

/// Ids are keys in records and maps: longer ones would only serve to fill memory.
const MAX_ID_BYTES: usize = 1024;

/// Kafka's rule: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
pub fn topic_in(name: &str) -> Result<String, ResponseError> {
    match name {
        "." | ".." => Err(ResponseError::InvalidTopicException),
        name => topic_prefix_in(name),
    }
}

/// What a legal name can begin with: `.` and `..`, too.
pub fn topic_prefix_in(prefix: &str) -> Result<String, ResponseError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=MAX_TOPIC_NAME).contains(&prefix.len());
    if fits && prefix.bytes().all(legal) {
        return Ok(prefix.to_owned());
    }
    Err(ResponseError::InvalidTopicException)
}

/// Whether two topics would have the same name in metrics of Kafka and its tools, which write `_` for `.`; Kafka makes no such
/// pair.
pub fn collide(one: &str, other: &str) -> bool {
    let alike = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.len() == other.len() && one.bytes().map(alike).eq(other.bytes().map(alike))
}

/// The empty group is legal for a consumer without one (KIP-289 leaves OffsetCommit to it), so its handler decides.
pub fn group_in(name: &str) -> Result<String, ResponseError> {
    bounded(name, ResponseError::InvalidGroupId)
}

pub fn transactional_id_in(name: &str) -> Result<String, ResponseError> {
    bounded(name, ResponseError::InvalidRequest)
}

pub fn out(name: &str) -> Option<StrBytes> {
    Some(StrBytes::from_string(name.to_owned()))
}

fn bounded(name: &str, error: ResponseError) -> Result<String, ResponseError> {
    if name.len() <= MAX_ID_BYTES {
        Ok(name.to_owned())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        let longest = "a".repeat(MAX_TOPIC_NAME);
        for legal in ["a", "orders", "Orders.v2_x-1", "...", longest.as_str()] {
            assert_eq!(topic_in(legal), Ok(legal.to_owned()), "{legal}");
        }
        let too_long = "a".repeat(MAX_TOPIC_NAME + 1);
        for illegal in ["", ".", "..", "a b", "a/b", "ä", "a\0", too_long.as_str()] {
            assert_eq!(
                topic_in(illegal),
                Err(ResponseError::InvalidTopicException),
                "{illegal}"
            );
        }
    }

    #[test]
    fn a_prefix_may_be_what_no_name_is() {
        for legal in [".", "..", "orders.", "_"] {
            assert_eq!(topic_prefix_in(legal), Ok(legal.to_owned()), "{legal}");
        }
        for illegal in ["", "a b", "a*"] {
            assert!(topic_prefix_in(illegal).is_err(), "{illegal}");
        }
    }

    #[test]
    fn names_collide_when_only_dots_and_underscores_differ() {
        for (one, other, expected) in [
            ("a.x", "a_x", true),
            ("a.b_c", "a_b.c", true),
            ("a.x", "a.y", false),
            ("a.x", "a-x", false),
            ("a.x", "a_xx", false),
        ] {
            assert_eq!(collide(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn ids_are_bounded() {
        assert!(group_in(&"g".repeat(MAX_ID_BYTES)).is_ok());
        assert_eq!(
            group_in(&"g".repeat(MAX_ID_BYTES + 1)),
            Err(ResponseError::InvalidGroupId)
        );
    }
}
