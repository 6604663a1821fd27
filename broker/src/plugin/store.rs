//! Where deployed plugins outlive the process: their entries in the catalog, their components in files named by their digest.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::catalog::{Catalog, PluginEntry};
use crate::env::files;

/// What the host needs of the catalog. Errors are texts: nothing but telling them can be done about them here.
pub trait RevisionStore: Debug + Send + Sync {
    fn entries(&self) -> Vec<Arc<PluginEntry>>;
    /// Durable when it returns.
    fn put(&self, entry: PluginEntry) -> Result<(), String>;
    fn delete(&self, name: &str) -> Result<(), String>;
    /// Something that names this plugin in its settings and would fail without it.
    fn user_of(&self, name: &str) -> Option<String>;
}

impl RevisionStore for Catalog {
    fn entries(&self) -> Vec<Arc<PluginEntry>> {
        self.plugins()
    }

    fn put(&self, entry: PluginEntry) -> Result<(), String> {
        self.put_plugin(entry).map_err(|error| error.to_string())
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        self.delete_plugin(name).map_err(|error| error.to_string())
    }

    fn user_of(&self, name: &str) -> Option<String> {
        let topics = self.topics();
        let user = topics.iter().find(|topic| {
            ["tidegate.partitioner", "tidegate.transform"]
                .iter()
                .filter_map(|setting| topic.configs.get(*setting))
                .flat_map(|names| names.split(','))
                .any(|named| named.trim() == name)
        })?;
        Some(format!("topic {}", user.name))
    }
}

/// The folder of components. A file is written whole or not at all, and read only if it still has its digest.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
}

impl Artifacts {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// SHA-256 in hexadecimal.
    pub fn digest(component: &[u8]) -> String {
        use std::fmt::Write;
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(component) {
            // Writing to a string does not fail.
            let _ = write!(digest, "{byte:02x}");
        }
        digest
    }

    pub fn put(&self, digest: &str, component: &[u8]) -> Result<(), String> {
        let path = self.path(digest);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if self.get(digest).is_ok() {
            return Ok(());
        }
        files::create_private_folders(&self.directory).map_err(failed)?;
        let unfinished = path.with_extension("unfinished");
        let mut file = files::create_private(&unfinished).map_err(failed)?;
        file.write_all(component).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        let directory = File::open(&self.directory).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }

    pub fn get(&self, digest: &str) -> Result<Vec<u8>, String> {
        let path = self.path(digest);
        let component = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if Self::digest(&component) != digest {
            return Err(format!(
                "{} is damaged: its content has another digest",
                path.display()
            ));
        }
        Ok(component)
    }

    /// Deletes the components of no kept revision. Failing to is no harm: the next time tries again.
    pub fn retain(&self, digests: &BTreeSet<&str>) {
        let Ok(files) = fs::read_dir(&self.directory) else {
            return;
        };
        for file in files.flatten() {
            let path = file.path();
            let kept = |path: &Path| {
                path.file_stem()
                    .and_then(|stem| stem.to_str())
                    .is_some_and(|stem| digests.contains(stem))
            };
            let unused = match path.extension().and_then(|extension| extension.to_str()) {
                Some("wasm") => !kept(&path),
                Some("unfinished") => true,
                _ => false,
            };
            if unused && let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an unused plugin file stays");
            }
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}.wasm"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_comes_back_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(directory.path().join("plugins"));
        let digest = Artifacts::digest(b"component");
        assert!(artifacts.get(&digest).is_err());
        artifacts.put(&digest, b"component").unwrap();
        assert_eq!(artifacts.get(&digest).unwrap(), b"component");

        fs::write(artifacts.path(&digest), b"cOmponent").unwrap();
        assert!(artifacts.get(&digest).unwrap_err().contains("damaged"));
        artifacts.put(&digest, b"component").unwrap();
        assert_eq!(artifacts.get(&digest).unwrap(), b"component");

        let other = Artifacts::digest(b"other");
        artifacts.put(&other, b"other").unwrap();
        artifacts.retain(&BTreeSet::from([other.as_str()]));
        assert!(artifacts.get(&digest).is_err());
        assert!(artifacts.get(&other).is_ok());
    }
}
