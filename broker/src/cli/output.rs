//! What commands print: a table for people, JSON for machines.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use serde_json::Value;

use super::CliError;

/// Rows under headings, printed as a table or, with `json`, as an array of objects keyed by the headings.
#[derive(Debug)]
pub struct Listing {
    headings: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Listing {
    pub fn new(headings: &'static [&'static str]) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    /// One value for each heading.
    pub fn row(&mut self, values: Vec<Value>) {
        self.rows.push(values);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Value>| {
            let fields = self.headings.iter().zip(row);
            fields
                .map(|(heading, value)| ((*heading).to_owned(), value.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        self.rows.iter().map(object).collect::<Vec<Value>>().into()
    }

    fn to_table(&self, terminal: bool) -> String {
        let mut table = Table::new();
        // Without lines, what is piped on can be cut by columns.
        table.load_style(if terminal {
            presets::UTF8_HORIZONTAL_ONLY
        } else {
            presets::NOTHING
        });
        table.set_header(self.headings.iter().map(|heading| heading.to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(cell));
        }
        table.trim_fmt()
    }

    pub fn print(&self, json: bool) -> Result<(), CliError> {
        if json {
            print_json(&self.to_json())
        } else {
            print_line(&self.to_table(io::stdout().is_terminal()))
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

pub fn print_json(value: &Value) -> Result<(), CliError> {
    print_line(&format!("{value:#}"))
}

pub fn print_line(line: &str) -> Result<(), CliError> {
    written(writeln!(io::stdout().lock(), "{line}"))
}

/// A reader that has enough (`| head`) ends the command without a complaint.
pub fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(CliError::new(format!("standard output: {error}"))),
    }
}

/// `1 record`, `2 records`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing() -> Listing {
        let mut listing = Listing::new(&["topic", "partitions"]);
        listing.row(vec![json!("orders"), json!(12)]);
        listing.row(vec![json!("a"), Value::Null]);
        listing
    }

    #[test]
    fn json_has_the_headings_as_keys() {
        assert_eq!(
            listing().to_json(),
            json!([{"topic": "orders", "partitions": 12}, {"topic": "a", "partitions": null}])
        );
    }

    #[test]
    fn a_piped_table_is_columns_alone() {
        let table = listing().to_table(false);
        let words: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words,
            [
                vec!["TOPIC", "PARTITIONS"],
                vec!["orders", "12"],
                vec!["a", "-"]
            ]
        );
    }
}
