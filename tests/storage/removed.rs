//! A topic's folder that somebody removes while the broker is running: nothing is acknowledged into files without a name.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Broker, batch};

const CONFIG: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tcp"
transport = "tcp"
bind = "127.0.0.1:0"

[log]
file-check-interval = "100ms"

[admin]
bind = "127.0.0.1:0"
"#;

const STORAGE_ERROR: i16 = 56;

fn check() -> Result<()> {
    let broker = Broker::builder().config(CONFIG).start()?;
    let mut client = broker.connect();
    for topic in ["orders", "others"] {
        client.create_topic(topic, 1, &[])?;
        let answer = client.produce(topic, 0, -1, batch::of_values(&["one"]))?;
        ensure!(answer.error_code == 0, "error {}", answer.error_code);
        if topic == "orders" {
            let log = broker.data().join("log");
            let is_topic = |name: &str| name.len() == 36;
            let entries = fs::read_dir(&log)?.filter_map(|entry| Some(entry.ok()?.path()));
            let mut topics = entries.filter(|path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(is_topic)
            });
            let with_segment = topics.find(|path| path.join("0/00000000000000000000.log").exists());
            fs::remove_dir_all(with_segment.context("the topic's folder")?)?;
        }
    }
    let refused = client.produce("orders", 0, -1, batch::of_values(&["two"]))?;
    ensure!(
        refused.error_code == STORAGE_ERROR,
        "acks=all was answered {} for a file without a name",
        refused.error_code
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.metric("tidegate_partitions_stopped", "")? != 1.0 {
        ensure!(Instant::now() < deadline, "never told");
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = broker.log_tail();
    ensure!(
        log.contains("was removed while the broker was running"),
        "{log}"
    );
    let answer = client.produce("others", 0, -1, batch::of_values(&["two"]))?;
    ensure!(answer.error_code == 0, "the other topic goes on");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_into_a_folder_that_was_removed() {
    check().unwrap_or_else(|error| panic!("{error:#}"));
}
