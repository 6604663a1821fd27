//! A file system whose disk can be looked at: ext4 in a file, mounted through a loop device.
//!
//! What the system has not yet written to the disk is in its memory, and not in the file. So a copy of the file, made while
//! nothing is written to it, is what a loss of power at that moment would have left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::suite;
use tempfile::TempDir;

/// Sparse: it takes what is written, about 10 MiB a round.
const IMAGE_BYTES: u64 = 2 << 30;
/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long to try for a copy during which nothing was written.
const COPY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Image {
    directory: TempDir,
    /// Counts the losses of power.
    generation: u32,
    /// The loop device under the mounted file system.
    device: Option<String>,
}

impl Image {
    /// An empty file system, mounted.
    ///
    /// # Errors
    /// Without root, loop devices or the tools.
    pub fn create() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "only root can mount a file system"
        );
        let directory = tempfile::Builder::new()
            .prefix("tidegate-disk-")
            .tempdir()?;
        let mut image = Self {
            directory,
            generation: 0,
            device: None,
        };
        fs::create_dir(image.mounted())?;
        fs::File::create(image.file())?.set_len(IMAGE_BYTES)?;
        let file = image.file();
        run("mkfs.ext4", &["-q", "-F", &file.display().to_string()])?;
        image.mount()?;
        Ok(image)
    }

    /// Where the file system is mounted.
    pub fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// A file that stands in for the system's boot id: another one after each loss of power.
    pub fn boot_id(&self) -> PathBuf {
        self.directory.path().join("boot-id")
    }

    fn file(&self) -> PathBuf {
        self.directory
            .path()
            .join(format!("disk-{}", self.generation))
    }

    fn mount(&mut self) -> Result<()> {
        fs::write(
            self.boot_id(),
            format!("00000000-0000-4000-8000-{:012x}\n", self.generation),
        )?;
        let file = self.file().display().to_string();
        let device = run("losetup", &["--find", "--show", &file])?
            .trim()
            .to_owned();
        self.device = Some(device.clone());
        let mounted = self.mounted().display().to_string();
        run("mount", &["-t", "ext4", "-o", "noatime", &device, &mounted])?;
        Ok(())
    }

    /// Loses what has not reached the disk. Whoever writes must stand still; `end` ends them when the copy is made. After
    /// that the file system is mounted as it would be after the machine's next start.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn lose_power(&mut self, end: impl FnOnce()) -> Result<()> {
        let device = self.device.clone().context("nothing is mounted")?;
        let old = self.file();
        self.generation += 1;
        let copied = copy_at_rest(&device, &old, &self.file());
        end();
        copied?;
        self.unmount()?;
        fs::remove_file(old)?;
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(device) = self.device.take() else {
            return Ok(());
        };
        // What was lost with the power may still be written, to a file that nobody looks at again.
        run("umount", &[&self.mounted().display().to_string()])?;
        run("losetup", &["--detach", &device])?;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            harness::say(&format!("a test's file system stays mounted: {error:#}"));
        }
    }
}

/// Copies the file until nothing was written to it meanwhile: then the copy is of one moment.
fn copy_at_rest(device: &str, from: &Path, to: &Path) -> Result<()> {
    let deadline = Instant::now() + COPY_LIMIT;
    loop {
        let before = Writes::of(device)?;
        let [from, to] = [from, to].map(|path| path.display().to_string());
        run("cp", &["--sparse=always", &from, &to])?;
        let after = Writes::of(device)?;
        if before == after && after.in_flight == 0 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{device} is written to without end"
        );
    }
}

/// What the kernel says of a block device (`Documentation/block/stat.rst`).
#[derive(PartialEq, Eq, Debug)]
struct Writes {
    completed: u64,
    in_flight: u64,
}

impl Writes {
    fn of(device: &str) -> Result<Self> {
        let name = device.rsplit('/').next().unwrap_or(device);
        let text = fs::read_to_string(format!("/sys/block/{name}/stat"))?;
        let fields: Vec<u64> = text
            .split_whitespace()
            .filter_map(|it| it.parse().ok())
            .collect();
        let field = |index: usize| fields.get(index).copied().context("a short statistic");
        Ok(Self {
            completed: field(4)?,
            in_flight: field(8)?,
        })
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    suite::run(Command::new(program).args(arguments), LIMIT)
}
