//! The world `transform`: at most one record out for each record in.

use std::marker::PhantomData;

use crate::batch::{Arena, Batch, Columns, Origin};
use crate::bindings::transform::exports::tidegate::plugin::transformation::{
    BatchOrigin, Guest, RecordBatch, Replacement,
};
use crate::config::Config;
use crate::instance::{Installed, config, install, with};
use crate::{CallError, MAX_REJECTS, Record, Reject};

pub use crate::bindings::transform::exports::tidegate::plugin::transformation::Answer;

/// What becomes of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Keep,
    Drop,
    /// Another value; key, headers and timestamp stay.
    Value(Option<Vec<u8>>),
    Record(NewRecord),
}

/// A record written anew. Columns that the plugin did not ask for stay as they were, whatever is written here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Names are UTF-8.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub timestamp_ms: i64,
}

/// A pure function from a record to what becomes of it. Export it with [`export_transform!`](crate::export_transform).
pub trait Transform: Sized {
    /// Reads the configuration. The error reaches whoever deploys the plugin.
    fn new(config: &Config) -> Result<Self, String>;

    fn columns(&self) -> Columns {
        Columns::ALL
    }

    fn transform(&self, record: &Record<'_>, origin: &Origin<'_>) -> Result<Change, Reject>;

    /// A whole batch. Override it when it can be answered without looking at each record.
    fn apply(&self, batch: &Batch<'_>, origin: &Origin<'_>) -> Result<Answer, CallError> {
        let mut rejects = Vec::new();
        let mut changes = Vec::with_capacity(batch.len());
        for (index, record) in (0..).zip(batch.records()) {
            match self.transform(&record, origin) {
                Ok(change) => changes.push(change),
                Err(reject) if rejects.len() < MAX_REJECTS => rejects.push(reject.at(index)),
                Err(_) => {}
            }
        }
        if !rejects.is_empty() {
            return Ok(Answer::Reject(rejects));
        }
        Ok(if changes.iter().all(|change| *change == Change::Keep) {
            Answer::Unchanged
        } else if changes
            .iter()
            .all(|change| matches!(change, Change::Keep | Change::Drop))
        {
            Answer::Keep(bitmap(&changes))
        } else {
            Answer::Replace(replacement(batch, &changes))
        })
    }
}

fn bitmap(changes: &[Change]) -> Vec<u8> {
    let mut bits = vec![0; changes.len().div_ceil(8)];
    for (index, change) in changes.iter().enumerate() {
        if *change == Change::Keep {
            bits[index / 8] |= 1 << (index % 8);
        }
    }
    bits
}

fn replacement(batch: &Batch<'_>, changes: &[Change]) -> Replacement {
    let mut arena = Arena::with_room_for(batch.bytes(), batch.len());
    let mut sources = Vec::with_capacity(batch.len());
    for ((index, record), change) in (0..).zip(batch.records()).zip(changes) {
        match change {
            Change::Drop => continue,
            Change::Keep => arena.push(
                record.key,
                record.value,
                record.headers(),
                record.timestamp_ms,
            ),
            Change::Value(value) => arena.push(
                record.key,
                value.as_deref(),
                record.headers(),
                record.timestamp_ms,
            ),
            Change::Record(new) => arena.push(
                new.key.as_deref(),
                new.value.as_deref(),
                new.headers
                    .iter()
                    .map(|(name, value)| (name.as_slice(), value.as_deref())),
                new.timestamp_ms,
            ),
        }
        sources.push(index);
    }
    Replacement {
        batch: arena.into_wire(),
        sources,
    }
}

#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Transform + Installed> Guest for Exported<P> {
    fn init() -> Result<Columns, String> {
        let plugin = P::new(&config())?;
        let columns = plugin.columns();
        install(plugin);
        Ok(columns)
    }

    fn apply(origin: BatchOrigin, batch: RecordBatch) -> Result<Answer, CallError> {
        with(|plugin: &P| {
            let records = Batch::new(&batch, origin.record_count);
            plugin.apply(&records, &Origin::new(&origin, 0))
        })
    }
}

/// Makes a type that implements [`Transform`](crate::Transform) the plugin of this component.
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        $crate::install!($plugin);
        // Elsewhere the exports' names are none that a linker takes, and nobody would call them.
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::transform::Exported<$plugin>;
            $crate::bindings::transform::export_transform_world!(Exported with_types_in $crate::bindings::transform);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::transform::usable::<$plugin>;
    };
}

/// Natively, what the export macro leaves of a plugin: that it is one.
#[doc(hidden)]
pub fn usable<P: Transform + Installed>() {
    let _ = P::new(&config()).map(install::<P>);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ByFirstByte;

    impl Transform for ByFirstByte {
        fn new(_config: &Config) -> Result<Self, String> {
            Ok(Self)
        }
        fn transform(&self, record: &Record<'_>, _origin: &Origin<'_>) -> Result<Change, Reject> {
            Ok(match record.value.and_then(|value| value.first()) {
                Some(b'd') => Change::Drop,
                Some(b'v') => Change::Value(Some(b"new".to_vec())),
                Some(b'r') => {
                    return Err(Reject::new(crate::RejectCode::Malformed, "no r"));
                }
                _ => Change::Keep,
            })
        }
    }

    fn answer(values: &[&str]) -> Answer {
        let mut arena = Arena::default();
        for value in values {
            arena.push(Some(b"key"), Some(value.as_bytes()), [], 5);
        }
        ByFirstByte
            .apply(&arena.batch(), &Origin::default())
            .unwrap()
    }

    #[test]
    fn the_smallest_answer_that_says_it_all_is_given() {
        assert!(matches!(answer(&["a", "b"]), Answer::Unchanged));
        assert!(matches!(answer(&[]), Answer::Unchanged));
        let Answer::Keep(bits) = answer(&["a", "d", "a", "a", "a", "a", "a", "a", "d", "a"]) else {
            panic!("dropping alone is answered by a bitmap");
        };
        assert_eq!(bits, [0b1111_1101, 0b10]);
        let Answer::Replace(new) = answer(&["a", "d", "v"]) else {
            panic!("a new value needs a replacement");
        };
        assert_eq!(new.sources, [0, 2]);
        assert_eq!(new.batch.data, b"keyakeynew");
        assert_eq!(new.batch.lengths, [3, 1, 0, 3, 3, 0]);
        assert_eq!(new.batch.timestamps, [5, 5]);
        let Answer::Reject(rejects) = answer(&["a", "r", "v", "r"]) else {
            panic!("a refusal stands above everything else");
        };
        assert_eq!(
            rejects
                .iter()
                .map(|reject| reject.index)
                .collect::<Vec<_>>(),
            [1, 3]
        );
    }
}
