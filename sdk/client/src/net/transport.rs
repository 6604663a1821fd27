//! Opens byte streams to brokers over TCP, TLS or QUIC.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::error::{Error, Result};
use crate::options::{Endpoint, TlsOptions, Transport};

pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// An idle QUIC connection is kept open by a ping this often, so that long polls survive NAT bindings.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Ten packets, which quinn hands to the system in one call, must stay below the 64 KiB that one call takes.
const LARGEST_PACKET: u16 = 6_300;

/// A name's next address is tried so long after the one before: a port that nothing listens on does not answer over UDP.
const ADDRESS_STAGGER: Duration = Duration::from_millis(100);

/// Dials brokers; keeps one QUIC connection for each, on which every logical connection is a stream.
pub(crate) struct Dialer {
    transport: Transport,
    tls_options: TlsOptions,
    timeout: Duration,
    tls: Option<TlsConnector>,
    quic: Option<quinn::ClientConfig>,
    quic_sockets: Mutex<QuicSockets>,
    quic_connections: Mutex<HashMap<Endpoint, Arc<QuicSlot>>>,
}

/// A connection, or none yet; held locked while it is being made, so that two callers make one.
type QuicSlot = tokio::sync::Mutex<Option<quinn::Connection>>;

#[derive(Default)]
struct QuicSockets {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("transport", &self.transport)
            .field("tls", &self.tls_options)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    pub fn new(transport: Transport, tls_options: TlsOptions, timeout: Duration) -> Result<Self> {
        let tls = match transport {
            Transport::Tls => Some(TlsConnector::from(Arc::new(tls::client_config(
                &tls_options,
                false,
            )?))),
            _ => None,
        };
        let quic = match transport {
            Transport::Quic => Some(quic_config(&tls_options)?),
            _ => None,
        };
        Ok(Self {
            transport,
            tls_options,
            timeout,
            tls,
            quic,
            quic_sockets: Mutex::default(),
            quic_connections: Mutex::default(),
        })
    }

    /// The broker's name in errors, such as `quic://localhost:9094`.
    pub fn name(&self, endpoint: &Endpoint) -> Arc<str> {
        format!("{}://{endpoint}", self.transport.scheme()).into()
    }

    /// Opens a stream within the connect timeout.
    pub async fn open(&self, endpoint: &Endpoint) -> Result<(Reader, Writer)> {
        let opening = async {
            match (&self.tls, &self.quic) {
                (Some(connector), _) => self.open_tls(connector, endpoint).await,
                (None, Some(config)) => self.open_quic(config, endpoint).await,
                (None, None) => {
                    let (reader, writer) = self.open_tcp(endpoint).await?.into_split();
                    Ok((Box::new(reader) as Reader, Box::new(writer) as Writer))
                }
            }
        };
        match tokio::time::timeout(self.timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Connect {
                broker: self.name(endpoint),
                reason: format!("no connection within {:?}", self.timeout),
                io: Some(io::ErrorKind::TimedOut),
            }),
        }
    }

    async fn open_tcp(&self, endpoint: &Endpoint) -> Result<TcpStream> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| self.io_error(endpoint, &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| self.io_error(endpoint, &error))?;
        Ok(stream)
    }

    async fn open_tls(
        &self,
        connector: &TlsConnector,
        endpoint: &Endpoint,
    ) -> Result<(Reader, Writer)> {
        let name = tls::server_name(&self.tls_options, &endpoint.host)?;
        let stream = self.open_tcp(endpoint).await?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| self.io_error(endpoint, &error))?;
        let (reader, writer) = tokio::io::split(stream);
        Ok((Box::new(reader), Box::new(writer)))
    }

    async fn open_quic(
        &self,
        config: &quinn::ClientConfig,
        endpoint: &Endpoint,
    ) -> Result<(Reader, Writer)> {
        let slot = {
            let mut slots = lock(&self.quic_connections);
            slots.entry(endpoint.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        let connection = match slot.take().filter(|known| known.close_reason().is_none()) {
            Some(connection) => connection,
            None => self.connect_quic(config, endpoint).await?,
        };
        let (writer, reader) = connection
            .open_bi()
            .await
            .map_err(|error| self.connect_error(endpoint, error.to_string()))?;
        *slot = Some(connection);
        Ok((Box::new(reader), Box::new(writer)))
    }

    async fn connect_quic(
        &self,
        config: &quinn::ClientConfig,
        endpoint: &Endpoint,
    ) -> Result<quinn::Connection> {
        let name = match tls::server_name(&self.tls_options, &endpoint.host)? {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            _ => self
                .tls_options
                .server_name
                .clone()
                .unwrap_or_else(|| endpoint.host.clone()),
        };
        let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| self.io_error(endpoint, &error))?;
        let mut attempts = FuturesUnordered::new();
        for (index, address) in addresses.enumerate() {
            let name = &name;
            attempts.push(async move {
                tokio::time::sleep(ADDRESS_STAGGER * index as u32).await;
                let connecting = self
                    .quic_socket(address, endpoint)?
                    .connect_with(config.clone(), address, name)
                    .map_err(|error| self.connect_error(endpoint, error.to_string()))?;
                let connected = connecting.await;
                connected.map_err(|error| self.connect_error(endpoint, error.to_string()))
            });
        }
        let mut last = self.connect_error(endpoint, "the name has no address".into());
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn quic_socket(&self, address: SocketAddr, endpoint: &Endpoint) -> Result<quinn::Endpoint> {
        let mut sockets = lock(&self.quic_sockets);
        let (socket, any) = if address.is_ipv4() {
            (&mut sockets.v4, SocketAddr::from(([0, 0, 0, 0], 0)))
        } else {
            (&mut sockets.v6, SocketAddr::from(([0u16; 8], 0)))
        };
        match socket {
            Some(open) => Ok(open.clone()),
            None => {
                let open = quic_endpoint(any).map_err(|error| self.io_error(endpoint, &error))?;
                Ok(socket.insert(open).clone())
            }
        }
    }

    fn io_error(&self, endpoint: &Endpoint, error: &io::Error) -> Error {
        Error::Connect {
            broker: self.name(endpoint),
            reason: error.to_string(),
            io: Some(error.kind()),
        }
    }

    fn connect_error(&self, endpoint: &Endpoint, reason: String) -> Error {
        Error::Connect {
            broker: self.name(endpoint),
            reason,
            io: None,
        }
    }
}

/// A UDP socket for QUIC that takes packets as large as the broker may send.
fn quic_endpoint(any: SocketAddr) -> io::Result<quinn::Endpoint> {
    let mut config = quinn::EndpointConfig::default();
    config
        .max_udp_payload_size(LARGEST_PACKET)
        .map_err(io::Error::other)?;
    let socket = std::net::UdpSocket::bind(any)?;
    quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
}

fn quic_config(options: &TlsOptions) -> Result<quinn::ClientConfig> {
    let tls = tls::client_config(options, true)?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| Error::Config(format!("QUIC: {error}")))?;
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(QUIC_KEEP_ALIVE));
    // A fetch answer may be megabytes: the default windows would let it stall at every round trip.
    transport.stream_receive_window((8u32 << 20).into());
    transport.receive_window((32u32 << 20).into());
    transport.send_window(16 << 20);
    // Acknowledgements for two packets each, the default, would cost the broker nearly what the packets themselves cost.
    let mut acknowledgements = quinn::AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(10u32.into());
    transport.ack_frequency_config(Some(acknowledgements));
    // Most of QUIC's cost is one packet's, whatever its size: larger ones where the path takes them.
    let mut packets = quinn::MtuDiscoveryConfig::default();
    packets.upper_bound(LARGEST_PACKET);
    transport.mtu_discovery_config(Some(packets));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Locks a mutex whose holders do not panic half-way through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
