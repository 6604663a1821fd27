//! A partitioner that does what its setting `mode` says, on batches of the topic `hostile`.

use tidegate_plugin::{
    Assignment, Batch, CallError, Config, Origin, Partitioner, Place, Record, Reject, RejectCode,
};

struct Misplacer {
    mode: String,
}

impl Partitioner for Misplacer {
    fn new(config: &Config) -> Result<Self, String> {
        Ok(Self {
            mode: config.required("mode")?.to_owned(),
        })
    }

    fn place(&self, record: &Record<'_>, _origin: &Origin<'_>) -> Result<Place, Reject> {
        match record.key {
            None => Err(Reject::new(RejectCode::SchemaMismatch, "a key is wanted")),
            Some([partition]) => Ok(Place::Partition(u32::from(*partition))),
            Some(_) => Ok(Place::Keep),
        }
    }

    fn assign(&self, batch: &Batch<'_>, origin: &Origin<'_>) -> Result<Assignment, CallError> {
        if origin.topic != "hostile" {
            return Ok(Assignment::Unchanged);
        }
        Ok(match self.mode.as_str() {
            "out-of-range" => Assignment::Partitions(vec![origin.partition_count; batch.len()]),
            "too-few" => Assignment::Partitions(vec![0; batch.len() - 1]),
            "too-many" => Assignment::Partitions(vec![0; batch.len() + 1]),
            "by-key" => return Partitioner::assign(&ByKey(self), batch, origin),
            mode => panic!("there is no mode {mode}"),
        })
    }
}

/// The trait's own `assign` over `place`.
struct ByKey<'m>(&'m Misplacer);

impl Partitioner for ByKey<'_> {
    fn new(_config: &Config) -> Result<Self, String> {
        Err("it is made from a Misplacer".into())
    }

    fn place(&self, record: &Record<'_>, origin: &Origin<'_>) -> Result<Place, Reject> {
        self.0.place(record, origin)
    }
}

tidegate_plugin::export_partitioner!(Misplacer);
