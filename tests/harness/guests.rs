//! Plugins built for the broker by cargo, each once a test run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// The component that cargo builds of a workspace package.
///
/// # Panics
/// When it does not build; the message says why and what to do.
pub fn build_guest(package: &str) -> PathBuf {
    // The lock is held while cargo runs: a second cargo would only wait for the first.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(package) {
        return path.clone();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let component = tidegate_plugin_build::build(&root, &[package])
        .unwrap_or_else(|error| panic!("{error}"))
        .remove(0);
    built.insert(package.to_owned(), component.clone());
    component
}
