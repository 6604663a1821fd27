//! Runs cases under valgrind's callgrind, which counts the instructions that a program executes.
//!
//! Counts repeat because nothing of the machine decides about them: valgrind shows every program the same processor, the
//! C library's own choices are fixed by its tunables, each case has a process of its own with one thread that matters, and
//! what only happens at first is over before counting begins. What the kernel does is not counted.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use micro::Entry;

use crate::baseline::Baseline;

/// The function between whose call and return is counted.
const COUNTED: &str = "*counted_by_callgrind*";
/// `rep movsb` and `rep stosb` would count as an instruction for each byte, and sizes from which copies bypass the cache
/// follow from the size of the machine's own.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000:\
                        glibc.cpu.x86_non_temporal_threshold=0x40000000:glibc.malloc.arena_max=1";

/// Instructions of one operation of each case, and what they were counted with.
///
/// # Errors
/// When a tool is missing, or a case fails.
pub fn count(entries: &[&'static Entry]) -> Result<Baseline> {
    let tools = [
        ("glibc", version("getconf", &["GNU_LIBC_VERSION"])?),
        ("processor", processor().to_owned()),
        ("rustc", version("rustc", &["--version"])?),
        ("valgrind", version("valgrind", &["--version"])?),
    ];
    let folder = tempfile::tempdir().context("a folder for callgrind's output")?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(String, u64)>> {
        let mut counted = Vec::new();
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = count_one(entry, folder.path()).with_context(|| entry.name)?;
            counted.push((entry.name.to_owned(), count));
        }
        Ok(counted)
    };
    let mut counts = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let done = worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            counts.extend(done?);
        }
        Ok(())
    })?;
    Ok(Baseline {
        tools: tools
            .map(|(name, version)| (name.to_owned(), version))
            .into(),
        counts: counts.into_iter().collect(),
    })
}

fn count_one(entry: &Entry, folder: &Path) -> Result<u64> {
    let output = folder.join(entry.name);
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = Command::new("valgrind");
    command
        .env_clear()
        .env("GLIBC_TUNABLES", TUNABLES)
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(std::env::var_os("TMPDIR").map(|path| ("TMPDIR", path)))
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program)
        .args(["run", entry.name]);
    let ran = command.output().context("valgrind cannot be started")?;
    if !ran.status.success() {
        bail!(
            "under valgrind: {}\n{}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    let text = std::fs::read_to_string(&output)
        .with_context(|| format!("what callgrind wrote to {}", output.display()))?;
    let total = total(&text).context("callgrind wrote no total")?;
    let count = total / entry.operations as u64;
    ensure!(
        count > 0,
        "nothing was counted: callgrind has not found {COUNTED}"
    );
    Ok(count)
}

/// The sum at the end of callgrind's output.
fn total(output: &str) -> Option<u64> {
    let line = output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of processors valgrind shows one of a few, by what the real one can do.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 with AVX2";
    }
    std::env::consts::ARCH
}

/// What a tool says of itself.
fn version(tool: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(tool).args(arguments).output();
    let output =
        output.with_context(|| format!("{tool} is needed, and cannot be started: install it"))?;
    ensure!(output.status.success(), "{tool}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_behind_the_functions() {
        let output = "events: Ir\nsummary: 12\n\nfn=(1) a\n0 12\n\ntotals: 1234\n";
        assert_eq!(total(output), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
