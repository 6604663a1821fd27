//! The body of a Produce request, written around the batches as they lie in memory: nothing of a batch is copied.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::records::varint::put_unsigned;

/// The first version with compact lengths and tagged fields.
const FLEXIBLE_FROM: i16 = 9;

/// One topic's batches: partition and the chunks of its batch.
pub(crate) struct TopicBatches {
    pub topic: Arc<str>,
    pub partitions: Vec<(i32, Vec<Bytes>)>,
}

/// Encodes a request in versions 3 to 12.
pub(crate) fn encode(
    version: i16,
    acks: i16,
    timeout_ms: i32,
    topics: &[TopicBatches],
) -> Vec<Bytes> {
    let mut out = Chunks {
        flexible: version >= FLEXIBLE_FROM,
        open: BytesMut::with_capacity(256),
        done: Vec::new(),
    };
    // No transactional id.
    if out.flexible {
        out.open.put_u8(0);
    } else {
        out.open.put_i16(-1);
    }
    out.open.put_i16(acks);
    out.open.put_i32(timeout_ms);
    out.array(topics.len());
    for topic in topics {
        out.string(&topic.topic);
        out.array(topic.partitions.len());
        for (partition, batch) in &topic.partitions {
            out.open.put_i32(*partition);
            out.bytes(batch);
            out.no_tagged_fields();
        }
        out.no_tagged_fields();
    }
    out.no_tagged_fields();
    out.finish()
}

struct Chunks {
    flexible: bool,
    open: BytesMut,
    done: Vec<Bytes>,
}

impl Chunks {
    fn array(&mut self, length: usize) {
        if self.flexible {
            put_unsigned(&mut self.open, length as u64 + 1);
        } else {
            self.open.put_i32(length as i32);
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            put_unsigned(&mut self.open, text.len() as u64 + 1);
        } else {
            self.open.put_i16(text.len() as i16);
        }
        self.open.put_slice(text.as_bytes());
    }

    fn bytes(&mut self, chunks: &[Bytes]) {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        self.array(length);
        self.done.push(self.open.split().freeze());
        self.done.extend(chunks.iter().cloned());
    }

    fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.open.put_u8(0);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::protocol::Decodable;

    #[test]
    fn every_version_decodes_to_what_was_encoded() {
        let topics = [TopicBatches {
            topic: "orders".into(),
            partitions: vec![
                (
                    3,
                    vec![Bytes::from_static(b"head"), Bytes::from(vec![7; 300])],
                ),
                (4, vec![Bytes::from_static(b"x")]),
            ],
        }];
        for version in 3..=12 {
            let mut bytes = Bytes::from(encode(version, -1, 1500, &topics).concat());
            let request = ProduceRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "version {version}");
            assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
            assert_eq!(request.transactional_id, None);
            let topic = &request.topic_data[0];
            assert_eq!(topic.name.as_str(), "orders");
            let lengths: Vec<_> = topic
                .partition_data
                .iter()
                .map(|data| (data.index, data.records.as_ref().map(Bytes::len)))
                .collect();
            assert_eq!(lengths, [(3, Some(304)), (4, Some(1))]);
        }
    }
}
