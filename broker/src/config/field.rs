//! The types that a setting's field may have, and what each makes of a value whose kind and bounds were checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::setting::Value;

/// A type that a setting's field may have.
pub trait Field: Sized {
    fn from_value(value: Value) -> Result<Self, String>;
    /// `None` when not set.
    fn to_value(&self) -> Option<Value>;
}

/// An enumeration whose variants have names in the configuration.
macro_rules! choices {
    ($type:ident, $($variant:ident: $name:literal),+ $(,)?) => {
        impl $type {
            /// The names that the configuration knows, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name that the configuration knows it by.
            pub fn config_name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The variant of a name.
            pub fn from_config_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
        impl $crate::config::field::Field for $type {
            fn from_value(value: $crate::config::setting::Value) -> Result<Self, String> {
                let name = <String as $crate::config::field::Field>::from_value(value)?;
                Self::from_config_name(&name)
                    .ok_or_else(|| format!("expected one of {}", Self::NAMES.join(", ")))
            }
            fn to_value(&self) -> Option<$crate::config::setting::Value> {
                Some($crate::config::setting::Value::Text(self.config_name().to_owned()))
            }
        }
    };
}
pub(super) use choices;

fn unexpected<T>(value: &Value) -> Result<T, String> {
    Err(format!("the value {value:?} does not fit the field"))
}

macro_rules! number_fields {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn from_value(value: Value) -> Result<Self, String> {
                match value {
                    Value::Number(number) => {
                        Self::try_from(number).map_err(|_| format!("{number} is too large"))
                    }
                    other => unexpected(&other),
                }
            }
            fn to_value(&self) -> Option<Value> {
                u64::try_from(*self).ok().map(Value::Number)
            }
        }
    )+};
}
number_fields!(u32, u64, usize, i32);

impl Field for Duration {
    fn from_value(value: Value) -> Result<Self, String> {
        u64::from_value(value).map(Duration::from_millis)
    }
    fn to_value(&self) -> Option<Value> {
        u64::try_from(self.as_millis()).ok().map(Value::Number)
    }
}

impl Field for bool {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Switch(on) => Ok(on),
            other => unexpected(&other),
        }
    }
    fn to_value(&self) -> Option<Value> {
        Some(Value::Switch(*self))
    }
}

impl Field for String {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text.trim().is_empty() => Err("must not be empty".to_owned()),
            Value::Text(text) => Ok(text),
            other => unexpected(&other),
        }
    }
    fn to_value(&self) -> Option<Value> {
        (!self.is_empty()).then(|| Value::Text(self.clone()))
    }
}

impl Field for PathBuf {
    fn from_value(value: Value) -> Result<Self, String> {
        String::from_value(value).map(PathBuf::from)
    }
    fn to_value(&self) -> Option<Value> {
        String::to_value(&self.to_string_lossy().into_owned())
    }
}

impl Field for SocketAddr {
    fn from_value(value: Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        text.trim().parse().map_err(|_| {
            format!("{text:?} is not an IP address and port, such as 127.0.0.1:9092 or [::1]:9092")
        })
    }
    fn to_value(&self) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

/// A host and a port, as clients are told it.
impl Field for (String, u16) {
    fn from_value(value: Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        let wrong = || format!("{text:?} is not a host and port, such as broker.example:9092");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let legal = !bare.is_empty()
            && bare.len() <= 253
            && bare
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
            && (!bare.contains(':') || host.starts_with('['));
        match port.parse() {
            Ok(port) if legal => Ok((bare.to_owned(), port)),
            _ => Err(wrong()),
        }
    }
    fn to_value(&self) -> Option<Value> {
        let (host, port) = self;
        Some(Value::Text(if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }))
    }
}

/// An empty text unsets.
impl<T: Field> Field for Option<T> {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text.trim().is_empty() => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(T::to_value)
    }
}

impl<T: Field> Field for Vec<T> {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::List(items) => items
                .into_iter()
                .map(|item| T::from_value(Value::Text(item)))
                .collect(),
            other => unexpected(&other),
        }
    }
    fn to_value(&self) -> Option<Value> {
        let texts = self.iter().filter_map(|item| match item.to_value() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        });
        Some(Value::List(texts.collect()))
    }
}

impl Field for BTreeMap<String, String> {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Map(entries) => Ok(entries),
            other => unexpected(&other),
        }
    }
    fn to_value(&self) -> Option<Value> {
        Some(Value::Map(self.clone()))
    }
}
