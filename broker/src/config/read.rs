//! From what was written (one TOML file, `TIDEGATE_…` variables) to typed values, with the place of every setting kept so
//! that an error can name it. A variable wins over the file.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place, nearest};
use super::listener::{self, ListenerConfig};
use super::plugins::{PRELOAD, PreloadPlugin};
use super::setting::{Kind, Raw, Setting};
use super::topic::{Unit, topic_settings};
use super::{Config, SECTIONS, units};

/// Every variable of the configuration begins with this.
const PREFIX: &str = "TIDEGATE_";

/// Variables with the prefix that the commands read for themselves.
pub const COMMAND_VARIABLES: &[&str] = &[
    "TIDEGATE_ADMIN",
    "TIDEGATE_ADMIN_TOKEN_FILE",
    "TIDEGATE_BOOTSTRAP",
    "TIDEGATE_CA",
    "TIDEGATE_PASSWORD",
    "TIDEGATE_PASSWORD_FILE",
    "TIDEGATE_USER",
];

/// The tables of the file that are no plain section.
const OTHER_TABLES: [&str; 2] = ["listener", "topic-defaults"];

/// A setting where it was found: its dotted key within its table, and what was written.
struct Found<'t> {
    key: String,
    place: Place,
    value: &'t DeValue<'t>,
}

/// Where a table's settings are found: `log` in keys, `TIDEGATE_LOG` in variables.
struct Scope {
    keys: String,
    variables: String,
}

pub(super) struct Reader<'a> {
    text: &'a str,
    /// Variables that no setting has taken yet.
    variables: BTreeMap<String, String>,
    /// Every variable that could have been set, for suggestions.
    known_variables: Vec<String>,
    places: BTreeMap<String, Place>,
    failed: BTreeSet<String>,
    errors: Vec<ConfigError>,
}

/// `flush-lanes` as part of a variable's name: `FLUSH_LANES`.
fn variable_name(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// The variable that overrides `key` of a section, such as `TIDEGATE_LOG_FLUSH_LANES`.
pub(super) fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{}_{}", variable_name(section), variable_name(key))
}

impl Scope {
    fn new(path: &[&str]) -> Self {
        Self {
            keys: path.join("."),
            variables: format!("{PREFIX}{}", variable_name(&path.join("_"))),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.keys)
    }

    fn variable(&self, key: &str) -> String {
        format!("{}_{}", self.variables, variable_name(key))
    }
}

/// Reads a whole configuration: every error that can be found is found.
pub(super) fn read(
    text: &str,
    file: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let variables = environment
        .filter(|(name, _)| name.starts_with(PREFIX) && !COMMAND_VARIABLES.contains(&name.as_str()))
        .collect();
    let mut reader = Reader {
        text,
        variables,
        known_variables: Vec::new(),
        places: BTreeMap::new(),
        failed: BTreeSet::new(),
        errors: Vec::new(),
    };
    let config = reader.document();
    let mut errors = reader.errors;
    if errors.is_empty() {
        return Ok(config);
    }
    errors.sort_by(|a, b| a.place.cmp(&b.place));
    Err(ConfigErrors {
        file: file.to_owned(),
        errors,
    })
}

impl Reader<'_> {
    fn document(&mut self) -> Config {
        let mut config = Config::default();
        let (document, wrong) = DeTable::parse_recoverable(self.text);
        if !wrong.is_empty() {
            for error in wrong {
                let place = self.place(error.span().map_or(0, |span| span.start));
                let fix =
                    "the file is TOML: [section] lines, and key = value lines with texts in quotes";
                self.error(place, "", error.message().to_owned(), fix.to_owned());
            }
            return config;
        }
        let document = document.get_ref();
        self.unknown_tables(document);
        for section in SECTIONS {
            let table = self.table(document, section.name);
            let entries = self.flatten(table, section.settings, &["preload"]);
            let scope = Scope::new(&[section.name]);
            self.settings(&scope, section.settings, &entries, &mut config);
        }
        self.topic_defaults(document, &mut config);
        self.preload(document, &mut config);
        self.listeners(document, &mut config);
        self.unknown_variables();
        for finding in super::check::contradictions(&config) {
            if !finding.keys.iter().any(|key| self.failed.contains(key)) {
                let key = finding.keys.first().cloned().unwrap_or_default();
                let place = finding
                    .keys
                    .iter()
                    .find_map(|key| self.places.get(key).cloned())
                    .unwrap_or_else(|| self.nearest_place(&key));
                self.error(place, &key, finding.message, finding.fix);
            }
        }
        config
    }

    /// The place of the innermost table that encloses `key`.
    fn nearest_place(&self, key: &str) -> Place {
        let mut rest = key;
        while let Some((outer, _)) = rest.rsplit_once('.') {
            if let Some(place) = self.places.get(outer) {
                return place.clone();
            }
            rest = outer;
        }
        Place::Whole
    }

    fn place(&self, position: usize) -> Place {
        let position = position.min(self.text.len());
        let before = &self.text.as_bytes()[..position];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Place::File {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..])
                .chars()
                .count()
                + 1,
        }
    }

    fn error(&mut self, place: Place, key: &str, message: String, fix: String) {
        self.failed.insert(key.to_owned());
        self.errors.push(ConfigError {
            place,
            key: key.to_owned(),
            message,
            fix,
        });
    }

    fn unknown_tables(&mut self, document: &DeTable<'_>) {
        let known = || {
            SECTIONS
                .iter()
                .map(|section| section.name)
                .chain(OTHER_TABLES)
        };
        for (name, _) in document {
            let text: &str = name.get_ref();
            if known().any(|known| known == text) {
                continue;
            }
            let home = SECTIONS
                .iter()
                .find(|section| section.settings.iter().any(|setting| setting.key == text));
            let fix = match (home, nearest(text, known())) {
                (Some(section), _) => format!("it belongs under [{}]", section.name),
                (None, Some("listener")) => "did you mean [[listener]]?".to_owned(),
                (None, Some(near)) => format!("did you mean [{near}]?"),
                (None, None) => format!(
                    "the sections are {}",
                    known().collect::<Vec<_>>().join(", ")
                ),
            };
            let place = self.place(name.span().start);
            self.error(place, text, "unknown section".to_owned(), fix);
        }
    }

    /// A section's table; its place is kept for settings that are missing from it.
    fn table<'t>(&mut self, document: &'t DeTable<'t>, name: &str) -> Option<&'t DeTable<'t>> {
        let (key, value) = document.get_key_value(name)?;
        let place = self.place(key.span().start);
        self.places.insert(name.to_owned(), place.clone());
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.error(
                place,
                name,
                format!("is {}; expected a section", value.get_ref().type_str()),
                format!("write [{name}] on a line of its own and its settings below"),
            );
        }
        table
    }

    /// The settings of a table, tables within it taken as dotted keys where a row's key says so. Keys in `skip` are read elsewhere.
    fn flatten<'t, C>(
        &self,
        table: Option<&'t DeTable<'t>>,
        rows: &[Setting<C>],
        skip: &[&str],
    ) -> Vec<Found<'t>> {
        let is_prefix = |key: &str| {
            rows.iter().any(|row| {
                row.key
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with('.'))
            })
        };
        let mut found = Vec::new();
        self.flatten_into(table, "", &is_prefix, &mut found);
        found.retain(|entry| !skip.contains(&entry.key.as_str()));
        found
    }

    fn flatten_into<'t>(
        &self,
        table: Option<&'t DeTable<'t>>,
        prefix: &str,
        is_prefix: &dyn Fn(&str) -> bool,
        found: &mut Vec<Found<'t>>,
    ) {
        for (name, value) in table.into_iter().flatten() {
            let key = format!("{prefix}{}", name.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if is_prefix(&key) => {
                    self.flatten_into(Some(inner), &format!("{key}."), is_prefix, found);
                }
                value => found.push(Found {
                    place: self.place(name.span().start),
                    key,
                    value,
                }),
            }
        }
    }

    /// Applies what the file and the variables say about `rows`.
    fn settings<C>(
        &mut self,
        scope: &Scope,
        rows: &[Setting<C>],
        entries: &[Found<'_>],
        target: &mut C,
    ) {
        for entry in entries {
            if !rows.iter().any(|row| row.key == entry.key) {
                let fix = self.suggest_key(&entry.key, rows.iter().map(|row| row.key));
                self.error(
                    entry.place.clone(),
                    &scope.key(&entry.key),
                    "unknown key".to_owned(),
                    fix,
                );
            }
        }
        for row in rows {
            let key = scope.key(row.key);
            let written = entries
                .iter()
                .find(|entry| entry.key == row.key)
                .map(|entry| (entry.place.clone(), raw(entry.value)));
            let Some((place, raw)) = self.overridden(scope.variable(row.key), written) else {
                continue;
            };
            self.places.insert(key.clone(), place.clone());
            let outcome = row.kind.read(&raw).and_then(|value| {
                (row.apply)(target, value)
                    .map_err(|message| (message, format!("write {}", row.kind.expectation())))
            });
            if let Err((message, fix)) = outcome {
                self.error(place, &key, message, fix);
            }
        }
    }

    /// What a variable says, else what was written in the file.
    fn overridden(
        &mut self,
        variable: String,
        written: Option<(Place, Raw)>,
    ) -> Option<(Place, Raw)> {
        let outcome = match self.variables.remove(&variable) {
            Some(value) => Some((Place::Environment(variable.clone()), Raw::Variable(value))),
            None => written,
        };
        self.known_variables.push(variable);
        outcome
    }

    fn suggest_key<'k>(&self, key: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
        if let Some(near) = nearest(key, known.clone()) {
            return format!("did you mean {near:?}?");
        }
        let home = SECTIONS
            .iter()
            .find(|section| section.settings.iter().any(|setting| setting.key == key));
        match home {
            Some(section) => format!("it belongs under [{}]", section.name),
            None => format!("the keys here are {}", known.collect::<Vec<_>>().join(", ")),
        }
    }

    /// `[topic-defaults]`: Kafka's names, which hold dots, quoted or not; sizes and durations may carry units.
    fn topic_defaults(&mut self, document: &DeTable<'_>, config: &mut Config) {
        let scope = Scope::new(&["topic-defaults"]);
        let table = self.table(document, "topic-defaults");
        let mut entries = Vec::new();
        self.flatten_into(table, "", &|_| true, &mut entries);
        for entry in &entries {
            if !topic_settings()
                .iter()
                .any(|setting| setting.name == entry.key)
            {
                let fix = self.suggest_key(
                    &entry.key,
                    topic_settings().iter().map(|setting| setting.name),
                );
                self.error(
                    entry.place.clone(),
                    &scope.key(&entry.key),
                    "unknown topic setting".to_owned(),
                    fix,
                );
            }
        }
        for setting in topic_settings() {
            let written = entries
                .iter()
                .find(|entry| entry.key == setting.name)
                .map(|entry| (entry.place.clone(), raw(entry.value)));
            let Some((place, raw)) = self.overridden(scope.variable(setting.name), written) else {
                continue;
            };
            let key = scope.key(setting.name);
            self.places.insert(key.clone(), place.clone());
            let outcome = topic_text(&raw, setting.kind.unit())
                .and_then(|text| config.topic_defaults.set(setting.name, &text));
            if let Err(message) = outcome {
                self.error(place, &key, message, String::new());
            }
        }
    }

    fn preload(&mut self, document: &DeTable<'_>, config: &mut Config) {
        let plugins = document
            .get("plugins")
            .and_then(|table| table.get_ref().as_table());
        let Some((key, preload)) = plugins.and_then(|table| table.get_key_value("preload")) else {
            return;
        };
        let place = self.place(key.span().start);
        let Some(table) = preload.get_ref().as_table() else {
            let fix = "write [plugins.preload.NAME] on a line of its own, and file = \"…\" below"
                .to_owned();
            self.error(
                place,
                "plugins.preload",
                "expected a section for each plugin".to_owned(),
                fix,
            );
            return;
        };
        for (name, entry) in table {
            let name_text: &str = name.get_ref();
            let scope = Scope::new(&["plugins", "preload", name_text]);
            let place = self.place(name.span().start);
            self.places.insert(scope.keys.clone(), place.clone());
            let Some(entry) = entry.get_ref().as_table() else {
                let fix = format!(
                    "write [plugins.preload.{name_text}] on a line of its own, and file = \"…\" below"
                );
                self.error(place, &scope.keys, "expected a section".to_owned(), fix);
                continue;
            };
            let mut plugin = PreloadPlugin::default();
            let entries = self.flatten(Some(entry), PRELOAD, &[]);
            self.settings(&scope, PRELOAD, &entries, &mut plugin);
            config.plugins.preload.insert(name_text.to_owned(), plugin);
        }
    }

    fn listeners(&mut self, document: &DeTable<'_>, config: &mut Config) {
        let Some((key, value)) = document.get_key_value("listener") else {
            self.listener("plain", None, listener::Written::plain(), config);
            return;
        };
        let Some(tables) = value.get_ref().as_array() else {
            let place = self.place(key.span().start);
            let fix = "write [[listener]], with two brackets on each side, once for each listener"
                .to_owned();
            self.error(
                place,
                "listener",
                "expected a list of listeners".to_owned(),
                fix,
            );
            return;
        };
        for (index, table) in tables.iter().enumerate() {
            let name = match table.get_ref().get("name").map(Spanned::get_ref) {
                Some(DeValue::String(name)) if !name.is_empty() => name.to_string(),
                _ => format!("#{}", index + 1),
            };
            let place = self.place(table.span().start);
            self.places.insert(format!("listener.{name}"), place);
            self.listener(
                &name,
                table.get_ref().as_table(),
                listener::Written::default(),
                config,
            );
        }
    }

    fn listener(
        &mut self,
        name: &str,
        table: Option<&DeTable<'_>>,
        mut written: listener::Written,
        config: &mut Config,
    ) {
        let scope = Scope::new(&["listener", name]);
        let errors_before = self.errors.len();
        let entries = self.flatten(table, listener::SETTINGS, &[]);
        self.settings(&scope, listener::SETTINGS, &entries, &mut written);
        if self.errors.len() > errors_before {
            return;
        }
        match written.validate() {
            Ok(listener) => config.listeners.push(listener),
            Err(wrong) => {
                for (key, message, fix) in wrong {
                    let key = scope.key(key);
                    let place = self
                        .places
                        .get(&key)
                        .cloned()
                        .unwrap_or_else(|| self.nearest_place(&key));
                    self.error(place, &key, message, fix);
                }
            }
        }
    }

    fn unknown_variables(&mut self) {
        for variable in std::mem::take(&mut self.variables).into_keys() {
            let known = self
                .known_variables
                .iter()
                .map(String::as_str)
                .chain(COMMAND_VARIABLES.iter().copied());
            let fix = match nearest(&variable, known) {
                Some(near) => format!("did you mean {near}?"),
                None if variable.starts_with("TIDEGATE_LISTENER_") => {
                    "a variable changes a setting of a listener that the file names: TIDEGATE_LISTENER_<NAME>_<SETTING>".to_owned()
                }
                None => "`tidegate config reference` lists the variables; unset this one".to_owned(),
            };
            self.error(
                Place::Environment(variable),
                "",
                "unknown variable".to_owned(),
                fix,
            );
        }
    }
}

/// What a listener named by the reader is called in keys.
pub(super) fn listener_key(listener: &ListenerConfig, key: &str) -> String {
    format!("listener.{}.{key}", listener.name)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Raw::Other("a number that is too large"), Raw::Integer),
        DeValue::Float(float) => Raw::Float(float.as_str().to_owned()),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(table) => Raw::Map(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), raw(value.get_ref())))
                .collect(),
        ),
    }
}

/// A topic setting as Kafka would be given it.
fn topic_text(raw: &Raw, unit: Unit) -> Result<String, String> {
    let unitless = |text: &str| match unit {
        Unit::Bytes => units::parse_size(text).ok().map(|bytes| bytes.to_string()),
        Unit::Milliseconds => units::parse_duration(text)
            .ok()
            .map(|milliseconds| milliseconds.to_string()),
        Unit::None => None,
    };
    match raw {
        Raw::Text(text) | Raw::Variable(text) => Ok(unitless(text).unwrap_or_else(|| text.clone())),
        Raw::Integer(number) => Ok(number.to_string()),
        Raw::Float(text) => Ok(text.clone()),
        Raw::Switch(on) => Ok(on.to_string()),
        Raw::List(_) => match Kind::List.read(raw) {
            Ok(super::setting::Value::List(items)) => Ok(items.join(",")),
            _ => Err("expected a text, or a list of texts".to_owned()),
        },
        Raw::Map(_) | Raw::Other(_) => {
            Err("expected a text, a number, or true or false".to_owned())
        }
    }
}
