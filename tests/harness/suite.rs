//! Tests that need another language's tools: found or installed once under `target/clients`, or skipped in plain words.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::target_directory;

/// How long an installation may take: a slow registry, not a hung one.
const INSTALL_LIMIT: Duration = Duration::from_secs(420);

/// One installation at a time, and each only once.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Writes a line past the test runner's capture, so that it is seen of tests that pass too.
pub fn say(line: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A group of tests that needs tools which may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub name: &'static str,
}

impl Suite {
    /// Unwraps a tool, or says `SKIPPED name: reason`.
    ///
    /// # Panics
    /// In CI (`CI=true`), where every suite can run, unless `TIDEGATE_ALLOW_SKIPS=1`.
    pub fn need<T>(self, tool: Result<T>) -> Option<T> {
        let error = match tool {
            Ok(tool) => return Some(tool),
            Err(error) => error,
        };
        let line = format!("SKIPPED {}: {error:#}", self.name);
        let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
        assert!(
            !set("CI", "true") || set("TIDEGATE_ALLOW_SKIPS", "1"),
            "{line}\nIn CI a skipped suite is a failure; TIDEGATE_ALLOW_SKIPS=1 allows it."
        );
        say(&line);
        None
    }
}

/// A program of the search path.
///
/// # Errors
/// When `program probe` (such as `kcat -V`) does not run.
pub fn program(program: &'static str, probe: &str) -> Result<&'static str> {
    let status = Command::new(program)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("{program} is not installed"))?;
    ensure!(status.success(), "`{program} {probe}` fails: {status}");
    Ok(program)
}

/// The interpreter of a virtual environment with what `requirements` pins.
///
/// # Errors
/// When there is no Python or the packages cannot be installed.
pub fn python(requirements: &Path) -> Result<PathBuf> {
    let python = program("python3", "--version")?;
    let directory = installed("python", &[requirements], |directory| {
        let environment = Command::new(python)
            .args(["-m", "venv"])
            .arg(directory)
            .output()?;
        ensure!(
            environment.status.success(),
            "python3 -m venv: {}",
            String::from_utf8_lossy(&environment.stdout)
        );
        let mut pip = Command::new(directory.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements);
        run(&mut pip, INSTALL_LIMIT).map(drop)
    })?;
    Ok(directory.join("bin/python"))
}

/// A directory whose `node_modules` holds what `package.json` and its lock file pin.
///
/// # Errors
/// When there is no Node or the packages cannot be installed.
pub fn node(package: &Path) -> Result<PathBuf> {
    program("node", "--version")?;
    let npm = program("npm", "--version")?;
    let lock = package.with_file_name("package-lock.json");
    installed("node", &[package, &lock], |directory| {
        fs::copy(package, directory.join("package.json"))?;
        fs::copy(&lock, directory.join("package-lock.json"))?;
        let mut install = Command::new(npm);
        install
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(directory);
        run(&mut install, INSTALL_LIMIT).map(drop)
    })
}

/// A class path with the jars that `pom` names.
///
/// # Errors
/// When there is no Java or Maven, or the jars cannot be fetched.
pub fn java(pom: &Path) -> Result<String> {
    program("java", "-version")?;
    let maven = program("mvn", "-version")?;
    let directory = installed("java", &[pom], |directory| {
        let mut copy = Command::new(maven);
        copy.args(["--quiet", "--batch-mode", "-f"])
            .arg(pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", directory.display()));
        run(&mut copy, INSTALL_LIMIT).map(drop)
    })?;
    Ok(format!("{}/*", directory.display()))
}

/// A program built from the Go module in `module`.
///
/// # Errors
/// When there is no Go or the module does not build.
pub fn go(module: &Path) -> Result<PathBuf> {
    let go = program("go", "version")?;
    let files = ["go.mod", "go.sum", "main.go"].map(|name| module.join(name));
    let sources: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let directory = installed("go", &sources, |directory| {
        let mut build = Command::new(go);
        build
            .args(["build", "-o"])
            .arg(directory.join("client"))
            .arg(".")
            .current_dir(module)
            .env("CGO_ENABLED", "0");
        run(&mut build, INSTALL_LIMIT).map(drop)
    })?;
    Ok(directory.join("client"))
}

/// Runs `install` on an empty directory, unless an earlier run did so with the same content of `sources`.
fn installed(
    language: &str,
    sources: &[&Path],
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let _one_at_a_time = INSTALLING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = target_directory().join("clients").join(language);
    let marker = directory.join("installed-from");
    let mut wanted = String::new();
    for source in sources {
        let text = fs::read_to_string(source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        wanted.push_str(&text);
    }
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(directory);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    install(&directory)?;
    fs::write(marker, wanted)?;
    Ok(directory)
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it fails, or still runs after `limit` (it is killed then); the message carries what it printed.
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let stdout = read_all(child.stdout.take().expect("stdout is piped"));
    let stderr = read_all(child.stderr.take().expect("stderr is piped"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        // There is no portable wait with a time limit.
        thread::sleep(Duration::from_millis(10));
    };
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => bail!("{shown}: {status}\n{stdout}{stderr}"),
        None => bail!("{shown}: still running after {limit:?}\n{stdout}{stderr}"),
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
