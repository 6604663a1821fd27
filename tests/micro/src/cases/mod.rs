//! The cases, and the table of them.

mod log;
mod plugin;
mod protocol;

use anyhow::Result;

/// One operation, and what it needs.
pub trait Case {
    /// Makes what the next `count` operations use up, or clears away what the last ones left. Neither counted nor timed.
    fn prepare(&mut self, _count: usize) {}

    /// The operation.
    ///
    /// # Panics
    /// When the broker refuses what it must take.
    fn run(&mut self);
}

/// One row of the table.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Operations that are counted together: more where the first differ from the later ones.
    pub operations: usize,
    pub make: fn() -> Result<Box<dyn Case>>,
}

macro_rules! cases {
    ($($name:literal x $operations:literal: $make:expr, $what:literal;)*) => {
        /// Every case.
        pub static CASES: &[Entry] = &[$(Entry {
            name: $name,
            what: $what,
            operations: $operations,
            make: || Ok(Box::new($make?)),
        }),*];
    };
}

cases! {
    "validate-1k" x 100: log::Validate::new(1, 1000), "batch::parse of a batch of one record of 1,000 bytes";
    "validate-1m" x 4: log::Validate::new(1000, 1000), "batch::parse of a batch of 1,000 records of 1,000 bytes";
    "append-1k" x 200: log::Append::new(1, 1000), "PartitionLog::append of a batch of one record of 1,000 bytes";
    "append-1m" x 20: log::Append::new(1000, 1000), "PartitionLog::append of a batch of 1,000 records of 1,000 bytes";
    "look-up-offset" x 100: log::LookUp::offset(), "PartitionLog::read of one small batch somewhere in a segment of 20,000: index, batch headers, batch";
    "look-up-time" x 100: log::LookUp::time(), "PartitionLog::find_offset of a time in the same segment";
    "read-tail-1k" x 100: log::Read::new(1, 1000), "PartitionLog::read of the newest batch, of one record of 1,000 bytes, that the reader has come to";
    "read-tail-1m" x 4: log::Read::new(1000, 1000), "PartitionLog::read of the newest batch, of 1,000 records of 1,000 bytes, that the reader has come to";
    "decode-produce" x 100: protocol::Decode::produce(), "header and body of a Produce request of 10 partitions";
    "decode-fetch" x 100: protocol::Decode::fetch(), "header and body of a Fetch request of 100 partitions";
    "encode-fetch" x 50: protocol::EncodeFetch::new(), "the Fetch answer of 10 partitions with a batch each";
    "serve-produce" x 100: protocol::Serve::produce(), "a Produce request (acks=1) of one batch of 1,000 bytes, from frame to answer";
    "serve-fetch" x 100: protocol::Serve::fetch(), "a Fetch request of one partition with one batch of 1,000 bytes, from frame to answer";
    "plugin-transform" x 20: plugin::Call::transform(), "PluginHost::transform of 1,000 records by the plugin identity";
    "plugin-partitioner" x 10: plugin::Call::partitioner(), "PluginHost::assign of 1,000 records of JSON by the plugin partition-by-field";
}

/// The case of a name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CASES.iter().find(|entry| entry.name == name)
}
