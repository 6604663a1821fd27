//! rustls configurations from [`TlsOptions`].

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::{Error, Result};
use crate::options::{Pem, TlsOptions};

/// The application protocol that QUIC connections name (RFC 7301): QUIC demands one, and both sides must name the same.
pub(crate) const ALPN: &[u8] = b"kafka";

/// Where distributions keep the certificates that the operating system trusts.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A configuration for TLS 1.3 (and 1.2, unless `quic`).
pub(crate) fn client_config(options: &TlsOptions, quic: bool) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = if quic {
        &[&rustls::version::TLS13]
    } else {
        rustls::ALL_VERSIONS
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| Error::Config(format!("TLS: {error}")))?;
    let builder = if options.dangerously_accept_any_certificate {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| {
                Error::Config(format!("client certificate and key do not fit: {error}"))
            })?,
    };
    if quic {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// The name that the broker's certificate must carry.
pub(crate) fn server_name(options: &TlsOptions, host: &str) -> Result<ServerName<'static>> {
    let name = options.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::Config(format!(
            "TLS: {name} is neither a DNS name nor an IP address"
        ))
    })
}

fn roots(options: &TlsOptions) -> Result<RootCertStore> {
    let system;
    let source = match &options.ca {
        Some(source) => source,
        None => {
            let bundle = SYSTEM_BUNDLES
                .iter()
                .find(|path| Path::new(path).exists())
                .ok_or_else(|| {
                    Error::Config(
                        "TLS: no CA was given and the operating system has none; give the broker's CA file".into(),
                    )
                })?;
            system = Pem::File(bundle.into());
            &system
        }
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(source)?);
    if added == 0 {
        return Err(Error::Config(format!(
            "TLS: {} holds no usable CA certificate",
            name_of(source)
        )));
    }
    Ok(store)
}

fn certificates(source: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(source)?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Config(format!("TLS: {}: {error}", name_of(source))))?;
    if list.is_empty() {
        return Err(Error::Config(format!(
            "TLS: {} holds no PEM certificate",
            name_of(source)
        )));
    }
    Ok(list)
}

fn private_key(source: &Pem) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(source)?)
        .map_err(|error| Error::Config(format!("TLS: {}: {error}", name_of(source))))
}

fn read(source: &Pem) -> Result<Vec<u8>> {
    match source {
        Pem::Bytes(bytes) => Ok(bytes.clone()),
        Pem::File(path) => std::fs::read(path).map_err(|error| {
            Error::Config(format!("TLS: cannot read {}: {error}", path.display()))
        }),
    }
}

fn name_of(source: &Pem) -> String {
    match source {
        Pem::Bytes(_) => "the given PEM text".into(),
        Pem::File(path) => path.display().to_string(),
    }
}

/// Verifies signatures, so that the handshake is sound, but not who made the certificate.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
