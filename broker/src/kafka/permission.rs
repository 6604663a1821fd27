//! The one decision whether a principal may do something: super users, then ACLs, then authorizer plugins.

use std::time::Instant;

use super::context::Context;
use crate::catalog::{Operation, ResourceType};
use crate::observe::audit::Denial;
use crate::plugin::{AuthorizerCaller, PluginAction, Verdict};
use crate::security::authorize::{Action, Decision};
use crate::types::Principal;

/// One answer for each name. What is denied is counted and goes to the audit trail.
pub fn decide(
    context: &Context,
    operation: Operation,
    resource_type: ResourceType,
    names: &[&str],
) -> Vec<bool> {
    let allowed = evaluate(context, operation, resource_type, names);
    let denied: Vec<&str> = names
        .iter()
        .zip(&allowed)
        .filter_map(|(name, allowed)| (!allowed).then_some(*name))
        .collect();
    if !denied.is_empty() {
        tell(context, operation, resource_type, &denied);
    }
    allowed
}

fn tell(context: &Context, operation: Operation, resource_type: ResourceType, denied: &[&str]) {
    let label = operation_name(operation);
    let denial = Denial {
        principal: &context.principal().to_string(),
        host: &context.session.host,
        operation: label,
        resource_type: &format!("{resource_type:?}"),
    };
    let services = &context.services;
    let (share, names) = (context.session.share(), denied.iter().copied());
    let left_out = services
        .bounds
        .denials
        .tell(&share, &denial, names, Instant::now());
    services
        .metrics
        .authorization_denied(label, denied.len() as u64);
    if left_out > 0 {
        services.metrics.lines_left_out(left_out);
    }
}

/// A plugin may allow what no ACL speaks of and deny what one allows; it never overrules an ACL's denial or a super user,
/// and a plugin that fails denies.
fn evaluate(
    context: &Context,
    operation: Operation,
    resource_type: ResourceType,
    names: &[&str],
) -> Vec<bool> {
    let principal = context.principal();
    let native = |name: &&str| {
        let action = Action {
            operation,
            resource_type,
            resource_name: name,
        };
        context
            .services
            .authorizer
            .decide(&principal, &context.session.host, &action)
    };
    let decisions: Vec<Decision> = names.iter().map(native).collect();
    let is_open = |decision: &Decision| matches!(decision, Decision::Allow | Decision::NoMatch);
    let asked: Vec<usize> = (0..names.len())
        .filter(|index| is_open(&decisions[*index]))
        .collect();
    let mut allowed: Vec<bool> = decisions
        .iter()
        .map(|decision| matches!(decision, Decision::AllowAlways | Decision::Allow))
        .collect();
    let action = |index: &usize| PluginAction {
        operation: operation as i8,
        resource_type: resource_type as i8,
        resource_name: names[*index].to_owned(),
    };
    let opinions = ask_plugins(context, &principal, asked.iter().map(action).collect());
    for (index, opinion) in asked.iter().zip(opinions) {
        allowed[*index] = opinion.unwrap_or(allowed[*index]);
    }
    allowed
}

/// What the authorizer plugins say of each action; `None` where none has an opinion.
fn ask_plugins(
    context: &Context,
    principal: &Principal,
    actions: Vec<PluginAction>,
) -> Vec<Option<bool>> {
    let services = &context.services;
    let caller = AuthorizerCaller {
        principal,
        host: &context.session.host,
        listener: &context.session.info.listener,
        client_id: context.client_id.as_deref(),
    };
    let mut opinions = vec![None; actions.len()];
    for plugin in &services.config.security.authorizers {
        // A denial is final; what a plugin allowed, the next one may still deny.
        let open: Vec<usize> = (0..actions.len())
            .filter(|index| opinions[*index] != Some(false))
            .collect();
        if open.is_empty() {
            break;
        }
        let asked: Vec<PluginAction> = open.iter().map(|index| actions[*index].clone()).collect();
        let verdicts = services
            .plugins
            .authorize(plugin, &caller, &asked)
            .unwrap_or_else(|failure| {
                tracing::warn!(%failure, %principal, "an authorizer failed: denied");
                vec![Verdict::Deny(None); open.len()]
            });
        for (index, verdict) in open.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Allow => opinions[index] = Some(true),
                Verdict::Deny(_) => opinions[index] = Some(false),
                Verdict::Abstain => {}
            }
        }
    }
    opinions
}

/// Kafka's name of an operation, as ACL tools print it.
pub fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::All => "All",
        Operation::Read => "Read",
        Operation::Write => "Write",
        Operation::Create => "Create",
        Operation::Delete => "Delete",
        Operation::Alter => "Alter",
        Operation::Describe => "Describe",
        Operation::ClusterAction => "ClusterAction",
        Operation::DescribeConfigs => "DescribeConfigs",
        Operation::AlterConfigs => "AlterConfigs",
        Operation::IdempotentWrite => "IdempotentWrite",
    }
}

/// The operations of a resource that the principal may do, as the bit field of KIP-430: bit n stands for the operation of
/// code n.
pub fn authorized_operations(context: &Context, resource_type: ResourceType, name: &str) -> i32 {
    use Operation::{
        Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
        IdempotentWrite, Read, Write,
    };
    let possible: &[Operation] = match resource_type {
        ResourceType::Topic => &[
            Read,
            Write,
            Create,
            Delete,
            Alter,
            Describe,
            DescribeConfigs,
            AlterConfigs,
        ],
        ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => &[
            Create,
            Alter,
            Describe,
            ClusterAction,
            DescribeConfigs,
            AlterConfigs,
            IdempotentWrite,
        ],
        ResourceType::TransactionalId => &[Write, Describe],
    };
    let bit = |operation: &Operation| {
        if evaluate(context, *operation, resource_type, &[name])[0] {
            1 << (*operation as i8)
        } else {
            0
        }
    };
    possible.iter().map(bit).sum()
}
