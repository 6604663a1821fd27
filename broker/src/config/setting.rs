//! A setting is one row of a table: its key, what may be written for it, why it exists, and the field it sets. Reading,
//! bounds, environment variables, the example file and the reference all derive from the rows; a default stands only in
//! the `Default` of its struct.

use std::collections::BTreeMap;

use super::units;

/// What may be written for a setting. Bounds are inclusive: bytes for `Size`, milliseconds for `Duration`.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Count {
        min: u64,
        max: u64,
    },
    Size {
        min: u64,
        max: u64,
    },
    Duration {
        min: u64,
        max: u64,
    },
    Switch,
    Text,
    Path,
    /// An IP address and port.
    Address,
    /// A host name or IP address, and a port.
    HostPort,
    Choice(&'static [&'static str]),
    /// A list of texts.
    List,
    /// A list of words out of these.
    ChoiceList(&'static [&'static str]),
    /// A table of texts.
    Map,
}

/// A value as it was written, before its kind is known to fit.
#[derive(Clone, Debug)]
pub enum Raw {
    Text(String),
    Integer(i64),
    /// Digits as they were written.
    Float(String),
    Switch(bool),
    List(Vec<Raw>),
    Map(BTreeMap<String, Raw>),
    /// From the environment, where everything is text.
    Variable(String),
    /// A TOML type that no setting takes.
    Other(&'static str),
}

/// A value that fits its kind.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Number(u64),
    Switch(bool),
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

/// What was wrong with a value, and the fix (may be empty).
pub type Wrong = (String, String);

/// One row: a setting of `C`.
pub struct Setting<C: 'static> {
    pub key: &'static str,
    pub kind: Kind,
    /// What it does, why one would change it and what that costs.
    pub doc: &'static str,
    /// For a setting without a default: what one might write, as TOML.
    pub example: &'static str,
    pub apply: fn(&mut C, Value) -> Result<(), String>,
    /// `None`: not set.
    pub show: fn(&C) -> Option<Value>,
}

/// A row: the field's path, the key, the kind, and what it is for.
macro_rules! setting {
    ($($field:ident).+, $key:literal, $kind:expr, $doc:literal) => {
        setting!($($field).+, $key, $kind, $doc, example: "")
    };
    ($($field:ident).+, $key:literal, $kind:expr, $doc:literal, example: $example:literal) => {
        $crate::config::setting::Setting {
            key: $key,
            kind: $kind,
            doc: $doc,
            example: $example,
            apply: |target, value| {
                target.$($field).+ = $crate::config::field::Field::from_value(value)?;
                Ok(())
            },
            show: |target| $crate::config::field::Field::to_value(&target.$($field).+),
        }
    };
}
pub(super) use setting;

impl Kind {
    /// What is expected, in words.
    pub fn expectation(&self) -> String {
        match self {
            Kind::Count { min, max } => format!("a number from {min} to {max}"),
            Kind::Size { min, max } => {
                format!("a size from {} to {}", units::size(*min), units::size(*max))
            }
            Kind::Duration { min, max } => format!(
                "a duration from {} to {}",
                units::duration(*min),
                units::duration(*max)
            ),
            Kind::Switch => "true or false".to_owned(),
            Kind::Text => "a text".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Address => "an IP address and port".to_owned(),
            Kind::HostPort => "a host and port".to_owned(),
            Kind::Choice(names) => format!("one of {}", quoted(names)),
            Kind::List => "a list of texts".to_owned(),
            Kind::ChoiceList(names) => format!("a list out of {}", quoted(names)),
            Kind::Map => "a table of texts".to_owned(),
        }
    }

    /// What one would write, for the fix of a wrong value.
    fn sample(&self) -> &'static str {
        match self {
            Kind::Count { .. } => "a whole number without quotes, such as 4",
            Kind::Size { .. } => "bytes as a number, or a text such as \"128MiB\"",
            Kind::Duration { .. } => "a text with a unit, such as \"10s\" or \"500ms\"",
            Kind::Switch => "true or false, without quotes",
            Kind::Text | Kind::Choice(_) | Kind::Path => "a text in quotes",
            Kind::Address => "a text such as \"127.0.0.1:9092\"",
            Kind::HostPort => "a text such as \"broker.example:9092\"",
            Kind::List | Kind::ChoiceList(_) => "a list of texts, such as [\"one\", \"two\"]",
            Kind::Map => "a table of texts, such as { key = \"value\" }",
        }
    }

    /// Reads what was written: type, unit and bounds.
    pub fn read(&self, raw: &Raw) -> Result<Value, Wrong> {
        let value = match (self, raw) {
            (Kind::Count { .. }, Raw::Integer(number)) => self.number(i128::from(*number))?,
            (Kind::Count { .. }, Raw::Variable(text)) => {
                self.number(text.trim().parse().map_err(|_| self.mistyped(raw))?)?
            }
            (Kind::Size { .. }, Raw::Integer(number)) => self.number(i128::from(*number))?,
            (Kind::Size { .. }, Raw::Text(text) | Raw::Variable(text)) => self.number(
                units::parse_size(text)
                    .map_err(|message| self.unit(text, message))?
                    .into(),
            )?,
            (Kind::Duration { .. }, Raw::Text(text) | Raw::Variable(text)) => self.number(
                units::parse_duration(text)
                    .map_err(|message| self.unit(text, message))?
                    .into(),
            )?,
            (Kind::Switch, Raw::Switch(on)) => Value::Switch(*on),
            (Kind::Switch, Raw::Variable(text)) => {
                Value::Switch(text.trim().parse().map_err(|_| self.mistyped(raw))?)
            }
            (
                Kind::Text | Kind::Path | Kind::Address | Kind::HostPort,
                Raw::Text(text) | Raw::Variable(text),
            ) => Value::Text(text.clone()),
            (Kind::Choice(names), Raw::Text(text) | Raw::Variable(text)) => {
                Value::Text(choice(names, text)?)
            }
            (Kind::List | Kind::ChoiceList(_), _) => Value::List(self.list(raw)?),
            (Kind::Map, _) => Value::Map(self.map(raw)?),
            _ => return Err(self.mistyped(raw)),
        };
        Ok(value)
    }

    fn number(&self, number: i128) -> Result<Value, Wrong> {
        let (Kind::Count { min, max } | Kind::Size { min, max } | Kind::Duration { min, max }) =
            *self
        else {
            return Err((format!("expected {}", self.expectation()), String::new()));
        };
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Number(number)),
            _ => {
                let near = if number < i128::from(min) { min } else { max };
                Err((
                    format!("out of bounds: expected {}", self.expectation()),
                    format!(
                        "the nearest that is allowed is {}",
                        self.render(&Value::Number(near))
                    ),
                ))
            }
        }
    }

    fn list(&self, raw: &Raw) -> Result<Vec<String>, Wrong> {
        let items = match raw {
            Raw::List(items) => items
                .iter()
                .map(|item| match item {
                    Raw::Text(text) => Ok(text.clone()),
                    other => Err(self.mistyped(other)),
                })
                .collect::<Result<Vec<_>, _>>()?,
            Raw::Variable(text) => text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
            _ => return Err(self.mistyped(raw)),
        };
        match self {
            Kind::ChoiceList(names) => items.iter().map(|item| choice(names, item)).collect(),
            _ => Ok(items),
        }
    }

    fn map(&self, raw: &Raw) -> Result<BTreeMap<String, String>, Wrong> {
        match raw {
            Raw::Map(entries) => entries
                .iter()
                .map(|(key, value)| match value {
                    Raw::Text(text) => Ok((key.clone(), text.clone())),
                    other => Err((
                        format!(
                            "the value of {key} is {}; expected a text",
                            other.type_name()
                        ),
                        "put the value in quotes".to_owned(),
                    )),
                })
                .collect(),
            Raw::Variable(text) => text
                .split(',')
                .filter(|entry| !entry.trim().is_empty())
                .map(|entry| {
                    let (key, value) = entry.split_once('=').ok_or_else(|| {
                        (
                            "an entry has no equals sign".to_owned(),
                            "write key=value, entries separated by commas".to_owned(),
                        )
                    })?;
                    Ok((key.trim().to_owned(), value.trim().to_owned()))
                })
                .collect(),
            _ => Err(self.mistyped(raw)),
        }
    }

    fn mistyped(&self, raw: &Raw) -> Wrong {
        let fix = match raw {
            Raw::Variable(_) => format!("set it to {}", self.expectation()),
            _ => format!("write {}", self.sample()),
        };
        (
            format!("is {}; expected {}", raw.type_name(), self.expectation()),
            fix,
        )
    }

    fn unit(&self, text: &str, message: String) -> Wrong {
        (
            format!("{text:?} is not understood: {message}"),
            format!("write {}", self.sample()),
        )
    }

    /// The value as one would write it in TOML.
    pub fn render(&self, value: &Value) -> String {
        match (self, value) {
            (Kind::Size { .. }, Value::Number(bytes)) => format!("{:?}", units::size(*bytes)),
            (Kind::Duration { .. }, Value::Number(milliseconds)) => {
                format!("{:?}", units::duration(*milliseconds))
            }
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Switch(on)) => on.to_string(),
            (_, Value::Text(text)) => toml_text(text),
            (_, Value::List(items)) => {
                let items: Vec<_> = items.iter().map(|item| toml_text(item)).collect();
                format!("[{}]", items.join(", "))
            }
            (_, Value::Map(entries)) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{} = {}", toml_text(key), toml_text(value)))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

impl Raw {
    fn type_name(&self) -> &'static str {
        match self {
            Raw::Text(_) => "a text",
            Raw::Integer(_) => "a number",
            Raw::Float(_) => "a number with a fraction",
            Raw::Switch(_) => "true or false",
            Raw::List(_) => "a list",
            Raw::Map(_) => "a table",
            Raw::Variable(_) => "something else",
            Raw::Other(name) => name,
        }
    }
}

fn choice(names: &[&str], text: &str) -> Result<String, Wrong> {
    match names
        .iter()
        .find(|name| name.eq_ignore_ascii_case(text.trim()))
    {
        Some(name) => Ok((*name).to_owned()),
        None => Err((
            format!("{text:?} is not known: expected one of {}", quoted(names)),
            super::error::nearest(text, names.iter().copied())
                .map(|name| format!("did you mean {name:?}?"))
                .unwrap_or_default(),
        )),
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

/// A text as a basic TOML string.
pub fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
