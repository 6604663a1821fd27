//! A configuration of the environment alone, for brokers that are started without a file.

use super::read::LISTENER_VARIABLES;
use super::{Config, ConfigErrors};

/// What errors call the configuration as a whole.
const NO_FILE: &str = "the environment";

impl Config {
    /// The settings of the environment, and a sentence for each variable that has no effect: those that are no settings, which
    /// a shell may hold for something else, and those of listeners, which only a file names.
    pub fn from_environment(
        variables: Vec<(String, String)>,
    ) -> Result<(Self, Vec<String>), ConfigErrors> {
        let (of_listeners, mut variables): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .partition(|(name, _)| name.starts_with(LISTENER_VARIABLES));
        let of_listeners = of_listeners.into_iter();
        let mut ignored: Vec<String> = of_listeners
            .map(|(name, _)| {
                format!("{name} has no effect: it would change a listener that a configuration file names")
            })
            .collect();
        let unknown = match Self::from_toml("", NO_FILE, variables.iter().cloned()) {
            Ok(config) => return Ok((config, ignored)),
            Err(errors) => errors.unknown_variables(),
        };
        for (name, fix) in unknown {
            ignored.push(format!("{name} has no effect: it is no setting ({fix})"));
            variables.retain(|(variable, _)| *variable != name);
        }
        let config = Self::from_toml("", NO_FILE, variables.into_iter())?;
        Ok((config, ignored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigErrors> {
        let variables = variables.iter();
        let owned = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_environment(owned.collect())
    }

    #[test]
    fn settings_are_obeyed_and_what_has_no_effect_is_told() {
        let (config, ignored) = read(&[
            ("TIDEGATE_NET_MAX_CONNECTIONS", "17"),
            ("TIDEGATE_LISTENER_TCP_BIND", "127.0.0.1:1"),
            ("TIDEGATE_SEED", "7"),
            ("TIDEGATE_ADMIN", "127.0.0.1:9644"),
        ])
        .expect("valid");
        assert_eq!(config.net.max_connections, 17);
        assert_eq!(ignored.len(), 2, "{ignored:?}");
        assert!(ignored[0].starts_with("TIDEGATE_LISTENER_TCP_BIND has no effect"));
        assert!(ignored[1].starts_with("TIDEGATE_SEED has no effect"));
        let (config, ignored) = read(&[]).expect("valid");
        assert_eq!(config.net.max_connections, 10_000);
        assert!(ignored.is_empty());
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_and_not_left_out() {
        let error = read(&[
            ("TIDEGATE_NET_MAX_CONNECTIONS", "lots"),
            ("TIDEGATE_SEED", "7"),
        ]);
        let error = error.expect_err("no number").to_string();
        assert!(error.contains("TIDEGATE_NET_MAX_CONNECTIONS"), "{error}");
        assert!(!error.contains("TIDEGATE_SEED"), "{error}");
    }
}
