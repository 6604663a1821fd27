//! Places records by a field of their JSON value: the same field, the same partition, whatever the client did with the key.
//!
//! The field's bytes are hashed as Kafka's clients hash keys (murmur2), so that a record lands where a client would have put it
//! that used the field as its key.

use tidegate_plugin::json::{self, Path};
use tidegate_plugin::{
    Columns, Config, Origin, Partitioner, Place, Record, Reject, RejectCode, export_partitioner,
};

struct PartitionByField {
    field: Path,
    reject_missing: bool,
}

impl Partitioner for PartitionByField {
    fn new(config: &Config) -> Result<Self, String> {
        config.only(&["field", "missing"])?;
        Ok(Self {
            field: Path::parse(config.required("field")?)?,
            reject_missing: config.choice("missing", &[("keep", false), ("reject", true)])?,
        })
    }

    fn columns(&self) -> Columns {
        Columns {
            value: true,
            ..Columns::NONE
        }
    }

    fn place(&self, record: &Record<'_>, origin: &Origin<'_>) -> Result<Place, Reject> {
        let field = record
            .value
            .and_then(|value| json::find(value, &self.field));
        match field {
            Some(field) => {
                // Kafka's clients clear the sign instead of taking the absolute value.
                let hash = murmur2(field.plain().as_bytes()) & 0x7fff_ffff;
                Ok(Place::Partition(hash % origin.partition_count))
            }
            None if self.reject_missing => Err(Reject::new(
                RejectCode::SchemaMismatch,
                format!("the value has no field {}", self.field),
            )),
            None => Ok(Place::Keep),
        }
    }
}

export_partitioner!(PartitionByField);

/// The hash of Kafka's default partitioner (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests;
