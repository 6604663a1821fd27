//! The groups, transactional ids and topics that a request names: from the client's names to the broker's, as far as the session may use them.
//! The same few steps for every API.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::context::Context;
use super::topics::TopicHandle;
use crate::catalog::{Operation, ResourceType};
use crate::types::TopicId;

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

/// How a request names a topic.
#[derive(Clone, Copy, Debug)]
pub enum TopicReference<'a> {
    Name(&'a str),
    Id(TopicId),
}

/// The topics on which the session may do this, one outcome for each. Nothing here tells whether a topic exists to a session
/// that may not know it: a name is authorized before it is looked up, and the id of a topic that the session may not even
/// describe is as unknown as one that no topic has.
pub fn handles<'a>(
    context: &Context,
    operation: Operation,
    wanted: impl IntoIterator<Item = TopicReference<'a>>,
) -> Vec<Result<Arc<TopicHandle>, ResponseError>> {
    let topics = &context.services.topics;
    let wanted: Vec<TopicReference<'_>> = wanted.into_iter().collect();
    let name = |reference: &TopicReference<'_>| match *reference {
        TopicReference::Name(name) => context.topic_in(name),
        TopicReference::Id(id) => topics
            .get_by_id(id)
            .filter(|handle| context.topic_out(handle.topic.name.as_str()).is_some())
            .map(|handle| handle.topic.name.to_string())
            .ok_or(ResponseError::UnknownTopicId),
    };
    let mut names: Vec<Result<String, ResponseError>> = wanted.iter().map(name).collect();
    let found_by_id: Vec<Option<String>> = wanted
        .iter()
        .zip(&names)
        .map(|(reference, name)| match reference {
            TopicReference::Id(_) => name.as_ref().ok().cloned(),
            TopicReference::Name(_) => None,
        })
        .collect();
    authorize_topics(context, operation, &mut names);
    hide_ids(context, &found_by_id, &mut names);
    let handle = |(reference, name): (&TopicReference<'_>, Result<String, ResponseError>)| {
        let name = name?;
        match *reference {
            TopicReference::Name(_) => topics
                .get(&name)
                .ok_or(ResponseError::UnknownTopicOrPartition),
            TopicReference::Id(id) => topics.get_by_id(id).ok_or(ResponseError::UnknownTopicId),
        }
    };
    wanted.iter().zip(names).map(handle).collect()
}

/// Turns `TopicAuthorizationFailed` into `UnknownTopicId` for topics that were found by their ids and may not be described.
fn hide_ids(
    context: &Context,
    found_by_id: &[Option<String>],
    outcomes: &mut [Result<String, ResponseError>],
) {
    let denied = |outcome: &Result<_, _>| *outcome == Err(ResponseError::TopicAuthorizationFailed);
    let refused = found_by_id.iter().zip(outcomes);
    let mut refused: Vec<_> = refused
        .filter_map(|(name, outcome)| Some((name.as_deref()?, outcome)))
        .filter(|(_, outcome)| denied(outcome))
        .collect();
    if refused.is_empty() {
        return;
    }
    let names: Vec<&str> = refused.iter().map(|(name, _)| *name).collect();
    let described = context.authorize_each(Operation::Describe, ResourceType::Topic, &names);
    for ((_, outcome), described) in refused.iter_mut().zip(described) {
        if !described {
            **outcome = Err(ResponseError::UnknownTopicId);
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
