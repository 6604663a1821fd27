//! The benchmark against the floor: a few megabytes through both programs, as a person would start them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A floor that ends with the test.
struct Floor {
    child: Child,
    tcp: String,
    tls: String,
    quic: String,
}

impl Floor {
    fn start(mode: &str, data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(["--mode", mode, "--megabytes", "8", "--partitions", "2"])
            .args(["--tls", "127.0.0.1:0", "--quic", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Vec<String> = lines
            .map(|line| line.unwrap())
            .take_while(|line| line != "ready")
            .collect();
        let listening = |transport: &str| {
            let begin = format!("listening {transport} ");
            let address = said.iter().find_map(|line| line.strip_prefix(&begin));
            format!("{transport}://{}", address.unwrap())
        };
        Self {
            tcp: listening("tcp"),
            tls: listening("tls"),
            quic: listening("quic"),
            child,
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Runs the benchmark; its table.
fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .args(["--sizes", "100", "--megabytes", "4", "--markdown"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn rows(table: &str) -> Vec<&str> {
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    cells.skip(2).map(str::trim).collect()
}

#[test]
fn records_go_through_every_mode_that_stores() {
    for mode in ["log", "recycle", "gc", "gc-recycle"] {
        let data = tempfile::tempdir().unwrap();
        let floor = Floor::start(mode, data.path());
        let table = bench(&[
            "produce",
            "--bootstrap",
            &floor.tcp,
            "--acks",
            "all",
            "--partitions",
            "1,3",
            "--producers",
            "1,2",
            "--batch-bytes",
            "20000",
        ]);
        assert_eq!(
            rows(&table),
            [
                "produce tcp 100 B acks=all lean",
                "produce tcp 100 B acks=all lean, 2 producers",
                "produce tcp 100 B acks=all lean, 3 partitions",
                "produce tcp 100 B acks=all lean, 3 partitions, 2 producers"
            ]
        );
        let table = bench(&[
            "consume",
            "--bootstrap",
            &floor.tcp,
            "--reads",
            "warm,tail",
            "--groups",
            "3",
            "--partitions",
            "2",
            "--batch-bytes",
            "20000",
        ]);
        assert_eq!(
            rows(&table),
            [
                "consume tcp 100 B lean, 2 partitions, 3 readers",
                "consume tcp 100 B lean, 2 partitions, 3 readers, tail"
            ]
        );
    }
}

#[test]
fn records_go_over_tls() {
    let data = tempfile::tempdir().unwrap();
    let floor = Floor::start("gc", data.path());
    let ca = data.path().join("certificates/ca.pem");
    let ca = ca.to_str().unwrap();
    for scenario in ["produce", "consume"] {
        let table = bench(&[
            scenario,
            "--bootstrap",
            &floor.tls,
            "--ca",
            ca,
            "--acks",
            "1",
        ]);
        assert_eq!(rows(&table).len(), 1, "{table}");
    }
}

#[test]
fn the_full_client_produces_and_consumes() {
    let data = tempfile::tempdir().unwrap();
    let floor = Floor::start("log", data.path());
    for scenario in ["produce", "consume"] {
        let address = ["--bootstrap", floor.tcp.as_str(), "--client", "full"];
        let table = bench(&[&[scenario, "--acks", "all"][..], &address].concat());
        assert_eq!(rows(&table).len(), 1, "{table}");
    }
}

#[test]
fn an_open_loop_reaches_its_consumer() {
    let data = tempfile::tempdir().unwrap();
    let floor = Floor::start("gc-recycle", data.path());
    let address = ["--bootstrap", floor.tcp.as_str(), "--acks", "all"];
    let pace = ["--rate", "200", "--seconds", "2", "--warm-up", "0"];
    let table = bench(&[&["latency"][..], &address, &pace].concat());
    assert!(table.contains("p99.9"), "{table}");
}

#[cfg(feature = "librdkafka")]
#[test]
fn librdkafka_produces_consumes_and_keeps_an_open_loop() {
    let data = tempfile::tempdir().unwrap();
    let floor = Floor::start("log", data.path());
    let ca = data.path().join("certificates/ca.pem");
    let ca = ca.to_str().unwrap();
    for (address, ca) in [(&floor.tcp, &[][..]), (&floor.tls, &["--ca", ca][..])] {
        let client = [
            "--bootstrap",
            address,
            "--client",
            "librdkafka",
            "--acks",
            "1",
        ];
        let counts = ["--partitions", "3", "--producers", "2"];
        let pace = ["--rate", "200", "--seconds", "2", "--warm-up", "1"];
        for scenario in [
            &[&["produce"][..], &counts].concat()[..],
            &["consume", "--partitions", "3", "--reads", "warm,tail"],
            &[&["latency"][..], &pace].concat(),
        ] {
            bench(&[scenario, &client, ca].concat());
        }
    }
}

#[test]
fn plain_bytes_go_over_quic() {
    let data = tempfile::tempdir().unwrap();
    let floor = Floor::start("null", data.path());
    let ca = data.path().join("certificates/ca.pem");
    let ca = ca.to_str().unwrap();
    let table = bench(&["quic", "--bootstrap", &floor.quic, "--ca", ca]);
    assert_eq!(
        rows(&table),
        ["bare QUIC stream, in", "bare QUIC stream, out"]
    );
}
