//! Fewer file descriptors than partitions: every partition is written to, connections are taken, and none is stopped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Broker, RawClient, batch};

const STORAGE_ERROR: i16 = 56;
const PARTITIONS: i32 = 200;
/// Hard and soft. A quarter is the reserve.
const LIMIT: &str = "ulimit -n 256; exec \"$@\"";

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[admin]
bind = "127.0.0.1:0"
"#;

/// Sends until it is taken, as clients do; how often it was refused.
fn send(client: &mut RawClient, partition: i32, acks: i16) -> Result<usize> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut refused = 0;
    loop {
        let batch = batch::of_values(&[vec![b'x'; 100]]);
        let answer = client.produce("orders", partition, acks, batch)?;
        if answer.error_code == 0 {
            return Ok(refused);
        }
        ensure!(
            answer.error_code == STORAGE_ERROR && Instant::now() < deadline,
            "partition {partition}: error {} after {refused} refusals",
            answer.error_code
        );
        refused += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check() -> Result<()> {
    let mut broker = Broker::builder()
        .config(CONFIG)
        .through(&["sh", "-c", LIMIT, "sh"])
        .start()?;
    let mut client = broker.connect();
    client.create_topic("orders", PARTITIONS, &[])?;
    let mut refused = 0;
    for acks in [1, -1] {
        for partition in 0..PARTITIONS {
            refused += send(&mut client, partition, acks)?;
        }
    }
    let stopped = broker.metric("tidegate_partitions_stopped", "")?;
    ensure!(stopped == 0.0, "{stopped} partitions stopped");
    let open = broker.metric("tidegate_log_open_segments", "")?;
    let limit = broker.metric("tidegate_log_open_segments_limit", "")?;
    ensure!(limit == 96.0 && open <= limit, "{open} of {limit} are open");
    let counted = broker.metric("tidegate_log_open_refused_total", "")?;
    ensure!(
        counted == refused as f64,
        "{counted} of {refused} refusals are counted"
    );

    // All the connections that there may be, and the admin port and the catalog beside them.
    let mut connections: Vec<_> = (0..95).map(|_| broker.connect()).collect();
    for connection in &mut connections {
        connection.api_versions()?;
    }
    broker.metrics()?;
    client.create_topic("later", 1, &[])?;
    for partition in (0..PARTITIONS).step_by(20) {
        send(&mut connections[0], partition, -1)?;
        let read = client.fetch("orders", partition, 0, Duration::from_secs(5))?;
        ensure!(read.error_code == 0, "fetch: error {}", read.error_code);
        ensure!(client.list_offset("orders", partition, -1)? == 3);
    }
    broker.stop()?;
    Ok(())
}

#[test]
fn more_partitions_are_written_to_than_files_can_be_open() {
    check().unwrap_or_else(|error| panic!("{error:#}"));
}
