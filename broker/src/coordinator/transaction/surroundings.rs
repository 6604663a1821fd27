//! The rest of the broker as transactions see it: producer ids, and the partitions that take markers.

use std::sync::Arc;

use futures_util::FutureExt;

use crate::catalog::Catalog;
use crate::coordinator::Coordinator;
use crate::coordinator::pending::Durable;
use crate::log::{AppendError, LogSet, OpenTransaction, PartitionLog, TransactionMarker};
use crate::types::{CONSUMER_OFFSETS, PartitionId, PartitionIndex};

/// The seam between the driver and everything that is not a transaction's state.
pub trait Surroundings: Send + Sync + std::fmt::Debug {
    /// An id that was never given. Blocking.
    fn new_producer_id(&self) -> Result<i64, String>;

    /// Writes the end of a producer's transaction into a partition; what is given resolves when that is durable. `None` when
    /// the partition does not exist.
    fn mark(
        &self,
        topic: &str,
        partition: PartitionIndex,
        marker: TransactionMarker,
    ) -> Result<Option<Durable<String>>, AppendError>;

    /// What is open in any partition.
    fn open_transactions(&self) -> Vec<(String, PartitionIndex, OpenTransaction)>;
}

/// This broker's own partitions.
#[derive(Debug)]
pub struct Local {
    pub catalog: Arc<Catalog>,
    pub logs: Arc<LogSet>,
    pub groups: Arc<Coordinator>,
}

impl Local {
    fn log(&self, topic: &str, index: PartitionIndex) -> Option<Arc<PartitionLog>> {
        let topic = self.catalog.topic(topic)?.id;
        self.logs.get(PartitionId { topic, index })
    }
}

impl Surroundings for Local {
    fn new_producer_id(&self) -> Result<i64, String> {
        self.catalog
            .next_producer_id()
            .map_err(|error| error.to_string())
    }

    fn mark(
        &self,
        topic: &str,
        partition: PartitionIndex,
        marker: TransactionMarker,
    ) -> Result<Option<Durable<String>>, AppendError> {
        let Some(log) = self.log(topic, partition) else {
            return Ok(None);
        };
        if topic == CONSUMER_OFFSETS {
            let partition = usize::try_from(partition).unwrap_or(0);
            return self.groups.end_transaction(partition, marker).map(Some);
        }
        let offset = log.append_marker(&marker)?.last_offset;
        let durable = async move {
            let committed = log.committed(offset).await;
            committed.map_err(|error| error.to_string())
        };
        Ok(Some(durable.boxed()))
    }

    fn open_transactions(&self) -> Vec<(String, PartitionIndex, OpenTransaction)> {
        let mut all = Vec::new();
        for topic in self.catalog.topics() {
            for index in 0..topic.partitions {
                let topic_id = topic.id;
                let log = self.logs.get(PartitionId {
                    topic: topic_id,
                    index,
                });
                let open = log.map(|log| log.open_transactions()).unwrap_or_default();
                let open = open.into_iter();
                all.extend(open.map(|open| (topic.name.as_str().to_owned(), index, open)));
            }
        }
        all
    }
}
