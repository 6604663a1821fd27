//! The groups, transactional ids and topics that a request names: from the client's names to the broker's, as far as the session may use them.
//! The same few steps for every API.

use std::collections::HashSet;
use std::hash::Hash;

use kafka_protocol::ResponseError;

use super::context::Context;
use crate::catalog::{Operation, ResourceType};

/// The broker's name of a group on which the session may do this.
///
/// # Errors
/// The code of an illegal name, or `GroupAuthorizationFailed`.
pub fn group(context: &Context, operation: Operation, name: &str) -> Result<String, ResponseError> {
    let name = context.group_in(name)?;
    if context.authorize(operation, ResourceType::Group, &name) {
        Ok(name)
    } else {
        Err(ResponseError::GroupAuthorizationFailed)
    }
}

/// The broker's name of a transactional id on which the session may do this.
///
/// # Errors
/// The code of an illegal name, or `TransactionalIdAuthorizationFailed`.
pub fn transactional_id(
    context: &Context,
    operation: Operation,
    name: &str,
) -> Result<String, ResponseError> {
    let name = context.transactional_id_in(name)?;
    match context.authorize(operation, ResourceType::TransactionalId, &name) {
        true => Ok(name),
        false => Err(ResponseError::TransactionalIdAuthorizationFailed),
    }
}

/// The broker's names of topics on which the session may do this, one outcome for each.
pub fn topics<'a>(
    context: &Context,
    operation: Operation,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<Result<String, ResponseError>> {
    let mut outcomes: Vec<_> = names
        .into_iter()
        .map(|name| context.topic_in(name))
        .collect();
    authorize_topics(context, operation, &mut outcomes);
    outcomes
}

/// Turns every name on which the session may not do this into `TopicAuthorizationFailed`; errors stay as they are.
pub fn authorize_topics(
    context: &Context,
    operation: Operation,
    outcomes: &mut [Result<String, ResponseError>],
) {
    let named: Vec<&str> = outcomes.iter().flatten().map(String::as_str).collect();
    if named.is_empty() {
        return;
    }
    let allowed = context.authorize_each(operation, ResourceType::Topic, &named);
    let named = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    for (outcome, allowed) in named.zip(allowed) {
        if !allowed {
            *outcome = Err(ResponseError::TopicAuthorizationFailed);
        }
    }
}

/// Which items come more than once.
pub fn duplicates<T: Hash + Eq>(items: impl IntoIterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for item in items {
        if seen.contains(&item) {
            twice.insert(item);
        } else {
            seen.insert(item);
        }
    }
    twice
}

/// The items without those that came before.
pub fn distinct<K, T>(items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T>
where
    K: Hash + Eq,
{
    let mut seen = HashSet::new();
    items
        .into_iter()
        .filter(|item| seen.insert(key(item)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_once_and_dropped_in_order() {
        assert_eq!(duplicates(["a", "b", "a", "a"]), HashSet::from(["a"]));
        assert_eq!(distinct(["b", "a", "b"], |name| *name), ["b", "a"]);
    }
}
