//! Hygiene as a test: who imports whom, where each heavy dependency lives, sizes as a ratchet, a fixed top level, links that
//! lead somewhere, nothing left over. Each check is a function from text to complaints, and is itself tested on a sample.

mod homes;
mod layers;
mod layout;
mod leftovers;
mod links;
mod paths;
mod sizes;

use std::fs;
use std::process::Command;

use harness::repository_root;

/// A file of the repository; `path` is relative to its root, with `/`.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn parse(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// Every file that is tracked, or would be by `git add`.
fn paths() -> Vec<String> {
    let output = Command::new("git")
        .current_dir(repository_root())
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", output.status);
    let listed = String::from_utf8_lossy(&output.stdout);
    let names = listed.split('\0').filter(|name| !name.is_empty());
    // A file that was deleted and is not yet committed is still listed.
    names
        .filter(|name| repository_root().join(name).is_file())
        .map(str::to_owned)
        .collect()
}

fn sources(extension: &str) -> Vec<Source> {
    let of_kind = |path: &String| path.ends_with(extension);
    let read = |path: String| Source {
        text: fs::read_to_string(repository_root().join(&path))
            .unwrap_or_else(|error| panic!("{path}: {error}")),
        path,
    };
    paths().into_iter().filter(of_kind).map(read).collect()
}

/// Fails with every complaint at once.
fn report(complaints: Vec<String>, rule: &str) {
    assert!(
        complaints.is_empty(),
        "{} complaints. {rule}\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    );
}
