//! From what was written (one TOML file, `TIDEGATE_…` variables) to typed values, with the place of every setting kept so
//! that an error can name it. A variable wins over the file.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place, UNKNOWN_VARIABLE, nearest};
use super::listener::ListenerConfig;
use super::setting::{Raw, Setting};

use super::{Config, SECTIONS};

/// Every variable of the configuration begins with this.
const PREFIX: &str = "TIDEGATE_";

/// Variables that change a listener begin with this.
pub(super) const LISTENER_VARIABLES: &str = "TIDEGATE_LISTENER_";

/// Variables with the prefix that the commands read for themselves. `TIDEGATE_ADMIN_TOKEN_FILE` is not among them: for
/// commands and broker it is the same file.
pub const COMMAND_VARIABLES: &[&str] = &[
    "TIDEGATE_ADMIN",
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

    fn unknown_variables(&mut self) {
        for variable in std::mem::take(&mut self.variables).into_keys() {
            // The prefix that all share would make every two variables alike.
            let bare = |name| str::strip_prefix(name, PREFIX).unwrap_or(name);
            let settings = self.known_variables.iter().map(String::as_str);
            let known = settings.chain(COMMAND_VARIABLES.iter().copied()).map(bare);
            let fix = match nearest(bare(&variable), known) {
                Some(near) => format!("did you mean {PREFIX}{near}?"),
                None if variable.starts_with(LISTENER_VARIABLES) => {
                    "a variable changes a setting of a listener that the file names: TIDEGATE_LISTENER_<NAME>_<SETTING>".to_owned()
                }
                None => "`tidegate config reference` lists the variables; unset this one".to_owned(),
            };
            self.error(
                Place::Environment(variable),
                "",
                UNKNOWN_VARIABLE.to_owned(),
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
