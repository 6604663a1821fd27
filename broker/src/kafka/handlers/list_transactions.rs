//! ListTransactions (key 66; KIP-664), versions 0–1: every transactional id that the session may DESCRIBE.
//!
//! Filters by state, by producer id and, from version 1 on, by how long a transaction has been open in milliseconds (KIP-994); an
//! empty filter lets all pass. States that do not exist are told back. Left out: version 2, a regular expression over ids.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::transaction::{State, Transaction};
use crate::kafka::context::Context;
use crate::types::TimestampMs;

pub const VERSIONS: RangeInclusive<i16> = 0..=1;

pub async fn handle(
    context: &Context,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let now_ms = context.services.clock.now_ms();
    let all = context.services.transactions.list().into_iter();
    let matching: Vec<(Arc<str>, Transaction)> = all
        .filter(|(_, transaction)| passes(&request, transaction, now_ms))
        .collect();
    let ids: Vec<&str> = matching.iter().map(|(id, _)| &**id).collect();
    let visible = match ids.is_empty() {
        true => Vec::new(),
        false => context.authorize_each(Operation::Describe, ResourceType::TransactionalId, &ids),
    };
    let listed = matching.iter().zip(visible);
    let listed = listed
        .filter(|(_, visible)| *visible)
        .filter_map(|((id, transaction), _)| {
            let id = context.transactional_id_out(id)?;
            let state = StrBytes::from_static_str(transaction.state.name());
            let listed = TransactionState::default().with_transactional_id(TransactionalId(id));
            let producer_id = ProducerId(transaction.producer.id);
            Some(
                listed
                    .with_producer_id(producer_id)
                    .with_transaction_state(state),
            )
        });
    let unknown = request
        .state_filters
        .iter()
        .filter(|name| state(name).is_none());
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.cloned().collect())
        .with_transaction_states(listed.collect())
}

fn state(name: &str) -> Option<State> {
    State::ALL.into_iter().find(|state| state.name() == name)
}

fn passes(
    request: &ListTransactionsRequest,
    transaction: &Transaction,
    now_ms: TimestampMs,
) -> bool {
    let states = &request.state_filters;
    let ids = &request.producer_id_filters;
    let is_state = states
        .iter()
        .any(|name| state(name) == Some(transaction.state));
    let is_producer = ids.iter().any(|id| id.0 == transaction.producer.id);
    let is_old = request.duration_filter < 0
        || (transaction.started_ms >= 0
            && now_ms.saturating_sub(transaction.started_ms) > request.duration_filter);
    (states.is_empty() || is_state) && (ids.is_empty() || is_producer) && is_old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_regard_state_producer_and_age() {
        let mut transaction = Transaction::new(7, 0);
        transaction.state = State::Ongoing;
        transaction.started_ms = 1_000;
        let request = |states: &[&'static str], ids: &[i64], duration| {
            ListTransactionsRequest::default()
                .with_state_filters(states.iter().map(|name| (*name).into()).collect())
                .with_producer_id_filters(ids.iter().map(|id| ProducerId(*id)).collect())
                .with_duration_filter(duration)
        };
        let table = [
            (request(&[], &[], -1), true),
            (request(&["Empty", "Ongoing"], &[7], 500), true),
            (request(&["Empty"], &[], -1), false),
            (request(&["nonsense"], &[], -1), false),
            (request(&[], &[8], -1), false),
            (request(&[], &[], 2_000), false),
        ];
        for (request, expected) in table {
            assert_eq!(
                passes(&request, &transaction, 2_000),
                expected,
                "{request:?}"
            );
        }
    }
}
