use super::*;

fn plugin(config: &[(&str, &str)]) -> Result<MaskFields, String> {
    MaskFields::new(&Config::from_iter(config.iter().copied()))
}

fn change(config: &[(&str, &str)], value: &str) -> Result<Change, Reject> {
    let record = Record::of(None, Some(value.as_bytes()));
    plugin(config)
        .unwrap()
        .transform(&record, &Origin::default())
}

fn check(config: &[(&str, &str)], value: &str, expected: &str) {
    match change(config, value).unwrap() {
        Change::Value(Some(new)) => assert_eq!(String::from_utf8(new).unwrap(), expected),
        Change::Keep => assert_eq!(value, expected),
        other => panic!("{other:?} for {value}"),
    }
}

#[test]
fn masked_fields_change_and_nothing_else_does() {
    let mask = [("mask", "customer.email, card")];
    check(
        &mask,
        r#"{ "n": 1.50,  "customer":{"email" : "a@b.c","id":7}, "card":{"no":1} }"#,
        r#"{ "n": 1.50,  "customer":{"email" : "***","id":7}, "card":"***" }"#,
    );
    for untouched in [r#"{"email":"a"}"#, "[]", "{}", "7", "\"card\"", "null"] {
        check(&mask, untouched, untouched);
    }
}

#[test]
fn no_spelling_of_a_name_escapes() {
    let mask = [("mask", "card")];
    check(
        &mask,
        r#"{"c\u0061rd":1,"card":2}"#,
        r#"{"c\u0061rd":"***","card":"***"}"#,
    );
    check(
        &mask,
        r#"[{"card":1},[{"card":2}],3]"#,
        r#"[{"card":"***"},[{"card":"***"}],3]"#,
    );
    check(
        &[("mask", "/items/card")],
        r#"{"items":[{"card":1},{"card":null}]}"#,
        r#"{"items":[{"card":"***"},{"card":"***"}]}"#,
    );
}

#[test]
fn dropped_fields_leave_valid_json() {
    for (fields, expected) in [
        ("a", r#"{ "b":2, "c":3 }"#),
        ("b", r#"{ "a":1, "c":3 }"#),
        ("c", r#"{ "a":1, "b":2 }"#),
        ("a,b", r#"{ "c":3 }"#),
        ("b,c", r#"{ "a":1 }"#),
        ("a,b,c", r#"{  }"#),
    ] {
        check(&[("drop", fields)], r#"{ "a":1, "b":2, "c":3 }"#, expected);
    }
}

#[test]
fn a_hash_is_the_same_for_the_same_value_and_depends_on_the_salt() {
    let hashed = |config: &[(&str, &str)], value: &str| match change(config, value).unwrap() {
        Change::Value(Some(new)) => String::from_utf8(new).unwrap(),
        other => panic!("{other:?}"),
    };
    let plain = hashed(&[("hash", "id")], r#"{"id":"x"}"#);
    assert_eq!(plain.len(), r#"{"id":""}"#.len() + 32);
    assert_eq!(plain, hashed(&[("hash", "id")], r#"{"id":"\u0078"}"#));
    assert_ne!(
        plain,
        hashed(&[("hash", "id"), ("hash-salt", "s")], r#"{"id":"x"}"#)
    );
}

#[test]
fn records_are_dropped_by_a_fields_value() {
    let config = [("drop-record-when", "kind=test, meta.level=3")];
    for (value, dropped) in [
        (r#"{"kind":"test"}"#, true),
        (r#"{"meta":{"level":3}}"#, true),
        (r#"{"meta":[{"level":1},{"level":"3"}]}"#, true),
        (r#"{"kind":"tests","meta":{"level":33}}"#, false),
    ] {
        let expected = if dropped { Change::Drop } else { Change::Keep };
        assert_eq!(change(&config, value).unwrap(), expected, "{value}");
    }
}

#[test]
fn what_is_not_json_is_rejected_unless_told_otherwise() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for value in ["", "{", "{\"a\":1}x", "\u{1}", deep.as_str()] {
        let mask = ("mask", "a");
        assert!(change(&[mask], value).is_err());
        for (setting, expected) in [("pass", Change::Keep), ("drop", Change::Drop)] {
            assert_eq!(
                change(&[mask, ("not-json", setting)], value).unwrap(),
                expected
            );
        }
    }
    let tombstone = plugin(&[("mask", "a")])
        .unwrap()
        .transform(&Record::of(Some(b"k"), None), &Origin::default());
    assert_eq!(tombstone.unwrap(), Change::Keep);
}

#[test]
fn wrong_settings_are_named() {
    for (config, error) in [
        (
            vec![],
            "none of the settings mask, hash, drop and drop-record-when is given",
        ),
        (
            vec![("mask", "a..b")],
            "the field \"a..b\" has an empty part",
        ),
        (
            vec![("drop-record-when", "a")],
            "the setting \"drop-record-when\" has \"a\", which is not field=value",
        ),
    ] {
        assert_eq!(plugin(&config).err().as_deref(), Some(error));
    }
}
