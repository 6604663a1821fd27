//! What fuzzing calls: one function for each reader of bytes that a peer, or a disk that lies, may have made.
//!
//! A **target** takes any bytes and must return. It panics where the reader breaks a promise: what it accepts has to come
//! back the same when it is written and read again. Checksums that guard a format are put right first where the target's
//! input says so, since no mutation would ever hit them. Compiled for unit tests, which run every target over its corpus and
//! some mutations of it, and for `tests/fuzz`, which runs them for as long as one likes.

#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;

use crate::coordinator::record::fuzz as coordinator;
use crate::coordinator::transaction::record::fuzz as transaction;
use crate::kafka::guard::fuzz as guard;
use crate::log::fuzz as log;

/// One reader and what makes its input interesting.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As its file in `tests/fuzz/fuzz_targets` and its folder in `tests/fuzz/corpus` are called.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "batch",
        run: log::batch,
    },
    Target {
        name: "checkpoint",
        run: log::checkpoint,
    },
    Target {
        name: "index",
        run: log::index,
    },
    Target {
        name: "offsets_record",
        run: coordinator::offsets_record,
    },
    Target {
        name: "recovery",
        run: log::recovery,
    },
    Target {
        name: "request",
        run: guard::request,
    },
    Target {
        name: "segment_header",
        run: log::segment_header,
    },
    Target {
        name: "transaction_record",
        run: transaction::transaction_record,
    },
];

/// Runs one target.
///
/// # Panics
/// When there is no target of this name, and when the target found something.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("the table names every target").run)(input);
}
