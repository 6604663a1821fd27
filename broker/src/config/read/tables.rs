//! The tables that are no plain section: topic defaults, preloaded plugins, listeners.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Reader, Scope, raw};
use crate::config::plugins::{PRELOAD, PreloadPlugin};
use crate::config::setting::{Kind, Raw, Value};
use crate::config::topic::{Unit, topic_settings};
use crate::config::{Config, listener, units};

impl Reader<'_> {
    /// `[topic-defaults]`: Kafka's names, which hold dots, quoted or not; sizes and durations may carry units.
    pub(super) fn topic_defaults(&mut self, document: &DeTable<'_>, config: &mut Config) {
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

    pub(super) fn preload(&mut self, document: &DeTable<'_>, config: &mut Config) {
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

    pub(super) fn listeners(&mut self, document: &DeTable<'_>, config: &mut Config) {
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
            Ok(Value::List(items)) => Ok(items.join(",")),
            _ => Err("expected a text, or a list of texts".to_owned()),
        },
        Raw::Map(_) | Raw::Other(_) => {
            Err("expected a text, a number, or true or false".to_owned())
        }
    }
}
