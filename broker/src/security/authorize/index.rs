//! ACLs laid out for decisions: by resource type, then by literal name or prefix, then by principal.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Action, Decision};
use crate::catalog::{Acl, Operation, PatternType, Permission, ResourceType};
use crate::types::Principal;

/// The resource, host and user name that stand for all.
const WILDCARD: &str = "*";

/// One list of ACLs, laid out. Holds the list, so that its address cannot be given to another one meanwhile.
#[derive(Default)]
pub(super) struct Index {
    source: Option<Arc<Vec<Acl>>>,
    by_type: HashMap<ResourceType, Resources>,
}

/// What is said of the resources of one type.
#[derive(Default)]
struct Resources {
    /// Of the literal `*`.
    all: Rules,
    literal: HashMap<String, Rules>,
    prefixed: HashMap<String, Rules>,
    /// The distinct lengths of the prefixes: a name is looked up once for each, not once for each prefix.
    prefix_lengths: BTreeSet<usize>,
}

/// What is said of one resource or prefix.
#[derive(Default)]
struct Rules {
    everyone: Vec<Rule>,
    by_principal: HashMap<Principal, Vec<Rule>>,
}

struct Rule {
    /// `None`: every host.
    host: Option<String>,
    operation: Operation,
    permission: Permission,
}

impl Index {
    pub(super) fn new(acls: Arc<Vec<Acl>>) -> Self {
        let mut by_type: HashMap<ResourceType, Resources> = HashMap::new();
        for acl in acls.iter() {
            by_type.entry(acl.resource_type).or_default().add(acl);
        }
        Self {
            source: Some(acls),
            by_type,
        }
    }

    pub(super) fn is_of(&self, acls: &Arc<Vec<Acl>>) -> bool {
        matches!(&self.source, Some(source) if Arc::ptr_eq(source, acls))
    }

    pub(super) fn decide(
        &self,
        principal: &Principal,
        host: &str,
        action: &Action<'_>,
    ) -> Decision {
        let Some(resources) = self.by_type.get(&action.resource_type) else {
            return Decision::NoMatch;
        };
        let mut decision = Decision::NoMatch;
        for rules in resources.of(action.resource_name) {
            match rules.verdict(principal, host, action.operation) {
                Some(Permission::Deny) => return Decision::Deny,
                Some(Permission::Allow) => decision = Decision::Allow,
                None => {}
            }
        }
        decision
    }

    pub(super) fn any_resource(
        &self,
        principal: &Principal,
        host: &str,
        operation: Operation,
        resource_type: ResourceType,
    ) -> bool {
        let Some(resources) = self.by_type.get(&resource_type) else {
            return false;
        };
        let verdict = |rules: &Rules| rules.verdict(principal, host, operation);
        match verdict(&resources.all) {
            Some(Permission::Deny) => return false,
            // Narrower denials leave other resources of the type.
            Some(Permission::Allow) => return true,
            None => {}
        }
        let denied_by_prefix = |name: &str| {
            let mut prefixes = resources.prefixes_of(name);
            prefixes.any(|rules| verdict(rules) == Some(Permission::Deny))
        };
        let allowed = |(name, rules): (&String, &Rules)| {
            verdict(rules) == Some(Permission::Allow) && !denied_by_prefix(name)
        };
        resources.literal.iter().any(allowed) || resources.prefixed.iter().any(allowed)
    }
}

impl Resources {
    fn add(&mut self, acl: &Acl) {
        let rules = match acl.pattern_type {
            PatternType::Literal if acl.resource_name == WILDCARD => &mut self.all,
            PatternType::Literal => self.literal.entry(acl.resource_name.clone()).or_default(),
            PatternType::Prefixed => {
                self.prefix_lengths.insert(acl.resource_name.len());
                self.prefixed.entry(acl.resource_name.clone()).or_default()
            }
        };
        let rule = Rule {
            host: (acl.host != WILDCARD).then(|| acl.host.clone()),
            operation: acl.operation,
            permission: acl.permission,
        };
        if &*acl.principal.kind == "User" && &*acl.principal.name == WILDCARD {
            rules.everyone.push(rule);
        } else {
            let of_principal = rules.by_principal.entry(acl.principal.clone());
            of_principal.or_default().push(rule);
        }
    }

    /// The rules of every pattern that covers the name.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rules> {
        std::iter::once(&self.all)
            .chain(self.literal.get(name))
            .chain(self.prefixes_of(name))
    }

    fn prefixes_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rules> {
        self.prefix_lengths
            .range(..=name.len())
            // `None`: the length falls inside a character, so no prefix of that length is one of this name.
            .filter_map(|length| self.prefixed.get(name.get(..*length)?))
    }
}

impl Rules {
    /// What these rules say of the operation; a denial wins over any permission.
    fn verdict(
        &self,
        principal: &Principal,
        host: &str,
        operation: Operation,
    ) -> Option<Permission> {
        let own = self.by_principal.get(principal);
        let mut verdict = None;
        for rule in self.everyone.iter().chain(own.into_iter().flatten()) {
            if !rule.covers(host, operation) {
                continue;
            }
            match rule.permission {
                Permission::Deny => return Some(Permission::Deny),
                Permission::Allow => verdict = Some(Permission::Allow),
            }
        }
        verdict
    }
}

impl Rule {
    fn covers(&self, host: &str, operation: Operation) -> bool {
        let host_matches = match &self.host {
            None => true,
            Some(own) => own == host,
        };
        host_matches
            && (self.operation == operation
                || self.operation == Operation::All
                || (self.permission == Permission::Allow && implies(self.operation, operation)))
    }
}

/// Whoever is allowed the one may also do the other. Denials imply nothing.
fn implies(allowed: Operation, wanted: Operation) -> bool {
    match wanted {
        Operation::Describe => matches!(
            allowed,
            Operation::Read | Operation::Write | Operation::Delete | Operation::Alter
        ),
        Operation::DescribeConfigs => allowed == Operation::AlterConfigs,
        _ => false,
    }
}
