//! Connections that are slow, many, or both.

use std::time::Duration;

use harness::{Broker, RawClient};

use crate::{Victim, serve};

#[test]
fn two_hundred_clients_that_never_finish_a_frame_disturb_nobody() {
    let mut victim = Victim::start();
    let mut slow: Vec<RawClient> = (0..200)
        .map(|_| {
            let mut client = victim.connect();
            // A megabyte is announced; a broker that believes it holds 200 MB for nothing.
            let announced = (1_u32 << 20).to_be_bytes();
            client.send_raw(&announced).expect("bytes can be sent");
            client
        })
        .collect();
    for byte in 0..8 {
        for client in &mut slow {
            client.send_raw(&[byte]).expect("bytes can be sent");
        }
        serve(&victim.broker);
    }
    victim.check("slow clients, still connected");
    drop(slow);
    victim.check("slow clients, gone");
}

#[test]
fn two_thousand_connections_come_and_go() {
    let mut victim = Victim::start();
    for _ in 0..10 {
        let connections: Vec<_> = (0..200).map(|_| victim.connect()).collect();
        serve(&victim.broker);
        drop(connections);
    }
    victim.check("two thousand connections");
}

/// Asks four times for far more than a socket holds, reads nothing, and goes away.
fn leave_unread(victim: &Victim) {
    for _ in 0..4 {
        let mut deaf = victim.connect();
        for _ in 0..50 {
            if deaf.send_fetch("heavy", 0, 0).is_err() {
                break;
            }
        }
        serve(&victim.broker);
    }
}

/// What the broker's pool of large buffers may keep, of which the first round need not have filled all.
const KEPT_BUFFERS: u64 = 16 << 20;

/// Answers of many megabytes are asked for and never read: the broker must not pile them up.
#[test]
fn a_client_that_does_not_read_its_answers() {
    let mut victim = Victim::start();
    let value = vec![1_u8; 900 << 10];
    let mut client = victim.connect();
    client
        .create_topic("heavy", 1, &[])
        .unwrap_or_else(|error| panic!("{error:#}"));
    for _ in 0..8 {
        let sent = client
            .produce("heavy", 0, -1, harness::batch::of_values(&[&value]))
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(sent.error_code, 0);
    }
    // The first round shows what the allocator keeps of such buffers; the second must not need more.
    leave_unread(&victim);
    victim.memory = victim.broker.memory_rss().map(|now| now + KEPT_BUFFERS);
    leave_unread(&victim);
    victim.check("a client that does not read");
}

#[test]
fn connections_beyond_the_listeners_bound_are_closed() {
    const BOUND: usize = 20;
    let config = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"
max-connections = 20

[admin]
bind = "127.0.0.1:0"
"#;
    let broker = Broker::builder()
        .config(config)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut inside: Vec<_> = (0..BOUND).map(|_| broker.connect()).collect();
    for client in &mut inside {
        client
            .api_versions()
            .unwrap_or_else(|error| panic!("within the bound: {error:#}"));
    }
    for _ in 0..BOUND {
        // The system accepts for the broker; the broker closes without a word.
        if let Ok(mut refused) = RawClient::connect(broker.tcp()) {
            assert!(
                refused.closed_by_broker(Duration::from_secs(10)),
                "one too many"
            );
        }
    }
    for client in &mut inside {
        client
            .api_versions()
            .unwrap_or_else(|error| panic!("those inside stay: {error:#}"));
    }
}

/// All connections that there are, from one address: another still gets in, and those that are quiet make room for it.
#[test]
fn connections_of_one_address_keep_nobody_else_out() {
    const BOUND: usize = 40;
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no second loopback address (::1)");
        return;
    }
    let config = r#"
[broker]
data-dir = "{data}"

[net]
max-connections = 40

[[listener]]
name = "six"
transport = "tcp"
bind = "[::1]:0"

[[listener]]
name = "four"
transport = "tcp"
bind = "127.0.0.1:0"

[admin]
bind = "127.0.0.1:0"
"#;
    let broker = Broker::builder()
        .config(config)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut crowd: Vec<_> = (0..BOUND).map(|_| broker.connect()).collect();
    for client in &mut crowd {
        client
            .api_versions()
            .unwrap_or_else(|error| panic!("within the bound: {error:#}"));
    }
    // Listeners are told in their order, by their transports.
    let other = broker.addresses().by_name[0].1;
    assert_ne!(other, broker.tcp());
    let mut honest: Vec<RawClient> = (0..5)
        .map(|_| RawClient::connect(other).expect("the broker accepts"))
        .collect();
    for client in &mut honest {
        client
            .api_versions()
            .unwrap_or_else(|error| panic!("{error:#}\n{}", broker.log_tail()));
    }
    let closed = crowd
        .iter_mut()
        .filter_map(|client| client.api_versions().err());
    assert_eq!(closed.count(), honest.len(), "no more than were needed");
}
