//! How to reach a cluster: addresses, TLS, SASL, deadlines.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// What carries the Kafka frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Tcp,
    Tls,
    /// One QUIC connection for each broker; each logical connection is a bidirectional stream of it.
    Quic,
}

impl Transport {
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

/// Host and port of one broker.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where to ask first: `quic://host:port`, `tls://host:port`, `tcp://host:port` or `host:port` (TCP). Several hosts
/// are separated by commas; the transport of the first holds for all, and for every broker that they tell of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    pub transport: Transport,
    pub endpoints: Vec<Endpoint>,
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.transport.scheme())?;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{endpoint}")?;
        }
        Ok(())
    }
}

impl FromStr for Bootstrap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut transport = None;
        let mut endpoints = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (scheme, address) = part.split_once("://").unwrap_or(("", part));
            let named = match scheme {
                "" => None,
                "tcp" | "plaintext" | "PLAINTEXT" => Some(Transport::Tcp),
                "tls" | "ssl" | "SSL" => Some(Transport::Tls),
                "quic" => Some(Transport::Quic),
                other => {
                    return Err(Error::Config(format!(
                        "bootstrap address {part}: unknown transport {other}; use tcp://, tls:// or quic://"
                    )));
                }
            };
            match (transport, named) {
                (Some(first), Some(other)) if first != other => {
                    return Err(Error::Config(format!(
                        "bootstrap addresses {text}: one client uses one transport"
                    )));
                }
                (None, named) => transport = Some(named.unwrap_or(Transport::Tcp)),
                _ => {}
            }
            endpoints.push(parse_endpoint(address)?);
        }
        match transport {
            Some(transport) => Ok(Self {
                transport,
                endpoints,
            }),
            None => Err(Error::Config(
                "the bootstrap address is empty; give one such as tcp://localhost:9092".into(),
            )),
        }
    }
}

fn parse_endpoint(address: &str) -> Result<Endpoint> {
    let wrong = |reason: &str| {
        Error::Config(format!(
            "bootstrap address {address}: {reason}; write host:port, such as localhost:9092"
        ))
    };
    let address_only = address.trim_end_matches('/');
    let (host, port) = address_only
        .rsplit_once(':')
        .ok_or_else(|| wrong("the port is missing"))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("the host is missing"));
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}

/// Where bytes of a certificate or key come from.
#[derive(Clone)]
pub enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(_) => f.write_str("Bytes(..)"),
        }
    }
}

/// How TLS and QUIC verify the broker, and how the client shows who it is.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    pub(crate) ca: Option<Pem>,
    pub(crate) identity: Option<(Pem, Pem)>,
    pub(crate) server_name: Option<String>,
    pub(crate) dangerously_accept_any_certificate: bool,
}

impl TlsOptions {
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM file and no others. Without it: those of the operating system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(Pem::File(path.into()));
        self
    }

    /// As [`ca_file`](Self::ca_file), from memory.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(Pem::Bytes(pem.into()));
        self
    }

    /// The client's certificate chain and its key (PEM files), for mutual TLS.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// As [`identity_files`](Self::identity_files), from memory.
    pub fn identity_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((Pem::Bytes(certificate.into()), Pem::Bytes(key.into())));
        self
    }

    /// The name that the broker's certificate must carry, in place of the host that is dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Accepts any certificate: whoever stands between can read and change everything. For trying things on one's own
    /// machine, never for anything else.
    pub fn dangerously_accept_any_certificate(mut self) -> Self {
        self.dangerously_accept_any_certificate = true;
        self
    }
}

/// How a user proves a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaslMechanism {
    /// Sends the password itself: use it over TLS or QUIC only.
    Plain,
    ScramSha256,
    ScramSha512,
}

impl SaslMechanism {
    /// The mechanism's registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl FromStr for SaslMechanism {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                Error::Config(format!(
                    "unknown SASL mechanism {name}: use SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN"
                ))
            })
    }
}

/// A user, a password, and how it is proven.
#[derive(Clone)]
pub struct SaslOptions {
    pub(crate) mechanism: SaslMechanism,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl SaslOptions {
    pub fn new(
        mechanism: SaslMechanism,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self {
            mechanism,
            user: user.into(),
            password: password.into(),
        }
    }

    pub fn scram_sha256(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(SaslMechanism::ScramSha256, user, password)
    }

    pub fn scram_sha512(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(SaslMechanism::ScramSha512, user, password)
    }

    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(SaslMechanism::Plain, user, password)
    }
}

impl fmt::Debug for SaslOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslOptions")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What every connection of a client shares.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub bootstrap: Bootstrap,
    pub tls: TlsOptions,
    pub sasl: Option<SaslOptions>,
    pub client_id: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub retry_timeout: Duration,
    pub metadata_max_age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match text.parse::<Bootstrap>() {
            Ok(bootstrap) => bootstrap.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn reads_every_form_of_bootstrap_address() {
        for (text, expected) in [
            ("localhost:9092", "tcp://localhost:9092"),
            ("tcp://a:1,b:2", "tcp://a:1,b:2"),
            ("tls://a:1, tls://b:2", "tls://a:1,b:2"),
            ("quic://[::1]:9094", "quic://[::1]:9094"),
            ("quic://localhost:9094/", "quic://localhost:9094"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_bootstrap_address() {
        for (text, expected) in [
            ("", "empty"),
            ("localhost", "port is missing"),
            ("localhost:0", "not a number"),
            ("localhost:kafka", "not a number"),
            (":9092", "host is missing"),
            ("http://a:1", "unknown transport http"),
            ("tls://a:1,tcp://b:2", "one transport"),
        ] {
            let message = parsed(text);
            assert!(
                message.starts_with("error") && message.contains(expected),
                "{text}: {message}"
            );
        }
    }

    #[test]
    fn debug_output_holds_no_password_and_no_key() {
        let sasl = SaslOptions::plain("alice", "hunter2-secret");
        let tls = TlsOptions::new().identity_pem(*b"certificate", *b"key-secret");
        let text = format!("{sasl:?} {tls:?}");
        assert!(text.contains("alice"));
        assert!(!text.contains("secret"), "{text}");
    }
}
