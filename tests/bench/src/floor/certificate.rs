//! A certificate that this program made for itself: clients trust it by its file.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// Where clients find what to trust, below the data folder; where `tidegate serve --dev` has it, too.
const CA_FILE: &str = "certificates/ca.pem";

/// Makes a certificate for the addresses and `localhost`, and writes it for clients.
pub fn server_config(data: &Path, listen: &[SocketAddr]) -> Result<ServerConfig> {
    let addresses = listen.iter().map(|address| address.ip().to_string());
    let names: Vec<String> = addresses.chain(["localhost".to_owned()]).collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    let path = data.join(CA_FILE);
    let folder = path.parent().context("no folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::write(&path, made.cert.pem()).with_context(|| path.display().to_string())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("the key that was made: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(config)
}
