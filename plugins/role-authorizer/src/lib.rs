//! Roles and their rules, from the plugin's own configuration: who has which role, and which role may do what on which names.

mod rule;

use std::collections::BTreeMap;

use tidegate_plugin::{
    Action, Authorizer, CallError, Config, Decision, Principal, Verdict, export_authorizer,
};

use self::rule::Rule;

struct RoleAuthorizer {
    roles: BTreeMap<String, Vec<Rule>>,
    /// Roles by principal; `*` is everybody.
    members: BTreeMap<String, Vec<String>>,
    otherwise: Verdict,
    cache_ms: u32,
}

impl Authorizer for RoleAuthorizer {
    fn new(config: &Config) -> Result<Self, String> {
        config.only(&["role.", "member.", "otherwise", "cache-ms"])?;
        let mut roles = BTreeMap::new();
        for (role, rules) in config.with_prefix("role.") {
            let rules = rules.split(';').filter(|rule| !rule.trim().is_empty());
            let rules: Result<_, _> = rules.map(rule::parse).collect();
            let rules = rules.map_err(|error| format!("the setting \"role.{role}\": {error}"))?;
            roles.insert(role.to_owned(), rules);
        }
        let mut members = BTreeMap::new();
        for (principal, names) in config.with_prefix("member.") {
            let names = config_list(names);
            if let Some(unknown) = names.iter().find(|name| !roles.contains_key(*name)) {
                return Err(format!(
                    "the setting \"member.{principal}\" names the role {unknown:?}, which has no \"role.{unknown}\""
                ));
            }
            members.insert(principal.to_owned(), names);
        }
        Ok(Self {
            roles,
            members,
            otherwise: config.choice(
                "otherwise",
                &[("abstain", Verdict::Abstain), ("deny", Verdict::Deny)],
            )?,
            cache_ms: config.parse_or("cache-ms", 5000)?,
        })
    }

    fn check(&self, who: &Principal, action: &Action) -> Result<Decision, CallError> {
        let principal = format!("{}:{}", who.kind, who.name);
        let roles = [principal.as_str(), "*"]
            .into_iter()
            .filter_map(|member| self.members.get(member))
            .flatten();
        let mut verdict = self.otherwise;
        let mut reason = None;
        for role in roles {
            for rule in self.roles[role].iter().filter(|rule| rule.covers(action)) {
                reason = Some(format!("role {role}"));
                if rule.deny {
                    return Ok(self.decision(Verdict::Deny, reason));
                }
                verdict = Verdict::Allow;
            }
        }
        Ok(self.decision(verdict, reason))
    }
}

export_authorizer!(RoleAuthorizer);

impl RoleAuthorizer {
    fn decision(&self, verdict: Verdict, reason: Option<String>) -> Decision {
        Decision {
            verdict,
            cache_ms: self.cache_ms,
            reason,
        }
    }
}

fn config_list(names: &str) -> Vec<String> {
    let names = names.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
