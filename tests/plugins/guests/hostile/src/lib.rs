//! A transform that does what its setting `mode` says, on batches of the topic `hostile`, or of every topic when `always` is set.
//! Batches of other topics pass unchanged, so that it gets through its dry run.

use std::collections::HashMap;
use std::hint::black_box;

use tidegate_plugin::bindings::transform::exports::tidegate::plugin::transformation::{
    RecordBatch, RecordReject, Replacement,
};
use tidegate_plugin::{
    Answer, Batch, CallError, Change, Columns, Config, NewRecord, Origin, Record, Reject,
    RejectCode, Transform, log, metrics,
};

struct Hostile {
    mode: String,
    always: bool,
}

impl Transform for Hostile {
    fn new(config: &Config) -> Result<Self, String> {
        let mode = config.required("mode")?.to_owned();
        match mode.as_str() {
            "refuse-init" => Err("it does not want to".into()),
            "loop-in-init" => spin(),
            _ => Ok(Self {
                mode,
                always: config.get("always").is_some(),
            }),
        }
    }

    fn columns(&self) -> Columns {
        match self.mode.as_str() {
            "see-nothing" => Columns::NONE,
            _ => Columns::ALL,
        }
    }

    /// Writes every record anew, just as it was.
    fn transform(&self, record: &Record<'_>, _origin: &Origin<'_>) -> Result<Change, Reject> {
        Ok(Change::Record(NewRecord {
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record
                .headers()
                .map(|(name, value)| (name.into(), value.map(Into::into)))
                .collect(),
            timestamp_ms: record.timestamp_ms,
        }))
    }

    fn apply(&self, batch: &Batch<'_>, origin: &Origin<'_>) -> Result<Answer, CallError> {
        if !self.always && origin.topic != "hostile" {
            return Ok(Answer::Unchanged);
        }
        match self.mode.as_str() {
            "loop" => spin(),
            "trap" => panic!("as told"),
            "exit" => std::process::exit(3),
            "allocate" => allocate(),
            "allocate-at-once" => drop(black_box(vec![1u8; 1 << 30])),
            "recurse" => drop(black_box(recurse(u64::MAX))),
            "read-file" => drop(std::fs::read_to_string("/etc/passwd")),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(1)),
            "flood-log" => flood(),
            "flood-metrics" => {
                for number in 0..1000 {
                    metrics::counter_add(&format!("series_{number}"), &[], 1);
                }
            }
            "refuse" => return Err(CallError::Permanent("not today".into())),
            "retry" => return Err(CallError::RetryAfterMs(250)),
            "standard-library" => return Ok(standard_library()),
            "see-nothing" => {
                let seen = batch.records().any(|record| {
                    record.key.is_some()
                        || record.value.is_some()
                        || record.headers().count() > 0
                        || record.timestamp_ms != 0
                });
                assert!(!seen, "a column that was not asked for came");
                return Ok(self.copies(batch, origin));
            }
            "copy" => return Ok(self.copies(batch, origin)),
            // Takes everything but records that say what to do.
            "poison" => {
                for record in batch.records() {
                    match record.value {
                        Some(b"trap") => panic!("as told"),
                        Some(b"loop") => spin(),
                        _ => {}
                    }
                }
            }
            // A few milliseconds.
            "work" => (0..6_000_000_u32).for_each(|number| {
                black_box(number);
            }),
            // A megabyte for each record: few at once are no harm.
            "hungry" => drop(black_box(vec![1u8; batch.len() << 20])),
            mode => return Ok(lie(mode, batch.len())),
        }
        Ok(Answer::Unchanged)
    }
}

tidegate_plugin::export_transform!(Hostile);

impl Hostile {
    fn copies(&self, batch: &Batch<'_>, origin: &Origin<'_>) -> Answer {
        let mut sources = Vec::new();
        let mut arena = tidegate_plugin::Arena::default();
        for (source, record) in (0..).zip(batch.records()) {
            let Ok(Change::Record(new)) = self.transform(&record, origin) else {
                unreachable!("every record is written anew");
            };
            let headers = new
                .headers
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_deref()));
            arena.push(
                new.key.as_deref(),
                new.value.as_deref(),
                headers,
                new.timestamp_ms,
            );
            sources.push(source);
        }
        let batch = arena.into_wire();
        Answer::Replace(Replacement { batch, sources })
    }
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

fn allocate() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion, reason = "it is what is asked of it")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth - 1)) + depth)
}

fn flood() {
    let line = "x".repeat(100_000);
    for _ in 0..100 {
        log::warn(&line);
        eprintln!("{line}");
    }
}

/// What a guest may do with its language's library, told in one record.
fn standard_library() -> Answer {
    println!("standard output works");
    let map: HashMap<u32, u32> = (0..8).map(|number| (number, number)).collect();
    let order: Vec<_> = map.keys().map(u32::to_string).collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let text = format!(
        "arguments {} variables {} seconds {now} order {}",
        std::env::args().count(),
        std::env::vars().count(),
        order.join(",")
    );
    Answer::Replace(Replacement {
        batch: RecordBatch {
            lengths: vec![-1, text.len() as i32, 0],
            data: text.into_bytes(),
            timestamps: vec![0],
        },
        sources: vec![0],
    })
}

/// Answers that are not what they should be on two records.
fn lie(mode: &str, count: usize) -> Answer {
    let replace = |data: &[u8], lengths: &[i32], timestamps: &[i64], sources: &[u32]| {
        Answer::Replace(Replacement {
            batch: RecordBatch {
                data: data.to_vec(),
                lengths: lengths.to_vec(),
                timestamps: timestamps.to_vec(),
            },
            sources: sources.to_vec(),
        })
    };
    match mode {
        "huge-output" => replace(&vec![7; 5 << 20], &[-1, 5 << 20, 0], &[0], &[0]),
        "large-output" => replace(&vec![7; 3 << 19], &[-1, 3 << 19, 0], &[0], &[0]),
        "huge-index" => replace(&[], &vec![-1; 300_000], &[0], &[0]),
        "length-beyond-data" => replace(b"abc", &[1, 100, 0], &[0], &[0]),
        "negative-length" => replace(b"abc", &[-2, 3, 0], &[0], &[0]),
        "data-left-over" => replace(b"abc", &[1, 1, 0], &[0], &[0]),
        "lengths-left-over" => replace(b"abc", &[1, 2, 0, 0], &[0], &[0]),
        "lengths-missing" => replace(b"abc", &[1, 2], &[0], &[0]),
        "negative-header-count" => replace(b"abc", &[1, 2, -1], &[0], &[0]),
        "absurd-header-count" => replace(b"abc", &[1, 2, i32::MAX], &[0], &[0]),
        "null-header-name" => replace(b"abc", &[1, 2, 1, -1, 0], &[0], &[0]),
        "header-name-not-utf8" => replace(b"abc\xff", &[1, 2, 1, 1, 0], &[0], &[0]),
        "timestamps-missing" => replace(b"abc", &[1, 2, 0], &[], &[0]),
        "timestamp-negative" => replace(b"abc", &[1, 2, 0], &[-7], &[0]),
        "source-out-of-range" => replace(b"abc", &[1, 2, 0], &[0], &[count as u32]),
        "sources-descending" => replace(b"", &[0, 0, 0, 0, 0, 0], &[0, 0], &[1, 0]),
        "sources-repeated" => replace(b"", &[0, 0, 0, 0, 0, 0], &[0, 0], &[1, 1]),
        "bitmap-short" => Answer::Keep(Vec::new()),
        "bitmap-long" => Answer::Keep(vec![1; count.div_ceil(8) + 1]),
        "bitmap-spare-bits" => Answer::Keep(vec![0xff]),
        "reject-nothing" => Answer::Reject(Vec::new()),
        "reject-out-of-range" => Answer::Reject(vec![RecordReject {
            index: count as u32,
            code: RejectCode::Other,
            message: String::new(),
        }]),
        "reject-with-a-book" => Answer::Reject(vec![RecordReject {
            index: 1,
            code: RejectCode::PolicyDenied,
            message: "no ".repeat(100_000),
        }]),
        _ => panic!("there is no mode {mode}"),
    }
}
