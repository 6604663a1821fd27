//! Confluent's documented Python quickstart, to the letter: `localhost:9092`, ten messages, one group.

use std::fs;

use harness::{Broker, Suite, port_free, say};

use crate::languages::{clients_directory, python, run};

const DOCUMENTED_PORT: u16 = 9092;

#[test]
fn confluent_quickstart_runs_unchanged() {
    let suite = Suite {
        name: "confluent-kafka quickstart",
    };
    let Some(mut command) = suite.need(python("quickstart.py")) else {
        return;
    };
    let (broker, _changed_script);
    if port_free(DOCUMENTED_PORT) {
        broker = Broker::builder()
            .tcp_port(DOCUMENTED_PORT)
            .start()
            .unwrap_or_else(|error| panic!("{error:#}"));
    } else {
        broker = Broker::start();
        let script = clients_directory().join("python/quickstart.py");
        let text = fs::read_to_string(script).expect("the script is in the repository");
        let changed = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let port = broker.tcp().port();
        fs::write(&changed, text.replace("9092", &port.to_string()))
            .expect("a temporary file can be written");
        let interpreter = command.get_program().to_owned();
        command = std::process::Command::new(interpreter);
        command.arg(changed.path());
        say(&format!(
            "confluent-kafka quickstart: port {DOCUMENTED_PORT} is taken, so the script runs with port {port} in its place"
        ));
        _changed_script = changed;
    }

    let printed = run(&mut command, &broker);

    let lines = |start: &str| {
        printed
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(lines("Message delivered to example_topic"), 10, "{printed}");
    assert_eq!(lines("Received message: value"), 10, "{printed}");
    assert_eq!(lines("Consumer error"), 0, "{printed}");
}
