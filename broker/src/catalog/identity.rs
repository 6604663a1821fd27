//! Who this broker is, where the configuration does not say: made once, and kept with what it names.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::store::{Change, Table};
use super::{Catalog, CatalogError};

const CLUSTER: &str = "cluster";

impl Catalog {
    /// The cluster's id. The first call makes it of these random bytes and stores it; every later one answers the same.
    pub fn cluster_id(&self, random: [u8; 16]) -> Result<String, CatalogError> {
        let store = self.store.lock();
        let stored = store.load::<String>(Table::Identity)?.into_iter();
        let mut stored = stored.filter(|(key, _)| key == CLUSTER);
        if let Some((_, id)) = stored.next() {
            return Ok(id);
        }
        let id = as_kafka_writes(random);
        store.commit(&[Change::put(Table::Identity, CLUSTER, &id)?])?;
        Ok(id)
    }
}

/// A version 4 UUID in 22 characters of base64, as Kafka writes its own; none begins with a dash, which command lines take for
/// an option.
fn as_kafka_writes(mut random: [u8; 16]) -> String {
    if random[0] >> 2 == 0b11_1110 {
        random[0] ^= 0x80;
    }
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let first = {
            let catalog = Catalog::open(folder.path()).expect("it opens");
            let first = catalog.cluster_id([7; 16]).expect("it is made");
            let again = catalog.cluster_id([8; 16]).expect("it is read");
            assert_eq!(again, first);
            first
        };
        let catalog = Catalog::open(folder.path()).expect("it opens");
        let again = catalog.cluster_id([9; 16]).expect("it is read");
        assert_eq!(again, first);
    }

    #[test]
    fn an_id_has_kafkas_form() {
        for first in 0..=u8::MAX {
            let mut random = [0x5a; 16];
            random[0] = first;
            let id = as_kafka_writes(random);
            assert_eq!(id.len(), 22, "{id}");
            assert!(!id.starts_with('-'), "{id}");
        }
        assert_ne!(as_kafka_writes([1; 16]), as_kafka_writes([2; 16]));
    }
}
