//! The settings that a revision was deployed with.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Names and values, as the operator wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The setting, or an error that names it.
    pub fn required(&self, key: &str) -> Result<&str, String> {
        self.get(key)
            .ok_or_else(|| format!("the setting {key:?} is missing"))
    }

    /// The setting as a number or any other type that is written as text, or `default` when it is not given.
    pub fn parse_or<T: FromStr>(&self, key: &str, default: T) -> Result<T, String> {
        let Some(text) = self.get(key) else {
            return Ok(default);
        };
        text.trim()
            .parse()
            .map_err(|_| format!("the setting {key:?} has the unusable value {text:?}"))
    }

    /// One of the named choices, or the first of them when the setting is not given.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.get(key).unwrap_or(choices[0].0);
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                format!(
                    "the setting {key:?} is {text:?}; it must be one of {}",
                    names.join(", ")
                )
            })
    }

    /// The parts of a comma-separated setting, trimmed; empty when it is not given.
    pub fn list(&self, key: &str) -> Vec<&str> {
        self.get(key).map(parts).unwrap_or_default()
    }

    /// All settings whose name starts with `prefix`, by the rest of the name.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// An error when there is a setting that is not in `known`; a name there that ends in `.` stands for all that start so.
    pub fn only(&self, known: &[&str]) -> Result<(), String> {
        let fits = |key: &str| {
            known
                .iter()
                .any(|name| *name == key || (name.ends_with('.') && key.starts_with(name)))
        };
        match self.0.keys().find(|key| !fits(key)) {
            None => Ok(()),
            Some(key) => Err(format!(
                "there is no setting {key:?}; the settings are {}",
                known.join(", ")
            )),
        }
    }
}

fn parts(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(settings: I) -> Self {
        Self(
            settings
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_setting_and_what_would_do() {
        let config = Config::from_iter([("size", "big"), ("mode", "x"), ("role.a", "1")]);
        assert_eq!(
            config.parse_or("size", 1u32).unwrap_err(),
            "the setting \"size\" has the unusable value \"big\""
        );
        assert_eq!(
            config.choice("mode", &[("a", 1), ("b", 2)]).unwrap_err(),
            "the setting \"mode\" is \"x\"; it must be one of a, b"
        );
        assert_eq!(
            config.only(&["size", "role."]).unwrap_err(),
            "there is no setting \"mode\"; the settings are size, role."
        );
        assert_eq!(config.only(&["size", "mode", "role."]), Ok(()));
        assert_eq!(config.choice("absent", &[("a", 1), ("b", 2)]), Ok(1));
        assert_eq!(
            config.with_prefix("role.").collect::<Vec<_>>(),
            [("a", "1")]
        );
    }
}
