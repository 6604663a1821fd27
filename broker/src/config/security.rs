//! `[security]`: authorization and what identities are made of.

use std::time::Duration;

use super::Config;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// Off: every request is allowed. On: default deny.
    pub authorization: bool,
    /// `User:alice` and the like: allowed everything, before any ACL or plugin.
    pub super_users: Vec<String>,
    /// Deployed authorizer plugins, asked in this order after the ACLs.
    pub authorizers: Vec<String>,
    /// Rules that turn a certificate's subject into a user name; see `security::certificate`.
    pub principal_rules: Vec<String>,
    /// PBKDF2 rounds of a new password (RFC 7677 asks for 4096 at least).
    pub scram_iterations: u32,
    /// How long a SASL login lasts until the client must log in again. Zero: until the connection ends.
    pub connections_max_reauth: Duration,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            authorization: false,
            super_users: Vec::new(),
            authorizers: Vec::new(),
            principal_rules: Vec::new(),
            scram_iterations: 8192,
            connections_max_reauth: Duration::ZERO,
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        security.authorization,
        "authorization",
        Kind::Switch,
        "On: what no super user, ACL or authorizer plugin allows is denied. Off: every request is allowed."
    ),
    setting!(
        security.super_users,
        "super-users",
        Kind::List,
        "Principals such as \"User:alice\" that may do everything, before any ACL or plugin is asked. At least one is needed to create the first ACL."
    ),
    setting!(
        security.authorizers,
        "authorizers",
        Kind::List,
        "Deployed authorizer plugins, asked in this order after the ACLs. They may allow what no ACL speaks of and deny what an ACL allows. A plugin that fails denies."
    ),
    setting!(
        security.principal_rules,
        "principal-rules",
        Kind::List,
        "Rules that make a user name of a client certificate's subject, in the form of Kafka's ssl.principal.mapping.rules: \"RULE:pattern/replacement/[LU]\" or \"DEFAULT\"; the first that matches wins. Without rules: the whole subject."
    ),
    setting!(
        security.scram_iterations,
        "scram-iterations",
        Kind::Count {
            min: 4096,
            max: 1_000_000
        },
        "Rounds of key derivation for new SCRAM passwords (RFC 7677: at least 4096). More make a stolen verifier harder to guess from and each login slower."
    ),
    setting!(
        security.connections_max_reauth,
        "connections-max-reauth",
        Kind::Duration {
            min: 0,
            max: 365 * 86_400_000
        },
        "How long a SASL login lasts (Kafka's connections.max.reauth.ms). Clients are told and log in again on the same connection; one that does not is closed at its next request. \"0s\": a login lasts as long as its connection. A removed user or a new password ends sessions at once, whatever this says."
    ),
];
