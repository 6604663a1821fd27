//! The certificates of a TLS or QUIC listener, loaded from their files and loaded again when those change.
//!
//! The files are looked at on a handshake, at most once a second, and on `reload`. What cannot be loaded is told to the log
//! and leaves the certificates as they were: a renewal that is half written closes no door.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{error, info};

use crate::config::{ClientAuth, ListenerTls};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The largest certificate or key file that is read, in bytes: a bundle of every public CA has a quarter of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Turns loaded certificates into what a transport is configured with.
type Build<T> = Box<dyn Fn(ServerConfig) -> Result<T, String> + Send + Sync>;

pub(super) struct Certificates<T> {
    listener: String,
    files: ListenerTls,
    build: Build<T>,
    current: ArcSwap<T>,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    stamps: Vec<Stamp>,
}

/// What tells that a file has changed; `None` when it cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

impl<T: Send + Sync + 'static> Certificates<T> {
    pub(super) fn load(
        listener: &str,
        files: &ListenerTls,
        build: Build<T>,
    ) -> Result<Arc<Self>, String> {
        // Before the load: a change meanwhile is then seen at the next look.
        let looked = Looked {
            at: Instant::now(),
            stamps: stamps(files),
        };
        let current = build(server_config(files)?)?;
        Ok(Arc::new(Self {
            listener: listener.to_string(),
            files: files.clone(),
            build,
            current: ArcSwap::from_pointee(current),
            looked: Mutex::new(looked),
        }))
    }

    /// What a handshake that begins now is to use.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<T> {
        if self.is_time_to_look() {
            let this = Arc::clone(self);
            let looked = tokio::task::spawn_blocking(move || this.reload_if_changed()).await;
            if let Err(fault) = looked {
                error!(listener = %self.listener, "looking at the certificates failed: {fault}");
            }
        }
        self.current.load_full()
    }

    /// Loads the files whether they changed or not.
    pub(super) fn reload(&self) -> Result<(), String> {
        let stamps = stamps(&self.files);
        let loaded = server_config(&self.files).and_then(|config| (self.build)(config));
        self.looked.lock().stamps = stamps;
        let loaded = loaded.map_err(|fault| format!("listener {}: {fault}", self.listener))?;
        self.current.store(Arc::new(loaded));
        info!(listener = %self.listener, "certificates loaded");
        Ok(())
    }

    fn is_time_to_look(&self) -> bool {
        let mut looked = self.looked.lock();
        let due = looked.at.elapsed() >= LOOK_INTERVAL;
        if due {
            looked.at = Instant::now();
        }
        due
    }

    fn reload_if_changed(&self) {
        if stamps(&self.files) == self.looked.lock().stamps {
            return;
        }
        if let Err(fault) = self.reload() {
            error!("certificates not reloaded, the earlier ones stay in use: {fault}");
        }
    }
}

fn stamps(files: &ListenerTls) -> Vec<Stamp> {
    let paths = [&files.certificate_file, &files.key_file];
    let paths = paths.into_iter().chain(&files.client_ca_file);
    paths
        .map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
        .collect()
}

/// The cryptography of every TLS and QUIC connection.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(files: &ListenerTls) -> Result<ServerConfig, String> {
    let chain = certificates(&files.certificate_file)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key_file)?)
        .map_err(|fault| format!("{}: no private key: {fault}", files.key_file.display()))?;
    let builder = ServerConfig::builder_with_provider(provider())
        // TLS 1.2 beside 1.3, for Java 8 clients; rustls knows none of its weak suites. QUIC is 1.3 by itself.
        .with_safe_default_protocol_versions()
        .map_err(|fault| format!("TLS: {fault}"))?;
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|fault| {
        format!(
            "{} and {} do not go together: {fault}",
            files.certificate_file.display(),
            files.key_file.display()
        )
    })
}

fn client_verifier(files: &ListenerTls) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if files.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let path = files
        .client_ca_file
        .as_ref()
        .ok_or("client certificates are asked for, but client_ca_file is not set")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|fault| format!("{}: no CA certificate: {fault}", path.display()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match files.client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Requested | ClientAuth::None => builder.allow_unauthenticated(),
    };
    let verifier = builder
        .build()
        .map_err(|fault| format!("{}: {fault}", path.display()))?;
    Ok(Some(verifier))
}

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|fault| format!("{}: not PEM: {fault}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}

/// Reads a small file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |fault: std::io::Error| format!("{}: {fault}", path.display());
    let length = fs::metadata(path).map_err(told)?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!(
            "{}: {length} bytes, more than the {MAX_FILE_BYTES} of any certificate file",
            path.display()
        ));
    }
    fs::read(path).map_err(told)
}

#[cfg(test)]
mod tests;
