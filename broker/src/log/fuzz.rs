//! Fuzzing of what the log reads: batches from clients, and files from a disk that may have changed them.

mod recovery;
#[cfg(test)]
pub mod seeds;

pub use recovery::recovery;

use bytes::Bytes;

use super::batch::{self, Batch, BatchHeader, Compression, HEADER_SIZE, at, checksum};
use super::checkpoint::Checkpoint;
use super::codec;
use super::control;
use super::index::Index;
use super::records::{self, BatchTemplate, Record};
use super::seal::SegmentHeader;
use super::validate::{self, Rules, Turns};
use crate::config::TopicConfig;

/// Bound of a batch and of what it decompresses to.
const MAX_BYTES: usize = 1 << 20;
/// A bound at which the decoder takes every window that clients read.
const LARGEST_WINDOW: usize = 64 << 20;

/// Batches as a client sends them, or as the log gives them out. Input: flags (1 byte; bit 0: put every checksum right),
/// batches.
pub fn batch(input: &[u8]) {
    let [flags, rest @ ..] = input else {
        return;
    };
    let mut bytes = rest.to_vec();
    if flags & 1 == 1 {
        mend_checksums(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    if let Ok(batches) = batch::parse(bytes.clone(), MAX_BYTES) {
        for batch in &batches {
            let header = &batch.header;
            assert!(header.record_count >= 1 && header.compression().is_some());
            assert_eq!(header.last_offset_delta, header.record_count - 1);
        }
    }
    check_admitted(&bytes);
    let Ok(batches) = batch::split(bytes.clone(), MAX_BYTES) else {
        return;
    };
    let sizes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    assert_eq!(sizes, bytes.len(), "no byte is left out or given twice");
    batches.iter().for_each(check_records);
}

/// What is admitted can be decoded by whoever builds the records, and is what its header says.
fn check_admitted(bytes: &Bytes) {
    let config = TopicConfig {
        max_message_bytes: MAX_BYTES as u32,
        ..TopicConfig::default()
    };
    let rules = Rules {
        config: &config,
        now: 1_700_000_000_000,
        max_decompressed: MAX_BYTES,
        turns: &Turns::default(),
    };
    let Ok(batch) = validate::admit(bytes.clone(), &rules) else {
        return;
    };
    assert_eq!(BatchHeader::read(&batch.bytes), Some(batch.header));
    batch::split(batch.bytes.clone(), MAX_BYTES).expect("its checksum is right");
    let records = records::decode(&batch, LARGEST_WINDOW).expect("it can be decoded");
    let deltas: Vec<i32> = records.iter().map(|record| record.offset_delta).collect();
    let expected: Vec<i32> = (0..batch.header.record_count).collect();
    assert_eq!(deltas, expected);
    let latest = records.iter().map(|record| record.timestamp).max();
    assert_eq!(latest, Some(batch.header.max_timestamp));
}

/// The walk over the records against the decoder that builds them.
fn check_walk(batch: &Batch) {
    let header = &batch.header;
    let walked = validate::examine(header, &batch.bytes, MAX_BYTES);
    let decoded = records::decode(batch, LARGEST_WINDOW);
    if let Ok(latest) = walked {
        let records = decoded.expect("what was walked can be decoded");
        let times = records.iter().map(|record| record.timestamp);
        let found = match header.is_log_append_time() {
            true => header.max_timestamp,
            false => times.max().unwrap_or(-1).max(-1),
        };
        assert_eq!(latest, found);
        return;
    }
    let Ok(records) = decoded else {
        return;
    };
    let base = header.base_timestamp;
    let fits = |record: &Record| record.timestamp.checked_sub(base).is_some();
    if header.compression() == Some(Compression::None) && records.iter().all(fits) {
        let again = records::encode_body(&records, base, Compression::None);
        let body = &batch.bytes[HEADER_SIZE..];
        assert_ne!(
            again.as_deref(),
            Ok(body),
            "as we would write it: {walked:?}"
        );
    }
}

/// What is decoded is the same after it was encoded and decoded again.
fn check_records(batch: &Batch) {
    let header = &batch.header;
    let _ = control::decode_marker(header, &batch.bytes);
    assert_eq!(header.size, batch.bytes.len());
    check_walk(batch);
    let _ = records::offset_of_time(batch, header.max_timestamp, header.base_offset, MAX_BYTES);
    let Ok(decoded) = records::decode(batch, MAX_BYTES) else {
        return;
    };
    let template = BatchTemplate::like(header);
    if header.last_offset_delta < 0 {
        assert!(records::encode(template, &decoded).is_err());
        return;
    }
    let again = records::encode(template, &decoded).expect("what was decoded can be encoded");
    // Times are stored relative to the first record's, which may take more bytes than it took the client.
    let again = records::decode(&again, 4 * MAX_BYTES).expect("what was encoded can be decoded");
    assert_eq!(again, decoded);
}

/// Writes the checksum that each batch should have.
fn mend_checksums(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(header) = BatchHeader::read(rest) {
        if header.size > rest.len() {
            return;
        }
        let (batch, behind) = rest.split_at_mut(header.size);
        if let Some((head, body)) = batch.split_first_chunk_mut::<HEADER_SIZE>() {
            let crc = checksum(head, body);
            head[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        }
        rest = behind;
    }
}

/// An index file. Input: flags (1 byte; bit 0: as it stands, otherwise magic and checksum are put around), salt (8), the
/// file from the position that it covers on.
pub fn index(input: &[u8]) {
    let Some(([flags, salt @ ..], content)) = input.split_first_chunk::<9>() else {
        return;
    };
    let bytes = if flags & 1 == 1 {
        content.to_vec()
    } else {
        codec::close([b"TGINDEX1", &salt[..], content].concat())
    };
    let salt = u64::from_be_bytes(*salt);
    let Some((index, covered)) = Index::decode(&bytes, salt) else {
        return;
    };
    // Any answer is right: an index is a hint. It has to be given.
    for place in [i64::MIN, -1, 0, 1 << 40, i64::MAX] {
        index.position_of(place);
        index.position_of_time(place);
    }
    let mut grown = index.clone();
    grown.note(i64::MAX, u64::from(u32::MAX), 0);
    grown.truncate(covered);
    assert_eq!(
        Index::decode(&index.encode(salt, covered), salt),
        Some((index, covered))
    );
}

/// A checkpoint file. Input: flags (1 byte; bit 0: as it stands; bit 1: of format 1; without bit 0 magic and checksum are put
/// around), the file from the boot id on.
pub fn checkpoint(input: &[u8]) {
    let [flags, content @ ..] = input else {
        return;
    };
    let magic = if flags & 2 == 0 {
        b"TGCHECK2"
    } else {
        b"TGCHECK1"
    };
    let bytes = if flags & 1 == 1 {
        content.to_vec()
    } else {
        codec::close([&magic[..], content].concat())
    };
    if let Some(checkpoint) = Checkpoint::decode(&bytes) {
        let again = Checkpoint::decode(&checkpoint.encode());
        assert_eq!(again, Some(checkpoint), "written and read again");
    }
}

/// The first block of a segment file. Input: flags (1 byte; bit 0: the first copy's checksum is put right, bit 1: the
/// second's), the block.
pub fn segment_header(input: &[u8]) {
    let [flags, block @ ..] = input else {
        return;
    };
    let mut block = block.to_vec();
    for (flag, start) in [(1, 0), (2, 2048)] {
        let version = block.get(start + 8..start + 12).map(<[u8]>::to_vec);
        let length = if version.as_deref() == Some(&[0, 0, 0, 1]) {
            64
        } else {
            92
        };
        if flags & flag != 0
            && let Some(copy) = block.get_mut(start..start + length)
        {
            let closed = codec::close(copy[..length - 4].to_vec());
            copy.copy_from_slice(&closed);
        }
    }
    if let Ok(read) = SegmentHeader::decode(&block) {
        let again = SegmentHeader::decode(&read.header.encode()).map(|again| again.header);
        assert_eq!(again, Ok(read.header), "written and read again");
    }
}
