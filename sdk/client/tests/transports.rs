//! The client's transports against a broker of a few lines, which knows ApiVersions, Metadata and DescribeCluster alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterResponse, MetadataResponse,
    RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tidegate_client::{Client, Error, ErrorKind, TlsOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A CA and a server certificate for `localhost` that it signed.
struct Certificates {
    ca_pem: String,
    server: rustls::ServerConfig,
}

fn certificates(alpn: &[&[u8]]) -> Certificates {
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Certificates {
        ca_pem: ca.pem(),
        server,
    }
}

/// Answers requests until the peer is gone.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, port: u16) -> std::io::Result<()> {
    loop {
        let length = stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await?;
        let mut frame = bytes::Bytes::from(frame);
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header =
            RequestHeader::decode(&mut frame, key.request_header_version(version)).unwrap();
        let mut answer = bytes::BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut answer, key.response_header_version(version))
            .unwrap();
        match key {
            ApiKey::ApiVersions => {
                let versions = [
                    (ApiKey::ApiVersions, 0),
                    (ApiKey::Metadata, 4),
                    (ApiKey::DescribeCluster, 0),
                ];
                let versions = versions.map(|(key, max)| {
                    ApiVersion::default()
                        .with_api_key(key as i16)
                        .with_max_version(max)
                });
                let versions = ApiVersionsResponse::default().with_api_keys(versions.to_vec());
                versions.encode(&mut answer, version).unwrap();
            }
            ApiKey::Metadata => {
                let broker = MetadataResponseBroker::default()
                    .with_node_id(BrokerId(1))
                    .with_host(StrBytes::from_static_str("localhost"))
                    .with_port(port.into());
                let metadata = MetadataResponse::default().with_brokers(vec![broker]);
                metadata.encode(&mut answer, version).unwrap();
            }
            _ => {
                let cluster = DescribeClusterResponse::default()
                    .with_cluster_id(StrBytes::from_static_str("small"));
                cluster.encode(&mut answer, version).unwrap();
            }
        }
        stream.write_i32(answer.len() as i32).await?;
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

async fn tls_broker(server: rustls::ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = serve(stream, port).await;
                }
            });
        }
    });
    port
}

/// Its port, and how many connections it has accepted.
fn quic_broker(server: rustls::ServerConfig) -> (u16, Arc<AtomicUsize>) {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Ok((send, receive)) = connection.accept_bi().await {
                    tokio::spawn(serve(tokio::io::join(receive, send), port));
                }
            });
        }
    });
    (port, connections)
}

async fn connect(address: String, tls: TlsOptions) -> Result<Client, Error> {
    Client::builder()
        .bootstrap(address)
        .tls(tls)
        .connect_timeout(Duration::from_secs(5))
        .retry_timeout(Duration::from_millis(100))
        .connect()
        .await
}

#[tokio::test]
async fn tls_with_the_right_ca_connects() {
    let certificates = certificates(&[]);
    let port = tls_broker(certificates.server).await;
    let tls = TlsOptions::new().ca_pem(certificates.ca_pem);
    let client = connect(format!("tls://localhost:{port}"), tls)
        .await
        .unwrap();
    let cluster = client.admin().describe_cluster().await.unwrap();
    assert_eq!(cluster.cluster_id, "small");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let port = tls_broker(certificates(&[]).server).await;
    let other = certificates(&[]).ca_pem;
    let tls = TlsOptions::new().ca_pem(other);
    let error = connect(format!("tls://localhost:{port}"), tls)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let certificates = certificates(&[]);
    let port = tls_broker(certificates.server).await;
    let tls = TlsOptions::new()
        .ca_pem(certificates.ca_pem)
        .server_name("elsewhere.example");
    let error = connect(format!("tls://localhost:{port}"), tls)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn the_dangerous_option_accepts_any_certificate() {
    let port = tls_broker(certificates(&[]).server).await;
    let tls = TlsOptions::new().dangerously_accept_any_certificate();
    connect(format!("tls://localhost:{port}"), tls)
        .await
        .unwrap();
}

#[tokio::test]
async fn quic_carries_every_logical_connection_on_one() {
    let certificates = certificates(&[b"kafka"]);
    let (port, connections) = quic_broker(certificates.server);
    let tls = TlsOptions::new().ca_pem(certificates.ca_pem);
    let client = connect(format!("quic://localhost:{port}"), tls)
        .await
        .unwrap();
    client.admin().describe_cluster().await.unwrap();
    // Two at once, each on a stream of its own.
    let second = client.admin();
    let (one, two) = tokio::join!(second.describe_cluster(), second.list_topics());
    assert!(one.is_ok() && two.unwrap().is_empty());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_port_is_named_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = format!("tcp://127.0.0.1:{port}");
    let error = connect(address.clone(), TlsOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable);
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_broker_without_an_api_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, port));
        }
    });
    let address = format!("127.0.0.1:{port}");
    let client = connect(address, TlsOptions::new()).await.unwrap();
    let error = client.admin().list_groups().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("ListGroups"), "{error}");
}
