//! What each corpus begins with.

use crate::coordinator::record::tests as coordinator;
use crate::coordinator::transaction::record::tests as transaction;
use crate::kafka::guard::tests as guard;
use crate::log::fuzz::seeds as log;

/// Names and inputs of a target.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "batch" => log::batch(),
        "checkpoint" => log::checkpoint(),
        "index" => log::index(),
        "offsets_record" => coordinator::seeds(),
        "recovery" => log::recovery(),
        "request" => guard::seeds(),
        "segment_header" => log::segment_header(),
        "transaction_record" => transaction::seeds(),
        _ => Vec::new(),
    }
}
