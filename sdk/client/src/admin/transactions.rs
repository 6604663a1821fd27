//! Transactional ids and their transactions.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, ListTransactionsRequest, TransactionalId,
};

use super::{Admin, Outcome, Target};
use crate::error::{ErrorCode, Result};
use crate::net::api::Api;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionDescription {
    pub transactional_id: String,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    /// In ms since 1970; `None` when there was no transaction yet.
    pub started_ms: Option<i64>,
    /// By topic: what the transaction that is open has written to.
    pub partitions: BTreeMap<String, Vec<i32>>,
}

impl Admin {
    /// Every transactional id of every broker, sorted.
    pub async fn transactions(&self) -> Result<Vec<TransactionDescription>> {
        self.client.refresh(Some(&[]), false).await?;
        let metadata = self.client.metadata();
        let mut all = Vec::new();
        for endpoint in metadata.brokers.values() {
            let target = Target::Broker(endpoint);
            let list = ListTransactionsRequest::default();
            let (broker, listed) = self.ask(target, &list).await?;
            let outcome = Outcome {
                broker: &broker,
                api: ListTransactionsRequest::NAME,
            };
            outcome.of("its transactions".into(), listed.error_code, None)?;
            let ids = listed.transaction_states.into_iter();
            let ids: Vec<TransactionalId> = ids.map(|state| state.transactional_id).collect();
            if ids.is_empty() {
                continue;
            }
            let describe = DescribeTransactionsRequest::default().with_transactional_ids(ids);
            let (broker, described) = self.ask(target, &describe).await?;
            let outcome = Outcome {
                broker: &broker,
                api: DescribeTransactionsRequest::NAME,
            };
            for state in described.transaction_states {
                let subject = format!("transactional id {}", &*state.transactional_id);
                match outcome.of(subject, state.error_code, None) {
                    Ok(()) => all.push(description(state)),
                    // Forgotten since it was listed.
                    Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        all.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
        Ok(all)
    }
}

fn description(state: TransactionState) -> TransactionDescription {
    let topics = state.topics.into_iter();
    TransactionDescription {
        transactional_id: state.transactional_id.to_string(),
        state: state.transaction_state.to_string(),
        producer_id: state.producer_id.0,
        producer_epoch: state.producer_epoch,
        timeout_ms: state.transaction_timeout_ms,
        started_ms: Some(state.transaction_start_time_ms).filter(|at| *at >= 0),
        partitions: topics
            .map(|topic| (topic.topic.to_string(), topic.partitions))
            .collect(),
    }
}
