//! What settings must agree on with each other and with the files they name; and what is legal but deserves a warning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use super::read::listener_key;
use super::{ClientAuth, Config, ListenerConfig, Transport};
use crate::observe::trace;

/// The shortest admin token: 16 characters, 96 bits when they are random letters and digits.
const MIN_TOKEN_LENGTH: usize = 16;

/// One contradiction. The first key is the one to change; the others took part.
pub(super) struct Finding {
    pub keys: Vec<String>,
    pub message: String,
    pub fix: String,
}

fn finding(keys: &[&str], message: String, fix: &str) -> Finding {
    Finding {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        message,
        fix: fix.to_owned(),
    }
}

/// Everything about a configuration that cannot be.
pub(super) fn contradictions(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    bounds(config, &mut found);
    listeners(&config.listeners, &mut found);
    security(config, &mut found);
    admin(config, &mut found);
    plugins(config, &mut found);
    if let Some(error) = config.topic_defaults.contradiction() {
        let key = format!("topic-defaults.{}", error.key);
        found.push(finding(
            &[&key, "topic-defaults.cleanup.policy"],
            error.message,
            "",
        ));
    }
    if let Err(message) = trace::check_filter(&config.observe.log_filter) {
        found.push(finding(
            &["observe.log-filter"],
            message,
            "write a level, or levels by module, such as \"info,tidegate::net=debug\"",
        ));
    }
    found
}

/// Pairs of numbers of which the first must not be larger than the second.
fn bounds(config: &Config, found: &mut Vec<Finding>) {
    let net = &config.net;
    let pairs = [
        (
            (
                "net.max-unauthenticated-frame-bytes",
                u64::from(net.max_unauthenticated_frame_bytes),
            ),
            ("net.max-frame-bytes", u64::from(net.max_frame_bytes)),
        ),
        (
            ("net.max-frame-bytes", u64::from(net.max_frame_bytes)),
            ("net.max-in-flight-bytes", net.max_in_flight_bytes),
        ),
        (
            (
                "topic-defaults.max.message.bytes",
                u64::from(config.topic_defaults.max_message_bytes),
            ),
            ("net.max-frame-bytes", u64::from(net.max_frame_bytes)),
        ),
        (
            (
                "groups.min-session-timeout",
                milliseconds(config.groups.min_session_timeout),
            ),
            (
                "groups.max-session-timeout",
                milliseconds(config.groups.max_session_timeout),
            ),
        ),
        (
            (
                "broker.default-partitions",
                u64::try_from(config.broker.default_partitions).unwrap_or(0),
            ),
            (
                "broker.max-partitions-per-topic",
                u64::try_from(config.broker.max_partitions_per_topic).unwrap_or(0),
            ),
        ),
    ];
    for ((low_key, low), (high_key, high)) in pairs {
        if low > high {
            found.push(finding(
                &[low_key, high_key],
                format!("is larger than {high_key} ({low} > {high})"),
                &format!("lower {low_key} or raise {high_key}"),
            ));
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn listeners(listeners: &[ListenerConfig], found: &mut Vec<Finding>) {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    let mut binds: BTreeMap<(bool, SocketAddr), &str> = BTreeMap::new();
    for listener in listeners {
        let key = |key: &str| listener_key(listener, key);
        // Names that differ in case or punctuation alone would share their environment variables.
        let folded = listener.name.to_ascii_lowercase().replace('-', "_");
        if let Some(other) = names.insert(folded, &listener.name) {
            found.push(finding(
                &[&key("name")],
                format!("there is a listener {other:?} already"),
                "give every listener its own name; case, - and _ make no difference",
            ));
        }
        let over_udp = listener.transport == Transport::Quic;
        if listener.bind.port() != 0
            && let Some(other) = binds.insert((over_udp, listener.bind), &listener.name)
        {
            found.push(finding(
                &[&key("bind")],
                format!("{} is taken by listener {other:?} already", listener.bind),
                "use another port; only QUIC (UDP) may share one with TCP or TLS",
            ));
        }
        if let Some(tls) = &listener.tls {
            readable(&key("tls.certificate-file"), &tls.certificate_file, found);
            readable(&key("tls.key-file"), &tls.key_file, found);
            if let Some(file) = &tls.client_ca_file {
                readable(&key("tls.client-ca-file"), file, found);
            }
        }
    }
}

/// Reports a file that cannot be read.
fn readable(key: &str, path: &Path, found: &mut Vec<Finding>) {
    let outcome = File::open(path).and_then(|mut file| {
        let mut first = [0; 1];
        file.read(&mut first).map(|length| length > 0)
    });
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match outcome {
        Ok(true) => {}
        Ok(false) => found.push(finding(&[key], format!("{} is empty", shown.display()), "")),
        Err(error) => found.push(finding(
            &[key],
            format!("cannot read {}: {error}", shown.display()),
            "correct the path (a relative one starts at the working directory) or the file's permissions",
        )),
    }
}

fn security(config: &Config, found: &mut Vec<Finding>) {
    for user in &config.security.super_users {
        let well_formed = user
            .split_once(':')
            .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
        if !well_formed {
            found.push(finding(
                &["security.super-users"],
                format!("{user:?} is no principal"),
                &format!(
                    "write a kind and a name, such as {:?}",
                    format!("User:{user}")
                ),
            ));
        }
    }
}

fn admin(config: &Config, found: &mut Vec<Finding>) {
    if config.admin.bind.is_none() {
        return;
    }
    if let Some(file) = &config.admin.token_file
        && let Err(message) = read_token(file)
    {
        found.push(finding(
            &["admin.token-file"],
            message,
            "write a random text into it, for example: openssl rand -hex 32",
        ));
    }
}

/// The admin token in `file`, without the white space around it. The message never holds the token.
pub fn read_token(file: &Path) -> Result<String, String> {
    let shown = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(4096).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", shown.display()))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "the token in {} must be one word of at least {MIN_TOKEN_LENGTH} printable ASCII characters",
            shown.display()
        ));
    }
    Ok(token.to_owned())
}

fn plugins(config: &Config, found: &mut Vec<Finding>) {
    let legal = |name: &str| {
        !name.is_empty()
            && name.len() <= 128
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    for (name, plugin) in &config.plugins.preload {
        let key = format!("plugins.preload.{name}");
        if !legal(name) {
            found.push(finding(
                &[&key],
                "is no plugin name".to_owned(),
                "use at most 128 letters, digits, dots, - and _",
            ));
        }
        let file_key = format!("{key}.file");
        if plugin.file.as_os_str().is_empty() {
            found.push(finding(
                &[&file_key],
                "is missing".to_owned(),
                "add file = \"…\", the component to deploy",
            ));
        } else {
            readable(&file_key, &plugin.file, found);
        }
    }
    if config.plugins.preload.len() > config.plugins.max_plugins {
        found.push(finding(
            &["plugins.max-plugins"],
            format!(
                "is less than the {} plugins under [plugins.preload]",
                config.plugins.preload.len()
            ),
            "raise it",
        ));
    }
    for name in config
        .security
        .authorizers
        .iter()
        .filter(|name| !legal(name))
    {
        found.push(finding(
            &["security.authorizers"],
            format!("{name:?} is no plugin name"),
            "name plugins that are deployed, or preloaded under [plugins.preload]",
        ));
    }
}

/// What is legal, and probably not what was meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let authorization = config.security.authorization;
    for listener in &config.listeners {
        if let Some(warning) = listener_warning(listener, authorization) {
            warnings.push(format!(
                "listener {:?} ({}): {warning}",
                listener.name, listener.bind
            ));
        }
    }
    if authorization && config.security.super_users.is_empty() {
        warnings.push(
            "security.super-users is empty while authorization is on: nobody may create the first ACL, unless an \
             authorizer plugin allows it"
                .to_owned(),
        );
    }
    if !authorization && !config.security.authorizers.is_empty() {
        warnings.push("security.authorizers has no effect while authorization is off".to_owned());
    }
    if let Some(bind) = config.admin.bind.filter(|bind| !bind.ip().is_loopback()) {
        warnings.push(format!(
            "admin.bind: {bind} can be reached from other machines, in plain HTTP: everybody who reaches it sees metrics and \
             health, and whoever sees the traffic learns the token; put a proxy with TLS before it, or bind to 127.0.0.1"
        ));
    }
    for (key, file) in secret_files(config) {
        if readable_by_all(file) {
            warnings.push(format!(
                "{key}: {} can be read by every user of this machine",
                file.display()
            ));
        }
    }
    if config.topic_defaults.durability == super::Durability::Os {
        warnings.push(
            "topic-defaults: tidegate.durability is os, so that loss of power can take records that acks=all acknowledged"
                .to_owned(),
        );
    }
    warnings
}

fn listener_warning(listener: &ListenerConfig, authorization: bool) -> Option<&'static str> {
    let requires_certificate = listener
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_auth == ClientAuth::Required);
    let authenticates = !listener.sasl_mechanisms.is_empty() || requires_certificate;
    if listener.bind.ip().is_loopback() {
        return None;
    }
    match (authorization, authenticates, listener.transport) {
        (true, false, _) => Some(
            "authorization is on and clients do not authenticate here: they are all User:ANONYMOUS; offer SASL or require certificates",
        ),
        (false, false, _) => Some("everybody who reaches it may read, write and delete everything"),
        (_, true, Transport::Tcp) => {
            Some("traffic can be read and changed on the way; use transport \"tls\" or \"quic\"")
        }
        _ => None,
    }
}

fn secret_files(config: &Config) -> Vec<(String, &Path)> {
    let keys = config.listeners.iter().filter_map(|listener| {
        let tls = listener.tls.as_ref()?;
        Some((
            listener_key(listener, "tls.key-file"),
            tls.key_file.as_path(),
        ))
    });
    let token = config
        .admin
        .token_file
        .iter()
        .map(|file| ("admin.token-file".to_owned(), file.as_path()));
    keys.chain(token).collect()
}

fn readable_by_all(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}
