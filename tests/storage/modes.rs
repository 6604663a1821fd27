//! What the broker keeps is its owner's alone: folders 0700 and files 0600, whatever the umask is and whatever was there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::{Broker, batch};

/// Becomes the broker with this umask.
fn with_umask(umask: &'static str) -> Vec<String> {
    let script = format!("umask {umask}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o7777)
}

/// Checks a folder with all that is in it; how many files there are.
fn check(folder: &Path) -> Result<usize> {
    let found = mode(folder)?;
    ensure!(found == 0o700, "{} has mode {found:o}", folder.display());
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files += check(&path)?;
            continue;
        }
        let found = mode(&path)?;
        ensure!(found == 0o600, "{} has mode {found:o}", path.display());
        files += 1;
    }
    Ok(files)
}

fn run(umask: &'static str, data: &Path) -> Result<()> {
    let through = with_umask(umask);
    let through: Vec<&str> = through.iter().map(String::as_str).collect();
    let mut broker = Broker::builder().through(&through).data(data).start()?;
    let mut client = broker.connect();
    client.create_topic("orders", 1, &[("segment.bytes", "1048576")])?;
    for _ in 0..5 {
        let batch = batch::of_values(&[vec![7; 300_000]]);
        let answer = client.produce("orders", 0, -1, batch)?;
        ensure!(answer.error_code == 0, "error {}", answer.error_code);
    }
    broker.stop()?;
    let files = check(data)?;
    // The catalog, the lock, the reserve, certificates and their keys, segments, indexes, a checkpoint.
    ensure!(files >= 9, "{files} files");
    Ok(())
}

#[test]
fn folders_and_files_are_their_owners_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let folder = tempfile::tempdir().expect("a folder");
        run(umask, &folder.path().join("data"))
            .unwrap_or_else(|error| panic!("umask {umask}: {error:#}"));
    }
}

#[test]
fn a_data_folder_that_was_open_to_others_is_closed_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("created");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("opened");
    let broker = Broker::builder()
        .data(&data)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(mode(&data).ok(), Some(0o700));
    let log = broker.log_tail();
    assert!(log.contains("was open to others"), "{log}");
}
