//! A cgroup that bounds the broker's memory, where this process may make one.

use std::fs;
use std::path::{Path, PathBuf};

/// What the broker may hold, in bytes; beyond it the kernel ends the process.
const LIMIT: u64 = 1 << 30;

pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// A new one, of either version; `None`, with the reason said, where that is not allowed.
    pub fn make() -> Option<Self> {
        let (root, limit) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let folder = Path::new(root).join(format!("tidegate-siege-{}", std::process::id()));
        let made = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(limit), LIMIT.to_string()));
        match made {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                println!("without a cgroup: {}: {error}", folder.display());
                None
            }
        }
    }

    /// The words in front of a command that make it run inside.
    pub fn enter(&self) -> Vec<String> {
        let script = format!(
            "echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"",
            self.folder.display()
        );
        vec!["sh".into(), "-c".into(), script]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Empty once the broker has ended; a later one takes it over otherwise.
        let _ = fs::remove_dir(&self.folder);
    }
}
