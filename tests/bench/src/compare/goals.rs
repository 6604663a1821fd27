//! What was promised, and whether it was kept: each goal is a ratio of figures of the same round.

use std::fmt::Write as _;

use super::cases::Client;
use super::pairs::{Bound, Bound::AtLeast, Bound::AtMost, Paired};
use super::results::{
    Key, Results, Value, idle, p50, p99, p999, peak, server_cpu, start, throughput,
};
use crate::servers::Name;

/// What ours is divided by.
#[derive(Clone, Copy, Debug)]
pub enum Against {
    /// The floor in the same case.
    Floor,
    /// In each round the best of these that were measured.
    Best(&'static [Name]),
    /// Ours in another case of the same round.
    Ours(&'static str),
    /// The same, subtracted instead.
    Above(&'static str),
    /// Nothing that this program measures: why.
    Nothing(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub number: u32,
    pub title: &'static str,
    pub case: &'static str,
    pub figure: &'static str,
    pub value: Value,
    pub against: Against,
    pub bound: Bound,
}

/// A goal as one client showed it.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    Measured {
        median: f64,
        agreeing: usize,
        pairs: usize,
        passes: bool,
    },
    /// Why not.
    NotMeasured(String),
}

const EVERY_PEER: &[Name] = &[Name::Kafka, Name::Krabka, Name::Nats, Name::Redis];
const BUT_KRABKA: &[Name] = &[Name::Kafka, Name::Nats, Name::Redis];
const KAFKA_WIRE: &[Name] = &[Name::Kafka, Name::Krabka];
const KRABKA: &[Name] = &[Name::Krabka];
const KAFKA: &[Name] = &[Name::Kafka];

const W1K: &str = "produce-tcp-1k-os";
const W1K_SYNC: &str = "produce-tcp-1k-sync";
const W100: &str = "produce-tcp-100-os";
const W100_SYNC: &str = "produce-tcp-100-sync";
const R1K: &str = "consume-tcp-1k";
const R100: &str = "consume-tcp-100";
const W1K_TLS: &str = "produce-tls-1k-os";
const R1K_TLS: &str = "consume-tls-1k";
const W1K_QUIC: &str = "produce-quic-1k-os";
const R1K_QUIC: &str = "consume-quic-1k";
const L_OS: &str = "latency-tcp-1k-os";
const L_SYNC: &str = "latency-tcp-1k-sync";
const L_QUIC: &str = "latency-quic-1k-os";
const L_LINGER: &str = "latency-tcp-1k-os-linger";
const CLEAN: &str = "restart-clean-1000-partitions";
const KILLED: &str = "restart-killed-1000-partitions";
const IDENTITY: &str = "plugin-identity-tcp-1k-os";
const MASK: &str = "plugin-mask-tcp-1k-os";
const PARTITIONER: &str = "plugin-partitioner-tcp-1k-os-16-partitions";
const W1K_16: &str = "produce-tcp-1k-os-16-partitions";

/// Why nothing is held against a goal.
const NO_QUIC: &str = "no peer that is known here speaks QUIC";

type Row = (
    u32,
    &'static str,
    &'static str,
    &'static str,
    Value,
    Against,
    Bound,
);

use Against::{Above, Best, Floor, Nothing, Ours};

#[rustfmt::skip] // A table is read by its columns.
const ROWS: [Row; 61] = [
    (1, "write 1 KiB, page cache", W1K, "MB/s", throughput, Floor, AtLeast(0.80)),
    (1, "", W1K, "MB/s", throughput, Best(KRABKA), AtLeast(1.3)),
    (1, "", W1K, "MB/s", throughput, Best(BUT_KRABKA), AtLeast(2.3)),
    (2, "write 100 B, page cache", W100, "MB/s", throughput, Floor, AtLeast(0.90)),
    (2, "", W100, "MB/s", throughput, Best(EVERY_PEER), AtLeast(1.3)),
    (3, "write 1 KiB, synced", W1K_SYNC, "MB/s", throughput, Floor, AtLeast(0.75)),
    (3, "", W1K_SYNC, "MB/s", throughput, Best(EVERY_PEER), AtLeast(3.0)),
    (4, "write 100 B, synced", W100_SYNC, "MB/s", throughput, Floor, AtLeast(0.85)),
    (4, "", W100_SYNC, "MB/s", throughput, Best(EVERY_PEER), AtLeast(1.9)),
    (5, "read 1 KiB from the page cache", R1K, "MB/s", throughput, Floor, AtLeast(0.90)),
    (5, "", R1K, "MB/s", throughput, Best(KRABKA), AtLeast(1.0)),
    (6, "read 100 B from the page cache", R100, "MB/s", throughput, Floor, AtLeast(0.95)),
    (6, "", R100, "MB/s", throughput, Best(KAFKA_WIRE), AtLeast(1.3)),
    (7, "server's CPU, write 1 KiB", W1K, "CPU s/GB", server_cpu, Floor, AtMost(1.35)),
    (7, "", W1K, "CPU s/GB", server_cpu, Best(KRABKA), AtMost(0.4)),
    (7, "", W1K, "CPU s/GB", server_cpu, Best(BUT_KRABKA), AtMost(0.20)),
    (8, "server's CPU, read 1 KiB", R1K, "CPU s/GB", server_cpu, Floor, AtMost(1.3)),
    (8, "", R1K, "CPU s/GB", server_cpu, Best(EVERY_PEER), AtMost(0.35)),
    (9, "server's CPU, write 100 B", W100, "CPU s/GB", server_cpu, Floor, AtMost(1.5)),
    (9, "", W100, "CPU s/GB", server_cpu, Best(EVERY_PEER), AtMost(0.30)),
    (10, "end to end, 5,000/s, page cache", L_OS, "p50", p50, Floor, AtMost(1.15)),
    (10, "", L_OS, "p99", p99, Floor, AtMost(1.25)),
    (10, "", L_OS, "p50", p50, Best(EVERY_PEER), AtMost(1.0)),
    (10, "", L_OS, "p99", p99, Best(EVERY_PEER), AtMost(1.0)),
    (11, "end to end, 5,000/s, synced", L_SYNC, "p50", p50, Floor, AtMost(1.15)),
    (11, "", L_SYNC, "p99", p99, Floor, AtMost(1.25)),
    (11, "", L_SYNC, "p50", p50, Best(EVERY_PEER), AtMost(1.0)),
    (11, "", L_SYNC, "p99", p99, Best(EVERY_PEER), AtMost(1.0)),
    (12, "the slowest of a thousand, page cache", L_OS, "p99.9", p999, Floor, AtMost(1.3)),
    (12, "", L_OS, "p99.9", p999, Best(EVERY_PEER), AtMost(1.0)),
    (12, "the slowest of a thousand, synced", L_SYNC, "p99.9", p999, Floor, AtMost(1.3)),
    (12, "", L_SYNC, "p99.9", p999, Best(EVERY_PEER), AtMost(1.0)),
    (13, "end to end with a linger of 5 ms", L_LINGER, "p50", p50, Floor, AtMost(1.05)),
    (13, "", L_LINGER, "p99", p99, Floor, AtMost(1.05)),
    (14, "TLS: server's CPU above TCP, write", W1K_TLS, "CPU s/GB", server_cpu, Above(W1K), AtMost(0.45)),
    (14, "TLS: server's CPU above TCP, read", R1K_TLS, "CPU s/GB", server_cpu, Above(R1K), AtMost(0.45)),
    (14, "TLS: write 1 KiB", W1K_TLS, "MB/s", throughput, Floor, AtLeast(0.8)),
    (14, "", W1K_TLS, "MB/s", throughput, Best(EVERY_PEER), AtLeast(3.0)),
    (14, "TLS: read 1 KiB", R1K_TLS, "MB/s", throughput, Floor, AtLeast(0.8)),
    (15, "QUIC: write 1 KiB, one connection", W1K_QUIC, "MB/s", throughput, Floor, AtLeast(0.80)),
    (15, "QUIC: read 1 KiB, one connection", R1K_QUIC, "MB/s", throughput, Floor, AtLeast(0.80)),
    (15, "QUIC: write and read 1 KiB, beside a peer", W1K_QUIC, "MB/s", throughput, Nothing(NO_QUIC), AtLeast(2.0)),
    (16, "QUIC: server's CPU, write 1 KiB", W1K_QUIC, "CPU s/GB", server_cpu, Floor, AtMost(1.25)),
    (16, "QUIC: server's CPU, read 1 KiB", R1K_QUIC, "CPU s/GB", server_cpu, Floor, AtMost(1.25)),
    (16, "QUIC: server's CPU, write and read, beside a peer", W1K_QUIC, "CPU s/GB", server_cpu, Nothing(NO_QUIC), AtMost(0.3)),
    (17, "QUIC: end to end, 5,000/s", L_QUIC, "p50", p50, Ours(L_OS), AtMost(1.6)),
    (17, "QUIC: end to end, beside a peer", L_QUIC, "p50", p50, Nothing(NO_QUIC), AtMost(0.9)),
    (18, "memory at rest", W1K, "MB", idle, Best(KRABKA), AtMost(1.0)),
    (18, "", W1K, "MB", idle, Best(BUT_KRABKA), AtMost(1.0)),
    (19, "most memory, write 1 KiB", W1K, "MB", peak, Best(EVERY_PEER), AtMost(0.5)),
    (20, "start to the first answer, empty", W1K, "ms", start, Best(KRABKA), AtMost(1.0)),
    (20, "", W1K, "ms", start, Best(BUT_KRABKA), AtMost(1.0)),
    (21, "start on 1,000 partitions, after a clean end", CLEAN, "ms", start, Best(EVERY_PEER), AtMost(0.5)),
    (21, "start on 1,000 partitions, after kill -9", KILLED, "ms", start, Best(EVERY_PEER), AtMost(0.5)),
    (22, "an identity transform on the way in", IDENTITY, "MB/s", throughput, Ours(W1K), AtLeast(0.85)),
    (22, "a transform that masks a field of JSON", MASK, "MB/s", throughput, Ours(W1K), AtLeast(0.6)),
    (22, "a partitioner by a field of JSON, 16 partitions", PARTITIONER, "MB/s", throughput, Ours(W1K_16), AtLeast(0.95)),
    (23, "Apache Kafka: write 1 KiB", W1K, "MB/s", throughput, Best(KAFKA), AtLeast(1.5)),
    (23, "Apache Kafka: server's CPU", W1K, "CPU s/GB", server_cpu, Best(KAFKA), AtMost(1.0 / 3.0)),
    (23, "Apache Kafka: end to end", L_OS, "p99", p99, Best(KAFKA), AtMost(0.5)),
    (23, "Apache Kafka: most memory", W1K, "MB", peak, Best(KAFKA), AtMost(0.05)),
];

/// All goals, in their order.
pub fn all() -> Vec<Goal> {
    let mut title = "";
    let goal = |(number, named, case, figure, value, against, bound): &Row| {
        title = if named.is_empty() { title } else { *named };
        Goal {
            number: *number,
            title,
            case,
            figure,
            value: *value,
            against: *against,
            bound: *bound,
        }
    };
    ROWS.iter().map(goal).collect()
}

impl Goal {
    /// As it stands in the report.
    pub fn target(&self) -> String {
        let mut text = match self.bound {
            AtLeast(bound) => format!("≥ {}", short(bound)),
            AtMost(bound) => format!("≤ {}", short(bound)),
        };
        let _ = match self.against {
            Floor => write!(text, " × floor"),
            Best([one]) => write!(text, " × {one}"),
            Best(peers) if peers == EVERY_PEER => write!(text, " × best peer"),
            Best(peers) => {
                let names: Vec<&str> = peers.iter().map(|name| name.title()).collect();
                write!(text, " × best of {}", names.join(", "))
            }
            Ours(case) => write!(text, " × ours in {case}"),
            Above(case) => write!(text, " {} more than ours in {case}", self.figure),
            Nothing(_) => write!(text, " × peer"),
        };
        text
    }

    /// A median as it stands in the report: a ratio, or what ours has more.
    pub fn shown(&self, median: f64) -> String {
        match self.against {
            Above(_) => format!("{median:+.2} {}", self.figure),
            _ => format!("× {median:.2}"),
        }
    }

    pub fn judge(&self, results: &Results, client: Client) -> Verdict {
        let key = Key {
            case: self.case,
            client,
        };
        let ours = results.series(key, Name::Tidegate, self.value);
        if let Nothing(why) = self.against {
            return Verdict::NotMeasured(why.into());
        }
        if ours.is_empty() {
            return Verdict::NotMeasured(self.why_not(results, key, &[Name::Tidegate]));
        }
        let of_case = |case| {
            let key = Key { case, client };
            results.series(key, Name::Tidegate, self.value)
        };
        let more = matches!(self.bound, AtLeast(_));
        let (paired, others): (Paired, &[Name]) = match self.against {
            Floor => {
                let floor = results.series(key, Name::Floor, self.value);
                (Paired::ratios(&ours, &floor), &[Name::Floor])
            }
            Best(peers) => {
                let best = results.best(key, peers, self.value, more);
                (Paired::ratios(&ours, &best), peers)
            }
            Ours(case) => (Paired::ratios(&ours, &of_case(case)), &[Name::Tidegate]),
            Above(case) => (
                Paired::differences(&ours, &of_case(case)),
                &[Name::Tidegate],
            ),
            Nothing(_) => (Paired { ratios: Vec::new() }, &[]),
        };
        match (paired.median(), paired.passes(self.bound)) {
            (Some(median), Some(passes)) => Verdict::Measured {
                median,
                agreeing: paired.agreeing(self.bound),
                pairs: paired.ratios.len(),
                passes,
            },
            _ => Verdict::NotMeasured(self.why_not(results, self.other(key), others)),
        }
    }

    /// Where the figure is from that ours is held against.
    fn other<'r>(&self, key: Key<'r>) -> Key<'r> {
        match self.against {
            Ours(case) | Above(case) => Key { case, ..key },
            _ => key,
        }
    }

    /// The clients that drove the goal's case; lean when none did.
    pub fn clients(&self, results: &Results) -> Vec<Client> {
        let mut clients: Vec<Client> = results.clients_of(self.case).into_iter().collect();
        if clients.is_empty() {
            clients.push(Client::Lean);
        }
        clients
    }

    fn why_not(&self, results: &Results, key: Key, servers: &[Name]) -> String {
        let blocks = results.blocks.iter();
        let mut ours = blocks.filter(|block| block.case == key.case && block.client == key.client);
        if ours.next().is_none() {
            return format!("`{}` was not run", key.case);
        }
        let mut reasons = Vec::new();
        for server in servers {
            if let Some(failure) = results.failure(key, *server) {
                reasons.push(format!(
                    "{server}: {}",
                    failure.lines().next().unwrap_or("")
                ));
            } else if results.missing.contains_key(server) {
                reasons.push(format!("{server} was not there"));
            }
        }
        match reasons.is_empty() {
            true if results.counts(key) => format!("no figures to compare in `{}`", key.case),
            true => format!("no round of `{}` counts", key.case),
            false => reasons.join("; "),
        }
    }
}

/// With no more digits than it needs.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
#[path = "goals_tests.rs"]
mod tests;
