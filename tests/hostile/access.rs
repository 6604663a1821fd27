//! Getting in without being let in: the operator's API without its token, guessed passwords, and an admin port that is kept
//! busy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Broker, RawClient};

/// SCRAM on one listener.
const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"
sasl-mechanisms = ["SCRAM-SHA-256"]

[admin]
bind = "127.0.0.1:0"
"#;

const PASSWORD: &str = "hunter2hunter2";
/// What somebody waits for an answer of the admin port, at most.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

fn broker_with_users(users: &[&str]) -> Broker {
    let broker = Broker::builder()
        .config(CONFIG)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let file = broker.data().join("password.txt");
    std::fs::write(&file, PASSWORD).expect("a file");
    let file = file.to_str().expect("a path");
    for user in users {
        broker
            .command(&["user", "create", user, "--password-file", file])
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    broker
}

/// One call, with these header lines: the answer's status and body.
fn call(address: SocketAddr, method: &str, path: &str, headers: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWERED_WITHIN)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer))
}

#[test]
fn nobody_on_the_machine_becomes_an_operator_without_the_token() {
    for broker in [Broker::start(), broker_with_users(&[])] {
        let admin = broker.admin();
        for (method, path) in [
            ("PUT", "/v1/users/eve"),
            ("DELETE", "/v1/users/alice"),
            ("GET", "/v1/users"),
            ("PUT", "/v1/plugins/x"),
            ("GET", "/v1/plugins"),
            ("GET", "/v1/topics"),
            ("GET", "/v1/broker"),
            ("POST", "/v1/log/x/0/recover"),
        ] {
            for headers in ["", "Authorization: Bearer 0123456789abcdef\r\n"] {
                let (status, answer) = call(admin, method, path, headers).expect("an answer");
                assert_eq!(status, 401, "{method} {path}: {answer}");
                assert!(!answer.contains(&broker.token()), "{method} {path}");
            }
        }
        let with = format!("Authorization: Bearer {}\r\n", broker.token());
        let (status, answer) = call(admin, "GET", "/v1/users", &with).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let file = broker.data().join("admin.token");
        let mode = std::fs::metadata(&file).expect("a file").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(!broker.log_tail().contains(&broker.token()));
        // Commands of the broker's own user find it.
        broker
            .command(&["user", "list"])
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn health_and_metrics_answer_under_a_thousand_half_open_connections() {
    let broker = Broker::start();
    let admin = broker.admin();
    let half_open: Vec<TcpStream> = (0..1_000)
        .map(|_| {
            let mut stream = TcpStream::connect(admin).expect("the kernel takes it");
            // Whether it is there still or has been closed already: nothing more is sent.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x");
            stream
        })
        .collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let begun = Instant::now();
        let answered = call(admin, "GET", path, "");
        let (status, _) = answered.unwrap_or_else(|error| panic!("{path}: {error:#}"));
        assert_eq!(status, 200, "{path}");
        assert!(begun.elapsed() < ANSWERED_WITHIN, "{path}");
    }
    broker
        .command(&["plugin", "list"])
        .unwrap_or_else(|error| panic!("{error:#}"));
    drop(half_open);
}

/// One login with a wrong password: how long until it is refused.
fn guess(broker: &Broker, user: &str) -> Duration {
    let begun = Instant::now();
    let refused = broker.connect().log_in(user, "a wrong password");
    assert!(refused.is_err(), "{user}");
    begun.elapsed()
}

fn logs_in(broker: &Broker, user: &str) -> Duration {
    let begun = Instant::now();
    let mut client: RawClient = broker.connect();
    client
        .log_in(user, PASSWORD)
        .unwrap_or_else(|error| panic!("{user}: {error:#}"));
    begun.elapsed()
}

#[test]
fn who_guesses_passwords_waits_longer_and_longer_and_who_knows_his_gets_in() {
    let broker = broker_with_users(&["alice", "bob"]);
    let waits = || {
        let waited = broker.metric("tidegate_throttles_total", r#"reason="failed-logins""#);
        waited.unwrap_or_else(|error| panic!("{error:#}"))
    };
    for user in ["alice", "nobody"] {
        for _ in 0..11 {
            guess(&broker, user);
        }
        let before = waits();
        let waited = guess(&broker, user) + guess(&broker, user) + guess(&broker, user);
        // Of 100, 200 and 400 ms, and the 100 ms that every failure takes; some may be forgiven meanwhile.
        assert!(waited >= Duration::from_millis(600), "{user}: {waited:?}");
        assert!(waits() > before, "whether {user} exists is not told");
    }
    // The same address and another name; the same name and the right password.
    assert!(logs_in(&broker, "bob") < Duration::from_secs(10));
    assert!(logs_in(&broker, "alice") < Duration::from_secs(10));
    assert!(
        guess(&broker, "alice") < Duration::from_secs(3),
        "the right password has settled it"
    );
    assert!(broker.log_tail().contains("authentication failed"));
}

#[test]
fn logins_that_wait_hold_up_nobody_else() {
    let broker = broker_with_users(&["alice", "bob"]);
    for _ in 0..14 {
        guess(&broker, "alice");
    }
    std::thread::scope(|scope| {
        for _ in 0..100 {
            // Refused after a wait, or at once when too many wait.
            scope.spawn(|| {
                broker
                    .connect()
                    .log_in("alice", "a wrong password")
                    .is_err()
            });
        }
        for _ in 0..5 {
            let took = logs_in(&broker, "bob");
            // The address's failures may cost him the longest wait, and no more.
            assert!(took < Duration::from_secs(10), "{took:?}");
        }
    });
    logs_in(&broker, "alice");
}
