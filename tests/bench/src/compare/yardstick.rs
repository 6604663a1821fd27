//! What the machine itself does just now: two seconds of its network, its cores and its disk, in every round.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::pairs::{STEAL, median, usual};
use crate::payload::unique;

/// How long each of the three is measured.
const SHARE: Duration = Duration::from_millis(660);
const PIECE: usize = 256 << 10;
/// One sync's bytes; each goes to blocks that were written before.
const SYNCED: usize = 4096;
const FILE: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Yardstick {
    /// Over the loopback, one connection.
    pub tcp_megabytes: f64,
    /// CRC-32C of memory, one core.
    pub crc_megabytes: f64,
    /// `fdatasync` calls a second.
    pub syncs: f64,
    /// The load average of the last minute.
    pub load: f64,
    /// The share of the cores' time that went to other machines since the yardstick before.
    pub steal: f64,
}

impl Yardstick {
    pub fn measure(data: &Path, ticks: &mut Ticks) -> Result<Self> {
        let before = *ticks;
        *ticks = Ticks::read()?;
        Ok(Self {
            tcp_megabytes: tcp()?,
            crc_megabytes: crc(),
            syncs: syncs(data)?,
            load: load()?,
            steal: ticks.steal_since(before),
        })
    }

    /// The disk's comes last.
    fn values(&self) -> [f64; 3] {
        [self.tcp_megabytes, self.crc_megabytes, self.syncs]
    }
}

/// Which of the yardsticks tell of a machine that was not itself; with each comes whether the disk matters.
pub fn unusual(yardsticks: &[(Yardstick, bool)]) -> Vec<bool> {
    let medians = [0, 1, 2].map(|kind| {
        let values = yardsticks
            .iter()
            .map(|(yardstick, _)| yardstick.values()[kind]);
        median(values).unwrap_or(0.0)
    });
    let odd = |(yardstick, disk): &(Yardstick, bool)| {
        let values = yardstick.values().into_iter().zip(medians);
        let mut values = values.take(if *disk { 3 } else { 2 });
        yardstick.steal > STEAL || !values.all(|(value, median)| usual(value, median))
    };
    yardsticks.iter().map(odd).collect()
}

fn tcp() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = std::thread::spawn(move || -> Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; PIECE];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(total),
                read => total += read as u64,
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    let piece = vec![0x5a; PIECE];
    let begun = Instant::now();
    while begun.elapsed() < SHARE {
        stream.write_all(&piece)?;
    }
    drop(stream);
    let total = reader.join().map_err(|_| anyhow!("the reader failed"))??;
    Ok(total as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

fn crc() -> f64 {
    let piece = vec![0x5a; PIECE];
    let begun = Instant::now();
    let (mut total, mut sum) = (0, 0);
    while begun.elapsed() < SHARE {
        sum = crc32c::crc32c_append(sum, &piece);
        total += PIECE;
    }
    std::hint::black_box(sum);
    total as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

fn syncs(data: &Path) -> Result<f64> {
    std::fs::create_dir_all(data)?;
    let path = data.join(format!(
        "bench-yardstick-{}-{}",
        std::process::id(),
        unique()
    ));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    file.write_all_at(&vec![0; FILE], 0)?;
    file.sync_all()?;
    let block = vec![0x5a; SYNCED];
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < SHARE {
        file.write_all_at(&block, (count * SYNCED % FILE) as u64)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next();
    first
        .and_then(|word| word.parse().ok())
        .context("/proc/loadavg")
}

/// Time that the cores have spent since the machine began.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ticks {
    total: u64,
    steal: u64,
}

impl Ticks {
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("/proc/stat")
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map_while(|field| field.parse().ok())
            .collect();
        Some(Self {
            total: fields.iter().sum(),
            steal: *fields.get(7)?,
        })
    }

    fn steal_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total).max(1);
        self.steal.saturating_sub(before.steal) as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yardstick(tcp: f64, syncs: f64, steal: f64) -> Yardstick {
        Yardstick {
            tcp_megabytes: tcp,
            crc_megabytes: 1000.0,
            syncs,
            load: 0.0,
            steal,
        }
    }

    #[test]
    fn a_round_off_the_median_or_robbed_of_time_is_unusual() {
        let yardsticks = [
            (yardstick(100.0, 50.0, 0.0), true),
            (yardstick(110.0, 50.0, 0.0), true),
            (yardstick(60.0, 50.0, 0.0), false),
            (yardstick(100.0, 70.0, 0.0), true),
            (yardstick(100.0, 70.0, 0.0), false),
            (yardstick(100.0, 50.0, 0.03), false),
        ];
        assert_eq!(
            unusual(&yardsticks),
            [false, false, true, true, false, true]
        );
        assert!(unusual(&[]).is_empty());
    }

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let before = Ticks::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1").unwrap();
        let after = Ticks::parse("cpu  150 0 120 820 0 0 0 10 0 0\n").unwrap();
        assert!((after.steal_since(before) - 0.1).abs() < 1e-9);
        assert_eq!(Ticks::parse("intr 5"), None);
    }
}
