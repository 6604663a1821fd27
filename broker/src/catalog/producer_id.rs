//! Producer ids, given in ascending order from blocks that the store has reserved. What a block still holds when the
//! process ends is never given: a gap costs nothing, a repeated id would let one producer fence another.

use super::store::{Change, Table};
use super::{Catalog, CatalogError};
use crate::env::defects::{self, Defect};

const BLOCK: i64 = 1_000;
const KEY: &str = "producer_id";

impl Catalog {
    /// The next producer id; blocks of 1,000 are reserved in the store, so that an id is never given twice.
    pub fn next_producer_id(&self) -> Result<i64, CatalogError> {
        let mut ids = self.producer_ids.lock();
        if ids.is_empty() {
            let store = self.store.lock();
            let start = store
                .load::<i64>(Table::Counter)?
                .into_iter()
                .find(|(key, _)| key == KEY)
                .map_or(0, |(_, unreserved)| unreserved);
            let end = start
                .checked_add(BLOCK)
                .ok_or_else(|| CatalogError::Invalid("every producer id has been given".into()))?;
            if !defects::has(Defect::ReuseProducerIds) {
                store.commit_if_room(&[Change::put(Table::Counter, KEY, &end)?])?;
            }
            *ids = start..end;
        }
        let id = ids.start;
        ids.start += 1;
        Ok(id)
    }
}
