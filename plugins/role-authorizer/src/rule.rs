//! One rule of a role, as it is written: `[deny] OPERATION,… RESOURCE NAME`.

use tidegate_plugin::Action;

/// Kafka's codes by name; `all` is every operation.
const OPERATIONS: [(&str, u8); 10] = [
    ("read", 3),
    ("write", 4),
    ("create", 5),
    ("delete", 6),
    ("alter", 7),
    ("describe", 8),
    ("cluster-action", 9),
    ("describe-configs", 10),
    ("alter-configs", 11),
    ("idempotent-write", 12),
];
const RESOURCES: [(&str, u8); 4] = [
    ("topic", 2),
    ("group", 3),
    ("cluster", 4),
    ("transactional-id", 5),
];

pub struct Rule {
    pub deny: bool,
    operations: Vec<u8>,
    resource_type: u8,
    /// A name, or the start of names when it ended in `*`.
    name: String,
    prefix: bool,
}

impl Rule {
    pub fn covers(&self, action: &Action) -> bool {
        let named = if self.prefix {
            action.resource_name.starts_with(&self.name)
        } else {
            action.resource_name == self.name
        };
        named
            && self.resource_type == action.resource_type
            && self.operations.contains(&action.operation)
    }
}

/// `[deny] OPERATION,… RESOURCE NAME`, for example `read,describe topic orders-*`.
pub fn parse(text: &str) -> Result<Rule, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (deny, words) = match words.split_first() {
        Some((&"deny", rest)) => (true, rest),
        Some((&"allow", rest)) => (false, rest),
        _ => (false, words.as_slice()),
    };
    let [operations, resource, name] = words else {
        return Err(format!(
            "the rule {text:?} is not of the form `[deny] read,write topic name-or-prefix*`"
        ));
    };
    let operations: Result<Vec<Vec<u8>>, String> = operations
        .split(',')
        .map(|name| match name {
            "all" => Ok(OPERATIONS.iter().map(|(_, code)| *code).collect()),
            _ => code(&OPERATIONS, name).map(|code| vec![code]),
        })
        .collect();
    Ok(Rule {
        deny,
        operations: operations?.concat(),
        resource_type: code(&RESOURCES, resource)?,
        name: name.trim_end_matches('*').to_owned(),
        prefix: name.ends_with('*'),
    })
}

fn code(table: &[(&str, u8)], name: &str) -> Result<u8, String> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, code)| *code).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| *known).collect();
        format!("{name:?} is none of {}", known.join(", "))
    })
}
