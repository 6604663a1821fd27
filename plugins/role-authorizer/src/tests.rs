use super::*;

const CONFIG: [(&str, &str); 5] = [
    (
        "role.reader",
        "read,describe topic orders-*; read group billing",
    ),
    ("role.admin", "all topic *; all cluster kafka-cluster"),
    (
        "role.contractor",
        "all topic orders-*; deny write topic orders-*",
    ),
    ("member.User:alice", "reader, admin"),
    ("member.User:carl", "contractor,reader"),
];

fn authorizer(more: &[(&'static str, &'static str)]) -> Result<RoleAuthorizer, String> {
    RoleAuthorizer::new(&Config::from_iter(
        CONFIG.into_iter().chain(more.iter().copied()),
    ))
}

fn check(
    authorizer: &RoleAuthorizer,
    name: &str,
    (operation, resource_type, resource_name): (u8, u8, &str),
) -> Verdict {
    let who = Principal {
        kind: "User".into(),
        name: name.into(),
        client_host: "127.0.0.1".into(),
        listener: "tls".into(),
        client_id: None,
    };
    let action = Action {
        operation,
        resource_type,
        resource_name: resource_name.into(),
    };
    authorizer.check(&who, &action).unwrap().verdict
}

#[test]
fn a_principal_may_what_its_roles_may_and_deny_wins() {
    let authorizer = authorizer(&[("member.*", "reader")]).unwrap();
    for (name, action, verdict) in [
        ("alice", (6, 2, "anything"), Verdict::Allow),
        ("alice", (5, 4, "kafka-cluster"), Verdict::Allow),
        ("alice", (3, 5, "tx"), Verdict::Abstain),
        ("carl", (3, 2, "orders-eu"), Verdict::Allow),
        ("carl", (4, 2, "orders-eu"), Verdict::Deny),
        ("carl", (4, 2, "orders"), Verdict::Abstain),
        ("carl", (3, 3, "billing"), Verdict::Allow),
        ("carl", (3, 3, "billing-2"), Verdict::Abstain),
        ("somebody", (3, 2, "orders-eu"), Verdict::Allow),
        ("somebody", (4, 2, "orders-eu"), Verdict::Abstain),
    ] {
        assert_eq!(
            check(&authorizer, name, action),
            verdict,
            "{name} {action:?}"
        );
    }
}

#[test]
fn whoever_has_no_role_gets_what_otherwise_says() {
    let strict = authorizer(&[("otherwise", "deny"), ("cache-ms", "7")]).unwrap();
    assert_eq!(check(&strict, "dora", (3, 2, "orders-eu")), Verdict::Deny);
    assert_eq!(strict.cache_ms, 7);
    let open = authorizer(&[]).unwrap();
    assert_eq!(check(&open, "dora", (3, 2, "orders-eu")), Verdict::Abstain);
}

#[test]
fn wrong_settings_are_named() {
    for (setting, error) in [
        (
            ("role.x", "read topic"),
            "the setting \"role.x\": the rule \"read topic\" is not of the form `[deny] read,write topic name-or-prefix*`",
        ),
        (
            ("role.x", "raed topic a"),
            "the setting \"role.x\": \"raed\" is none of read, write, create, delete, alter, describe, cluster-action, \
             describe-configs, alter-configs, idempotent-write",
        ),
        (
            ("member.User:x", "nobody"),
            "the setting \"member.User:x\" names the role \"nobody\", which has no \"role.nobody\"",
        ),
        (
            ("otherwise", "maybe"),
            "the setting \"otherwise\" is \"maybe\"; it must be one of abstain, deny",
        ),
    ] {
        assert_eq!(authorizer(&[setting]).err().as_deref(), Some(error));
    }
}
