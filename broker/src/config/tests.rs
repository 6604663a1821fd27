use std::path::Path;

use super::*;

/// Reads `text` with `variables` on top.
fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_toml(text, "tidegate.toml", variables)
}

fn accepted(text: &str) -> Config {
    read(text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Checks that `text` is refused with exactly these errors; each must contain the given words.
#[track_caller]
fn refused(text: &str, variables: &[(&str, &str)], expected: &[&[&str]]) {
    let errors = read(text, variables).expect_err("the configuration was accepted");
    let shown = errors.to_string();
    assert_eq!(errors.errors.len(), expected.len(), "{shown}");
    for (index, words) in expected.iter().enumerate() {
        let one = ConfigErrors {
            file: errors.file.clone(),
            errors: vec![errors.errors[index].clone()],
        }
        .to_string();
        for word in *words {
            assert!(one.contains(word), "{word:?} is not in: {one}");
        }
    }
}

fn with_plain_listener(mut config: Config) -> Config {
    config.listeners = vec![ListenerConfig::default()];
    config
}

#[test]
fn an_empty_file_gives_the_defaults_and_one_plain_listener() {
    let expected = with_plain_listener(Config::default());
    assert_eq!(format!("{:?}", accepted("")), format!("{expected:?}"));
}

#[test]
fn the_example_file_parses_back_to_the_defaults() {
    let expected = format!("{:?}", with_plain_listener(Config::default()));
    let example = example();
    assert_eq!(format!("{:?}", accepted(&example)), expected);
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') && !setting.is_empty() => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(uncommented.contains("\nflush-lanes = 2\n"), "{uncommented}");
    assert_eq!(format!("{:?}", accepted(&uncommented)), expected);
}

#[test]
fn every_row_fits_its_field_and_shows_what_was_applied() {
    let defaults = Config::default();
    for section in SECTIONS {
        for setting in section.settings {
            let Some(value) = (setting.show)(&defaults) else {
                assert!(
                    !setting.example.is_empty(),
                    "{} has no default and no example",
                    setting.key
                );
                continue;
            };
            let mut config = Config::default();
            (setting.apply)(&mut config, value.clone()).expect(setting.key);
            assert_eq!(
                (setting.show)(&config),
                Some(value.clone()),
                "{}",
                setting.key
            );
            let written = format!(
                "[{}]\n{} = {}\n",
                section.name,
                setting.key,
                setting.kind.render(&value)
            );
            accepted(&written);
        }
    }
}

/// A legal value of a setting that is not `value`.
fn another(kind: setting::Kind, value: Option<&setting::Value>) -> setting::Value {
    use setting::{Kind, Value};
    match (kind, value) {
        (Kind::Count { min, max } | Kind::Size { min, max } | Kind::Duration { min, max }, _) => {
            Value::Number(if value == Some(&Value::Number(min)) {
                max
            } else {
                min
            })
        }
        (Kind::Switch, Some(Value::Switch(on))) => Value::Switch(!on),
        (Kind::Choice(names) | Kind::ChoiceList(names), _) => Value::Text(names[1].to_owned()),
        (Kind::List, _) => Value::List(vec!["User:another".to_owned()]),
        (Kind::Address | Kind::HostPort, _) => Value::Text("127.0.0.1:1".to_owned()),
        (Kind::Text | Kind::Path, _) => Value::Text("another".to_owned()),
        (kind, value) => panic!("no other value of {kind:?} than {value:?}"),
    }
}

#[test]
fn every_row_sets_a_field_of_its_own() {
    let rows = || SECTIONS.iter().flat_map(|section| section.settings);
    let defaults = Config::default();
    for row in rows() {
        let mut config = Config::default();
        let value = another(row.kind, (row.show)(&defaults).as_ref());
        (row.apply)(&mut config, value).expect(row.key);
        let changed: Vec<_> = rows()
            .filter(|other| (other.show)(&config) != (other.show)(&defaults))
            .map(|other| other.key)
            .collect();
        assert_eq!(changed, [row.key]);
    }
}

#[test]
fn every_setting_has_a_variable_of_its_own() {
    let mut variables = std::collections::BTreeSet::new();
    for section in SECTIONS {
        for setting in section.settings {
            let variable = read::variable(section.name, setting.key);
            assert!(variables.insert(variable), "{}", setting.key);
        }
    }
    for setting in topic::topic_settings() {
        let variable = read::variable("topic-defaults", setting.name);
        assert!(variables.insert(variable), "{}", setting.name);
    }
}

#[test]
fn the_reference_names_every_setting_and_variable() {
    let reference = reference();
    for word in [
        "`TIDEGATE_LOG_FLUSH_LANES`",
        "`TIDEGATE_LISTENER_<NAME>_TLS_KEY_FILE`",
        "`TIDEGATE_PLUGINS_PRELOAD_<NAME>_FILE`",
        "`tidegate.durability`",
        "a size from 1KiB to",
    ] {
        assert!(reference.contains(word), "{word}\n{reference}");
    }
    for section in SECTIONS {
        for setting in section.settings {
            assert!(
                reference.contains(&read::variable(section.name, setting.key)),
                "{}",
                setting.key
            );
            assert!(setting.doc.ends_with('.'), "{}", setting.key);
        }
    }
}

#[test]
fn sizes_durations_lists_and_switches_are_read() {
    let config = accepted(
        "[broker]\nauto-create-topics = false\nfetch-max-bytes = '32MiB'\nshutdown-deadline = '500ms'\n\
         [log]\nrecycle-bytes = 4096\n\
         [security]\nauthorization = true\nsuper-users = ['User:alice', 'User:bob']\n\
         [observe]\nlog-format = 'json'\n\
         [admin]\nbind = ''\n",
    );
    assert!(!config.broker.auto_create_topics);
    assert_eq!(config.broker.fetch_max_bytes, 32 << 20);
    assert_eq!(config.broker.shutdown_deadline.as_millis(), 500);
    assert_eq!(config.log.recycle_bytes, 4096);
    assert_eq!(config.security.super_users, ["User:alice", "User:bob"]);
    assert_eq!(config.observe.log_format, LogFormat::Json);
    assert_eq!(config.admin.bind, None);
}

#[test]
fn every_error_is_reported_at_once_in_the_order_of_the_file() {
    refused(
        "[broker]\nid = 'one'\n\n[log]\nflush-lanse = 3\n  flush-max-delay = 5\n\n[looog]\nflush-lanes = 3\n",
        &[
            ("TIDEGATE_NET_MAX_CONNECTIONS", "lots"),
            ("TIDEGATE_LOG_FLUSH_LANE", "3"),
        ],
        &[
            &[
                "tidegate.toml:2:1: broker.id: is a text; expected a number",
                "without quotes",
            ],
            &[
                "tidegate.toml:5:1: log.flush-lanse: unknown key",
                "did you mean \"flush-lanes\"?",
            ],
            &[
                "tidegate.toml:6:3: log.flush-max-delay: is a number; expected a duration",
                "\"10s\"",
            ],
            &[
                "tidegate.toml:8:2: looog: unknown section",
                "did you mean [log]?",
            ],
            &[
                "TIDEGATE_LOG_FLUSH_LANE: unknown variable",
                "did you mean TIDEGATE_LOG_FLUSH_LANES?",
            ],
            &[
                "TIDEGATE_NET_MAX_CONNECTIONS: net.max-connections:",
                "expected a number",
            ],
        ],
    );
}

/// What is written, and words of the error that it gives.
const WRONG: &[(&str, &[&str])] = &[
    (
        "[log]\nflush-lanes = 0",
        &[
            "2:1: log.flush-lanes: out of bounds",
            "from 1 to 64",
            "allowed is 1",
        ],
    ),
    ("[log]\nflush-lanes = 100000000000000000000", &["too large"]),
    (
        "[log]\nrecycle-bytes = '1 GB'",
        &["\"1 GB\" is not understood", "GiB"],
    ),
    ("[log]\nrecycle-bytes = -1", &["out of bounds", "\"0B\""]),
    (
        "[observe]\nlog-format = 'jsom'",
        &["is not known", "did you mean \"json\"?"],
    ),
    (
        "[observe]\nlog-filter = 'inof'",
        &["2:1: observe.log-filter:", "\"inof\""],
    ),
    ("[broker]\ndata-dir = ''", &["must not be empty"]),
    (
        "[broker]\nflush-lanes = 1",
        &["broker.flush-lanes: unknown key", "it belongs under [log]"],
    ),
    (
        "flush-lanes = 1",
        &[
            "1:1: flush-lanes: unknown section",
            "it belongs under [log]",
        ],
    ),
    ("log = 3", &["expected a section"]),
    (
        "[security]\nsuper-users = ['alice']",
        &["is no principal", "User:alice"],
    ),
    (
        "[security]\nsuper-users = 'User:alice'",
        &["expected a list", "[\"one\", \"two\"]"],
    ),
    (
        "[net]\nmax-frame-bytes = '1KiB'\nmax-unauthenticated-frame-bytes = '1KiB'",
        &["topic-defaults.max.message.bytes: is larger than net.max-frame-bytes"],
    ),
    (
        "[groups]\nmin-session-timeout = '2h'",
        &["2:1: groups.min-session-timeout: is larger than groups.max-session-timeout"],
    ),
    (
        "[admin]\ntoken-file = '/nonexistent/token'",
        &["2:1: admin.token-file: cannot read /nonexistent/token"],
    ),
    (
        "[plugins.preload.route]\nconfig = {}",
        &["1:18: plugins.preload.route.file: is missing"],
    ),
    (
        "[plugins.preload.route]\nfile = '/nonexistent/r.wasm'",
        &["2:1: plugins.preload.route.file: cannot read"],
    ),
    (
        "[topic-defaults]\n'retention.mss' = 1",
        &["unknown topic setting", "did you mean \"retention.ms\"?"],
    ),
    (
        "[topic-defaults]\n'segment.bytes' = '1KiB'",
        &["2:1: topic-defaults.segment.bytes:", "1048576"],
    ),
    ("[[listener]]\nname = 'a'", &["listener.a.bind: is missing"]),
    (
        "[listener]\nname = 'a'",
        &["1:2: listener:", "[[listener]]"],
    ),
];

#[test]
fn wrong_values_are_refused_with_the_fix() {
    for (text, words) in WRONG {
        refused(text, &[], &[words]);
    }
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    let errors = read("[broker]\nid = \n[log\nflush-lanes = 3\n", &[]).expect_err("broken");
    let shown = errors.to_string();
    assert!(shown.contains("tidegate.toml:2:6: "), "{shown}");
    assert!(shown.contains("tidegate.toml:3:"), "{shown}");
}

#[test]
fn variables_override_the_file_and_name_themselves_in_errors() {
    let config = read(
        "[log]\nflush-lanes = 3\n[[listener]]\nname = 'SASL-in'\nbind = '127.0.0.1:1'\n",
        &[
            ("TIDEGATE_LOG_FLUSH_LANES", "5"),
            ("TIDEGATE_LISTENER_SASL_IN_BIND", "127.0.0.1:2"),
            (
                "TIDEGATE_LISTENER_SASL_IN_SASL_MECHANISMS",
                "SCRAM-SHA-256, scram-sha-512",
            ),
            ("TIDEGATE_TOPIC_DEFAULTS_RETENTION_MS", "1d"),
            ("TIDEGATE_SECURITY_AUTHORIZATION", "true"),
            ("TIDEGATE_BOOTSTRAP", "127.0.0.1:9092"),
            ("HOME", "/root"),
        ],
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.log.flush_lanes, 5);
    assert_eq!(config.listeners[0].bind.port(), 2);
    assert_eq!(
        config.listeners[0].sasl_mechanisms,
        [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512]
    );
    assert_eq!(config.topic_defaults.retention_ms, 86_400_000);
    assert!(config.security.authorization);

    refused(
        "",
        &[("TIDEGATE_LISTENER_PLANE_BIND", "127.0.0.1:1")],
        &[&[
            "TIDEGATE_LISTENER_PLANE_BIND",
            "did you mean TIDEGATE_LISTENER_PLAIN_BIND?",
        ]],
    );
    refused(
        "",
        &[("TIDEGATE_LOGG", "1")],
        &[&["TIDEGATE_LOGG: unknown variable", "config reference"]],
    );
}

#[test]
fn topic_defaults_are_read_with_units_quoted_or_dotted() {
    let config = accepted(
        "[topic-defaults]\nretention.ms = '2d'\nretention.bytes = '1GiB'\n\"segment.bytes\" = 2097152\n\
         \"cleanup.policy\" = ['compact', 'delete']\npreallocate = true\n\"min.cleanable.dirty.ratio\" = 0.3\n",
    );
    assert_eq!(config.topic_defaults.retention_ms, 172_800_000);
    assert_eq!(config.topic_defaults.retention_bytes, 1 << 30);
    assert_eq!(config.topic_defaults.segment_bytes, 2 << 20);
    assert!(config.topic_defaults.cleanup_compact && config.topic_defaults.cleanup_delete);
    assert_eq!(config.topic_defaults.kept["preallocate"], "true");
    assert!((config.topic_defaults.min_cleanable_dirty_ratio - 0.3).abs() < 1e-9);
}

/// A folder with a certificate, a key and a token, of which only existence and form are checked here.
fn files() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::write(folder.path().join(name), "PEM").expect("a file");
    }
    let path = folder.path().display().to_string();
    (folder, path)
}

fn listener(extra: &str) -> String {
    format!("[[listener]]\nname = 'a'\nbind = '127.0.0.1:9092'\n{extra}\n")
}

#[test]
fn a_tls_listener_is_read_whole() {
    let (_folder, path) = files();
    let config = accepted(&format!(
        "[[listener]]\nname = 'public'\ntransport = 'quic'\nbind = '0.0.0.0:9094'\nadvertised = '[::1]:443'\n\
         tls = {{ certificate-file = '{path}/cert.pem', key-file = '{path}/key.pem', client-auth = 'required', client-ca-file = '{path}/ca.pem' }}\n\
         sasl-mechanisms = ['PLAIN']\nmax-connections = 7\n",
    ));
    let listener = &config.listeners[0];
    assert_eq!(listener.transport, Transport::Quic);
    assert_eq!(listener.advertised, Some(("::1".to_owned(), 443)));
    assert_eq!(listener.max_connections, 7);
    let tls = listener.tls.as_ref().expect("tls");
    assert_eq!(tls.client_auth, ClientAuth::Required);
    assert_eq!(
        tls.client_ca_file.as_deref(),
        Some(Path::new(&format!("{path}/ca.pem")))
    );
}

#[test]
fn what_a_listener_needs_or_cannot_have_is_refused() {
    let (_folder, path) = files();
    let with_tls = |more: &str| {
        format!(
            "transport = 'tls'\ntls = {{ certificate-file = '{path}/cert.pem', key-file = '{path}/key.pem'{more} }}"
        )
    };
    for (extra, words) in [
        (
            "transport = 'tls'".to_owned(),
            &[
                "listener.a.tls.certificate-file: is missing",
                "listener.a.tls.key-file: is missing",
            ][..],
        ),
        (
            with_tls("").replace("transport = 'tls'", ""),
            &[
                "tls.certificate-file: has no effect on plain TCP",
                "tls.key-file: has no effect",
            ],
        ),
        (
            with_tls(", client-auth = 'required'"),
            &["client-ca-file: is missing"],
        ),
        (
            with_tls(&format!(", client-ca-file = '{path}/ca.pem'")),
            &["client-ca-file: has no effect"],
        ),
        (
            with_tls("").replace("cert.pem", "none.pem"),
            &[
                "5:9: listener.a.tls.certificate-file: cannot read",
                "none.pem",
            ],
        ),
        (
            "tls = { certificat-file = 'x' }".to_owned(),
            &[
                "listener.a.tls.certificat-file: unknown key",
                "did you mean \"tls.certificate-file\"?",
            ],
        ),
        (
            "sasl-mechanisms = ['PLAIN']".to_owned(),
            &["4:1: listener.a.sasl-mechanisms: PLAIN", "SCRAM-SHA-256"],
        ),
        (
            "sasl-mechanisms = ['SCRAM-SHA-265']".to_owned(),
            &["did you mean \"SCRAM-SHA-256\"?"],
        ),
        (
            "advertised = '0.0.0.0:9092'".to_owned(),
            &["is no address to connect to"],
        ),
        (
            "advertised = 'nowhere'".to_owned(),
            &["is not a host and port"],
        ),
    ] {
        let errors = read(&listener(&extra), &[]).expect_err(&extra).to_string();
        for word in words {
            assert!(errors.contains(word), "{word:?} is not in: {errors}");
        }
    }
}

#[test]
fn listeners_must_agree_with_each_other_and_be_reachable() {
    refused(
        "[[listener]]\nname = 'a'\nbind = '0.0.0.0:9092'\n",
        &[],
        &[&[
            "1:1: listener.a.advertised: is missing",
            "broker.example:9092",
        ]],
    );
    refused(
        "[[listener]]\nname = 'a-b'\nbind = '127.0.0.1:1'\n[[listener]]\nname = 'A_b'\nbind = '127.0.0.1:1'\n",
        &[],
        &[
            &["5:1: listener.A_b.name:", "\"a-b\""],
            &["6:1: listener.A_b.bind:", "is taken"],
        ],
    );
}

#[test]
fn warnings_say_what_was_probably_not_meant() {
    for (text, words) in [
        ("", &[][..]),
        (
            "[[listener]]\nname='a'\nbind='10.0.0.1:9092'",
            &["everybody who reaches it"],
        ),
        (
            "[[listener]]\nname='a'\nbind='10.0.0.1:9092'\nsasl-mechanisms=['SCRAM-SHA-256']",
            &["can be read and changed on the way"],
        ),
        (
            "[[listener]]\nname='a'\nbind='10.0.0.1:9092'\n[security]\nauthorization=true\nsuper-users=['User:a']",
            &["User:ANONYMOUS"],
        ),
        (
            "[security]\nauthorization=true",
            &["nobody may create the first ACL"],
        ),
        (
            "[security]\nauthorizers=['roles']",
            &["has no effect while authorization is off"],
        ),
        (
            "[topic-defaults]\n'tidegate.durability'='os'",
            &["loss of power"],
        ),
        (
            "[admin]\nbind='0.0.0.0:9644'",
            &["reached from other machines, in plain HTTP"],
        ),
    ] {
        let warnings = accepted(text).warnings();
        assert_eq!(warnings.len(), words.len(), "{text}: {warnings:?}");
        for (warning, word) in warnings.iter().zip(words) {
            assert!(warning.contains(word), "{warning}");
        }
    }
}

#[test]
fn the_durability_statement_follows_the_settings() {
    let synced = accepted("").durability_statement();
    assert!(
        synced.contains("acks=all     fdatasync has returned    yes                 yes"),
        "{synced}"
    );
    assert!(synced.contains("disk full") && synced.contains("bit rot"));
    assert!(synced.contains("kept for 7d"), "{synced}");
    let cached = accepted("[topic-defaults]\n'tidegate.durability'='os'\n'retention.ms'=-1")
        .durability_statement();
    assert!(
        cached
            .contains("acks=all     written to the page cache yes                 what was synced"),
        "{cached}"
    );
    assert!(cached.contains("for ever"), "{cached}");
}

#[test]
fn a_token_must_be_long_and_one_word() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    for (text, legal) in [
        ("0123456789abcdef\n", true),
        ("short", false),
        ("0123456789 abcdef0123", false),
        ("", false),
    ] {
        std::fs::write(&file, text).expect("a file");
        let token = read_token(&file);
        assert_eq!(token.is_ok(), legal, "{text:?}");
        if let Err(message) = token {
            assert!(
                text.is_empty() || !message.contains(text.trim()),
                "{message}"
            );
        }
    }
}

#[test]
fn a_file_that_is_missing_too_large_or_not_text_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tidegate.toml");
    let load = || {
        Config::load(&file, std::iter::empty())
            .expect_err("refused")
            .to_string()
    };
    assert!(load().contains("cannot be read"));
    std::fs::write(&file, [b'#', 0xff]).expect("a file");
    assert!(load().contains("is not UTF-8 after byte 1"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).expect("a file");
    assert!(load().contains("is larger than"));
}

/// The `TIDEGATE_…` words in the sources of the commands.
fn variables_of_the_commands() -> std::collections::BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut variables = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the commands") {
        let path = entry.expect("an entry").path();
        let text = if path.is_file() {
            std::fs::read_to_string(path).expect("a source")
        } else {
            String::new()
        };
        let quoted = text.split('"').skip(1).step_by(2);
        let named = |word: &&str| {
            word.starts_with("TIDEGATE_")
                && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        };
        variables.extend(
            quoted
                .filter(named)
                .filter(|word| word.len() > 9)
                .map(str::to_owned),
        );
    }
    variables
}

#[test]
fn a_variable_that_a_command_reads_is_not_refused_as_a_setting() {
    let used = variables_of_the_commands();
    for variable in &used {
        let setting = SECTIONS.iter().any(|section| {
            section
                .settings
                .iter()
                .any(|setting| read::variable(section.name, setting.key) == *variable)
        });
        assert!(
            setting || COMMAND_VARIABLES.contains(&variable.as_str()),
            "{variable} is missing from COMMAND_VARIABLES"
        );
    }
    for variable in COMMAND_VARIABLES {
        assert!(used.contains(*variable), "no command reads {variable}");
    }
}
