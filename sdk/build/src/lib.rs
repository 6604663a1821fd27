//! Builds plugins that are packages of a cargo workspace into WebAssembly components.
//!
//! The one step by which the demo, the tests, the instruction counts and the bench come to their plugins. It needs cargo and
//! the *target* [`TARGET`]: where that is not installed it is added with rustup, and where it cannot be, the error says
//! within seconds what to do, before anything is compiled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What components are compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The target is not installed and could not be added.
    #[error(
        "plugins are compiled for {TARGET}, which this Rust does not have, and rustup could not add it:\n{reason}\n  \
         with rustup: rustup target add {TARGET}\n  with the Rust of a distribution: install its package of that target's \
         standard library, or rustup (https://rustup.rs)"
    )]
    NoTarget { reason: String },
    /// Cargo does not compile them; what it says.
    #[error("the plugins {packages} could not be built:\n{reason}")]
    Cargo { packages: String, reason: String },
    /// Cargo compiled the package, and no component came of it.
    #[error(
        "cargo built no component of {package}: is it a package with crate-type = [\"cdylib\"]?"
    )]
    NoComponent { package: String },
}

/// Builds packages of the workspace at `root` in release mode; returns the file of each one's component, in their order.
/// Blocking: the first time takes a minute or so.
///
/// # Errors
/// When the target cannot be had, or a package does not compile.
pub fn build(root: &Path, packages: &[&str]) -> Result<Vec<PathBuf>, BuildError> {
    ensure_target(root)?;
    let failed = |reason| BuildError::Cargo {
        packages: packages.join(", "),
        reason,
    };
    let mut command = Command::new(tool("CARGO", "cargo"));
    command
        .current_dir(root)
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let messages = run(&mut command).map_err(failed)?;
    packages
        .iter()
        .map(|package| {
            component(&messages, package).ok_or_else(|| BuildError::NoComponent {
                package: (*package).to_owned(),
            })
        })
        .collect()
}

/// Adds the target when it is not there.
fn ensure_target(root: &Path) -> Result<(), BuildError> {
    if has_target(root) {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root).args(["target", "add", TARGET]);
    run(&mut rustup).map_err(|reason| BuildError::NoTarget { reason })?;
    Ok(())
}

/// Whether the compiler finds the target's standard library. One that cannot be asked is left to cargo to complain of.
fn has_target(root: &Path) -> bool {
    let mut rustc = Command::new(tool("RUSTC", "rustc"));
    rustc
        .current_dir(root)
        .args(["--print", "target-libdir", "--target", TARGET]);
    run(&mut rustc).map_or(true, |folder| Path::new(folder.trim()).is_dir())
}

/// The program that cargo names in a variable when it runs us.
fn tool(variable: &str, otherwise: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| otherwise.into(), PathBuf::from)
}

/// What a program printed, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The component of a package, among the messages that cargo prints with `--message-format json`.
fn component(messages: &str, package: &str) -> Option<PathBuf> {
    let name = package.replace('-', "_");
    let of_package = |message: &Value| message["target"]["name"] == *name;
    let file = |message: Value| {
        let files = message["filenames"].as_array()?;
        let mut names = files.iter().filter_map(Value::as_str);
        names
            .find(|file| file.ends_with(".wasm"))
            .map(PathBuf::from)
    };
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages.filter(of_package).filter_map(file).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_found_among_cargos_messages() {
        let messages = [
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"filenames":["/t/libserde.rlib"]}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"mask_fields"},"filenames":["/t/mask_fields.wasm"]}"#,
            "a line that is no message",
            r#"{"reason":"build-finished","success":true}"#,
        ]
        .join("\n");
        let found = component(&messages, "mask-fields");
        assert_eq!(found.as_deref(), Some(Path::new("/t/mask_fields.wasm")));
        assert_eq!(component(&messages, "serde"), None);
    }

    #[test]
    fn a_target_that_cannot_be_had_is_told_with_what_to_do() {
        let error = BuildError::NoTarget {
            reason: "rustup: No such file or directory".into(),
        };
        let told = error.to_string();
        for part in ["rustup: No such file", "rustup target add wasm32-wasip2"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_package_that_is_not_there_is_named_in_what_cargo_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let error = build(&root, &["no-such-plugin"]).expect_err("it is not there");
        assert!(error.to_string().contains("no-such-plugin"), "{error}");
    }
}
