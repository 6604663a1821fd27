//! Listeners on real loopback sockets.

use std::path::Path;

use futures_util::future::join_all;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dev_certificate::CertificateFiles;
use super::testing::{SOON, TestService, config, is_closed, later, receive, send};
use super::*;
use crate::config::ClientAuth;

/// Listeners with the certificates of their own folder.
struct Broker {
    listeners: Listeners,
    service: Arc<TestService>,
    folder: tempfile::TempDir,
}

impl Broker {
    async fn start(
        service: Arc<TestService>,
        limits: NetConfig,
        client_auth: ClientAuth,
        change: impl Fn(&mut ListenerConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = dev_certificate::server(folder.path(), &[]).unwrap();
        let tls = ListenerTls {
            certificate_file: files.certificate_file,
            key_file: files.key_file,
            client_auth,
            client_ca_file: Some(files.ca_file),
        };
        let listeners = [
            ("tcp", Transport::Tcp),
            ("tls", Transport::Tls),
            ("quic", Transport::Quic),
        ];
        let listeners = listeners.map(|(name, transport)| {
            let mut config = config(name, transport);
            config.tls = Some(tls.clone());
            change(&mut config);
            config
        });
        let rules = PrincipalRules::parse(&["RULE:CN=(.*)/$1/".into()]).unwrap();
        let metrics = Arc::new(Metrics::default());
        let memory = Memory::new(&limits);
        let limits = Limits {
            settings: limits,
            memory,
        };
        let listeners = Listeners::start(&listeners, limits, rules, service.clone(), metrics);
        Self {
            listeners: listeners.await.unwrap(),
            service,
            folder,
        }
    }

    async fn echo(limits: NetConfig) -> Self {
        Self::start(TestService::echo(), limits, ClientAuth::None, |_| {}).await
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        let addresses = self.listeners.addresses();
        let found = addresses.iter().find(|(_, kind, _)| *kind == transport);
        found.unwrap().2
    }

    fn client_certificate(&self, name: &str) -> CertificateFiles {
        dev_certificate::client(self.folder.path(), name).unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address(Transport::Tcp))
            .await
            .unwrap()
    }

    async fn tls(
        &self,
        client: Option<&CertificateFiles>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_config(&self.folder.path().join("ca.pem"), client);
        let stream = TcpStream::connect(self.address(Transport::Tls)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn quic(&self, client: Option<&CertificateFiles>) -> Quic {
        let mut config = client_config(&self.folder.path().join("ca.pem"), client);
        config.alpn_protocols = vec![ALPN.to_vec()];
        self.quic_with(config).await.unwrap()
    }

    async fn quic_with(&self, config: ClientConfig) -> Result<Quic, quinn::ConnectionError> {
        let config = QuicClientConfig::try_from(config).unwrap();
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        let address = self.address(Transport::Quic);
        let connection = endpoint.connect(address, "localhost").unwrap().await?;
        Ok(Quic {
            endpoint,
            connection,
        })
    }

    fn last_connected(&self) -> ConnectionInfo {
        self.service.connected.lock().last().unwrap().clone()
    }
}

/// A client's connection, with the endpoint that must outlive it.
struct Quic {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
}

type QuicStream = tokio::io::Join<quinn::RecvStream, quinn::SendStream>;

impl Quic {
    async fn open(&self) -> QuicStream {
        let (send, receive) = self.connection.open_bi().await.unwrap();
        tokio::io::join(receive, send)
    }
}

fn client_config(ca: &Path, client: Option<&CertificateFiles>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificate::certificates(ca).unwrap() {
        roots.add(certificate).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(certificate::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = certificate::certificates(&files.certificate_file).unwrap();
            let key = PrivateKeyDer::from_pem_file(&files.key_file).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// A request and its answer; `None` when the connection was closed instead.
async fn ask(
    io: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    payload: &[u8],
) -> Option<Vec<u8>> {
    let _ = io.write_all(&testing::frame(payload)).await;
    let _ = io.flush().await;
    timeout(SOON, receive(io)).await.unwrap()
}

#[tokio::test]
async fn every_transport_carries_frames_both_ways() {
    let broker = Broker::echo(NetConfig::default()).await;
    let large = vec![7; 9 << 20];
    let quic = broker.quic(None).await;
    for payload in [&b"12345678"[..], &large] {
        assert!(ask(&mut broker.tcp().await, payload).await.unwrap() == payload);
        let mut tls = broker.tls(None).await.unwrap();
        let (mut read, mut write) = tokio::io::split(&mut tls);
        let sent = async {
            send(&mut write, payload).await;
            write.flush().await.unwrap();
        };
        let ((), answer) = tokio::join!(sent, receive(&mut read));
        assert!(answer.unwrap() == payload);
        let mut stream = quic.open().await;
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let ((), answer) = tokio::join!(send(&mut write, payload), receive(&mut read));
        assert!(answer.unwrap() == payload);
    }
}

#[tokio::test]
async fn a_certificate_names_the_principal_on_tls_and_quic() {
    for (client_auth, given, expected) in [
        (ClientAuth::Required, Some("alice"), Some("alice")),
        (ClientAuth::Requested, Some("bob"), Some("bob")),
        (ClientAuth::Requested, None, None),
        (ClientAuth::None, Some("carol"), None),
    ] {
        let service = TestService::echo();
        let broker = Broker::start(service, NetConfig::default(), client_auth, |_| {}).await;
        let files = given.map(|name| broker.client_certificate(name));
        let expected = expected.map(Principal::user);
        let mut tls = broker.tls(files.as_ref()).await.unwrap();
        ask(&mut tls, b"12345678").await.unwrap();
        let info = broker.last_connected();
        assert_eq!(
            (info.transport, &info.certificate_principal),
            (Transport::Tls, &expected)
        );
        let quic = broker.quic(files.as_ref()).await;
        ask(&mut quic.open().await, b"12345678").await.unwrap();
        let info = broker.last_connected();
        assert_eq!(
            (info.transport, &info.certificate_principal),
            (Transport::Quic, &expected)
        );
    }
}

#[tokio::test]
async fn a_peer_without_an_acceptable_certificate_is_turned_away() {
    let service = TestService::echo();
    let broker = Broker::start(service, NetConfig::default(), ClientAuth::Required, |_| {}).await;
    let foreign = tempfile::tempdir().unwrap();
    let foreign = dev_certificate::client(foreign.path(), "alice").unwrap();
    for client in [None, Some(&foreign)] {
        // A TLS 1.3 client learns of the refusal when it reads.
        if let Ok(mut tls) = broker.tls(client).await {
            assert!(ask(&mut tls, b"12345678").await.is_none());
        }
        let ca = broker.folder.path().join("ca.pem");
        let mut config = client_config(&ca, client);
        config.alpn_protocols = vec![ALPN.to_vec()];
        if let Ok(quic) = broker.quic_with(config).await {
            timeout(SOON, quic.connection.closed()).await.unwrap();
        }
    }
    assert!(broker.service.connected.lock().is_empty());
}

#[tokio::test]
async fn a_client_of_another_protocol_is_turned_away_from_quic() {
    let broker = Broker::echo(NetConfig::default()).await;
    let mut config = client_config(&broker.folder.path().join("ca.pem"), None);
    config.alpn_protocols = vec![b"h3".to_vec()];
    assert!(broker.quic_with(config).await.is_err());
}

#[tokio::test]
async fn quic_streams_do_not_wait_for_each_other() {
    let service = TestService::new(|frame| match &frame[..] {
        b"wait----" => later(std::future::pending()),
        b"panic---" => panic!("on purpose"),
        _ => Started::Ready(vec![frame]),
    });
    let broker = Broker::start(service, NetConfig::default(), ClientAuth::None, |_| {}).await;
    let quic = broker.quic(None).await;
    let (mut waiting, mut broken, mut torn) =
        (quic.open().await, quic.open().await, quic.open().await);
    send(&mut waiting, b"wait----").await;
    let payload = vec![1; 100_000];
    assert!(ask(&mut quic.open().await, &payload).await.unwrap() == payload);
    assert!(ask(&mut broken, b"panic---").await.is_none());
    torn.write_all(&(-1_i32).to_be_bytes()).await.unwrap();
    assert!(timeout(SOON, is_closed(&mut torn)).await.unwrap());
    assert!(ask(&mut quic.open().await, &payload).await.unwrap() == payload);
}

#[tokio::test]
async fn quic_streams_of_one_connection_are_bounded() {
    let limits = NetConfig {
        max_streams_per_connection: 2,
        ..NetConfig::default()
    };
    let broker = Broker::echo(limits).await;
    let quic = broker.quic(None).await;
    let (mut first, _second) = (quic.open().await, quic.open().await);
    ask(&mut first, b"12345678").await.unwrap();
    let third = timeout(SOON / 100, quic.connection.open_bi()).await;
    assert!(third.is_err(), "a third stream was opened");
    drop(first);
    let third = timeout(SOON, quic.connection.open_bi()).await;
    assert!(third.unwrap().is_ok());
}

#[tokio::test]
async fn connections_over_a_bound_are_refused_until_there_is_room() {
    let per_ip = NetConfig {
        max_connections_per_ip: 2,
        ..NetConfig::default()
    };
    let total = NetConfig {
        max_connections: 2,
        ..NetConfig::default()
    };
    for limits in [per_ip, total] {
        let broker = Broker::echo(limits).await;
        let (mut first, mut second) = (broker.tcp().await, broker.tcp().await);
        for open in [&mut first, &mut second] {
            assert!(ask(open, b"12345678").await.is_some());
        }
        assert!(ask(&mut broker.tcp().await, b"12345678").await.is_none());
        assert!(broker.tls(None).await.is_err());
        let mut config = client_config(&broker.folder.path().join("ca.pem"), None);
        config.alpn_protocols = vec![ALPN.to_vec()];
        assert!(broker.quic_with(config).await.is_err());
        first.shutdown().await.unwrap();
        assert!(is_closed(&mut first).await);
        let mut next = None;
        // The place is free a moment after the peer has seen the end.
        while next.is_none() {
            next = ask(&mut broker.tcp().await, b"12345678").await;
        }
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let limits = NetConfig {
        handshake_timeout: Duration::from_millis(200),
        ..NetConfig::default()
    };
    let broker = Broker::echo(limits).await;
    let mut stream = TcpStream::connect(broker.address(Transport::Tls))
        .await
        .unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert!(timeout(SOON, is_closed(&mut stream)).await.unwrap());
    assert!(broker.service.connected.lock().is_empty());
}

#[tokio::test]
async fn a_plain_client_on_a_tls_port_is_closed() {
    let broker = Broker::echo(NetConfig::default()).await;
    let mut stream = TcpStream::connect(broker.address(Transport::Tls))
        .await
        .unwrap();
    stream
        .write_all(&testing::frame(b"12345678"))
        .await
        .unwrap();
    let mut rest = Vec::new();
    // At most an alert, then the end.
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.len() < 16, "{rest:?}");
}

#[tokio::test]
async fn a_graceful_shutdown_delivers_what_was_started_on_every_transport() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = TestService::new(move |frame| {
        let (answer, answered) = oneshot::channel::<()>();
        tell.send(answer).unwrap();
        later(async move {
            answered.await.unwrap();
            Finished::Reply(vec![Bytes::from(vec![frame[0]; 1 << 20])])
        })
    });
    let broker = Broker::start(service, NetConfig::default(), ClientAuth::None, |_| {}).await;
    let quic = broker.quic(None).await;
    let (mut tcp, mut tls) = (broker.tcp().await, broker.tls(None).await.unwrap());
    let mut stream = quic.open().await;
    let mut idle = broker.tcp().await;
    send(&mut tcp, b"11111111").await;
    send(&mut tls, b"22222222").await;
    tls.flush().await.unwrap();
    send(&mut stream, b"33333333").await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(timeout(SOON, told.recv()).await.unwrap().unwrap());
    }
    let addresses = broker.listeners.addresses();
    let stopping = tokio::spawn(broker.listeners.shutdown(SOON));
    assert!(timeout(SOON, is_closed(&mut idle)).await.unwrap());
    answers
        .into_iter()
        .for_each(|answer| answer.send(()).unwrap());
    assert!(receive(&mut tcp).await.unwrap() == vec![b'1'; 1 << 20]);
    assert!(receive(&mut tls).await.unwrap() == vec![b'2'; 1 << 20]);
    assert!(receive(&mut stream).await.unwrap() == vec![b'3'; 1 << 20]);
    timeout(SOON, stopping).await.unwrap().unwrap();
    match quic.connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, 0_u32.into())
        }
        other => panic!("{other:?}"),
    }
    assert!(TcpStream::connect(addresses[0].2).await.is_err());
}

#[tokio::test]
async fn a_shutdown_closes_what_is_left_at_its_deadline() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = TestService::new(move |_| {
        tell.send(()).unwrap();
        later(std::future::pending())
    });
    let broker = Broker::start(service, NetConfig::default(), ClientAuth::None, |_| {}).await;
    let quic = broker.quic(None).await;
    let (mut tcp, mut stream) = (broker.tcp().await, quic.open().await);
    send(&mut tcp, b"12345678").await;
    send(&mut stream, b"12345678").await;
    for _ in 0..2 {
        timeout(SOON, told.recv()).await.unwrap();
    }
    let stopping = broker.listeners.shutdown(Duration::from_millis(100));
    timeout(SOON, stopping).await.unwrap();
    assert!(is_closed(&mut tcp).await && is_closed(&mut stream).await);
    drop(quic.endpoint);
}

#[tokio::test]
async fn dropped_listeners_close_their_connections() {
    let broker = Broker::echo(NetConfig::default()).await;
    let mut tcp = broker.tcp().await;
    ask(&mut tcp, b"12345678").await.unwrap();
    let address = broker.address(Transport::Tcp);
    drop(broker.listeners);
    assert!(timeout(SOON, is_closed(&mut tcp)).await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn renewed_certificates_are_served_without_a_restart() {
    let broker = Broker::echo(NetConfig::default()).await;
    let leaf = |tls: &TlsStream<TcpStream>| tls.get_ref().1.peer_certificates().unwrap()[0].clone();
    let before = leaf(&broker.tls(None).await.unwrap());
    let mut open = broker.tls(None).await.unwrap();
    dev_certificate::server(broker.folder.path(), &["other.example".into()]).unwrap();
    broker.listeners.reload_certificates().unwrap();
    let after = leaf(&broker.tls(None).await.unwrap());
    assert_ne!(before, after);
    let quic = broker.quic(None).await;
    let identity = quic.connection.peer_identity().unwrap();
    let chain = identity.downcast_ref::<Vec<rustls_pki_types::CertificateDer<'static>>>();
    assert_eq!(chain.unwrap()[0], after);
    // What was open stays open, and bad files change nothing.
    assert!(ask(&mut open, b"12345678").await.is_some());
    std::fs::write(broker.folder.path().join("server.key"), "torn").unwrap();
    let told = broker.listeners.reload_certificates().unwrap_err();
    assert!(
        told.contains("listener tls") && told.contains("server.key"),
        "{told}"
    );
    assert_eq!(leaf(&broker.tls(None).await.unwrap()), after);
}

#[tokio::test]
async fn clients_are_told_an_address_that_reaches_the_listener() {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let everywhere: SocketAddr = ([0, 0, 0, 0], 0).into();
    for (bind, advertised, host, port) in [
        (loopback, None, "127.0.0.1", None),
        (everywhere, None, "127.0.0.1", None),
        (
            loopback,
            Some(("broker.example", 0)),
            "broker.example",
            None,
        ),
        (
            everywhere,
            Some(("broker.example", 9092)),
            "broker.example",
            Some(9092),
        ),
    ] {
        let service = TestService::echo();
        let limits = NetConfig::default();
        let broker = Broker::start(service, limits, ClientAuth::None, |config| {
            config.bind = bind;
            config.advertised = advertised.map(|(host, port)| (host.to_string(), port));
        })
        .await;
        for transport in [Transport::Tcp, Transport::Quic] {
            let bound = broker.address(transport);
            let reached = SocketAddr::from(([127, 0, 0, 1], bound.port()));
            match transport {
                Transport::Tcp => {
                    let mut tcp = TcpStream::connect(reached).await.unwrap();
                    ask(&mut tcp, b"12345678").await.unwrap();
                }
                _ => {
                    let mut config = client_config(&broker.folder.path().join("ca.pem"), None);
                    config.alpn_protocols = vec![ALPN.to_vec()];
                    let config = QuicClientConfig::try_from(config).unwrap();
                    let endpoint = quinn::Endpoint::client(loopback).unwrap();
                    let config = quinn::ClientConfig::new(Arc::new(config));
                    let connecting = endpoint.connect_with(config, reached, "localhost");
                    let connection = connecting.unwrap().await.unwrap();
                    let (send, receive) = connection.open_bi().await.unwrap();
                    ask(&mut tokio::io::join(receive, send), b"12345678")
                        .await
                        .unwrap();
                }
            }
            let (told_host, told_port) = broker.last_connected().advertised;
            assert_eq!(&*told_host, host, "{transport:?}");
            assert_eq!(told_port, port.unwrap_or(bound.port()));
        }
    }
}

#[tokio::test]
async fn listeners_that_cannot_open_are_named_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let mut in_use = config("front", Transport::Tcp);
    in_use.bind = taken.1;
    let mut plain = config("front", Transport::Tcp);
    plain.sasl_mechanisms = vec![SaslMechanism::Plain];
    let without_tls = config("front", Transport::Quic);
    for (config, fault) in [
        (in_use, "cannot bind"),
        (plain, "PLAIN"),
        (without_tls, "certificate_file"),
    ] {
        let first = testing::config("first", Transport::Tcp);
        let told = Listeners::start(
            &[first, config],
            Limits {
                settings: NetConfig::default(),
                memory: Memory::new(&NetConfig::default()),
            },
            PrincipalRules::default(),
            TestService::echo(),
            Arc::new(Metrics::default()),
        )
        .await
        .unwrap_err();
        assert!(told.contains("\"front\"") && told.contains(fault), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_each_get_their_own_answers() {
    let broker = Broker::echo(NetConfig::default()).await;
    let quic = broker.quic(None).await;
    let answered = Mutex::new(0);
    let clients = (0..60_u8).map(|client| {
        let (broker, quic, answered) = (&broker, &quic, &answered);
        async move {
            let payload = vec![client; 8 + usize::from(client) * 3000];
            for _ in 0..5 {
                let answer = match client % 3 {
                    0 => ask(&mut broker.tcp().await, &payload).await,
                    1 => ask(&mut broker.tls(None).await.unwrap(), &payload).await,
                    _ => ask(&mut quic.open().await, &payload).await,
                };
                assert!(answer.unwrap() == payload);
                *answered.lock() += 1;
            }
        }
    });
    join_all(clients).await;
    assert_eq!(*answered.lock(), 300);
}

#[tokio::test]
async fn a_quic_peer_may_send_far_ahead_only_once_it_has_authenticated() {
    for (authenticated, sent_whole) in [(true, true), (false, false)] {
        let service = TestService::starting(|_| Box::pin(std::future::pending()));
        service
            .authenticated
            .store(authenticated, std::sync::atomic::Ordering::Relaxed);
        let broker = Broker::start(service, NetConfig::default(), ClientAuth::None, |_| {}).await;
        let quic = broker.quic(None).await;
        let (mut write, _read) = quic.connection.open_bi().await.unwrap();
        // The first frame's start never ends, so nothing behind it is read.
        write.write_all(&testing::frame(b"12345678")).await.unwrap();
        let ahead = vec![0; 2 << 20];
        let (mut sent, limit) = (0, if sent_whole { SOON } else { SOON / 40 });
        let sending = async {
            while sent < ahead.len() {
                sent += write.write(&ahead[sent..]).await.unwrap();
            }
            write.finish().unwrap();
            // Acknowledged, so that it is the broker's window which took it and not the client's own buffer.
            let _ = write.stopped().await;
        };
        assert_eq!(
            timeout(limit, sending).await.is_ok(),
            sent_whole,
            "{authenticated}"
        );
    }
}
