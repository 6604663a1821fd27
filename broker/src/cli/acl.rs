//! `tidegate acl`: who may do what, by Kafka's names.

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_client::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType,
};

use super::CliError;
use super::client::ClientOptions;
use super::output::{Listing, print_line};

/// What the cluster is called among resources.
const CLUSTER: &str = "kafka-cluster";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate acl add --allow-principal User:alice --operation Read --topic orders --prefixed\n  \
                  tidegate acl add --allow-principal User:app --producer --topic orders\n  \
                  tidegate acl add --allow-principal User:app --consumer --topic orders --group billing\n  \
                  tidegate acl add --deny-principal User:eve --operation All --topic '*'\n  \
                  tidegate acl list --topic orders\n  tidegate acl remove --allow-principal User:alice --topic orders"
)]
pub struct AclCommand {
    #[command(subcommand)]
    action: AclAction,
    #[command(flatten)]
    client: ClientOptions,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AclAction {
    /// Allow or deny operations
    Add(Selection),
    /// List ACLs; flags narrow the list
    List(Selection),
    /// Remove every ACL that the flags match
    Remove(Selection),
}

/// Flags as kafka-acls has them.
#[derive(Debug, Default, Args)]
struct Selection {
    /// Who is allowed, such as User:alice, or User:* for everyone; repeatable
    #[arg(long, value_name = "PRINCIPAL")]
    allow_principal: Vec<String>,
    /// Who is denied; denying wins; repeatable
    #[arg(long, value_name = "PRINCIPAL")]
    deny_principal: Vec<String>,
    /// From where, by IP address
    #[arg(long, value_name = "HOST", visible_alias = "allow-host")]
    host: Vec<String>,
    /// Read, Write, Create, Delete, Alter, Describe, AlterConfigs, DescribeConfigs, ClusterAction, IdempotentWrite or All; repeatable
    #[arg(long, value_name = "NAME")]
    operation: Vec<AclOperation>,
    /// A topic's name, or *; repeatable
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A group's name, or *; repeatable
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A transactional id, or *; repeatable
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// The cluster itself
    #[arg(long)]
    cluster: bool,
    /// Names are the start of names
    #[arg(long)]
    prefixed: bool,
    /// literal or prefixed, as kafka-acls has it
    #[arg(long, value_name = "TYPE", conflicts_with = "prefixed")]
    resource_pattern_type: Option<AclPatternType>,
    /// What a producer needs: Write, Describe and Create on the topics
    #[arg(long)]
    producer: bool,
    /// What a consumer needs: Read and Describe on the topics, Read on the groups
    #[arg(long)]
    consumer: bool,
}

pub async fn run(command: AclCommand) -> Result<(), CliError> {
    // Flags are checked before anybody is asked.
    let bindings = match &command.action {
        AclAction::Add(selection) => selection.bindings()?,
        AclAction::Remove(selection) if selection.names_nothing() => {
            return Err(CliError::new(
                "this would remove every ACL\n  name a principal, an operation or a resource",
            ));
        }
        _ => Vec::new(),
    };
    let explain = |error| command.client.explain(error);
    let admin = command.client.connect().await?.admin();
    match &command.action {
        AclAction::Add(_) => {
            admin.create_acls(&bindings).await.map_err(explain)?;
            print(&bindings, command.json, "added")
        }
        AclAction::List(selection) => {
            let mut found = Vec::new();
            for filter in selection.filters() {
                found.extend(admin.list_acls(&filter).await.map_err(explain)?);
            }
            found.sort();
            found.dedup();
            print(&found, command.json, "")
        }
        AclAction::Remove(selection) => {
            let mut removed = Vec::new();
            for filter in selection.filters() {
                removed.extend(admin.delete_acls(&filter).await.map_err(explain)?);
            }
            removed.sort();
            removed.dedup();
            print(&removed, command.json, "removed")
        }
    }
}

fn print(bindings: &[AclBinding], json: bool, done: &str) -> Result<(), CliError> {
    if bindings.is_empty() && !json {
        return print_line("no ACLs match");
    }
    let mut listing = Listing::new(&[
        "resource",
        "name",
        "pattern",
        "principal",
        "host",
        "operation",
        "permission",
    ]);
    for binding in bindings {
        listing.row(vec![
            json!(binding.resource_type.to_string()),
            json!(binding.resource_name),
            json!(binding.pattern_type.to_string()),
            json!(binding.principal),
            json!(binding.host),
            json!(binding.operation.to_string()),
            json!(binding.permission.to_string()),
        ]);
    }
    listing.print(json)?;
    if json || done.is_empty() {
        return Ok(());
    }
    print_line(&format!("{} {done}", bindings.len()))
}

impl Selection {
    fn names_nothing(&self) -> bool {
        self.principals().is_empty() && self.operation.is_empty() && self.resources().is_empty()
    }

    fn principals(&self) -> Vec<(AclPermission, &String)> {
        let allowed = self
            .allow_principal
            .iter()
            .map(|name| (AclPermission::Allow, name));
        let denied = self
            .deny_principal
            .iter()
            .map(|name| (AclPermission::Deny, name));
        allowed.chain(denied).collect()
    }

    fn resources(&self) -> Vec<(AclResourceType, &str)> {
        let named = [
            (AclResourceType::Topic, &self.topic),
            (AclResourceType::Group, &self.group),
            (AclResourceType::TransactionalId, &self.transactional_id),
        ];
        let mut resources: Vec<(AclResourceType, &str)> = named
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str())))
            .collect();
        if self.cluster {
            resources.push((AclResourceType::Cluster, CLUSTER));
        }
        resources
    }

    /// The operations that the flags mean for a kind of resource.
    fn operations(&self, kind: AclResourceType) -> Vec<AclOperation> {
        let mut operations = self.operation.clone();
        if self.producer && kind == AclResourceType::Topic {
            operations.extend([
                AclOperation::Write,
                AclOperation::Describe,
                AclOperation::Create,
            ]);
        }
        if self.producer && kind == AclResourceType::TransactionalId {
            operations.extend([AclOperation::Write, AclOperation::Describe]);
        }
        if self.consumer && kind == AclResourceType::Topic {
            operations.extend([AclOperation::Read, AclOperation::Describe]);
        }
        if self.consumer && kind == AclResourceType::Group {
            operations.push(AclOperation::Read);
        }
        operations.sort();
        operations.dedup();
        operations
    }

    fn pattern_type(&self) -> Option<AclPatternType> {
        if self.prefixed {
            return Some(AclPatternType::Prefixed);
        }
        self.resource_pattern_type
    }

    fn bindings(&self) -> Result<Vec<AclBinding>, CliError> {
        let principals = self.principals();
        if principals.is_empty() {
            return Err(CliError::new(
                "who? give --allow-principal User:NAME or --deny-principal User:NAME",
            ));
        }
        if let Some((_, odd)) = principals.iter().find(|(_, name)| !name.contains(':')) {
            return Err(CliError::new(format!("principal {odd}: write User:{odd}")));
        }
        let resources = self.resources();
        if resources.is_empty() {
            return Err(CliError::new(
                "on what? give --topic, --group, --transactional-id or --cluster",
            ));
        }
        let any_host = ["*".to_owned()];
        let hosts = if self.host.is_empty() {
            &any_host[..]
        } else {
            &self.host
        };
        let mut bindings = Vec::new();
        for (resource_type, name) in resources {
            // The cluster has one name: a pattern of it would match nothing.
            let pattern_type = match resource_type {
                AclResourceType::Cluster => AclPatternType::Literal,
                _ => self.pattern_type().unwrap_or(AclPatternType::Literal),
            };
            for operation in self.operations(resource_type) {
                for (permission, principal) in &principals {
                    bindings.extend(hosts.iter().map(|host| AclBinding {
                        resource_type,
                        resource_name: name.to_owned(),
                        pattern_type,
                        principal: (*principal).clone(),
                        host: host.clone(),
                        operation,
                        permission: *permission,
                    }));
                }
            }
        }
        if bindings.is_empty() {
            return Err(CliError::new(
                "to do what? give --operation NAME, --producer or --consumer",
            ));
        }
        Ok(bindings)
    }

    /// One filter for each combination of what was named; what was not named does not matter.
    fn filters(&self) -> Vec<AclFilter> {
        let principals = self.principals();
        let principals = or_any(
            principals
                .iter()
                .map(|(permission, name)| (*permission, name.as_str())),
        );
        let resources = self.resources();
        let mut filters = Vec::new();
        for resource in or_any(resources) {
            let operations = match resource {
                Some((kind, _)) => self.operations(kind),
                None => self.operation.clone(),
            };
            for operation in or_any(operations) {
                for principal in &principals {
                    filters.push(AclFilter {
                        resource_type: resource.map(|(kind, _)| kind),
                        resource_name: resource.map(|(_, name)| name.to_owned()),
                        pattern_type: self.pattern_type(),
                        principal: principal.map(|(_, name)| name.to_owned()),
                        host: self.host.first().cloned(),
                        operation,
                        permission: principal.map(|(permission, _)| permission),
                    });
                }
            }
        }
        filters
    }
}

/// What was named; one `None`, which any matches, when nothing was.
fn or_any<T>(named: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
    let mut named: Vec<Option<T>> = named.into_iter().map(Some).collect();
    if named.is_empty() {
        named.push(None);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        selection: Selection,
    }

    fn selection(line: &str) -> Selection {
        let arguments = std::iter::once("acl").chain(line.split_whitespace());
        Alone::parse_from(arguments).selection
    }

    fn added(line: &str) -> Vec<String> {
        let bindings = selection(line).bindings().unwrap();
        let text = |binding: AclBinding| {
            format!(
                "{} {} {} {} {}",
                binding.permission,
                binding.principal,
                binding.operation,
                binding.pattern_type,
                binding.resource_name
            )
        };
        bindings.into_iter().map(text).collect()
    }

    #[test]
    fn flags_of_kafka_acls_mean_what_they_mean_there() {
        for (line, expected) in [
            (
                "--allow-principal User:a --operation read --topic t --prefixed",
                &["Allow User:a Read Prefixed t"][..],
            ),
            (
                "--deny-principal User:e --operation All --cluster",
                &["Deny User:e All Literal kafka-cluster"],
            ),
            (
                "--allow-principal User:a --consumer --topic t --group g",
                &[
                    "Allow User:a Read Literal t",
                    "Allow User:a Describe Literal t",
                    "Allow User:a Read Literal g",
                ],
            ),
        ] {
            assert_eq!(added(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_asked_for() {
        for (line, expected) in [
            ("--operation Read --topic t", "who?"),
            ("--allow-principal User:a --operation Read", "on what?"),
            ("--allow-principal User:a --topic t", "to do what?"),
            (
                "--allow-principal alice --operation Read --topic t",
                "User:alice",
            ),
        ] {
            let error = selection(line).bindings().unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn a_list_without_flags_asks_for_everything() {
        assert_eq!(selection("").filters(), [AclFilter::default()]);
        assert!(selection("").names_nothing());
        let filters = selection("--topic a --topic b --operation Read").filters();
        assert_eq!(filters.len(), 2);
        assert_eq!(filters[1].resource_name.as_deref(), Some("b"));
    }
}
