//! Configuration in two stages: as written (TOML and `TIDEGATE_…` variables), then validated and typed.
//!
//! A *setting* is one row of one table (`setting`): a key, a kind with unit and bounds, and the field it sets. A *section*
//! is a named list of rows. From the rows derive reading and its errors (`read`), the environment variables, the example
//! file and the reference (`document`); a default stands only in its struct's `Default`. What settings must agree on
//! with each other is in `check`. Topic settings, which have Kafka's names and live in the catalog, have a table of their
//! own (`topic`).

mod admin;
mod broker;
mod check;
mod document;
mod environment;
mod error;
mod field;
mod groups;
mod listener;
mod log;
mod net;
mod observe;
mod plugins;
mod read;
mod security;
mod setting;
mod statement;
#[cfg(test)]
mod tests;
pub mod topic;
mod transactions;
mod units;

use std::io::Read as _;
use std::path::Path;

pub use admin::AdminConfig;
pub use broker::BrokerConfig;
pub use check::read_token;
pub use document::{example, reference};
pub use error::{ConfigError, ConfigErrors, Place};
pub use groups::GroupConfig;
pub use listener::{ClientAuth, ListenerConfig, ListenerTls, SaslMechanism, Transport};
pub use log::LogConfig;
pub use net::NetConfig;
pub use observe::{LogFormat, ObserveConfig};
pub use plugins::{PluginConfig, PreloadPlugin};
pub use read::COMMAND_VARIABLES;
pub use security::SecurityConfig;
use setting::Setting;
pub use topic::{
    DamagedRecords, Durability, TimestampType, TopicCompression, TopicConfig, TransformFailure,
    Validation,
};
pub use transactions::TransactionConfig;
pub use units::parse_duration;

/// The largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything a broker is started with, validated.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub broker: BrokerConfig,
    pub listeners: Vec<ListenerConfig>,
    pub net: NetConfig,
    pub log: LogConfig,
    pub topic_defaults: TopicConfig,
    pub groups: GroupConfig,
    pub transactions: TransactionConfig,
    pub security: SecurityConfig,
    pub plugins: PluginConfig,
    pub admin: AdminConfig,
    pub observe: ObserveConfig,
}

/// A table of the file whose settings are rows.
struct Section {
    name: &'static str,
    doc: &'static str,
    settings: &'static [Setting<Config>],
}

const SECTIONS: &[Section] = &[
    Section {
        name: "broker",
        doc: "Who this broker is, where its data lies, and how much of it there may be.",
        settings: broker::SETTINGS,
    },
    Section {
        name: "net",
        doc: "Bounds that hold for all listeners together or for each connection. They keep memory flat under abuse.",
        settings: net::SETTINGS,
    },
    Section {
        name: "log",
        doc: "How records reach the disk and how long what is derived from them is kept.",
        settings: log::SETTINGS,
    },
    Section {
        name: "groups",
        doc: "Consumer groups and their offsets.",
        settings: groups::SETTINGS,
    },
    Section {
        name: "transactions",
        doc: "Transactional producers and how long their transactions may take.",
        settings: transactions::SETTINGS,
    },
    Section {
        name: "security",
        doc: "Authorization and what identities are made of.",
        settings: security::SETTINGS,
    },
    Section {
        name: "plugins",
        doc: "What WebAssembly plugins may take.",
        settings: plugins::SETTINGS,
    },
    Section {
        name: "admin",
        doc: "The HTTP port of metrics, health and the operator's API.",
        settings: admin::SETTINGS,
    },
    Section {
        name: "observe",
        doc: "How much the broker says of itself.",
        settings: observe::SETTINGS,
    },
];

impl Config {
    /// Reads the file at `path`; `environment` overrides it (see [`environment`]). Every error is reported at once.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let file = path.display().to_string();
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                ConfigErrors::whole(
                    &file,
                    format!("cannot be read: {error}"),
                    "`tidegate config example > tidegate.toml` writes a file to start from",
                )
            })?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let message = format!("is larger than {MAX_FILE_BYTES} bytes");
            return Err(ConfigErrors::whole(
                &file,
                message,
                "is this the configuration file?",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let message = format!(
                "is not UTF-8 after byte {}",
                error.utf8_error().valid_up_to()
            );
            ConfigErrors::whole(&file, message, "save it as UTF-8")
        })?;
        Self::from_toml(&text, &file, environment)
    }

    /// Reads a configuration from `text`; errors name it `file`.
    pub fn from_toml(
        text: &str,
        file: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        read::read(text, file, environment)
    }

    /// What is legal and probably not what was meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// What this configuration promises about acknowledged records, in the words that users compare with.
    pub fn durability_statement(&self) -> String {
        statement::durability(self)
    }
}

/// The variables of this process that concern the configuration, for [`Config::load`]. A value that is not UTF-8 is
/// passed on with replacement characters, so that it is refused where it is read and not here.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .filter(|(name, _)| name.starts_with("TIDEGATE_"))
}
