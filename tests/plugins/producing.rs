//! What producers see of a topic's plugins: the order of what they sent, codes on which they do the right thing, and nothing of
//! other topics' plugins.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::batch::{self, Producer};
use harness::guests::build_guest;
use harness::{Broker, Dialect, RawClient, Transactional, fetch_all};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const POLICY_VIOLATION: i16 = 44;
const INVALID_RECORD: i16 = 87;
const GZIP: u8 = 1;

/// A broker on which the hostile guest is deployed once for each mode, under its name.
fn broker(modes: &[&str]) -> Broker {
    let guest = build_guest("hostile").display().to_string();
    let broker = Broker::start();
    for mode in modes {
        let config = format!("mode={mode}");
        broker
            .command(&["plugin", "deploy", mode, &guest, "--config", &config])
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    broker
}

fn create(client: &mut RawClient, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    client
        .create_topic(topic, partitions, configs)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Values of a partition, in order.
fn values(client: &mut RawClient, topic: &str, partition: i32) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        let wanted = [(topic, partition, next)];
        let fetched = fetch_all(client, &wanted, true, Duration::ZERO).expect("an answer");
        let Some(fetched) = fetched.first().filter(|fetched| fetched.next > next) else {
            return found;
        };
        next = fetched.next;
        found.extend(fetched.records.iter().map(|record| {
            let value = record.value.clone().unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        }));
    }
}

#[test]
fn pipelined_idempotent_batches_keep_their_order_whether_plugins_are_slow_or_not() {
    let broker = broker(&["work", "copy"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 2, &[("tidegate.transform", "work")]);
    create(&mut client, "quick", 1, &[("tidegate.transform", "copy")]);
    create(&mut client, "plain", 1, &[]);
    let lanes = [("hostile", 0), ("plain", 0), ("hostile", 1), ("quick", 0)];
    let (id, epoch) = client.init_producer_id().expect("a producer id");
    const ROUNDS: i32 = 25;
    for round in 0..ROUNDS {
        for (topic, partition) in lanes {
            let producer = Producer {
                id,
                epoch,
                base_sequence: 2 * round,
            };
            let pair = [format!("{round}a"), format!("{round}b")];
            let records: Vec<_> = pair.iter().map(|value| (None, value.as_bytes())).collect();
            let acks = if round % 2 == 0 { -1 } else { 1 };
            client
                .send_produce(topic, partition, acks, batch::build(&records, producer))
                .expect("sent");
        }
    }
    for round in 0..ROUNDS {
        for lane in lanes {
            let (_, answer) = client.receive_produce().expect("an answer");
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (0, i64::from(2 * round)),
                "{lane:?} {round}: {:?}",
                answer.error_message
            );
        }
    }
    let expected: Vec<_> = (0..ROUNDS)
        .flat_map(|round| [format!("{round}a"), format!("{round}b")])
        .collect();
    for (topic, partition) in lanes {
        assert_eq!(values(&mut client, topic, partition), expected, "{topic}");
    }
}

/// A topic that gives its plugin up while batches wait for it: what comes behind them stays behind them.
#[test]
fn what_comes_after_a_plugin_was_taken_off_stays_behind_what_waits_for_it() {
    let broker = broker(&["work"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 1, &[("tidegate.transform", "work")]);
    let (id, epoch) = client.init_producer_id().expect("a producer id");
    let send = |client: &mut RawClient, base_sequence: i32| {
        let producer = Producer {
            id,
            epoch,
            base_sequence,
        };
        let batch = batch::build(&[(None, b"x")], producer);
        client.send_produce("hostile", 0, -1, batch).expect("sent");
    };
    for sequence in 0..60 {
        send(&mut client, sequence);
    }
    let bootstrap = broker.tcp().to_string();
    let altered = std::process::Command::new(harness::tidegate_binary())
        .args(["topic", "alter", "hostile", "--bootstrap", &bootstrap])
        .args(["--config", "tidegate.transform="])
        .output()
        .expect("the command runs");
    assert!(altered.status.success(), "{altered:?}");
    for sequence in 60..80 {
        send(&mut client, sequence);
    }
    for sequence in 0..80 {
        let (_, answer) = client.receive_produce().expect("an answer");
        assert_eq!((answer.error_code, answer.base_offset), (0, sequence));
    }
}

#[test]
fn transactions_go_through_plugins_whole_or_not_at_all() {
    let broker = broker(&["work"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 1, &[("tidegate.transform", "work")]);
    for dialect in [Dialect::Announced, Dialect::Implicit] {
        let mut producer = Transactional::new(format!("{dialect:?}"), dialect);
        let code = producer.initialize(&mut client, Duration::from_secs(60));
        assert_eq!(code.expect("an answer"), 0);
        let mut sequence = 0;
        for (outcome, commit) in [("committed", true), ("aborted", false), ("again", true)] {
            if dialect == Dialect::Announced {
                let added = producer.add_partitions(&mut client, "hostile", &[0]);
                assert_eq!(added.expect("an answer"), 0);
            }
            for _ in 0..5 {
                let identity = Producer {
                    id: producer.producer_id,
                    epoch: producer.epoch,
                    base_sequence: sequence,
                };
                sequence += 1;
                let value = format!("{dialect:?} {outcome}");
                let batch = batch::transactional(&[(None, value.as_bytes())], identity);
                producer
                    .send_produce(&mut client, "hostile", 0, batch)
                    .expect("sent");
            }
            for _ in 0..5 {
                let (code, _) = producer.receive_produce(&mut client).expect("an answer");
                assert_eq!(code, 0, "{dialect:?} {outcome}");
            }
            assert_eq!(producer.end(&mut client, commit).expect("an answer"), 0);
            if dialect == Dialect::Implicit {
                sequence = 0;
            }
        }
    }
    let expected: Vec<_> = [
        "Announced committed",
        "Announced again",
        "Implicit committed",
        "Implicit again",
    ]
    .into_iter()
    .flat_map(|value| vec![value.to_owned(); 5])
    .collect();
    assert_eq!(values(&mut client, "hostile", 0), expected);
}

/// The one topic's plugin works for a second and more; the others are answered meanwhile.
#[test]
fn a_slow_plugin_holds_up_no_other_topic() {
    let broker = broker(&["work", "copy"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 8, &[("tidegate.transform", "work")]);
    create(&mut client, "quick", 1, &[("tidegate.transform", "copy")]);
    create(&mut client, "plain", 1, &[]);
    let flood = |partition| {
        let mut client = broker.connect();
        for _ in 0..150 {
            client
                .send_produce("hostile", partition, 1, batch::of_values(&["x"]))
                .expect("sent");
        }
        client
    };
    let floods: Vec<_> = (0..8).map(flood).collect();
    thread::scope(|scope| {
        let flooders: Vec<_> = floods
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    for _ in 0..150 {
                        let (_, answer) = client.receive_produce().expect("an answer");
                        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
                    }
                    Instant::now()
                })
            })
            .collect();
        for _ in 0..5 {
            for topic in ["plain", "quick"] {
                let answer = client.produce(topic, 0, 1, batch::of_values(&["x"]));
                assert_eq!(answer.expect("an answer").error_code, 0, "{topic}");
            }
        }
        let served = Instant::now();
        let flooded = flooders
            .into_iter()
            .map(|flooder| flooder.join().expect("no panic"))
            .max()
            .expect("eight");
        assert!(served < flooded, "{:?} later", served - flooded);
    });
}

#[test]
fn a_failure_that_passes_is_tried_again_and_names_plugin_and_reason() {
    let broker = broker(&["trap", "retry", "refuse"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 1, &[("tidegate.transform", "trap")]);
    create(&mut client, "other", 1, &[("tidegate.transform", "trap")]);
    let produce = |client: &mut RawClient, topic: &str| {
        let answer = client.produce(topic, 0, -1, batch::of_values(&["x"]));
        let answer = answer.expect("an answer");
        let message = answer.error_message.map(|text| text.to_string());
        (answer.error_code, message.unwrap_or_default())
    };
    for _ in 0..5 {
        let (code, message) = produce(&mut client, "hostile");
        assert_eq!(code, NOT_ENOUGH_REPLICAS);
        assert!(
            message.starts_with("plugin trap (revision 1): trapped: "),
            "{message}"
        );
    }
    let (code, message) = produce(&mut client, "hostile");
    assert_eq!(
        (code, &*message),
        (
            NOT_ENOUGH_REPLICAS,
            "plugin trap (revision 1): is suspended after repeated faults"
        )
    );
    assert_eq!(produce(&mut client, "other").0, 0, "the same plugin");
    let listed = broker
        .command(&["plugin", "list", "--json"])
        .expect("a list");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let suspended: Vec<_> = listed["plugins"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|plugin| plugin["suspended"] == true)
        .map(|plugin| (&plugin["name"], &plugin["suspended_topics"]))
        .collect();
    assert_eq!(
        suspended,
        [(&"trap".into(), &serde_json::json!(["hostile"]))]
    );

    for (plugin, expected, told) in [
        (
            "retry",
            NOT_ENOUGH_REPLICAS,
            "cannot answer now: try again after 250 ms",
        ),
        ("refuse", POLICY_VIOLATION, "refused the batch: not today"),
    ] {
        client = broker.connect();
        let bootstrap = broker.tcp().to_string();
        let altered = std::process::Command::new(harness::tidegate_binary())
            .args(["topic", "alter", "hostile", "--bootstrap", &bootstrap])
            .args(["--config", &format!("tidegate.transform={plugin}")])
            .output()
            .expect("the command runs");
        assert!(altered.status.success(), "{altered:?}");
        let (code, message) = produce(&mut client, "hostile");
        assert_eq!(code, expected, "{message}");
        assert!(message.ends_with(told), "{message}");
    }
}

#[test]
fn poison_is_refused_by_its_index_and_passes_nothing_in_the_clear() {
    let broker = broker(&["poison"]);
    let mut client = broker.connect();
    create(
        &mut client,
        "hostile",
        1,
        &[("tidegate.transform", "poison")],
    );
    for _ in 0..7 {
        let poisoned = batch::of_values(&["good", "trap", "good"]);
        let answer = client
            .produce("hostile", 0, -1, poisoned)
            .expect("an answer");
        assert_eq!(answer.error_code, INVALID_RECORD);
        let indexes: Vec<_> = answer
            .record_errors
            .iter()
            .map(|one| one.batch_index)
            .collect();
        assert_eq!(indexes, [1]);
    }
    let good = client.produce("hostile", 0, -1, batch::of_values(&["good"]));
    assert_eq!(good.expect("an answer").error_code, 0);
    assert_eq!(values(&mut client, "hostile", 0), ["good"]);

    let wrong = client.create_topic("t", 1, &[("tidegate.transform.on-failure", "pass")]);
    assert!(wrong.is_err(), "a name that does not say what it does");
}

/// Peak resident memory, in kilobytes.
fn peak(broker: &Broker) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// Millions of empty headers in a few kilobytes: counted before anything is allocated for them.
#[test]
fn a_batch_of_headers_is_refused_before_it_is_taken_apart() {
    let broker = broker(&["copy"]);
    let mut client = broker.connect();
    create(&mut client, "hostile", 1, &[("tidegate.transform", "copy")]);
    let good = client.produce("hostile", 0, -1, batch::of_values(&["x"]));
    assert_eq!(good.expect("an answer").error_code, 0);
    let bomb = header_bomb(3_900_000);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let before = peak(&broker);
    for _ in 0..6 {
        let answer = client
            .produce("hostile", 0, -1, bomb.clone())
            .expect("an answer");
        assert_eq!(answer.error_code, INVALID_RECORD);
        let message = answer.error_message.expect("a reason").to_string();
        assert!(
            message.contains("record 0 of 1 has 3900000 headers")
                && message.contains("plugins.max-decompressed-bytes"),
            "{message}"
        );
    }
    let grown = peak(&broker) - before;
    assert!(grown < 64 << 10, "{grown} kB");
    let good = client.produce("hostile", 0, -1, batch::of_values(&["x"]));
    assert_eq!(good.expect("an answer").base_offset, 1);
}

fn header_bomb(headers: u64) -> Bytes {
    // Attributes, deltas of time and offset, no key, no value.
    let mut record = BytesMut::from(&[0, 0, 0, 1, 1][..]);
    put_varint(&mut record, headers);
    record.resize(record.len() + 2 * headers as usize, 0);
    let mut body = BytesMut::new();
    put_varint(&mut body, record.len() as u64);
    body.extend_from_slice(&record);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&body).expect("memory can be written");
    let body = encoder.finish().expect("memory can be written");
    batch::with_header(&body, GZIP, 1, Producer::default())
}

/// Of a number that is not negative.
fn put_varint(out: &mut BytesMut, number: u64) {
    let mut zigzag = number << 1;
    while zigzag >= 0x80 {
        out.extend_from_slice(&[(zigzag & 0x7f) as u8 | 0x80]);
        zigzag >>= 7;
    }
    out.extend_from_slice(&[zigzag as u8]);
}
