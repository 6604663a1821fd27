use super::*;

fn place(config: &[(&str, &str)], value: &str) -> Result<Place, Reject> {
    let plugin = PartitionByField::new(&Config::from_iter(config.iter().copied())).unwrap();
    let origin = Origin {
        partition_count: 1 << 30,
        ..Origin::default()
    };
    plugin.place(&Record::of(None, Some(value.as_bytes())), &origin)
}

fn placed_as(field: &str) -> Place {
    Place::Partition((murmur2(field.as_bytes()) & 0x7fff_ffff) % (1 << 30))
}

/// From Kafka's own `UtilsTest.testMurmur2`.
#[test]
fn the_hash_is_kafkas() {
    for (text, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
    }
}

#[test]
fn a_field_is_found_by_pointer_and_by_dots() {
    let value = r#"{"skip":[{"id":1}],"customer":{"a/b":"x","id":"c-7","n":12.50},"id":"top"}"#;
    for (field, expected) in [
        ("customer.id", "c-7"),
        ("/customer/id", "c-7"),
        ("/customer/a~1b", "x"),
        ("customer.n", "12.50"),
        ("id", "top"),
        ("skip", r#"[{"id":1}]"#),
    ] {
        let place = place(&[("field", field)], value).unwrap();
        assert_eq!(place, placed_as(expected), "{field}");
    }
}

#[test]
fn escapes_are_read_before_hashing_and_the_last_of_equal_names_counts() {
    let place = place(
        &[("field", "id")],
        r#"{"id":"first","\u0069d":"caf\u00e9"}"#,
    );
    assert_eq!(place.unwrap(), placed_as("café"));
}

#[test]
fn what_has_no_such_field_stays_or_is_rejected() {
    for value in [
        r#"{"other":1}"#,
        r#"{"id":null}"#,
        "[1]",
        "\"id\"",
        "1",
        "null",
        "",
        "not json",
        r#"{"id":1} trailing"#,
        r#"{"id":1"#,
    ] {
        let kept = place(&[("field", "id")], value);
        assert_eq!(kept.unwrap(), Place::Keep, "{value}");
        let reject = place(&[("field", "id"), ("missing", "reject")], value);
        assert_eq!(reject.unwrap_err().message, "the value has no field id");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (config, error) in [
        (vec![], "the setting \"field\" is missing"),
        (
            vec![("field", "a..b")],
            "the field \"a..b\" has an empty part",
        ),
        (
            vec![("feild", "a")],
            "there is no setting \"feild\"; the settings are field, missing",
        ),
    ] {
        let refused = PartitionByField::new(&Config::from_iter(config)).err();
        assert_eq!(refused.as_deref(), Some(error));
    }
}
