//! Operations: one file each, saying what a client asks and what the answer means.

mod alter_config;
mod commit_offset;
mod create_topic;
mod delete_records;
mod delete_topic;
pub(crate) mod fetch;
pub(crate) mod fetch_offset;
mod idempotent;
mod list_offsets;
mod produce;
pub(crate) mod transaction;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::protocol::Request as ProtocolRequest;
use tidegate::log::records::BatchTemplate;
use tidegate_checker::OperationId;

use crate::network::Request;
use crate::random::Random;
use crate::recording::Sender;
use crate::shadow::{Kind, Shadow, Target};
use crate::wire;

/// What an operation is made from.
pub struct Surroundings<'a> {
    pub shadow: &'a mut Shadow,
    pub random: &'a mut Random,
    pub now_ms: i64,
}

/// One kind of operation.
#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    /// How often it is chosen, beside the others.
    pub weight: u64,
    /// Makes a request; `None` when there is nothing to ask now.
    pub issue: fn(&mut Surroundings<'_>) -> Option<Request>,
}

/// Every kind.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create topic",
        weight: 6,
        issue: create_topic::issue,
    },
    Operation {
        name: "delete topic",
        weight: 1,
        issue: delete_topic::issue,
    },
    Operation {
        name: "alter config",
        weight: 2,
        issue: alter_config::issue,
    },
    Operation {
        name: "delete records",
        weight: 2,
        issue: delete_records::issue,
    },
    Operation {
        name: "list offsets",
        weight: 8,
        issue: list_offsets::issue,
    },
    Operation {
        name: "produce",
        weight: 30,
        issue: produce::issue,
    },
    Operation {
        name: "idempotent produce",
        weight: 30,
        issue: idempotent::issue,
    },
    Operation {
        name: "fetch",
        weight: 20,
        issue: fetch::issue,
    },
    Operation {
        name: "commit offset",
        weight: 8,
        issue: commit_offset::issue,
    },
    Operation {
        name: "fetch offset",
        weight: 5,
        issue: fetch_offset::issue,
    },
    Operation {
        name: "transaction",
        weight: 70,
        issue: transaction::issue,
    },
    Operation {
        name: "fetch offset of a transaction",
        weight: 5,
        issue: transaction::issue_fetch,
    },
];

/// Lines (connections) that several kinds share; idempotent producers have their own after these.
const SHARED_LINES: u64 = 4;

pub(crate) use produce::VERSION as PRODUCE_VERSION;

/// One record for a partition, to see whether it takes any.
pub(crate) fn probe(
    shadow: &mut Shadow,
    target: &Target,
    now_ms: i64,
) -> (ProduceRequest, OperationId) {
    let numbers = shadow.numbers(1);
    if let Some(partition) = shadow.partition(target) {
        partition.send(&numbers, now_ms, false);
    }
    let batch = wire::batch(BatchTemplate::PLAIN, now_ms, &numbers);
    let sender = Sender::Plain { acks: -1 };
    let sent = shadow.recording.send(sender, target, &numbers);
    (produce::request(target, -1, batch), sent)
}

impl Surroundings<'_> {
    fn line(&mut self) -> usize {
        usize::try_from(self.random.below(SHARED_LINES)).unwrap_or(0)
    }

    /// A partition of an ordinary topic.
    fn target(&mut self) -> Option<Target> {
        let mut targets = self.shadow.targets();
        targets.retain(|target| {
            let topic = self.shadow.topics.get(&target.topic);
            topic.is_some_and(|topic| topic.kind == Kind::Ordinary)
        });
        self.random.pick(&targets).cloned()
    }

    /// A partition of any topic.
    fn any_target(&mut self) -> Option<Target> {
        let targets = self.shadow.targets();
        self.random.pick(&targets).cloned()
    }

    /// A request, and what its decoded answer means; `None` stands for no answer.
    fn request<R: ProtocolRequest + 'static>(
        &mut self,
        line: usize,
        label: String,
        (version, request): (i16, &R),
        settle: impl FnOnce(&mut Shadow, Option<R::Response>) -> Result<(), String> + 'static,
    ) -> Request {
        Request {
            label,
            line,
            frame: wire::frame(version, self.shadow.correlation(), request),
            settle: Box::new(move |shadow, answer: Option<Bytes>| {
                let answer = answer.map(|bytes| wire::answer::<R>(version, bytes));
                settle(shadow, answer.transpose()?)
            }),
        }
    }
}
