//! Certificates for trying things: a CA of the machine's own, a server certificate for loopback, client certificates.
//!
//! Made once in a folder and used from then on, so that a client which was told to trust `ca.pem` goes on trusting it. Keys
//! are readable by the owner alone. For production bring certificates of your own CA.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};

use super::certificate::{certificates, provider, read};
use crate::env::files;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Some clients take no server certificate that lives longer than 825 days.
const LEAF_LIFETIME: Duration = Duration::from_secs(820 * 24 * 3600);
/// A server certificate that ends within this time is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
const CA_NAME: &str = "Tidegate development CA";
/// The names of a server certificate, always.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const MAX_CLIENT_NAME_BYTES: usize = 64;

/// Where the files of a certificate lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The CA that signed it, for the other side to trust.
    pub ca_file: PathBuf,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl CertificateFiles {
    fn named(directory: &Path, name: &str) -> Self {
        Self {
            ca_file: directory.join("ca.pem"),
            certificate_file: directory.join(format!("{name}.pem")),
            key_file: directory.join(format!("{name}.key")),
        }
    }
}

/// A server certificate for `localhost`, `127.0.0.1`, `::1` and `extra_names` (DNS names or addresses) in `directory`, as `ca.pem`,
/// `server.pem` and `server.key` (and `ca.key`, to sign more). Kept when it is there, covers the names and lives 30 days more.
pub fn server(directory: &Path, extra_names: &[String]) -> Result<CertificateFiles, String> {
    let files = CertificateFiles::named(directory, "server");
    let loopback = LOOPBACK.iter().map(ToString::to_string);
    let names: Vec<String> = loopback.chain(extra_names.iter().cloned()).collect();
    if serves(&files, &names) {
        return Ok(files);
    }
    let mut params = CertificateParams::new(names)
        .map_err(|fault| format!("development certificate: {fault}"))?;
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(directory, params, &files)?;
    Ok(files)
}

/// A client certificate with the subject `CN=name`, signed by the CA in `directory`, as `client-NAME.pem` and `client-NAME.key`.
/// The name takes letters, digits, `.`, `_` and `-`, at most 64. Made anew at each call.
pub fn client(directory: &Path, name: &str) -> Result<CertificateFiles, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_CLIENT_NAME_BYTES || !name.bytes().all(legal) {
        return Err(format!(
            "client name {name:?}: take letters, digits, '.', '_' and '-', at most {MAX_CLIENT_NAME_BYTES}"
        ));
    }
    let files = CertificateFiles::named(directory, &format!("client-{name}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(directory, params, &files)?;
    Ok(files)
}

/// Whether the files hold a server certificate of this CA that clients would take for all the names for a while yet.
fn serves(files: &CertificateFiles, names: &[String]) -> bool {
    let check = || -> Option<()> {
        let chain = certificates(&files.certificate_file).ok()?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key_file).ok()?).ok()?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(&files.ca_file).ok()? {
            roots.add(ca).ok()?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().ok()?;
        let later = SystemTime::now() + RENEW_BEFORE;
        let later = later.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let later = UnixTime::since_unix_epoch(later);
        for name in names {
            let name = ServerName::try_from(name.as_str()).ok()?;
            let (leaf, rest) = chain.split_first()?;
            verifier
                .verify_server_cert(leaf, rest, &name, &[], later)
                .ok()?;
        }
        CertifiedKey::from_der(chain, key, &provider()).ok()?;
        Some(())
    };
    check().is_some()
}

/// Makes a key, has the CA sign it, and writes both.
fn sign(
    directory: &Path,
    mut params: CertificateParams,
    files: &CertificateFiles,
) -> Result<(), String> {
    let told = |fault: rcgen::Error| format!("development certificate: {fault}");
    let issuer = issuer(directory, &files.ca_file)?;
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + LEAF_LIFETIME).into();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().map_err(told)?;
    let certificate = params.signed_by(&key, &issuer).map_err(told)?;
    write_pair(&certificate, &key, &files.certificate_file, &files.key_file)
}

/// The folder's CA, made when it is not there.
fn issuer(directory: &Path, ca_file: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let told = |fault: rcgen::Error| format!("development CA: {fault}");
    let key_file = directory.join("ca.key");
    let params = ca_params();
    if ca_file.exists() && key_file.exists() {
        let pem = String::from_utf8(read(&key_file)?)
            .map_err(|_| format!("{}: not PEM", key_file.display()))?;
        let key =
            KeyPair::from_pem(&pem).map_err(|fault| format!("{}: {fault}", key_file.display()))?;
        // Every CA made here has the same name, and its key's identifier follows from the key.
        return Ok(Issuer::new(params, key));
    }
    files::create_private_folders(directory)
        .map_err(|fault| format!("{}: {fault}", directory.display()))?;
    let key = KeyPair::generate().map_err(told)?;
    let certificate = params.self_signed(&key).map_err(told)?;
    write_pair(&certificate, &key, ca_file, &key_file)?;
    Ok(Issuer::new(params, key))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + CA_LIFETIME).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params
}

fn write_pair(
    certificate: &Certificate,
    key: &KeyPair,
    certificate_file: &Path,
    key_file: &Path,
) -> Result<(), String> {
    write(key_file, &key.serialize_pem())?;
    write(certificate_file, &certificate.pem())
}

/// Writes under another name first: a reader sees the old file or the new one, and a key is never open to others.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let told = |fault: std::io::Error| format!("{}: {fault}", path.display());
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = files::create_private(&unfinished).map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)?;
    file.sync_all().map_err(told)?;
    fs::rename(&unfinished, path).map_err(told)
}

#[cfg(test)]
mod tests;
