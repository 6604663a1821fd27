//! The yardstick of QUIC: plain bytes over one stream to and from `floor --quic`, with the library's defaults. No Kafka, no
//! files: what is left is what encryption, packets and the library cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tidegate_client::{Bootstrap, Transport};

use crate::broker::usage_of;
use crate::cpu::Stopwatch;
use crate::options::{Direction, Options};
use crate::report::Measured;

/// What `floor` names as its protocol.
const ALPN: &[u8] = b"bare";
/// Bytes that go out at once.
const PIECE: usize = 256 << 10;
/// Sent and read before the clock starts: the congestion window is open then.
const WARM_UP_BYTES: u64 = 32_000_000;

pub async fn run(options: &Options, direction: Direction) -> Result<Measured> {
    let (endpoint, connection) = connect(options).await?;
    transfer(&connection, direction, WARM_UP_BYTES).await?;
    let bytes = options.megabytes * 1_000_000;
    let pid = options.pid;
    let stopwatch = Stopwatch::of(move || usage_of(pid?));
    let begun = Instant::now();
    transfer(&connection, direction, bytes).await?;
    let elapsed = begun.elapsed();
    let spent = stopwatch.stop(bytes);
    connection.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(Measured {
        megabytes_per_second: Some(bytes as f64 / 1e6 / elapsed.as_secs_f64()),
        cpu_per_gigabyte: spent.broker,
        client_cpu_per_gigabyte: spent.client,
        ..Measured::default()
    })
}

async fn connect(options: &Options) -> Result<(Endpoint, Connection)> {
    let bootstrap: Bootstrap = options
        .bootstrap
        .as_deref()
        .context("start `floor --quic ADDR` and give its address: --bootstrap quic://ADDR")?
        .parse()?;
    if bootstrap.transport != Transport::Quic {
        bail!("--bootstrap {bootstrap}: give the address of `floor --quic`, as quic://ADDR");
    }
    let first = bootstrap.endpoints.first().context("no address")?;
    let address: SocketAddr = first.to_string().parse().with_context(|| {
        format!("--bootstrap {first}: give an IP address, such as 127.0.0.1:4433")
    })?;
    let ca = options
        .ca
        .as_ref()
        .context("give floor's certificate: --ca DATA/certificates/ca.pem")?;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca)
        .map_err(|error| anyhow::anyhow!("--ca {}: {error}", ca.display()))?;
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let endpoint = Endpoint::client(any.parse()?)?;
    let connection = endpoint
        .connect_with(config, address, &first.host)?
        .await
        .with_context(|| format!("--bootstrap quic://{address}"))?;
    Ok((endpoint, connection))
}

/// Moves so many bytes over a stream, and checks that all of them arrived.
async fn transfer(connection: &Connection, direction: Direction, bytes: u64) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let name = match direction {
        Direction::In => b'i',
        Direction::Out => b'o',
    };
    send.write_all(&[&[name][..], &bytes.to_be_bytes()].concat())
        .await?;
    let arrived = match direction {
        Direction::In => {
            let piece = vec![b'x'; PIECE];
            let mut left = bytes;
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                send.write_all(&piece[..now]).await?;
                left -= now as u64;
            }
            send.finish()?;
            let mut counted = [0; 8];
            receive.read_exact(&mut counted).await?;
            u64::from_be_bytes(counted)
        }
        Direction::Out => {
            send.finish()?;
            let mut counted = 0;
            while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
                counted += chunk.bytes.len() as u64;
            }
            counted
        }
    };
    if arrived != bytes {
        bail!("{bytes} bytes were sent and {arrived} arrived");
    }
    Ok(())
}
