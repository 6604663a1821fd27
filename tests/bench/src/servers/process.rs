//! A server's process: its output, its end, and what it uses of the machine.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Stop;

/// Linux counts CPU time in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// CPU time that a process has used so far: its threads, its children, and those of them that have ended.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: f64,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Line {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Line {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
        }
    }

    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub fn path(self, argument: &Path) -> Self {
        self.arg(argument.to_string_lossy())
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end and gives what it prints, on both outputs.
    pub fn run(&self) -> Result<String> {
        let program = self.program.display();
        let output = self
            .command()
            .output()
            .with_context(|| format!("starting {program}"))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("{program} ended with {}:\n{text}", output.status);
        }
        Ok(text)
    }
}

#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Process {
    /// Starts a server whose output goes to a log beside its data; with `announces`, its standard output comes back as lines.
    pub fn spawn(
        line: &Line,
        data: &Path,
        announces: bool,
    ) -> Result<(Self, Option<impl Iterator<Item = String> + Send + use<>>)> {
        let log = data.join("bench-server.log");
        let errors = File::create(&log).with_context(|| log.display().to_string())?;
        let output = match announces {
            true => Stdio::piped(),
            false => errors.try_clone()?.into(),
        };
        let mut child = line
            .command()
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}", line.program.display()))?;
        let output = child.stdout.take();
        let lines = output.map(|output| BufReader::new(output).lines().map_while(Result::ok));
        let process = Self {
            child,
            log,
            ended: false,
        };
        Ok((process, lines))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error that shows the log when the process has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            bail!(
                "the server ended with {status} before it answered:\n{}",
                self.log()
            );
        }
        Ok(())
    }

    /// The end of what the server has said.
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4_000);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    pub fn stop(&mut self, stop: Stop) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        match stop {
            Stop::Kill => self.child.kill()?,
            Stop::Clean => {
                let pid = Pid::from_raw(self.pid() as i32).context("no process")?;
                kill_process(pid, Signal::TERM)?;
                let begun = Instant::now();
                while self.child.try_wait()?.is_none() {
                    if begun.elapsed() > PATIENCE {
                        bail!("the server did not end within {PATIENCE:?} of SIGTERM");
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        self.child.wait()?;
        self.ended = true;
        Ok(())
    }

    /// As [`stop`](Self::stop), of a process that nobody needs any more.
    pub fn end(mut self, stop: Stop) -> Result<()> {
        self.stop(stop)
    }

    pub fn usage(&self) -> Option<Usage> {
        usage(self.pid())
    }

    pub fn resident_bytes(&self) -> Option<u64> {
        self.sum("VmRSS:")
    }

    pub fn peak_bytes(&self) -> Option<u64> {
        self.sum("VmHWM:")
    }

    fn sum(&self, field: &str) -> Option<u64> {
        let own = status_bytes(self.pid(), field)?;
        let children = descendants(self.pid()).into_iter();
        Some(
            own + children
                .filter_map(|pid| status_bytes(pid, field))
                .sum::<u64>(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already needs no end.
        let _ = self.stop(Stop::Kill);
    }
}

pub fn usage(pid: u32) -> Option<Usage> {
    let one = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_cpu(&stat)
    };
    let children = descendants(pid).into_iter().filter_map(one);
    Some(Usage {
        cpu_seconds: one(pid)? + children.sum::<f64>(),
    })
}

/// Of this process and of the children that it has waited for; those that run on, servers, are not in it.
pub fn own_usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    parse_cpu(&stat).map(|cpu_seconds| Usage { cpu_seconds })
}

/// Children, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
        {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// Fields 14 to 17 of `/proc/PID/stat` (user and system time, of the process and of children that have ended), in seconds; the
/// name in field 2 may hold anything.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let fields = behind_name.split_whitespace().skip(11).take(4);
    let ticks: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 4).then(|| ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

pub fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_status(&status, field)
}

fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 30 20 20 0";
        assert!((parse_cpu(stat).unwrap() - 3.5).abs() < 1e-9);
        assert_eq!(parse_cpu("42 (short) S 1 2 3"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(parse_status(status, "VmHWM:"), Some(2048 * 1024));
        assert_eq!(parse_status(status, "VmSwap:"), None);
    }

    #[test]
    fn a_child_counts_with_its_parent() {
        let line = Line::new("sh").args(["-c", "sleep 5 & wait"]);
        let folder = std::env::temp_dir().join(format!("bench-process-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (mut process, _) = Process::spawn(&line, &folder, false).unwrap();
        let begun = Instant::now();
        while descendants(process.pid()).is_empty() && begun.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(descendants(process.pid()).len(), 1);
        let child = descendants(process.pid())[0];
        process.stop(Stop::Kill).unwrap();
        let child = Pid::from_raw(child as i32).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
