//! One API is one row of the table, one handler file, one protocol test: none of the three without the others.

use std::collections::BTreeSet;

use tidegate::kafka::apis::APIS;

use crate::{paths, report};

const HANDLERS: &str = "broker/src/kafka/handlers/";
const TESTS: &str = "tests/protocol/";
/// Files of the two folders that are no API's.
const SHARED: &[&str] = &[
    "acknowledged",
    "authorization",
    "command_line",
    "existence",
    "main",
    "mod",
    "support",
    "tagged_fields",
    "topic_settings",
    "transactions",
    "wire",
];

/// `InitProducerId` → `init_producer_id`.
fn file_name(api: &str) -> String {
    let mut name = String::new();
    for letter in api.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// Names of the files in a folder, without `.rs`.
fn files_in(folder: &str, paths: &[String]) -> BTreeSet<String> {
    let inside = paths
        .iter()
        .filter_map(|path| path.strip_prefix(folder)?.strip_suffix(".rs"));
    inside
        .filter(|name| !name.contains('/') && !SHARED.contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_api_has_a_row_a_handler_and_a_test() {
    let rows: BTreeSet<String> = APIS.iter().map(|api| file_name(api.name)).collect();
    let paths = paths();
    let mut complaints = Vec::new();
    for folder in [HANDLERS, TESTS] {
        let files = files_in(folder, &paths);
        for row in rows.difference(&files) {
            complaints.push(format!("{row} has a row, and no {folder}{row}.rs"));
        }
        for file in files.difference(&rows) {
            complaints.push(format!("{folder}{file}.rs has no row"));
        }
    }
    report(complaints, "The table is broker/src/kafka/apis.rs.");
}

#[test]
fn file_names_follow_the_protocols() {
    assert_eq!(file_name("InitProducerId"), "init_producer_id");
}
