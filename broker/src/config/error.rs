//! What was wrong with a configuration: every error at once, each with its place, its key and the fix.

use std::fmt;

/// Where a setting was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Line and column in the file, from 1.
    File { line: usize, column: usize },
    /// The name of an environment variable.
    Environment(String),
    /// Nowhere: what is wrong is that it is missing, or it concerns the file as a whole.
    Whole,
}

/// One error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub place: Place,
    /// The dotted key, such as `log.flush-lanes`; empty when the error is about no key.
    pub key: String,
    pub message: String,
    /// What to write instead; may be empty.
    pub fix: String,
}

/// Every error of one configuration, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    /// The file as the user named it.
    pub file: String,
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// One error that is about the file as a whole.
    pub fn whole(file: &str, message: String, fix: &str) -> Self {
        Self {
            file: file.to_owned(),
            errors: vec![ConfigError {
                place: Place::Whole,
                key: String::new(),
                message,
                fix: fix.to_owned(),
            }],
        }
    }
}

/// What is said of a variable that no setting has.
pub(super) const UNKNOWN_VARIABLE: &str = "unknown variable";

impl ConfigErrors {
    /// The variables that no setting has, with what to do about each.
    pub fn unknown_variables(&self) -> Vec<(String, String)> {
        let unknown = |error: &ConfigError| match &error.place {
            Place::Environment(name) if error.message == UNKNOWN_VARIABLE => {
                Some((name.clone(), error.fix.clone()))
            }
            _ => None,
        };
        self.errors.iter().filter_map(unknown).collect()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match &error.place {
                Place::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Place::Environment(variable) => write!(f, "{variable}: ")?,
                Place::Whole => write!(f, "{}: ", self.file)?,
            }
            if !error.key.is_empty() {
                write!(f, "{}: ", error.key)?;
            }
            f.write_str(&error.message)?;
            if !error.fix.is_empty() {
                write!(f, "\n    fix: {}", error.fix)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known word that was most likely meant, when one is near enough to be worth saying.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(word, candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
