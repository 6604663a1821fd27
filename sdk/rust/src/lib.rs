//! Write Tidegate plugins in Rust: implement one trait, export it with one macro, build for `wasm32-wasip2`.
//!
//! ```
//! use tidegate_plugin::{Columns, Config, Origin, Place, Partitioner, Record, Reject};
//!
//! struct FirstByte;
//!
//! impl Partitioner for FirstByte {
//!     fn new(_config: &Config) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn columns(&self) -> Columns {
//!         Columns { key: true, ..Columns::NONE }
//!     }
//!     fn place(&self, record: &Record<'_>, origin: &Origin<'_>) -> Result<Place, Reject> {
//!         match record.key.and_then(|key| key.first()) {
//!             Some(first) => Ok(Place::Partition(u32::from(*first) % origin.partition_count)),
//!             None => Ok(Place::Keep),
//!         }
//!     }
//! }
//!
//! tidegate_plugin::export_partitioner!(FirstByte);
//! # fn main() {}
//! ```
//!
//! The nouns: a [`Batch`] is what one call brings; it is read as borrowed [`Record`]s. A plugin names the [`Columns`] it wants to
//! see; what it leaves out looks absent and costs nothing. A [`Reject`] refuses one record for good, a [`CallError`] the whole
//! call. A panic costs the instance, is reported as a trap, and counts against the plugin.
//!
//! Everything but the export macros works natively, so that a plugin's logic is tested by plain `cargo test`.

pub mod authorizer;
mod batch;
#[doc(hidden)]
pub mod bindings;
mod config;
#[doc(hidden)]
pub mod instance;
#[cfg(feature = "json")]
pub mod json;
pub mod log;
pub mod metrics;
pub mod partitioner;
pub mod transform;

pub use authorizer::{Action, Authorizer, Decision, Principal, Verdict, now_ms};
pub use batch::{Arena, Batch, Columns, Headers, Origin, Record, Records};
pub use bindings::partitioner::tidegate::plugin::types::{CallError, RejectCode};
pub use config::Config;
pub use partitioner::{Assignment, Partitioner, Place};
pub use transform::{Answer, Change, NewRecord, Transform};

use bindings::partitioner::tidegate::plugin::types::RecordReject;

/// Rejects of one batch that are told: the batch is refused for the first one, and an answer has a bound.
const MAX_REJECTS: usize = 1000;

/// Why a plugin will never accept a record. The message reaches the client.
#[derive(Clone, Debug)]
pub struct Reject {
    pub code: RejectCode,
    pub message: String,
}

impl Reject {
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn at(self, index: u32) -> RecordReject {
        RecordReject {
            index,
            code: self.code,
            message: self.message,
        }
    }
}
