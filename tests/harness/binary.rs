//! Where the binary under test is: the one that `TIDEGATE_BIN` names, or the workspace's own, built before its first use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository, whichever directory the test was started from.
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package stands in the repository's root")
}

/// Cargo's target directory: the one that this test binary was built into.
pub fn target_directory() -> PathBuf {
    profile_directory()
        .parent()
        .expect("a profile's directory stands in the target directory")
        .to_owned()
}

/// `target/debug` or `target/release`: test binaries stand in its `deps`.
fn profile_directory() -> PathBuf {
    let test_binary = std::env::current_exe().expect("a running test has a path");
    test_binary
        .ancestors()
        .nth(2)
        .expect("cargo puts test binaries into target/PROFILE/deps")
        .to_owned()
}

/// The path of the `tidegate` binary, built with the profile that the running test was built with.
///
/// # Panics
/// When it does not build: no test could say anything of value then.
pub fn tidegate_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("TIDEGATE_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let directory = profile_directory();
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace is selected, so that features resolve as they did for the tests and nothing is compiled twice.
    let status = Command::new(cargo)
        .current_dir(repository_root())
        .args(["build", "--quiet", "--workspace", "--bin", "tidegate"])
        .args(["--profile", profile])
        .env("CARGO_TARGET_DIR", target_directory())
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "the tidegate binary does not build: {status}"
    );
    directory.join(format!("tidegate{}", std::env::consts::EXE_SUFFIX))
}
