//! What authorizers answer, and for how long it holds.

use tidegate::plugin::{AuthorizerCaller, FailureKind, PluginAction, Verdict};
use tidegate::types::Principal;

use crate::support::Fixture;

fn action(operation: i8, name: &str) -> PluginAction {
    PluginAction {
        operation,
        resource_type: 2,
        resource_name: name.into(),
    }
}

fn check(
    fixture: &Fixture,
    user: &str,
    actions: &[PluginAction],
) -> Result<Vec<Verdict>, FailureKind> {
    let who = Principal::user(user);
    let caller = AuthorizerCaller {
        principal: &who,
        host: "10.0.0.1",
        listener: "tls",
        client_id: Some("app"),
    };
    fixture
        .host
        .authorize("roles", &caller, actions)
        .map_err(|failure| failure.kind)
}

#[test]
fn role_authorizer_decides_by_its_configuration() {
    let fixture = Fixture::new();
    fixture.deploy(
        "roles",
        "role-authorizer",
        &[
            (
                "role.reader",
                "read topic orders-*; deny read topic orders-secret",
            ),
            ("member.User:alice", "reader"),
        ],
    );
    let actions = [
        action(3, "orders-eu"),
        action(3, "orders-secret"),
        action(4, "orders-eu"),
    ];
    let reason = Some("role reader".to_owned());
    for _ in 0..2 {
        assert_eq!(
            check(&fixture, "alice", &actions),
            Ok(vec![
                Verdict::Allow,
                Verdict::Deny(reason.clone()),
                Verdict::Abstain
            ])
        );
        assert_eq!(
            check(&fixture, "bob", &actions),
            Ok(vec![Verdict::Abstain; 3])
        );
    }
    assert_eq!(check(&fixture, "alice", &[]), Ok(Vec::new()));
}

#[test]
fn answers_are_kept_as_long_as_the_plugin_says_and_no_longer_than_their_revision() {
    let fixture = Fixture::new();
    let roles = |rules: &'static str| [("role.r", rules), ("member.*", "r"), ("cache-ms", "1000")];
    let asked = [action(3, "t")];
    fixture.deploy("roles", "role-authorizer", &roles("read topic t"));
    assert_eq!(check(&fixture, "a", &asked), Ok(vec![Verdict::Allow]));
    fixture.deploy("roles", "role-authorizer", &roles("deny read topic t"));
    let denied = Ok(vec![Verdict::Deny(Some("role r".into()))]);
    assert_eq!(check(&fixture, "a", &asked), denied);

    let fixture = Fixture::new();
    fixture.deploy("roles", "miscounter", &[]);
    let told = |fixture: &Fixture| check(fixture, "a", &[action(3, "clock")]);
    let at = |now: &str| Ok(vec![Verdict::Deny(Some(now.to_owned()))]);
    assert_eq!(
        told(&fixture),
        at("1000000"),
        "the broker's clock, uncached"
    );
    fixture.clock.advance(5);
    assert_eq!(told(&fixture), at("1000005"));
}

#[test]
fn an_action_that_an_authorizer_fails_on_is_denied_and_the_others_are_answered() {
    let fixture = Fixture::new();
    fixture.deploy("roles", "miscounter", &[]);
    let asked = [action(3, "clock"), action(3, "forget")];
    for _ in 0..7 {
        assert_eq!(
            check(&fixture, "a", &asked),
            Ok(vec![
                Verdict::Deny(Some("1000000".into())),
                Verdict::Deny(None)
            ])
        );
    }
    assert!(fixture.host.status()[0].suspended_topics.is_empty());
}

#[test]
fn many_actions_are_asked_in_slices() {
    let fixture = Fixture::new();
    fixture.deploy(
        "roles",
        "role-authorizer",
        &[("role.r", "read topic t-7*"), ("member.*", "r")],
    );
    let asked: Vec<_> = (0..2000).map(|n| action(3, &format!("t-{n}"))).collect();
    let verdicts = check(&fixture, "a", &asked).unwrap();
    for (action, verdict) in asked.iter().zip(verdicts) {
        let expected = if action.resource_name.starts_with("t-7") {
            Verdict::Allow
        } else {
            Verdict::Abstain
        };
        assert_eq!(verdict, expected, "{}", action.resource_name);
    }
}
