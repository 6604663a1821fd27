//! Relative links of every Markdown file lead to a file or folder that exists.

use std::path::Path;

use harness::repository_root;

use crate::{Source, report, sources};

/// The targets of `[text](target)` outside code, with their lines.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second piece between backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for piece in prose.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push((index + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The file that a link names, without its fragment and title; `None` when it leaves the repository.
fn file_of(target: &str) -> Option<&str> {
    let elsewhere = ["http:", "https:", "mailto:", "#"];
    if elsewhere.iter().any(|start| target.starts_with(start)) {
        return None;
    }
    target.split(['#', ' ']).next()
}

fn complaints(source: &Source, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    let mut complaints = Vec::new();
    for (line, target) in targets(&source.text) {
        if let Some(file) = file_of(&target)
            && !exists(&folder.join(file))
        {
            complaints.push(format!("{}:{line}: {target} leads nowhere", source.path));
        }
    }
    complaints
}

#[test]
fn relative_links_lead_somewhere() {
    let exists = |path: &Path| repository_root().join(path).exists();
    let sources = sources(".md");
    report(
        sources
            .iter()
            .flat_map(|source| complaints(source, exists))
            .collect(),
        "Links are relative to the file that they stand in.",
    );
}

#[test]
fn a_dead_link_is_found() {
    let source = Source {
        path: "docs/a.md".into(),
        text: "[x](b.md#part) [y](../c.md) [z](https://example.org)\n`[no](link)`\n```\n[no](link)\n```\n".into(),
    };
    let found = complaints(&source, |path| path == Path::new("docs/b.md"));
    assert_eq!(found, ["docs/a.md:1: ../c.md leads nowhere"]);
}
