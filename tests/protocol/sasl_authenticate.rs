use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Broker, RawClient, scram};
use kafka_protocol::messages::{
    ListGroupsRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use tidegate::kafka::handlers::sasl_authenticate::VERSIONS;

use crate::sasl_handshake::{SCRAM, broker_with_scram};
use crate::support::{ask, text};

/// A session ends within a second of what ends it; this leaves a busy machine some more.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

fn step(bytes: &'static [u8]) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(bytes))
}

#[test]
fn a_token_without_a_handshake_is_out_of_order_in_every_version() {
    let broker = broker_with_scram();
    for version in VERSIONS {
        let mut client = broker.connect();
        assert_eq!(
            ask(&mut client, version, &step(b"n,,n=a,r=b")).error_code,
            34
        );
    }
}

#[test]
fn a_wrong_proof_ends_the_connection_and_does_not_tell_name_from_password() {
    let broker = broker_with_scram();
    for version in VERSIONS {
        let mut client = broker.connect();
        let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
        assert_eq!(ask(&mut client, 1, &handshake).error_code, 0);
        let challenge = ask(&mut client, version, &step(b"n,,n=nobody,r=nonce"));
        assert_eq!(
            challenge.error_code, 0,
            "an unknown user gets a challenge like any other"
        );
        assert!(challenge.auth_bytes.starts_with(b"r=nonce"));
        let failed = ask(&mut client, version, &step(b"c=biws,r=nonce,p=AAAA"));
        assert_eq!(failed.error_code, 58);
        assert!(client.closed_by_broker(Duration::from_secs(5)));
    }
}

#[test]
fn nothing_else_is_answered_before_authentication() {
    let broker = broker_with_scram();
    let mut client = broker.connect();
    assert!(client.request(4, &ListGroupsRequest::default()).is_err());
}

/// Creates a user, or gives one a new password, as an operator does.
fn set_password(broker: &Broker, user: &str, password: &str) {
    let file = broker.data().join(format!("{user}.txt"));
    std::fs::write(&file, password).expect("a file");
    let file = file.to_str().expect("a path");
    broker
        .command(&["user", "create", user, "--password-file", file])
        .unwrap_or_else(|error| panic!("{error:#}"));
}

#[track_caller]
fn log_in(broker: &Broker, user: &str, password: &str) -> RawClient {
    let mut client = broker.connect();
    client
        .log_in(user, password)
        .unwrap_or_else(|error| panic!("{user}: {error:#}"));
    client
}

/// One exchange on a connection: the last answer.
#[track_caller]
fn exchange(
    client: &mut RawClient,
    version: i16,
    (user, password): (&str, &str),
) -> SaslAuthenticateResponse {
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    assert_eq!(ask(client, 1, &handshake).error_code, 0);
    let first = SaslAuthenticateRequest::default();
    let first = first.with_auth_bytes(scram::first_message(user).into());
    let challenge = ask(client, version, &first);
    let proof = scram::final_message(user, password, &challenge.auth_bytes).expect("a challenge");
    let last = SaslAuthenticateRequest::default().with_auth_bytes(proof.into());
    ask(client, version, &last)
}

#[test]
fn a_removed_user_and_a_new_password_end_open_sessions_even_those_that_wait() {
    let broker = broker_with_scram();
    for user in ["alice", "bob", "carol"] {
        set_password(&broker, user, "hunter2hunter2");
    }
    let mut carol = log_in(&broker, "carol", "hunter2hunter2");
    carol.create_topic("orders", 1, &[]).expect("created");
    let wait = Duration::from_secs(600);
    for change in ["removed", "given a new password"] {
        let user = if change == "removed" { "alice" } else { "bob" };
        let mut idle = log_in(&broker, user, "hunter2hunter2");
        let mut waiting = log_in(&broker, user, "hunter2hunter2");
        let fetch = harness::fetch_request("orders", 0, 0, wait);
        waiting.send(12, &fetch).expect("sent");
        match change {
            "removed" => drop(broker.command(&["user", "delete", user]).expect("deleted")),
            _ => set_password(&broker, user, "another password"),
        }
        assert!(waiting.closed_by_broker(ENDED_WITHIN), "{change}");
        assert!(idle.closed_by_broker(ENDED_WITHIN), "{change}");
        let again = broker.connect().log_in(user, "hunter2hunter2");
        assert!(again.is_err(), "{change}");
    }
    let answer = ask(&mut carol, 4, &ListGroupsRequest::default());
    assert_eq!(answer.error_code, 0, "who did not change goes on");
    log_in(&broker, "bob", "another password");
}

/// Logins that last two seconds.
fn broker_with_lifetime() -> Broker {
    let config = format!("{SCRAM}\n[security]\nconnections-max-reauth = \"2s\"\n");
    let broker = Broker::builder().config(config).start();
    let broker = broker.unwrap_or_else(|error| panic!("{error:#}"));
    for user in ["alice", "bob"] {
        set_password(&broker, user, "hunter2hunter2");
    }
    broker
}

#[test]
fn a_login_says_how_long_it_lasts_and_ends_then() {
    let broker = broker_with_lifetime();
    for version in VERSIONS {
        let mut client = broker.connect();
        let begun = Instant::now();
        let done = exchange(&mut client, version, ("alice", "hunter2hunter2"));
        let lifetime = if version >= 1 { 2000 } else { 0 };
        assert_eq!((done.error_code, done.session_lifetime_ms), (0, lifetime));
        // There is no event to wait for: the end shows at a request.
        while client.request(4, &ListGroupsRequest::default()).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(begun.elapsed() >= Duration::from_secs(2));
    }
}

#[test]
fn a_session_that_logs_in_again_goes_on_as_the_same_user_by_the_same_mechanism() {
    let broker = broker_with_lifetime();
    let alice = ("alice", "hunter2hunter2");
    let mut client = broker.connect();
    let begun = Instant::now();
    exchange(&mut client, 2, alice);
    while begun.elapsed() < Duration::from_secs(5) {
        // No more often than once in a second; in between, requests are served.
        std::thread::sleep(Duration::from_millis(1_050));
        let done = exchange(&mut client, 2, alice);
        assert_eq!((done.error_code, done.session_lifetime_ms), (0, 2000));
        let answer = ask(&mut client, 4, &ListGroupsRequest::default());
        assert_eq!(answer.error_code, 0);
    }

    let mut client = broker.connect();
    exchange(&mut client, 2, alice);
    let done = exchange(&mut client, 2, ("bob", "hunter2hunter2"));
    assert_eq!(done.error_code, 58);
    let told = done.error_message.expect("a message");
    assert!(told.contains("Cannot change principals"), "{told:?}");
    assert!(client.closed_by_broker(ENDED_WITHIN));
}

#[test]
fn a_login_without_an_end_is_not_begun_again() {
    let broker = broker_with_scram();
    set_password(&broker, "alice", "hunter2hunter2");
    let mut client = broker.connect();
    let done = exchange(&mut client, 2, ("alice", "hunter2hunter2"));
    assert_eq!((done.error_code, done.session_lifetime_ms), (0, 0));
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    assert_eq!(ask(&mut client, 1, &handshake).error_code, 34);
}

#[test]
fn the_salt_of_an_unknown_user_is_the_same_after_a_restart() {
    let mut broker = broker_with_scram();
    set_password(&broker, "alice", "hunter2hunter2");
    let salts = |broker: &Broker| {
        ["alice", "nobody", "somebody"].map(|user| {
            let mut client = broker.connect();
            let handshake = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
            assert_eq!(ask(&mut client, 1, &handshake).error_code, 0);
            let first = SaslAuthenticateRequest::default();
            let first = first.with_auth_bytes(scram::first_message(user).into());
            let challenge = ask(&mut client, 1, &first).auth_bytes;
            let challenge = String::from_utf8(challenge.to_vec()).expect("a text");
            challenge.split_once(",s=").expect("a salt").1.to_owned()
        })
    };
    let before = salts(&broker);
    assert_ne!(before[1], before[2]);
    broker.stop().unwrap_or_else(|error| panic!("{error:#}"));
    broker.restart().unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(salts(&broker), before);
}
