//! Structured logs: what is logged, in which form, and to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Parses a filter such as `info,tidegate::net=debug`, or says which part of it is wrong.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, String> {
    for part in filter
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if let Err(error) = EnvFilter::builder().parse(part) {
            return Err(format!("{part:?} is no log filter: {error}"));
        }
        // A lone word is read as a module's name; a misspelt level would silently log everything of no module.
        let level = part
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_ok();
        if !level && !part.contains(['=', ':', '[', '_']) && part != "tidegate" {
            return Err(format!(
                "{part:?} is neither a level (off, error, warn, info, debug, trace) nor module=level"
            ));
        }
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| format!("{filter:?} is no log filter: {error}"))
}

/// Whether `parse_filter` would take the filter.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse_filter(filter).map(|_| ())
}

/// Starts logging for this process. Fails on a wrong filter, and when logging was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(std::io::stderr);
    let outcome = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    outcome.map_err(|error| format!("logging cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_part_of_a_filter_is_named() {
        for filter in [
            "info",
            "warn,tidegate::net=debug",
            "off",
            "tidegate=trace,h2=warn",
            "",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for (filter, part) in [
            ("inof", "\"inof\""),
            ("info,tidegate::net=loud", "\"tidegate::net=loud\""),
            ("debug,verbose", "\"verbose\""),
        ] {
            let message = check_filter(filter).expect_err(filter);
            assert!(message.contains(part), "{message}");
        }
    }
}
