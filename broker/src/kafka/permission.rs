//! The one decision whether a principal may do something: super users, then ACLs, then authorizer plugins.

use super::context::Context;
use crate::catalog::{Operation, ResourceType};
use crate::plugin::{PluginAction, Verdict};
use crate::security::authorize::{Action, Decision};

/// One answer for each name. A plugin may allow what no ACL speaks of and deny what one allows; it never overrules an ACL's
/// denial or a super user, and a plugin that fails denies.
pub fn decide(
    context: &Context,
    operation: Operation,
    resource_type: ResourceType,
    names: &[&str],
) -> Vec<bool> {
    let services = &context.services;
    let principal = context.principal();
    let native = |name: &&str| {
        let action = Action {
            operation,
            resource_type,
            resource_name: name,
        };
        services
            .authorizer
            .decide(&principal, &context.session.host, &action)
    };
    let decisions: Vec<Decision> = names.iter().map(native).collect();
    let mut allowed: Vec<bool> = decisions
        .iter()
        .map(|decision| matches!(decision, Decision::AllowAlways | Decision::Allow))
        .collect();
    let open = |decision: &Decision| matches!(decision, Decision::Allow | Decision::NoMatch);
    let asked: Vec<usize> = (0..names.len())
        .filter(|index| open(&decisions[*index]))
        .collect();
    if !asked.is_empty() {
        ask_plugins(
            context,
            operation,
            resource_type,
            names,
            &asked,
            &mut allowed,
        );
    }
    for (name, allowed) in names.iter().zip(&allowed) {
        if !allowed {
            tracing::info!(%principal, host = %context.session.host, ?operation, ?resource_type, name, "denied");
            services
                .metrics
                .authorization_denied(operation_name(operation));
        }
    }
    allowed
}

fn ask_plugins(
    context: &Context,
    operation: Operation,
    resource_type: ResourceType,
    names: &[&str],
    asked: &[usize],
    allowed: &mut [bool],
) {
    let action = |index: &usize| PluginAction {
        operation: operation as i8,
        resource_type: resource_type as i8,
        resource_name: names[*index].to_owned(),
    };
    let services = &context.services;
    let principal = context.principal();
    let (host, listener) = (&context.session.host, &context.session.info.listener);
    let mut open: Vec<usize> = asked.to_vec();
    for plugin in &services.config.security.authorizers {
        if open.is_empty() {
            return;
        }
        let actions: Vec<PluginAction> = open.iter().map(action).collect();
        let client_id = context.client_id.as_deref();
        let verdicts = services
            .plugins
            .authorize(plugin, &principal, host, listener, client_id, &actions);
        let verdicts = verdicts.unwrap_or_else(|failure| {
            tracing::warn!(%failure, %principal, "an authorizer failed: denied");
            vec![Verdict::Deny(None); open.len()]
        });
        for (index, verdict) in open.iter().zip(&verdicts) {
            match verdict {
                Verdict::Allow => allowed[*index] = true,
                Verdict::Deny(_) => allowed[*index] = false,
                Verdict::Abstain => {}
            }
        }
        // A denial is final; what a plugin allowed, the next one may still deny.
        let denied =
            |position: usize| matches!(verdicts.get(position), Some(Verdict::Deny(_)) | None);
        open = open
            .iter()
            .enumerate()
            .filter(|(position, _)| !denied(*position))
            .map(|(_, index)| *index)
            .collect();
    }
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
        if context.authorize(*operation, resource_type, name) {
            1 << (*operation as i8)
        } else {
            0
        }
    };
    possible.iter().map(bit).sum()
}
