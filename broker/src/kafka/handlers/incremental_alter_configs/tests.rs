use super::*;
use crate::kafka::handlers::wire::encodes;

fn entry(name: &'static str, value: &str, type_code: i8) -> TopicConfigEntry {
    TopicConfigEntry {
        name,
        value: value.into(),
        overridden: false,
        type_code,
        documentation: "",
    }
}

fn change(name: &'static str, operation: i8, value: Option<&'static str>) -> AlterableConfig {
    AlterableConfig::default()
        .with_name(name.into())
        .with_config_operation(operation)
        .with_value(value.map(Into::into))
}

/// Applies changes to a topic whose own setting is `retention.ms` = 5.
fn apply(changes: &[AlterableConfig]) -> Result<Vec<(String, String)>, ResponseError> {
    let own = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let effective = [
        entry("retention.ms", "5", 5),
        entry("cleanup.policy", "delete", LIST),
    ];
    changed(&own, &effective, changes)
        .map(|own| own.into_iter().collect())
        .map_err(|error| error.code)
}

#[track_caller]
fn check(changes: &[AlterableConfig], expected: &[(&str, &str)]) {
    let expected = expected
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(apply(changes), Ok(expected.collect()));
}

#[test]
fn settings_are_set_deleted_appended_and_subtracted() {
    let kept = ("retention.ms", "5");
    check(&[], &[kept]);
    check(
        &[change("retention.ms", SET, Some("6"))],
        &[("retention.ms", "6")],
    );
    check(&[change("retention.ms", DELETE, None)], &[]);
    check(&[change("segment.ms", DELETE, None)], &[kept]);
    check(
        &[change("cleanup.policy", APPEND, Some("compact, delete"))],
        &[("cleanup.policy", "delete,compact"), kept],
    );
    check(
        &[change("cleanup.policy", SUBTRACT, Some("delete"))],
        &[("cleanup.policy", ""), kept],
    );
}

#[test]
fn changes_that_mean_nothing_are_refused() {
    let set = || change("retention.ms", SET, Some("6"));
    let refused = |changes: &[AlterableConfig]| apply(changes).expect_err("it is refused");
    assert_eq!(refused(&[set(), set()]), ResponseError::InvalidRequest);
    assert_eq!(
        refused(&[change("retention.ms", SET, None)]),
        ResponseError::InvalidRequest
    );
    assert_eq!(
        refused(&[change("retention.ms", APPEND, Some("1"))]),
        ResponseError::InvalidConfig
    );
    assert_eq!(
        refused(&[change("unknown", SUBTRACT, Some("1"))]),
        ResponseError::InvalidConfig
    );
    assert_eq!(
        refused(&[change("retention.ms", 9, Some("1"))]),
        ResponseError::InvalidRequest
    );
}

#[test]
fn both_shapes_encode_in_every_version() {
    for version in VERSIONS {
        let resource = || AlterConfigsResource::default().with_resource_name("orders".into());
        let error = refusal(ResponseError::InvalidConfig, "wrong");
        let responses = vec![
            response(resource(), Ok(())),
            response(resource(), Err(error)),
        ];
        let whole = IncrementalAlterConfigsResponse::default().with_responses(responses);
        assert_eq!(encodes(version, &whole).responses[1].error_code, 40);
    }
}
