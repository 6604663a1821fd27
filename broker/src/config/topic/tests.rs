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

/// Kafka 4.4's settings of topics as its `LogConfig` lists them: name, type code, default.
const KAFKAS: [(&str, i8, &str); 37] = [
    ("segment.bytes", 3, "1073741824"),
    ("segment.ms", 5, "604800000"),
    ("segment.jitter.ms", 5, "0"),
    ("segment.index.bytes", 3, "10485760"),
    ("flush.messages", 5, "9223372036854775807"),
    ("flush.ms", 5, "9223372036854775807"),
    ("retention.bytes", 5, "-1"),
    ("retention.ms", 5, "604800000"),
    ("max.message.bytes", 3, "1048588"),
    ("max.decompressed.message.bytes", 3, "2147483639"),
    ("index.interval.bytes", 3, "4096"),
    ("delete.retention.ms", 5, "86400000"),
    ("min.compaction.lag.ms", 5, "0"),
    ("max.compaction.lag.ms", 5, "9223372036854775807"),
    ("file.delete.delay.ms", 5, "60000"),
    ("min.cleanable.dirty.ratio", 6, "0.5"),
    ("cleanup.policy", 7, "delete"),
    ("unclean.leader.election.enable", 1, "false"),
    ("min.insync.replicas", 3, "1"),
    ("compression.type", 2, "producer"),
    ("compression.gzip.level", 3, "-1"),
    ("compression.lz4.level", 3, "9"),
    ("compression.zstd.level", 3, "3"),
    ("preallocate", 1, "false"),
    ("message.timestamp.type", 2, "CreateTime"),
    ("message.timestamp.before.max.ms", 5, "9223372036854775807"),
    ("message.timestamp.after.max.ms", 5, "3600000"),
    ("leader.replication.throttled.replicas", 7, ""),
    ("follower.replication.throttled.replicas", 7, ""),
    ("remote.storage.enable", 1, "false"),
    ("local.retention.ms", 5, "-2"),
    ("local.retention.bytes", 5, "-2"),
    ("remote.log.copy.disable", 1, "false"),
    ("remote.copy.lag.ms", 5, "0"),
    ("remote.copy.lag.bytes", 5, "-1"),
    ("remote.log.delete.on.disable", 1, "false"),
    ("errors.deadletterqueue.group.enable", 1, "false"),
];

/// Settings of older Kafkas, which tools still send.
const OLDER: [&str; 3] = [
    "message.timestamp.difference.max.ms",
    "message.downconversion.enable",
    "message.format.version",
];

#[test]
fn every_setting_of_kafka_is_there_with_its_type_and_default() {
    let entries = TopicConfig::default().entries(&BTreeMap::new());
    for (name, type_code, default) in KAFKAS {
        let entry = entries.iter().find(|entry| entry.name == name);
        let entry = entry.unwrap_or_else(|| panic!("{name} has no row"));
        // tests/clients/FINDINGS.md says why.
        let default = match name {
            "segment.bytes" => "134217728",
            _ => default,
        };
        assert_eq!(
            (entry.type_code, entry.value.as_str()),
            (type_code, default),
            "{name}"
        );
    }
    let known = |name: &str| {
        let is_kafkas = KAFKAS.iter().any(|(kafkas, ..)| *kafkas == name);
        is_kafkas || OLDER.contains(&name) || name.starts_with("tidegate.")
    };
    for entry in entries {
        assert!(known(entry.name), "{} is nobody's", entry.name);
    }
}

#[test]
fn what_is_not_served_says_so() {
    for setting in topic_settings() {
        let text = setting.documentation;
        let says = match setting.standing() {
            Standing::Served => true,
            Standing::Kept => text.contains("Remembered") || setting.name == "min.insync.replicas",
            Standing::DefaultOnly => {
                text.contains("There is none")
                    || text.contains("remote")
                    || text.contains("There are no")
            }
        };
        assert!(says, "{}: {text}", setting.name);
    }
}

#[test]
fn an_empty_policy_keeps_everything() {
    let resolved = resolve(&[("cleanup.policy", "")]).expect("legal");
    assert!(!resolved.cleanup_delete && !resolved.cleanup_compact);
    let entries = resolved.entries(&BTreeMap::new());
    let policy = entries.iter().find(|entry| entry.name == "cleanup.policy");
    assert_eq!(policy.map(|entry| entry.value.as_str()), Some(""));
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
        (
            "cleanup.policy",
            "keep",
            "a comma list of delete, compact, or empty",
        ),
        ("cleanup.policy", "delte", "did you mean delete?"),
        (
            "message.timestamp.type",
            "createtime",
            "did you mean CreateTime?",
        ),
        ("compression.type", "zstandard", "snappy, lz4, zstd"),
        ("compression.type", "none", "uncompressed"),
        ("compression.gzip.level", "0", "-1 or a number from 1 to 9"),
        ("compression.zstd.level", "23", "from -131072 to 22"),
        ("min.insync.replicas", "0", "a number from 1"),
        (
            "remote.storage.enable",
            "true",
            "only false is taken, since there is no remote storage here",
        ),
        ("local.retention.ms", "1000", "set retention.ms"),
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
