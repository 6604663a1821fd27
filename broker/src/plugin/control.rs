//! Records and an action that every plugin answers: it did when it was deployed (its *dry run*). When it does not any more, or
//! not for a topic, the plugin is what is broken, and not what a client sent ([`super::bisect`]).

use std::sync::LazyLock;

use bytes::Bytes;

use super::component::World;
use super::instance::{AuthorizerCaller, Instance};
use super::{BatchOrigin, FailureKind, PluginAction};
use crate::log::records::Record;
use crate::types::Principal;

/// The topic, principal and listener that a plugin sees in its dry run.
const DRY_RUN: &str = "dry-run";
pub const ORIGIN: BatchOrigin<'static> = BatchOrigin {
    topic: DRY_RUN,
    partition: 0,
    partition_count: 3,
    base_sequence: None,
};

static SAMPLES: LazyLock<Vec<Record>> = LazyLock::new(samples);

/// Asks a plugin of any world. `origin` is a batch's own, or the dry run's.
pub fn ask(
    guest: &mut Instance,
    world: World,
    origin: &BatchOrigin<'_>,
) -> Result<(), FailureKind> {
    match world {
        World::Partitioner => guest.assign(origin, &SAMPLES).map(drop),
        World::Transform => guest.apply(origin, &SAMPLES).map(drop),
        World::Authorizer => {
            let principal = Principal::user(DRY_RUN);
            let caller = AuthorizerCaller {
                principal: &principal,
                host: "127.0.0.1",
                listener: DRY_RUN,
                client_id: None,
            };
            let action = PluginAction {
                operation: 3,
                resource_type: 2,
                resource_name: DRY_RUN.into(),
            };
            guest.check(&caller, &[&action]).map(drop)
        }
    }
}

/// Records with everything that Kafka allows: nulls, empties, text that is JSON and bytes that are none, headers.
fn samples() -> Vec<Record> {
    let field = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
    let pairs = [
        (None, None),
        (field(b""), field(b"")),
        (field(b"key"), field(br#"{"id":1,"name":"sample"}"#)),
        (field(b"\xff\x00"), field(b"\x00\x01\xfe\xff")),
        (field(b"key"), None),
    ];
    (0..)
        .zip(pairs)
        .map(|(offset_delta, (key, value))| Record {
            offset_delta,
            timestamp: 1_700_000_000_000 + i64::from(offset_delta),
            key,
            value,
            headers: vec![
                (Bytes::from_static(b"name"), field(b"value")),
                (Bytes::from_static(b"null"), None),
            ],
        })
        .collect()
}
