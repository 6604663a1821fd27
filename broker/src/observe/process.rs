//! The process as the kernel sees it, from `/proc/self` (proc(5)).

use std::fs;
use std::sync::OnceLock;

/// The unit of times in `/proc/self/stat`: `USER_HZ`, which Linux keeps at 100 for user space on every architecture that
/// Rust's standard library supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading. What the kernel did not tell is `None`.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub cpu_seconds: Option<f64>,
    pub threads: Option<f64>,
    pub start_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub open_descriptors: Option<f64>,
    pub max_descriptors: Option<f64>,
}

impl Process {
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command's name is in parentheses and may hold spaces and parentheses: fields count from the last one.
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| {
                rest.split_whitespace()
                    .map(|field| field.parse().unwrap_or(0.0))
                    .collect()
            })
            .unwrap_or_default();
        // proc(5) numbers fields from 1, and the state that follows the name is field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            threads: field(20),
            start_seconds: field(22)
                .zip(boot_seconds())
                .map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND),
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count() as f64),
            max_descriptors: fs::read_to_string("/proc/self/limits")
                .ok()
                .and_then(|limits| {
                    let line = limits
                        .lines()
                        .find_map(|line| line.strip_prefix("Max open files"))?;
                    line.split_whitespace().next()?.parse().ok()
                }),
        }
    }
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024.0)
}

/// When the machine started, in seconds since the Unix epoch.
fn boot_seconds() -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_plausible() {
        let process = Process::read();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let start = process.start_seconds.expect("a start time");
        assert!(
            (now - 86_400.0..=now + 2.0).contains(&start),
            "{start} {now}"
        );
        assert!(process.cpu_seconds.is_some_and(|cpu| cpu < 86_400.0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1e5));
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_descriptors.is_some_and(|count| count >= 3.0));
        assert!(process.max_descriptors.is_some_and(|count| count >= 16.0));
        assert!(process.threads.is_some_and(|count| count >= 1.0));
    }
}
