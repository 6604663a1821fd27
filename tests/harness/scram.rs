//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as a test drives it: messages in, messages out.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use sha2::{Digest, Sha256};

use crate::RawClient;

/// Any will do: a test's broker answers no other exchange with it.
const NONCE: &str = "tests-nonce";

/// What the client sends first.
pub fn first_message(user: &str) -> String {
    format!("n,,{}", first_bare(user))
}

/// What the client answers to the server's first message with: the proof that it knows the password.
///
/// # Errors
/// When the server's message is not one.
pub fn final_message(user: &str, password: &str, server_first: &[u8]) -> Result<String> {
    let server_first = std::str::from_utf8(server_first)?;
    let attribute = |name: &str| {
        let mut attributes = server_first.split(',');
        attributes
            .find_map(|attribute| attribute.strip_prefix(name))
            .with_context(|| format!("{server_first:?} has no {name}"))
    };
    let nonce = attribute("r=")?;
    ensure!(nonce.starts_with(NONCE), "another exchange's nonce");
    let salt = BASE64.decode(attribute("s=")?)?;
    let iterations: u32 = attribute("i=")?.parse()?;
    let salted =
        pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations).to_vec();
    let client_key = authenticate(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{},{server_first},{without_proof}", first_bare(user));
    let signature = authenticate(&Sha256::digest(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(key, signature)| key ^ signature)
        .collect();
    Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
}

fn first_bare(user: &str) -> String {
    format!("n={user},r={NONCE}")
}

fn authenticate(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

impl RawClient {
    /// Becomes this user by SCRAM-SHA-256.
    ///
    /// # Errors
    /// When the broker refuses a step.
    pub fn log_in(&mut self, user: &str, password: &str) -> Result<()> {
        let handshake = SaslHandshakeRequest::default()
            .with_mechanism(StrBytes::from_static_str("SCRAM-SHA-256"));
        let answer = self.request(1, &handshake)?;
        ensure!(
            answer.error_code == 0,
            "handshake: error {}",
            answer.error_code
        );
        let challenge = self.authenticate(first_message(user))?;
        let proof = final_message(user, password, &challenge)?;
        self.authenticate(proof).map(drop)
    }

    fn authenticate(&mut self, message: String) -> Result<bytes::Bytes> {
        let step = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let answer = self.request(1, &step)?;
        let message = answer.error_message.as_deref().unwrap_or_default();
        ensure!(
            answer.error_code == 0,
            "authenticate: error {} {message}",
            answer.error_code
        );
        Ok(answer.auth_bytes)
    }
}
