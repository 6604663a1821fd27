//! `[[listener]]`: one address on which clients connect, with its transport, its certificate and its authentication.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::field::choices;
use super::setting::{Kind, Setting, setting};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    #[default]
    Tcp,
    Tls,
    Quic,
}

choices!(Transport, Tcp: "tcp", Tls: "tls", Quic: "quic");

#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub name: String,
    pub transport: Transport,
    pub bind: SocketAddr,
    /// What Metadata tells clients of this listener: host and port (port 0: the bound one). `None`: the bound address.
    pub advertised: Option<(String, u16)>,
    /// Required on TLS and QUIC.
    pub tls: Option<ListenerTls>,
    /// SASL mechanisms offered; empty: SASL is not spoken here. With any, a connection must authenticate unless its
    /// client certificate already did.
    pub sasl_mechanisms: Vec<SaslMechanism>,
    /// Connections at most; the next one is refused.
    pub max_connections: usize,
}

#[derive(Clone, Debug)]
pub struct ListenerTls {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub client_auth: ClientAuth,
    /// Trust anchors for client certificates.
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    #[default]
    None,
    Requested,
    Required,
}

choices!(ClientAuth, None: "none", Requested: "requested", Required: "required");

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

choices!(SaslMechanism, Plain: "PLAIN", ScramSha256: "SCRAM-SHA-256", ScramSha512: "SCRAM-SHA-512");

/// A listener as it was written: what is missing is not known to be needed yet.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub name: String,
    pub transport: Transport,
    pub bind: Option<SocketAddr>,
    pub advertised: Option<(String, u16)>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub client_auth: ClientAuth,
    pub client_ca_file: Option<PathBuf>,
    pub sasl_mechanisms: Vec<SaslMechanism>,
    pub max_connections: usize,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            name: String::new(),
            transport: Transport::Tcp,
            bind: None,
            advertised: None,
            certificate_file: None,
            key_file: None,
            client_auth: ClientAuth::None,
            client_ca_file: None,
            sasl_mechanisms: Vec::new(),
            max_connections: 10_000,
        }
    }
}

impl Default for ListenerConfig {
    /// What a broker without a `[[listener]]` has: plain TCP on loopback, on Kafka's port.
    fn default() -> Self {
        let written = Written::default();
        Self {
            name: "plain".to_owned(),
            transport: written.transport,
            bind: ([127, 0, 0, 1], 9092).into(),
            advertised: None,
            tls: None,
            sasl_mechanisms: written.sasl_mechanisms,
            max_connections: written.max_connections,
        }
    }
}

impl Written {
    /// The default listener as one would have written it.
    pub fn plain() -> Self {
        let listener = ListenerConfig::default();
        Self {
            name: listener.name,
            bind: Some(listener.bind),
            ..Self::default()
        }
    }

    /// The listener, or the keys that are missing or have no business here, each with its message and its fix.
    pub fn validate(self) -> Result<ListenerConfig, Vec<(&'static str, String, String)>> {
        let mut wrong = Vec::new();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(legal) {
            wrong.push((
                "name",
                "a listener needs a name of at most 64 letters, digits, - or _".to_owned(),
                "add for example name = \"internal\"".to_owned(),
            ));
        }
        if self.bind.is_none() {
            wrong.push((
                "bind",
                "is missing: where is this listener to listen?".to_owned(),
                "add for example bind = \"127.0.0.1:9092\"".to_owned(),
            ));
        }
        self.check_advertised(&mut wrong);
        let tls = self.check_tls(&mut wrong);
        match self.bind {
            Some(bind) if wrong.is_empty() => Ok(ListenerConfig {
                name: self.name,
                transport: self.transport,
                bind,
                advertised: self.advertised,
                tls,
                sasl_mechanisms: self.sasl_mechanisms,
                max_connections: self.max_connections,
            }),
            _ => Err(wrong),
        }
    }

    fn check_advertised(&self, wrong: &mut Vec<(&'static str, String, String)>) {
        let fix =
            "set it to the host and port that clients can reach, such as \"broker.example:9092\"";
        match (&self.advertised, self.bind) {
            (None, Some(bind)) if bind.ip().is_unspecified() => wrong.push((
                "advertised",
                format!("is missing: clients would be told to connect to {bind}, which is no address to connect to"),
                fix.to_owned(),
            )),
            (Some((host, _)), _) if host == "0.0.0.0" || host == "::" => wrong.push((
                "advertised",
                format!("{host} is no address to connect to"),
                fix.to_owned(),
            )),
            _ => {}
        }
    }

    fn check_tls(&self, wrong: &mut Vec<(&'static str, String, String)>) -> Option<ListenerTls> {
        let transport = self.transport.config_name();
        let mut problem =
            |key, message: &str, fix: &str| wrong.push((key, message.to_owned(), fix.to_owned()));
        if self.transport == Transport::Tcp {
            let written = [
                ("tls.certificate-file", self.certificate_file.is_some()),
                ("tls.key-file", self.key_file.is_some()),
                ("tls.client-ca-file", self.client_ca_file.is_some()),
                ("tls.client-auth", self.client_auth != ClientAuth::None),
            ];
            for (key, _) in written.iter().filter(|(_, written)| *written) {
                problem(
                    key,
                    "has no effect on plain TCP",
                    "set transport = \"tls\" or \"quic\", or remove it",
                );
            }
            if self.sasl_mechanisms.contains(&SaslMechanism::Plain) {
                problem(
                    "sasl-mechanisms",
                    "PLAIN would send passwords readable over the network: it is allowed on TLS and QUIC only",
                    "use \"SCRAM-SHA-256\", or set transport = \"tls\"",
                );
            }
            return None;
        }
        for (key, file) in [
            ("tls.certificate-file", &self.certificate_file),
            ("tls.key-file", &self.key_file),
        ] {
            if file.is_none() {
                problem(
                    key,
                    &format!("is missing: transport {transport:?} needs a certificate and its key"),
                    "add tls = { certificate-file = \"…\", key-file = \"…\" } (PEM)",
                );
            }
        }
        match (self.client_auth, &self.client_ca_file) {
            (ClientAuth::None, Some(_)) => problem(
                "tls.client-ca-file",
                "has no effect while client-auth is \"none\"",
                "set client-auth = \"required\" or \"requested\", or remove it",
            ),
            (ClientAuth::Requested | ClientAuth::Required, None) => problem(
                "tls.client-ca-file",
                "is missing: client certificates are asked for, but none would be trusted",
                "set it to a PEM file with the authorities that sign client certificates",
            ),
            _ => {}
        }
        Some(ListenerTls {
            certificate_file: self.certificate_file.clone()?,
            key_file: self.key_file.clone()?,
            client_auth: self.client_auth,
            client_ca_file: self.client_ca_file.clone(),
        })
    }
}

pub(super) const SETTINGS: &[Setting<Written>] = &[
    setting!(name, "name", Kind::Text,
        "The listener's name: in logs, in metrics, and for authorizer plugins.",
        example: "\"internal\""),
    setting!(
        transport,
        "transport",
        Kind::Choice(Transport::NAMES),
        "Plain TCP, TLS over TCP, or QUIC over UDP."
    ),
    setting!(bind, "bind", Kind::Address,
        "The address to listen on. Port 0 takes any free port.",
        example: "\"127.0.0.1:9092\""),
    setting!(advertised, "advertised", Kind::HostPort,
        "The host and port that clients are told to connect to; port 0 stands for the bound one. Without it: the bound address. Needed when clients reach the broker by another address than it binds.",
        example: "\"broker.example:9092\""),
    setting!(certificate_file, "tls.certificate-file", Kind::Path,
        "The certificate chain, leaf first (PEM). Required for tls and quic.",
        example: "\"/etc/tidegate/broker.pem\""),
    setting!(key_file, "tls.key-file", Kind::Path,
        "The private key of the certificate (PEM). Required for tls and quic. Make it readable for the broker alone.",
        example: "\"/etc/tidegate/broker.key\""),
    setting!(
        client_auth,
        "tls.client-auth",
        Kind::Choice(ClientAuth::NAMES),
        "Ask clients for a certificate: not at all, if they have one, or always. A verified certificate authenticates the connection."
    ),
    setting!(client_ca_file, "tls.client-ca-file", Kind::Path,
        "The authorities that client certificates must come from (PEM). Required unless client-auth is none.",
        example: "\"/etc/tidegate/clients-ca.pem\""),
    setting!(
        sasl_mechanisms,
        "sasl-mechanisms",
        Kind::ChoiceList(SaslMechanism::NAMES),
        "SASL mechanisms offered. With any, a connection must authenticate unless its certificate already did. PLAIN needs tls or quic."
    ),
    setting!(
        max_connections,
        "max-connections",
        Kind::Count {
            min: 1,
            max: 1_000_000
        },
        "Connections of this listener at most; the next one is refused."
    ),
];
