//! ListTransactions (key 66; KIP-664), versions 0–2: every transactional id that the session may DESCRIBE.
//!
//! Filters by state, by producer id, from version 1 on by how long a transaction has been open in milliseconds (KIP-994), and from
//! version 2 on by a regular expression that the whole id matches (KIP-1152); an empty filter lets all pass. States that do not exist
//! are told back. An expression that cannot be read, or grows too large, is INVALID_REGULAR_EXPRESSION.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use regex::{Regex, RegexBuilder};

use crate::catalog::{Operation, ResourceType};
use crate::coordinator::transaction::{State, Transaction};
use crate::kafka::context::Context;
use crate::types::TimestampMs;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;
/// What an expression and its compiled form may take, in bytes; a short one may ask for gigabytes.
const MAX_PATTERN_LENGTH: usize = i16::MAX as usize;
const MAX_COMPILED_BYTES: usize = 1 << 20;

pub async fn handle(
    context: &Context,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let Ok(pattern) = pattern(request.transactional_id_pattern.as_deref()) else {
        let code = ResponseError::InvalidRegularExpression.code();
        return ListTransactionsResponse::default().with_error_code(code);
    };
    let now_ms = context.services.clock.now_ms();
    let all = context.services.transactions.list().await.into_iter();
    let matching: Vec<(Arc<str>, Transaction)> = all
        .filter(|(_, transaction)| passes(&request, transaction, now_ms))
        .filter(|(id, _)| pattern.as_ref().is_none_or(|it| it.is_match(id)))
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

/// `None` lets all pass, as an empty text does.
fn pattern(text: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.len() > MAX_PATTERN_LENGTH {
        return Err(regex::Error::CompiledTooBig(MAX_PATTERN_LENGTH));
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
    };
    // By itself first: `a)|(b` is an expression only between the parentheses.
    build(text)?;
    build(&format!("^(?:{text})$")).map(Some)
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
    fn a_pattern_matches_whole_ids_and_is_bounded() {
        let matches = |text: &str, id: &str| {
            let pattern = pattern(Some(text)).expect("the expression is good");
            pattern.is_none_or(|pattern| pattern.is_match(id))
        };
        assert!(matches("", "any") && matches("bill.*", "billing-1"));
        assert!(matches("a|bc", "bc") && !matches("a|bc", "abc"));
        for bad in ["(", "a)|(b", r"(\w{1000}){1000}"] {
            assert!(pattern(Some(bad)).is_err(), "{bad}");
        }
        assert!(pattern(None).is_ok_and(|pattern| pattern.is_none()));
    }

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
