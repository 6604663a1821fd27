//! `[observe]`: how much the broker says of itself.

use super::Config;
use super::field::choices;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Debug)]
pub struct ObserveConfig {
    /// The most series that `/metrics` ever exports.
    pub max_series: usize,
    pub log_format: LogFormat,
    /// A `tracing` filter such as `info,tidegate::net=debug`.
    pub log_filter: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

choices!(LogFormat, Text: "text", Json: "json");

impl Default for ObserveConfig {
    fn default() -> Self {
        Self {
            max_series: 10_000,
            log_format: LogFormat::Text,
            log_filter: "info".into(),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Config>] = &[
    setting!(
        observe.max_series,
        "max-series",
        Kind::Count {
            min: 1_000,
            max: 1_000_000
        },
        "The most series that /metrics ever exports. The busiest topics, groups and plugins come first; the rest are added up under the label value _other. Each series costs Prometheus about 3 KiB of memory."
    ),
    setting!(
        observe.log_format,
        "log-format",
        Kind::Choice(LogFormat::NAMES),
        "Logs on standard error as lines for people (text) or as one JSON object a line (json)."
    ),
    setting!(
        observe.log_filter,
        "log-filter",
        Kind::Text,
        "What is logged: a level (error, warn, info, debug, trace), or levels by module such as \"info,tidegate::net=debug\"."
    ),
];
