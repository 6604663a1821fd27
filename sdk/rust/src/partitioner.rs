//! The world `partitioner`: a partition for each record.

use std::marker::PhantomData;

use crate::batch::{Batch, Columns, Origin};
use crate::bindings::partitioner::exports::tidegate::plugin::partitioning::{
    BatchOrigin, Guest, RecordBatch,
};
use crate::config::Config;
use crate::instance::{Installed, config, install, with};
use crate::{CallError, MAX_REJECTS, Record, Reject};

pub use crate::bindings::partitioner::exports::tidegate::plugin::partitioning::Assignment;

/// What the host reads as "the partition that the client chose".
const KEEP: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where the client sent it.
    Keep,
    /// Below the origin's `partition_count`.
    Partition(u32),
}

/// A pure function from a record to its partition. Export it with [`export_partitioner!`](crate::export_partitioner).
pub trait Partitioner: Sized {
    /// Reads the configuration. The error reaches whoever deploys the plugin.
    fn new(config: &Config) -> Result<Self, String>;

    fn columns(&self) -> Columns {
        Columns::ALL
    }

    fn place(&self, record: &Record<'_>, origin: &Origin<'_>) -> Result<Place, Reject>;

    /// A whole batch. Override it when it can be answered without looking at each record.
    fn assign(&self, batch: &Batch<'_>, origin: &Origin<'_>) -> Result<Assignment, CallError> {
        let mut rejects = Vec::new();
        let mut moved = false;
        let mut partitions = Vec::with_capacity(batch.len());
        for (index, record) in (0..).zip(batch.records()) {
            partitions.push(match self.place(&record, origin) {
                Ok(Place::Partition(partition)) => {
                    moved = true;
                    partition
                }
                Ok(Place::Keep) => KEEP,
                Err(reject) => {
                    if rejects.len() < MAX_REJECTS {
                        rejects.push(reject.at(index));
                    }
                    KEEP
                }
            });
        }
        Ok(if !rejects.is_empty() {
            Assignment::Reject(rejects)
        } else if moved {
            Assignment::Partitions(partitions)
        } else {
            Assignment::Unchanged
        })
    }
}

#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Partitioner + Installed> Guest for Exported<P> {
    fn init() -> Result<Columns, String> {
        let plugin = P::new(&config())?;
        let columns = plugin.columns();
        install(plugin);
        Ok(columns)
    }

    fn assign(
        origin: BatchOrigin,
        partition_count: u32,
        batch: RecordBatch,
    ) -> Result<Assignment, CallError> {
        with(|plugin: &P| {
            let records = Batch::new(&batch, origin.record_count);
            plugin.assign(&records, &Origin::new(&origin, partition_count))
        })
    }
}

/// Makes a type that implements [`Partitioner`](crate::Partitioner) the plugin of this component.
#[macro_export]
macro_rules! export_partitioner {
    ($plugin:ty) => {
        $crate::install!($plugin);
        // Elsewhere the exports' names are none that a linker takes, and nobody would call them.
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::partitioner::Exported<$plugin>;
            $crate::bindings::partitioner::export_partitioner_world!(Exported with_types_in $crate::bindings::partitioner);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = $crate::partitioner::usable::<$plugin>;
    };
}

/// Natively, what the export macro leaves of a plugin: that it is one.
#[doc(hidden)]
pub fn usable<P: Partitioner + Installed>() {
    let _ = P::new(&config()).map(install::<P>);
}
