//! The top level is fixed: a newcomer sees the whole project on one screen.

use std::collections::BTreeSet;

use crate::{paths, report};

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".config",
    ".deny.toml",
    ".gitattributes",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "broker",
    "plugins",
    "rust-toolchain.toml",
    "sdk",
    "tests",
    "wit",
];

fn complaints(paths: &[String]) -> Vec<String> {
    let top: BTreeSet<&str> = paths
        .iter()
        .map(|path| path.split('/').next().unwrap_or(path))
        .collect();
    let strays = top.into_iter().filter(|name| !TOP_LEVEL.contains(name));
    strays
        .map(|name| format!("{name} does not belong at the top level"))
        .collect()
}

#[test]
fn the_top_level_has_no_stray_file() {
    report(
        complaints(&paths()),
        "The list in tests/tidy/layout.rs is the whole top level.",
    );
}

#[test]
fn a_stray_file_is_found() {
    let found = complaints(&["notes.md".to_owned(), "broker/notes.md".to_owned()]);
    assert_eq!(found, ["notes.md does not belong at the top level"]);
}
