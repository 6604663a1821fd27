//! Within one session a consumer's offsets rise, and it goes on where it stood.

use std::collections::BTreeMap;

use crate::anomaly::Anomaly;
use crate::history::{Offset, Partition};
use crate::index::{Index, Read};

pub fn check(index: &Index<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (partition, log) in &index.logs {
        // Where each session stands.
        let mut positions = BTreeMap::new();
        for read in &log.reads {
            let session = (read.process, read.poll.session);
            let before = positions.insert(session, read.poll.next);
            anomalies.extend(check_read(partition, read, before));
        }
    }
    anomalies
}

fn check_read(partition: &Partition, read: &Read<'_>, before: Option<Offset>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut position = read.poll.from;
    if let Some(before) = before {
        if read.poll.from > before {
            anomalies.push(Anomaly::PositionJumped {
                partition: partition.clone(),
                reader: read.process,
                position: before,
                from: read.poll.from,
            });
        }
        position = position.max(before);
    }
    let given = read
        .poll
        .records
        .iter()
        .map(|(offset, _)| (*offset, offset + 1));
    // The next position closes the list: it may not lie before what was given.
    for (offset, after) in given.chain([(read.poll.next, read.poll.next)]) {
        if offset < position {
            anomalies.push(Anomaly::OffsetBackwards {
                partition: partition.clone(),
                reader: read.process,
                position,
                offset,
            });
        }
        position = position.max(after);
    }
    anomalies
}
