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
        let mut outcome = Outcome::new(batch);
        for (index, record) in (0..).zip(batch.records()) {
            match self.transform(&record, origin) {
                // Nothing else is told of a batch with a reject.
                Ok(_) if !rejects.is_empty() => {}
                Ok(change) => outcome.add(index, &record, &change),
                Err(reject) if rejects.len() < MAX_REJECTS => rejects.push(reject.at(index)),
                Err(_) => {}
            }
        }
        Ok(match rejects.is_empty() {
            true => outcome.answer(),
            false => Answer::Reject(rejects),
        })
    }
}

/// What becomes of a batch, as far as its records are known. Nothing is written before one of them changes.
struct Outcome<'b> {
    batch: &'b Batch<'b>,
    /// A bit for each record that stays, changed or not.
    kept: Vec<u8>,
    any_dropped: bool,
    new: Option<(Arena, Vec<u32>)>,
}

impl<'b> Outcome<'b> {
    fn new(batch: &'b Batch<'b>) -> Self {
        Self {
            batch,
            kept: vec![0; batch.len().div_ceil(8)],
            any_dropped: false,
            new: None,
        }
    }

    fn is_kept(&self, index: u32) -> bool {
        self.kept[index as usize / 8] & (1 << (index % 8)) != 0
    }

    fn add(&mut self, index: u32, record: &Record<'_>, change: &Change) {
        let is_new = matches!(change, Change::Value(_) | Change::Record(_));
        if is_new && self.new.is_none() {
            self.new = Some(self.written_before(index));
        }
        if *change == Change::Drop {
            self.any_dropped = true;
            return;
        }
        self.kept[index as usize / 8] |= 1 << (index % 8);
        if let Some((arena, sources)) = &mut self.new {
            push(arena, record, change);
            sources.push(index);
        }
    }

    /// The records that were kept ahead of the first new one.
    fn written_before(&self, end: u32) -> (Arena, Vec<u32>) {
        let mut arena = Arena::with_room_for(self.batch.bytes(), self.batch.len());
        let mut sources = Vec::with_capacity(self.batch.len());
        for (index, record) in (0..end).zip(self.batch.records()) {
            if self.is_kept(index) {
                push(&mut arena, &record, &Change::Keep);
                sources.push(index);
            }
        }
        (arena, sources)
    }

    fn answer(self) -> Answer {
        match self.new {
            Some((arena, sources)) => Answer::Replace(Replacement {
                batch: arena.into_wire(),
                sources,
            }),
            None if self.any_dropped => Answer::Keep(self.kept),
            None => Answer::Unchanged,
        }
    }
}

fn push(arena: &mut Arena, record: &Record<'_>, change: &Change) {
    let (key, headers, time) = (record.key, record.headers(), record.timestamp_ms);
    match change {
        Change::Drop => {}
        Change::Keep => arena.push(key, record.value, headers, time),
        Change::Value(value) => arena.push(key, value.as_deref(), headers, time),
        Change::Record(new) => arena.push(
            new.key.as_deref(),
            new.value.as_deref(),
            new.headers
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_deref())),
            new.timestamp_ms,
        ),
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
        let Answer::Replace(new) = answer(&["v", "a", "d", "v"]) else {
            panic!("what comes behind a new value is written too");
        };
        assert_eq!(new.sources, [0, 1, 3]);
        assert_eq!(new.batch.data, b"keynewkeyakeynew");
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
