//! Secrets that the broker makes for itself, and keeps in files of its data folder.
//!
//! A secret is one line of 64 hexadecimal digits in a file that its owner alone may read (0600). It is made at the first
//! start and stays until somebody removes the file. A file that others could have read or written holds no secret: it is
//! replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::read_token;
use crate::env::random_bytes;

/// The secret's file in `folder`, made when it is not there. Blocking. The message never holds the secret.
pub fn kept(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let path = folder.join(name);
    match usable(&path) {
        Ok(true) => return Ok(path),
        Ok(false) => {}
        Err(reason) => {
            tracing::warn!(file = %path.display(), reason, "a secret is replaced by a new one");
        }
    }
    write(&folder, &path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Whether the file holds a secret; false when there is none. `Err` says why what is there cannot be trusted.
fn usable(path: &Path) -> Result<bool, String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err("others than its owner may open it".to_owned());
    }
    read_token(path).map(|_| true)
}

/// Under another name first: a reader sees the old file, none, or the whole new one.
fn write(folder: &Path, path: &Path) -> io::Result<()> {
    let text: String = random_bytes::<32>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("the file").permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = kept(folder.path(), "it").expect("made");
        let first = fs::read_to_string(&path).expect("read");
        assert_eq!((first.trim().len(), mode(&path)), (64, 0o600));
        assert_eq!(kept(folder.path(), "it").expect("kept"), path);
        assert_eq!(fs::read_to_string(&path).expect("read"), first);
        let other = kept(folder.path(), "other").expect("made");
        assert_ne!(fs::read_to_string(&other).expect("read"), first);
        let entries = fs::read_dir(folder.path()).expect("listed");
        assert_eq!(entries.count(), 2, "nothing is left of the writing");
    }

    #[test]
    fn what_others_could_read_or_write_is_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("it");
        let known = "0123456789abcdef0123456789abcdef";
        let replaced = || {
            kept(folder.path(), "it").expect("replaced");
            let text = fs::read_to_string(&path).expect("read");
            assert_ne!(text.trim(), known);
            assert_eq!(mode(&path), 0o600);
            fs::remove_file(&path).expect("removed");
        };
        fs::write(&path, known).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        replaced();

        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, known).expect("written");
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).expect("changed");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        replaced();
        assert_eq!(fs::read_to_string(&elsewhere).expect("read"), known);

        fs::write(&path, "short").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        replaced();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("missing");
        let error = kept(&missing, "it").expect_err("no folder");
        assert!(
            error.contains("cannot write") && error.contains("missing/it"),
            "{error}"
        );
    }
}
