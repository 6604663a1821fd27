use super::*;
use crate::catalog::{PatternType, Permission};

/// An ACL in one line: `allow|deny principal host operation type literal|prefixed name`.
fn acl(line: &str) -> Acl {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        permission,
        principal,
        host,
        operation,
        resource,
        pattern,
        name,
    ] = words[..]
    else {
        panic!("{line:?} has {} words", words.len());
    };
    Acl {
        resource_type: resource_type(resource),
        pattern_type: match pattern {
            "literal" => PatternType::Literal,
            "prefixed" => PatternType::Prefixed,
            other => panic!("{other}"),
        },
        resource_name: name.into(),
        principal: parse_principal(principal).unwrap(),
        host: host.into(),
        operation: op(operation),
        permission: match permission {
            "allow" => Permission::Allow,
            "deny" => Permission::Deny,
            other => panic!("{other}"),
        },
    }
}

fn resource_type(name: &str) -> ResourceType {
    match name {
        "topic" => ResourceType::Topic,
        "group" => ResourceType::Group,
        "cluster" => ResourceType::Cluster,
        other => panic!("{other}"),
    }
}

fn op(name: &str) -> Operation {
    use Operation::*;
    let all = [
        All,
        Read,
        Write,
        Create,
        Delete,
        Alter,
        Describe,
        ClusterAction,
        DescribeConfigs,
        AlterConfigs,
        IdempotentWrite,
    ];
    let named = all
        .iter()
        .find(|operation| format!("{operation:?}") == name);
    *named.unwrap_or_else(|| panic!("{name}"))
}

fn authorizer(acls: &[&str]) -> Authorizer {
    let config = SecurityConfig {
        authorization: true,
        super_users: vec!["User:root".into()],
        ..SecurityConfig::default()
    };
    let acls = Arc::new(acls.iter().map(|line| acl(line)).collect());
    Authorizer::with_acls(&config, Box::new(move || Arc::clone(&acls))).unwrap()
}

/// `request` is `principal host operation type name`.
fn check(acls: &[&str], request: &str, expected: Decision) {
    let words: Vec<&str> = request.split_whitespace().collect();
    let action = Action {
        operation: op(words[2]),
        resource_type: resource_type(words[3]),
        resource_name: words[4],
    };
    let principal = parse_principal(words[0]).unwrap();
    let decision = authorizer(acls).decide(&principal, words[1], &action);
    assert_eq!(decision, expected, "{acls:?}: {request}");
}

#[test]
fn patterns_principals_and_hosts_match_as_in_kafka() {
    use Decision::{Allow, AllowAlways, NoMatch};
    const READ: &str = "allow User:alice * Read topic literal orders";
    for (acls, request, expected) in [
        (&[][..], "User:alice 10.0.0.1 Read topic orders", NoMatch),
        (&[], "User:root 10.0.0.1 Read topic orders", AllowAlways),
        (&[], "Group:root 10.0.0.1 Read topic orders", NoMatch),
        (&[READ], "User:alice 10.0.0.1 Read topic orders", Allow),
        (&[READ], "User:alice 10.0.0.1 Read topic orders2", NoMatch),
        (&[READ], "User:alice 10.0.0.1 Read group orders", NoMatch),
        (&[READ], "User:alice 10.0.0.1 Write topic orders", NoMatch),
        (&[READ], "User:bob 10.0.0.1 Read topic orders", NoMatch),
        (
            &["allow User:* * Read topic literal orders"],
            "User:bob h Read topic orders",
            Allow,
        ),
        (
            &["allow User:alice * Read topic literal *"],
            "User:alice h Read topic any",
            Allow,
        ),
        (
            &["allow User:alice * Read topic prefixed ord"],
            "User:alice h Read topic orders",
            Allow,
        ),
        (
            &["allow User:alice * Read topic prefixed ord"],
            "User:alice h Read topic ord",
            Allow,
        ),
        (
            &["allow User:alice * Read topic prefixed ord"],
            "User:alice h Read topic or",
            NoMatch,
        ),
        // A length that falls inside a character of the name is no prefix of it.
        (
            &["allow User:alice * Read topic prefixed a"],
            "User:alice h Read topic äb",
            NoMatch,
        ),
        (
            &["allow User:alice 10.0.0.1 Read topic literal t"],
            "User:alice 10.0.0.1 Read topic t",
            Allow,
        ),
        (
            &["allow User:alice 10.0.0.1 Read topic literal t"],
            "User:alice 10.0.0.2 Read topic t",
            NoMatch,
        ),
    ] {
        check(acls, request, expected);
    }
}

#[test]
fn a_denial_wins_wherever_it_stands() {
    const ALLOW_ALL: &str = "allow User:alice * All topic literal *";
    for denial in [
        "deny User:alice * Read topic literal orders",
        "deny User:alice * Read topic prefixed or",
        "deny User:alice * Read topic literal *",
        "deny User:* * Read topic literal orders",
        "deny User:alice * All topic literal orders",
        "deny User:alice h Read topic literal orders",
    ] {
        for acls in [[ALLOW_ALL, denial], [denial, ALLOW_ALL]] {
            check(&acls, "User:alice h Read topic orders", Decision::Deny);
        }
    }
    let elsewhere = [ALLOW_ALL, "deny User:alice other Read topic literal orders"];
    check(
        &elsewhere,
        "User:alice h Read topic orders",
        Decision::Allow,
    );
}

#[test]
fn permission_implies_description_and_denial_does_not() {
    for (permission, granted, wanted, expected) in [
        ("allow", "Read", "Describe", Decision::Allow),
        ("allow", "Write", "Describe", Decision::Allow),
        ("allow", "Delete", "Describe", Decision::Allow),
        ("allow", "Alter", "Describe", Decision::Allow),
        ("allow", "Create", "Describe", Decision::NoMatch),
        ("allow", "AlterConfigs", "Describe", Decision::NoMatch),
        ("allow", "AlterConfigs", "DescribeConfigs", Decision::Allow),
        ("allow", "Alter", "DescribeConfigs", Decision::NoMatch),
        ("allow", "Describe", "Read", Decision::NoMatch),
        ("allow", "All", "IdempotentWrite", Decision::Allow),
        ("deny", "Read", "Describe", Decision::NoMatch),
        ("deny", "AlterConfigs", "DescribeConfigs", Decision::NoMatch),
        ("deny", "All", "Describe", Decision::Deny),
        ("deny", "Describe", "Describe", Decision::Deny),
    ] {
        let line = format!("{permission} User:alice * {granted} topic literal t");
        check(
            &[&line],
            &format!("User:alice h {wanted} topic t"),
            expected,
        );
    }
}

#[test]
fn any_resource_follows_kip_679() {
    for (acls, expected) in [
        (&[][..], false),
        (&["allow User:alice * Write topic literal t"], true),
        (&["allow User:alice * Write group literal t"], false),
        (&["allow User:alice * Read topic literal t"], false),
        (&["allow User:* * All topic prefixed t"], true),
        (&["allow User:alice other Write topic literal t"], false),
        (
            &[
                "allow User:alice * Write topic literal t",
                "deny User:alice * Write topic literal t",
            ],
            false,
        ),
        (
            &[
                "allow User:alice * Write topic literal t",
                "deny User:alice * Write topic literal u",
            ],
            true,
        ),
        (
            &[
                "allow User:alice * Write topic literal team",
                "deny User:alice * Write topic prefixed te",
            ],
            false,
        ),
        (
            &[
                "allow User:alice * Write topic prefixed team",
                "deny User:alice * Write topic prefixed te",
            ],
            false,
        ),
        (
            &[
                "allow User:alice * Write topic prefixed te",
                "deny User:alice * Write topic prefixed team",
            ],
            true,
        ),
        (
            &[
                "allow User:alice * Write topic literal t",
                "deny User:alice * Write topic literal *",
            ],
            false,
        ),
        (
            &[
                "allow User:alice * Write topic literal *",
                "deny User:alice * Write topic prefixed t",
            ],
            true,
        ),
    ] {
        let alice = Principal::user("alice");
        let found =
            authorizer(acls).any_resource(&alice, "h", Operation::Write, ResourceType::Topic);
        assert_eq!(found, expected, "{acls:?}");
    }
    let root = Principal::user("root");
    assert!(authorizer(&[]).any_resource(&root, "h", Operation::Write, ResourceType::Topic));
}

#[test]
fn without_authorization_everything_is_allowed() {
    let denied = Arc::new(vec![acl("deny User:* * All topic literal *")]);
    let config = SecurityConfig::default();
    let authorizer = Authorizer::with_acls(&config, Box::new(move || denied.clone())).unwrap();
    let action = Action {
        operation: Operation::Read,
        resource_type: ResourceType::Topic,
        resource_name: "t",
    };
    let anonymous = Principal::anonymous();
    assert_eq!(
        authorizer.decide(&anonymous, "h", &action),
        Decision::AllowAlways
    );
    assert!(authorizer.any_resource(&anonymous, "h", Operation::Read, ResourceType::Topic));
}

#[test]
fn a_change_of_the_acls_is_seen_at_the_next_decision() {
    let acls = Arc::new(Mutex::new(Arc::new(Vec::new())));
    let source = acls.clone();
    let config = SecurityConfig {
        authorization: true,
        ..SecurityConfig::default()
    };
    let authorizer =
        Authorizer::with_acls(&config, Box::new(move || source.lock().clone())).unwrap();
    let action = Action {
        operation: Operation::Read,
        resource_type: ResourceType::Topic,
        resource_name: "t",
    };
    let alice = Principal::user("alice");
    assert_eq!(authorizer.decide(&alice, "h", &action), Decision::NoMatch);
    *acls.lock() = Arc::new(vec![acl("allow User:alice * Read topic literal t")]);
    assert_eq!(authorizer.decide(&alice, "h", &action), Decision::Allow);
    *acls.lock() = Arc::new(vec![acl("deny User:alice * Read topic literal t")]);
    assert_eq!(authorizer.decide(&alice, "h", &action), Decision::Deny);
}

#[test]
fn a_super_user_without_a_kind_is_refused_with_the_fix() {
    let config = SecurityConfig {
        super_users: vec!["alice".into()],
        ..SecurityConfig::default()
    };
    let reason = Authorizer::with_acls(&config, Box::new(Arc::default)).unwrap_err();
    assert!(reason.contains("User:alice"), "{reason}");
}
