//! What partitioners answer, and what of it the host takes.

use tidegate::plugin::{FailureKind, KEEP_PARTITION};

use crate::support::{Fixture, record};

#[test]
fn partition_by_field_places_as_kafkas_clients_place_keys() {
    let fixture = Fixture::new();
    fixture.deploy("by-id", "partition-by-field", &[("field", "customer.id")]);
    // murmur2 of "foobar" is -790332482 and of "abc" 479470107 (Kafka's UtilsTest); their signs cleared, modulo 6.
    let records = [
        record(Some("any"), Some("{\"customer\":{\"id\":\"foobar\"}}")),
        record(None, Some("{\"customer\":{\"id\":\"abc\"}}")),
        record(None, Some("{}")),
        record(None, None),
    ];
    let expected = [
        (-790_332_482_i32 & i32::MAX) as u32 % 6,
        479_470_107 % 6,
        KEEP_PARTITION,
        KEEP_PARTITION,
    ];
    assert_eq!(fixture.assign("by-id", &records), Ok(expected.to_vec()));
    assert_eq!(fixture.assign("by-id", &[]), Ok(Vec::new()));
}

#[test]
fn records_that_a_partitioner_refuses_are_named_by_index_and_cost_it_nothing() {
    let fixture = Fixture::new();
    fixture.deploy(
        "strict",
        "partition-by-field",
        &[("field", "id"), ("missing", "reject")],
    );
    let records = [
        record(None, Some("{\"id\":1}")),
        record(None, Some("{}")),
        record(None, None),
    ];
    for _ in 0..10 {
        let Err(FailureKind::Rejected(rejects)) = fixture.assign("strict", &records) else {
            panic!("two records have no id");
        };
        let told: Vec<_> = rejects
            .iter()
            .map(|reject| (reject.index, reject.code, reject.message.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (1, "schema-mismatch", "the value has no field id"),
                (2, "schema-mismatch", "the value has no field id")
            ]
        );
    }
    assert!(fixture.assign("strict", &records[..1]).is_ok());
}

#[test]
fn wrong_partitions_are_a_fault() {
    let records = vec![record(Some("\u{5}"), None); 3];
    for (mode, text) in [
        ("out-of-range", "partition 6 for record 0, of 6 partitions"),
        ("too-few", "2 partitions for 3 records"),
        ("too-many", "4 partitions for 3 records"),
    ] {
        let fixture = Fixture::new();
        fixture.deploy("p", "misplacer", &[("mode", mode)]);
        assert_eq!(
            fixture.assign("p", &records),
            Err(FailureKind::BadOutput(text.into()))
        );
    }
    let fixture = Fixture::new();
    fixture.deploy("p", "misplacer", &[("mode", "by-key")]);
    assert_eq!(fixture.assign("p", &records), Ok(vec![5; 3]));
    let beyond = record(Some("\u{6}"), None);
    assert!(fixture.assign("p", &[beyond]).is_err());
}
