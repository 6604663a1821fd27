use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use harness::scram::{final_message, first_message};
use harness::{Broker, RawClient};
use kafka_protocol::messages::{ListGroupsRequest, SaslHandshakeRequest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tidegate::kafka::handlers::sasl_handshake::VERSIONS;

use crate::support::{ask, text};

/// One listener that asks for a password, and authorization.
pub const SCRAM: &str = r#"
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

pub fn broker_with_scram() -> Broker {
    Broker::builder()
        .config(SCRAM)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_mechanism_must_be_one_of_the_listeners() {
    let broker = broker_with_scram();
    let mut client = broker.connect();
    for (name, code) in [("GSSAPI", 33), ("SCRAM-SHA-512", 33), ("SCRAM-SHA-256", 0)] {
        let request = SaslHandshakeRequest::default().with_mechanism(text(name));
        let answer = ask(&mut client, 1, &request);
        assert_eq!(answer.error_code, code, "{name}");
        assert_eq!(answer.mechanisms, [text("SCRAM-SHA-256")]);
    }
}

#[test]
fn a_listener_without_sasl_says_so() {
    let broker = Broker::start();
    for version in VERSIONS {
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        assert_eq!(ask(&mut broker.connect(), version, &request).error_code, 34);
    }
}

const PASSWORD: &str = "alice-secret";

fn add_alice(broker: &Broker) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(&file, PASSWORD).expect("a temporary file can be written");
    let path = file.path().display().to_string();
    broker
        .command(&["user", "create", "alice", "--password-file", &path])
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Chooses SCRAM in a version of SaslHandshake.
fn choose_scram(broker: &Broker, version: i16) -> RawClient {
    let mut client = broker.connect();
    let request = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    assert_eq!(ask(&mut client, version, &request).error_code, 0);
    client
}

fn framed(token: &[u8]) -> Vec<u8> {
    [&(token.len() as u32).to_be_bytes()[..], token].concat()
}

/// Sends a token in a frame of its own and takes the next one.
fn exchange(client: &mut RawClient, token: &[u8]) -> Result<Bytes> {
    client.send_raw(&framed(token))?;
    client.receive_raw()
}

#[test]
fn after_version_0_scram_tokens_come_bare() {
    let broker = broker_with_scram();
    add_alice(&broker);
    let mut client = choose_scram(&broker, 0);
    let challenge = exchange(&mut client, first_message("alice").as_bytes()).expect("a challenge");
    let proof = final_message("alice", PASSWORD, &challenge).expect("it is a challenge");
    let verdict = exchange(&mut client, proof.as_bytes()).expect("a verdict");
    assert!(verdict.starts_with(b"v="), "{verdict:?}");
    let listed = ask(&mut client, 4, &ListGroupsRequest::default());
    assert_eq!(listed.error_code, 0, "requests have their headers again");
}

#[test]
fn a_wrong_bare_token_closes_without_a_word() {
    let broker = broker_with_scram();
    add_alice(&broker);
    let request = harness::encode(7, 4, &ListGroupsRequest::default()).expect("it encodes");
    let long = format!("n,,n=alice,r={}", "r".repeat(5_000));
    for (what, first) in [
        ("a request", &request[4..]),
        ("nonsense", b"nonsense"),
        ("a long token", long.as_bytes()),
        ("no token", b""),
    ] {
        let mut client = choose_scram(&broker, 0);
        assert!(exchange(&mut client, first).is_err(), "{what}");
    }
    let mut client = choose_scram(&broker, 0);
    let challenge = exchange(&mut client, first_message("alice").as_bytes()).expect("a challenge");
    let proof = final_message("alice", "wrong", &challenge).expect("it is a challenge");
    assert!(exchange(&mut client, proof.as_bytes()).is_err(), "a proof");
    assert!(client.closed_by_broker(Duration::from_secs(5)));
}

#[test]
fn tokens_are_bare_after_version_0_alone() {
    let broker = broker_with_scram();
    add_alice(&broker);
    let mut client = choose_scram(&broker, 1);
    assert!(exchange(&mut client, first_message("alice").as_bytes()).is_err());
    // A handshake that fails begins nothing: what follows is a request, and comes before authentication.
    let mut client = broker.connect();
    let request = SaslHandshakeRequest::default().with_mechanism(text("GSSAPI"));
    assert_eq!(ask(&mut client, 0, &request).error_code, 33);
    assert!(exchange(&mut client, first_message("alice").as_bytes()).is_err());
}

const PLAIN: &str = r#"
[broker]
data-dir = "{data}"

[[listener]]
name = "tls"
transport = "tls"
bind = "127.0.0.1:0"
sasl-mechanisms = ["PLAIN"]
tls = { certificate-file = "CERTIFICATES/server.pem", key-file = "CERTIFICATES/server.key" }

[admin]
bind = "127.0.0.1:0"
"#;

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn connect_tls(broker: &Broker, certificates: &Path) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificates.join("ca.pem"));
    roots
        .add(authority.expect("a certificate"))
        .expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let address = broker.addresses().tls.expect("it listens on TLS");
    let stream = TcpStream::connect(address).expect("it accepts");
    rustls::StreamOwned::new(session, stream)
}

fn read_frame(stream: &mut Tls) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

#[test]
fn after_version_0_a_plain_token_comes_bare() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut maker = Broker::builder()
        .data(folder.path())
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    maker.stop().expect("it stops");
    let certificates = folder.path().join("certificates");
    let config = PLAIN.replace("CERTIFICATES", &certificates.display().to_string());
    let broker = Broker::builder()
        .config(config)
        .start()
        .unwrap_or_else(|error| panic!("{error:#}"));
    add_alice(&broker);
    let right = format!("\0alice\0{PASSWORD}");
    for (token, is_right) in [
        (right.as_str(), true),
        ("\0alice\0wrong", false),
        ("\0a\0b", false),
    ] {
        let mut stream = connect_tls(&broker, &certificates);
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        let handshake = harness::encode(1, 0, &request).expect("it encodes");
        stream.write_all(&handshake).expect("it is sent");
        let answer = read_frame(&mut stream).expect("an answer");
        assert_eq!(answer[4..6], [0, 0], "the handshake succeeds");
        stream.write_all(&framed(token.as_bytes())).expect("sent");
        let answer = read_frame(&mut stream);
        if !is_right {
            assert!(answer.is_err(), "{token:?} is answered with {answer:?}");
            continue;
        }
        assert_eq!(answer.expect("an answer"), b"", "there is nothing to say");
        let request = harness::encode(2, 4, &ListGroupsRequest::default()).expect("it encodes");
        stream.write_all(&request).expect("it is sent");
        let answer = read_frame(&mut stream).expect("requests have their headers again");
        assert_eq!(answer[..4], [0, 0, 0, 2]);
    }
}
