use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::*;

/// Runs a generic function for every request type that the broker serves.
macro_rules! for_each_request {
    ($function:ident($($argument:expr),*)) => {
        for_each_request!(@ $function ($($argument),*) ApiVersionsRequest MetadataRequest ProduceRequest FetchRequest
            ListOffsetsRequest CreateTopicsRequest DeleteTopicsRequest CreatePartitionsRequest DescribeConfigsRequest
            IncrementalAlterConfigsRequest AlterConfigsRequest DescribeClusterRequest FindCoordinatorRequest
            JoinGroupRequest SyncGroupRequest HeartbeatRequest LeaveGroupRequest OffsetCommitRequest OffsetFetchRequest
            DescribeGroupsRequest ListGroupsRequest DeleteGroupsRequest OffsetDeleteRequest InitProducerIdRequest SaslHandshakeRequest
            SaslAuthenticateRequest CreateAclsRequest DescribeAclsRequest DeleteAclsRequest DescribeLogDirsRequest
            DeleteRecordsRequest AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest
            TxnOffsetCommitRequest DescribeProducersRequest DescribeTransactionsRequest ListTransactionsRequest);
    };
    (@ $function:ident $arguments:tt $($request:ident)*) => {
        $( for_each_request!(# $function $request $arguments); )*
    };
    (# $function:ident $request:ident ($($argument:expr),*)) => {
        $function::<$request>($($argument),*)
    };
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn from_clock(test: &str) -> Self {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64);
        let seed = std::env::var("TIDEGATE_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(seed);
        eprintln!("{test}: TIDEGATE_SEED={seed} replays it");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A buffer without end from which any message decodes: every length and count is small, every string is text. It turns
/// the crate's decoders into generators of valid messages.
struct Dream<'a>(&'a mut Random);

impl Buf for Dream<'_> {
    fn remaining(&self) -> usize {
        usize::MAX
    }
    fn chunk(&self) -> &[u8] {
        &[0; 16]
    }
    fn advance(&mut self, _count: usize) {}
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        // A length or count of 0 is null, which not every field may be.
        Ok([1, 2, 3, 4][self.0.below(4)] * u8::from(self.0.below(32) > 0))
    }
    fn try_get_i8(&mut self) -> Result<i8, TryGetError> {
        Ok(self.0.below(4) as i8)
    }
    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        Ok(self.0.below(4) as i16)
    }
    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        Ok(self.0.below(4) as i32)
    }
    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        Ok(self.0.next() as i64)
    }
}

impl ByteBuf for Dream<'_> {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        vec![b'p'; range.len()].into()
    }
    fn get_bytes(&mut self, size: usize) -> Bytes {
        (0..size)
            .map(|_| b'a' + self.0.below(26) as u8)
            .collect::<Vec<_>>()
            .into()
    }
}

fn sample<T: Request>(random: &mut Random, version: i16) -> Bytes {
    let request = loop {
        if let Ok(request) = T::decode(&mut Dream(random), version) {
            break request;
        }
    };
    encoded(&request, version)
}

fn encoded<T: Encodable>(request: &T, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    request
        .encode(&mut frame, version)
        .expect("a request encodes in the version it was made for");
    frame.freeze()
}

/// For fuzzing: a request of every kind in its newest version, those that differ most in their oldest too.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    const OLD: [ApiKey; 5] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::Metadata,
        ApiKey::JoinGroup,
        ApiKey::OffsetFetch,
    ];
    fn add<T: Request>(random: &mut Random, seeds: &mut Vec<(String, Vec<u8>)>) {
        let key = ApiKey::try_from(T::KEY).expect("a key");
        let mut versions = vec![T::VERSIONS.max];
        if OLD.contains(&key) {
            versions.push(T::VERSIONS.min);
        }
        for version in versions {
            let mut input = vec![T::KEY as u8, version as u8];
            input.extend(sample::<T>(random, version));
            seeds.push((format!("{key:?}-{version}"), input));
        }
    }
    let mut random = Random(7);
    let mut seeds = Vec::new();
    for_each_request!(add(&mut random, &mut seeds));
    let header = RequestHeader::default().with_client_id(Some(StrBytes::from_static_str("client")));
    let header = encoded(&header, 2);
    seeds.push(("header".into(), [&[255, 2], &header[..]].concat()));
    seeds
}

fn versions<T: Request>() -> std::ops::RangeInclusive<i16> {
    T::VERSIONS.min..=T::VERSIONS.max
}

#[test]
fn what_the_plain_decoder_accepts_is_decoded_alike() {
    fn check<T: Request + PartialEq + Debug>(random: &mut Random) {
        for version in versions::<T>() {
            for _ in 0..20 {
                let frame = sample::<T>(random, version);
                let plain = T::decode(&mut frame.clone(), version).expect("valid");
                assert_eq!(
                    decode::<T>(frame.clone(), version),
                    Ok(plain),
                    "API {} version {version} {frame:?}",
                    T::KEY
                );
            }
        }
    }
    let mut random = Random::from_clock("guard valid");
    for_each_request!(check(&mut random));
}

#[test]
fn a_frame_that_ends_early_is_refused_and_what_follows_its_end_is_ignored() {
    fn check<T: Request + PartialEq + Debug>(random: &mut Random) {
        for version in versions::<T>() {
            let frame = sample::<T>(random, version);
            for end in 0..frame.len() {
                assert!(
                    decode::<T>(frame.slice(..end), version).is_err(),
                    "API {} version {version} cut at {end}: {frame:?}",
                    T::KEY
                );
            }
            let mut longer = BytesMut::from(&frame[..]);
            longer.put_u8(0);
            assert_eq!(
                decode::<T>(longer.freeze(), version),
                decode::<T>(frame, version),
                "API {} version {version}",
                T::KEY
            );
        }
    }
    let mut random = Random::from_clock("guard length");
    for_each_request!(check(&mut random));
}

#[test]
fn announcements_that_lie_end_neither_the_process_nor_its_patience() {
    const LIES: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x10, 0x00, 0x00, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x80, 0x80, 0x80, 0x80, 0x0f],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x0f],
    ];
    fn check<T: Request + PartialEq + Debug>(random: &mut Random) {
        for version in versions::<T>() {
            let frame = sample::<T>(random, version);
            for start in 0..frame.len() {
                for lie in LIES {
                    let mut overwritten = frame.to_vec();
                    overwritten.truncate(start.max(frame.len().min(start + lie.len())));
                    overwritten.splice(start.., lie.iter().copied());
                    overwritten.extend(frame.iter().skip(start + lie.len()));
                    let _ = decode::<T>(overwritten.clone().into(), version);
                    overwritten.truncate(start + lie.len());
                    let _ = decode::<T>(overwritten.into(), version);
                }
            }
        }
    }
    let mut random = Random::from_clock("guard lies");
    let started = Instant::now();
    for_each_request!(check(&mut random));
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn any_bytes_are_decoded_or_refused() {
    fn check<T: Request + PartialEq + Debug>(random: &mut Random) {
        for version in versions::<T>() {
            for _ in 0..200 {
                let frame = sample::<T>(random, version);
                let mut bytes = frame.to_vec();
                for _ in 0..=random.below(4) {
                    let length = bytes.len();
                    match random.below(3) {
                        0 if length > 0 => bytes[random.below(length)] = random.next() as u8,
                        1 if length > 0 => bytes.truncate(random.below(length)),
                        _ => bytes.insert(random.below(length + 1), random.next() as u8),
                    }
                }
                let _ = decode::<T>(bytes.into(), version);
            }
        }
    }
    let mut random = Random::from_clock("guard noise");
    for_each_request!(check(&mut random));
}

#[test]
fn scalars_above_the_frame_size_keep_their_value_in_old_versions() {
    let fetch = FetchRequest::default()
        .with_max_wait_ms(i32::MAX)
        .with_min_bytes(1)
        .with_max_bytes(52_428_800)
        .with_topics(vec![
            fetch_request::FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_static_str("orders")))
                .with_partitions(vec![
                    fetch_request::FetchPartition::default()
                        .with_partition(9_000)
                        .with_partition_max_bytes(1_048_576),
                ]),
        ]);
    for version in [4, 11, 12] {
        assert_eq!(
            decode::<FetchRequest>(encoded(&fetch, version), version).as_ref(),
            Ok(&fetch),
            "version {version}"
        );
    }
}

#[test]
fn a_count_at_the_very_end_of_an_old_frame_is_no_scalar() {
    // An empty list of topics in Metadata version 1, its count replaced.
    let lie = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    assert!(matches!(
        decode::<MetadataRequest>(lie, 1),
        Err(DecodeError::Malformed { .. })
    ));
}

#[test]
fn large_records_pass_and_large_strings_do_not() {
    let produce = |bytes: usize| {
        let data = produce_request::PartitionProduceData::default()
            .with_index(7_000)
            .with_records(Some(vec![b'r'; bytes].into()));
        let topic = produce_request::TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str("orders")))
            .with_partition_data(vec![data.clone(), data]);
        ProduceRequest::default()
            .with_timeout_ms(2_000_000)
            .with_topic_data(vec![topic])
    };
    for version in [3, 8, 9, 12] {
        for bytes in [0, 10, 6_000, 3 << 20] {
            let request = produce(bytes);
            assert!(
                decode::<ProduceRequest>(encoded(&request, version), version).as_ref()
                    == Ok(&request),
                "version {version}, {bytes} bytes of records"
            );
        }
    }
    let heartbeat = |bytes: usize| {
        HeartbeatRequest::default().with_group_id(GroupId(StrBytes::from_string("g".repeat(bytes))))
    };
    let frame = |bytes| encoded(&heartbeat(bytes), 4);
    assert!(decode::<HeartbeatRequest>(frame(MAX_STRING), 4).is_ok());
    assert!(matches!(
        decode::<HeartbeatRequest>(frame(MAX_STRING + 1), 4),
        Err(DecodeError::Announced { .. })
    ));
}

#[test]
fn every_api_of_the_table_is_tested_here() {
    fn add<T: Request>(keys: &mut BTreeSet<i16>) {
        keys.insert(T::KEY);
    }
    let mut keys = BTreeSet::new();
    for_each_request!(add(&mut keys));
    let served = crate::kafka::apis::APIS.iter().map(|api| api.key as i16);
    assert_eq!(keys, served.collect());
}

/// Numbers of tagged fields that nobody knows yet: small, above what is left of most frames, and the largest.
const UNKNOWN_TAGS: [u32; 5] = [60, 300, 10_000, 1 << 20, i32::MAX as u32];

fn put_varint(frame: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        frame.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    frame.put_u8(value as u8);
}

#[test]
fn unknown_tagged_fields_of_any_number_are_passed_over() {
    fn check<T: Request + PartialEq + Debug>(random: &mut Random) {
        for version in versions::<T>() {
            if T::header_version(version) < 2 {
                continue;
            }
            // The tagged fields of a request stand at its end, and an empty list of them is one byte.
            let frame = sample::<T>(random, version);
            let plain = T::decode(&mut frame.clone(), version).expect("valid");
            if frame.last() != Some(&0) {
                continue;
            }
            for length in [0, 1, 3, 200] {
                let mut longer = BytesMut::from(&frame[..frame.len() - 1]);
                longer.put_u8(UNKNOWN_TAGS.len() as u8);
                for tag in UNKNOWN_TAGS {
                    put_varint(&mut longer, tag);
                    put_varint(&mut longer, length);
                    longer.extend(std::iter::repeat_n(7, length as usize));
                }
                let place = format!("API {} version {version}", T::KEY);
                let longer = longer.freeze();
                let decoded = decode::<T>(longer.clone(), version);
                let known = T::decode(&mut longer.clone(), version).expect("valid");
                assert_ne!(known, plain, "{place}: they are there");
                assert_eq!(decoded, Ok(known), "{place}");
            }
        }
    }
    let mut random = Random::from_clock("guard tags");
    for_each_request!(check(&mut random));
}

#[test]
fn unknown_tagged_fields_of_elements_take_nothing_from_the_budget() {
    use metadata_request::MetadataRequestTopic;
    let topic = |tag: u32| {
        MetadataRequestTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("orders"))))
            .with_unknown_tagged_field(tag as i32, Bytes::from_static(b"new"))
    };
    for tag in UNKNOWN_TAGS {
        let request = MetadataRequest::default().with_topics(Some(vec![topic(tag); 2_000]));
        let decoded = decode::<MetadataRequest>(encoded(&request, 12), 12);
        assert!(decoded.as_ref() == Ok(&request), "tag {tag}");
    }
}

#[test]
fn a_lie_is_not_taken_for_a_tagged_field() {
    // Each announces 100,000 or more elements where a tagged field cannot be.
    let lie = |frame: &mut BytesMut| put_varint(frame, 100_001);
    let followed_by = |what: &[u8]| {
        let mut frame = BytesMut::new();
        lie(&mut frame);
        frame.put_slice(what);
        frame.freeze()
    };
    let refused = |outcome: Result<(), DecodeError>| {
        assert!(
            matches!(
                outcome,
                Err(DecodeError::Announced {
                    announced: 100_000,
                    position: 3,
                    ..
                })
            ),
            "{outcome:?}"
        );
    };
    let strings = [
        &[4u8, b'a', b'b', b'c'][..],
        &[0; 90],
        &[1; 90],
        &[2, 2, 2, 2],
    ];
    for bytes in strings {
        let groups = decode::<DescribeGroupsRequest>(followed_by(bytes), 5);
        refused(groups.map(drop));
        let id = decode::<HeartbeatRequest>(followed_by(bytes), 4);
        refused(id.map(drop));
        let topics = decode::<CreatePartitionsRequest>(followed_by(bytes), 3);
        refused(topics.map(drop));
    }
    // The number of tagged fields itself, and the length of one.
    let mut count = BytesMut::from(&encoded(&ListGroupsRequest::default(), 3)[..]);
    count.truncate(count.len() - 1);
    lie(&mut count);
    count.put_slice(&[70, 1, 9]);
    assert!(matches!(
        decode::<ListGroupsRequest>(count.freeze(), 3),
        Err(DecodeError::Announced {
            announced: 100_000,
            ..
        })
    ));
    let mut length = BytesMut::from(&[1, 70][..]);
    lie(&mut length);
    length.put_slice(&[9; 90]);
    assert!(matches!(
        decode::<ListGroupsRequest>(length.freeze(), 3),
        Err(DecodeError::Announced {
            announced: 100_000,
            ..
        })
    ));
}

#[test]
fn nested_lies_share_one_budget() {
    // OffsetFetch 8: groups, each with an id and topics, each with a name and partitions: three counts, one inside the
    // other, each as large as what is left of the frame.
    let mut frame = BytesMut::new();
    let size = 100_000u32;
    let varint = |frame: &mut BytesMut, value: u32| {
        frame.put_slice(&[
            value as u8 | 0x80,
            (value >> 7) as u8 | 0x80,
            (value >> 14) as u8,
        ]);
    };
    varint(&mut frame, size);
    frame.put_slice(&[2, b'g']);
    varint(&mut frame, size);
    frame.put_slice(&[2, b't']);
    varint(&mut frame, size);
    frame.resize(size as usize + 100, 0);
    assert!(matches!(
        decode::<OffsetFetchRequest>(frame.freeze(), 8),
        Err(DecodeError::Announced { position: 8, .. })
    ));
}

#[test]
fn more_than_the_most_elements_are_refused_although_they_are_there() {
    for (version, most) in [(4, MAX_ELEMENTS), (5, MAX_ITEMS)] {
        let groups = vec![GroupId::default(); most + 1];
        let request = DescribeGroupsRequest::default().with_groups(groups);
        assert!(matches!(
            decode::<DescribeGroupsRequest>(encoded(&request, version), version),
            Err(DecodeError::Announced { .. })
        ));
    }
}

#[test]
fn the_widest_element_is_as_wide_as_the_bound_says() {
    use kafka_protocol::messages::{
        add_partitions_to_txn_request as add_partitions, alter_configs_request as alter,
        create_acls_request as acls, create_partitions_request as partitions,
        create_topics_request as topics, delete_acls_request as delete_acls,
        delete_records_request as delete_records, delete_topics_request as delete_topics,
        describe_configs_request as configs, describe_producers_request as producers,
        fetch_request as fetch, incremental_alter_configs_request as incremental,
        join_group_request as join, leave_group_request as leave, list_offsets_request as offsets,
        metadata_request as metadata, offset_commit_request as commit,
        offset_fetch_request as offset_fetch, produce_request as produce,
        sync_group_request as sync, txn_offset_commit_request as txn_commit,
        write_txn_markers_request as markers,
    };
    let sizes = [
        size_of::<alter::AlterConfigsResource>(),
        size_of::<alter::AlterableConfig>(),
        size_of::<acls::AclCreation>(),
        size_of::<partitions::CreatePartitionsTopic>(),
        size_of::<topics::CreatableTopic>(),
        size_of::<topics::CreatableTopicConfig>(),
        size_of::<topics::CreatableReplicaAssignment>(),
        size_of::<delete_acls::DeleteAclsFilter>(),
        size_of::<delete_topics::DeleteTopicState>(),
        size_of::<delete_records::DeleteRecordsTopic>(),
        size_of::<configs::DescribeConfigsResource>(),
        size_of::<fetch::FetchTopic>(),
        size_of::<fetch::FetchPartition>(),
        size_of::<fetch::ForgottenTopic>(),
        size_of::<incremental::AlterableConfig>(),
        size_of::<join::JoinGroupRequestProtocol>(),
        size_of::<leave::MemberIdentity>(),
        size_of::<offsets::ListOffsetsTopic>(),
        size_of::<offsets::ListOffsetsPartition>(),
        size_of::<metadata::MetadataRequestTopic>(),
        size_of::<commit::OffsetCommitRequestTopic>(),
        size_of::<commit::OffsetCommitRequestPartition>(),
        size_of::<offset_fetch::OffsetFetchRequestGroup>(),
        size_of::<offset_fetch::OffsetFetchRequestTopics>(),
        size_of::<produce::TopicProduceData>(),
        size_of::<produce::PartitionProduceData>(),
        size_of::<sync::SyncGroupRequestAssignment>(),
        size_of::<add_partitions::AddPartitionsToTxnTransaction>(),
        size_of::<add_partitions::AddPartitionsToTxnTopic>(),
        size_of::<markers::WritableTxnMarker>(),
        size_of::<markers::WritableTxnMarkerTopic>(),
        size_of::<txn_commit::TxnOffsetCommitRequestTopic>(),
        size_of::<txn_commit::TxnOffsetCommitRequestPartition>(),
        size_of::<producers::TopicRequest>(),
    ];
    assert!(sizes.iter().all(|size| *size <= 136), "{sizes:?}");
}

#[test]
fn headers_are_decoded_in_both_shapes_and_refused_when_cut() {
    let header = RequestHeader::default()
        .with_request_api_key(3)
        .with_correlation_id(i32::MAX)
        .with_client_id(Some(StrBytes::from_static_str("client")));
    for version in [1, 2] {
        let mut frame = BytesMut::new();
        header.encode(&mut frame, version).expect("it encodes");
        frame.put_slice(b"body");
        let whole = frame.freeze();
        let mut rest = whole.clone();
        assert_eq!(decode_prefix(&mut rest, version).as_ref(), Ok(&header));
        assert_eq!(&rest[..], b"body");
        for end in 0..whole.len() - 4 {
            let cut = decode_prefix(&mut whole.slice(..end), version);
            assert!(cut.is_err(), "cut at {end}");
        }
    }
}
