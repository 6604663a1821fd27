use super::*;

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn resolve(pairs: &[(&str, &str)]) -> Result<TopicConfig, Vec<TopicConfigError>> {
    TopicConfig::resolve(&TopicConfig::default(), &overrides(pairs))
}

#[test]
fn every_setting_takes_its_own_default_and_shows_it() {
    let defaults = TopicConfig::default();
    let entries = defaults.entries(&BTreeMap::new());
    assert_eq!(entries.len(), topic_settings().len());
    for entry in entries {
        assert!(
            !entry.overridden && entry.documentation.ends_with('.'),
            "{}",
            entry.name
        );
        let resolved =
            resolve(&[(entry.name, &entry.value)]).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(resolved, defaults, "{}", entry.name);
    }
}

#[test]
fn a_topics_own_settings_win_and_are_marked() {
    let own = overrides(&[
        ("retention.ms", " 1000 "),
        ("cleanup.policy", "compact, delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("tidegate.durability", "os"),
        ("flush.messages", "10"),
        ("unclean.leader.election.enable", "TRUE"),
    ]);
    let resolved = TopicConfig::resolve(&TopicConfig::default(), &own).expect("legal");
    assert_eq!(resolved.retention_ms, 1000);
    assert!(resolved.cleanup_compact && resolved.cleanup_delete);
    assert_eq!(resolved.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(resolved.durability, Durability::Os);
    let shown: BTreeMap<_, _> = resolved
        .entries(&own)
        .into_iter()
        .filter(|entry| entry.overridden)
        .map(|entry| (entry.name, entry.value))
        .collect();
    assert_eq!(shown.len(), own.len());
    assert_eq!(shown["retention.ms"], "1000");
    assert_eq!(shown["cleanup.policy"], "compact,delete");
    assert_eq!(shown["flush.messages"], "10");
    assert_eq!(shown["unclean.leader.election.enable"], "true");
}

#[test]
fn what_is_inherited_comes_from_the_given_defaults() {
    let defaults = resolve(&[("retention.ms", "5"), ("preallocate", "true")]).expect("legal");
    let resolved =
        TopicConfig::resolve(&defaults, &overrides(&[("preallocate", "false")])).expect("legal");
    assert_eq!(resolved.retention_ms, 5);
    assert!(resolved.kept.is_empty(), "{:?}", resolved.kept);
}

#[test]
fn plugins_are_named_in_order() {
    let resolved = resolve(&[
        ("tidegate.partitioner", "by-region"),
        ("tidegate.partitioner.on-failure", "client-choice"),
        ("tidegate.transform", "mask, drop-tests"),
        ("tidegate.transform.on-failure", "pass-unmasked"),
    ])
    .expect("legal");
    assert_eq!(resolved.partitioner.as_deref(), Some("by-region"));
    assert!(resolved.partitioner_failure_client_choice);
    assert_eq!(resolved.transforms, ["mask", "drop-tests"]);
    assert_eq!(resolved.transform_failure, TransformFailure::PassUnmasked);
    let cleared = TopicConfig::resolve(
        &resolved,
        &overrides(&[("tidegate.partitioner", ""), ("tidegate.transform", "")]),
    )
    .expect("legal");
    assert_eq!((cleared.partitioner, cleared.transforms), (None, vec![]));
}

#[test]
fn wrong_settings_are_all_named_with_what_would_be_right() {
    for (key, value, words) in [
        ("retention.mss", "1", "did you mean retention.ms?"),
        ("no.such.thing", "1", "is unknown"),
        ("retention.ms", "-2", "from -1"),
        ("retention.ms", "7d", "expected a number"),
        (
            "segment.bytes",
            "1024",
            "from 1048576 to 2147483647: segments below 1 MiB",
        ),
        ("cleanup.policy", "", "a comma list of delete, compact"),
        ("cleanup.policy", "delte", "did you mean delete?"),
        (
            "message.timestamp.type",
            "createtime",
            "did you mean CreateTime?",
        ),
        (
            "compression.type",
            "zstd",
            "stores every batch as its producer compressed it",
        ),
        ("min.insync.replicas", "2", "one replica"),
        ("min.cleanable.dirty.ratio", "1.5", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", "NaN", "from 0 to 1"),
        ("preallocate", "yes", "true or false"),
        ("tidegate.durability", "disk", "fsync, os"),
        (
            "tidegate.partitioner",
            "a b",
            "the name of a deployed plugin",
        ),
        ("tidegate.transform", "a,b,c,d,e,f,g,h,i", "at most eight"),
    ] {
        let errors = resolve(&[(key, value)]).expect_err(key);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].key, key);
        assert!(errors[0].message.contains(words), "{}", errors[0]);
    }
    let errors = resolve(&[("retention.ms", "x"), ("segment.ms", "0"), ("nonsense", "")]);
    assert_eq!(errors.expect_err("wrong").len(), 3);
}

#[test]
fn a_long_wrong_value_is_not_echoed_whole() {
    let errors = resolve(&[("retention.ms", &"é".repeat(100_000))]).expect_err("wrong");
    assert!(errors[0].message.len() < 1_000);
}

#[test]
fn plugins_and_compaction_exclude_each_other() {
    for (key, value) in [
        ("tidegate.transform", "mask"),
        ("tidegate.partitioner", "by-region"),
    ] {
        let errors = resolve(&[(key, value), ("cleanup.policy", "compact")]).expect_err(key);
        assert_eq!(errors[0].key, key);
        assert!(
            errors[0].message.contains("compacted topic"),
            "{}",
            errors[0]
        );
    }
}

#[test]
fn type_codes_are_kafkas() {
    let entries = TopicConfig::default().entries(&BTreeMap::new());
    let code = |name| {
        entries
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| entry.type_code)
    };
    for (name, expected) in [
        ("preallocate", 1),
        ("compression.type", 2),
        ("segment.bytes", 3),
        ("retention.ms", 5),
        ("min.cleanable.dirty.ratio", 6),
        ("cleanup.policy", 7),
    ] {
        assert_eq!(code(name), Some(expected), "{name}");
    }
}
