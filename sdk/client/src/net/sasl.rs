//! Logs a fresh connection in: SaslHandshake, then the mechanism's messages in SaslAuthenticate (KIP-152).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;
use super::scram::{Exchange, Hash};
use crate::error::{Error, ErrorCode, Result};
use crate::options::{SaslMechanism, SaslOptions};

pub(crate) async fn authenticate(
    connection: &Connection,
    options: &SaslOptions,
    timeout: Duration,
) -> Result<()> {
    let login = Login {
        connection,
        mechanism: options.mechanism.name(),
        timeout,
    };
    login.handshake().await?;
    match options.mechanism {
        SaslMechanism::Plain => {
            let message = format!("\0{}\0{}", options.user, options.password);
            login.exchange(message.into_bytes()).await.map(|_| ())
        }
        SaslMechanism::ScramSha256 => login.scram(Hash::Sha256, options).await,
        SaslMechanism::ScramSha512 => login.scram(Hash::Sha512, options).await,
    }
}

struct Login<'a> {
    connection: &'a Connection,
    mechanism: &'static str,
    timeout: Duration,
}

impl Login<'_> {
    async fn handshake(&self) -> Result<()> {
        let request = SaslHandshakeRequest::default()
            .with_mechanism(StrBytes::from_static_str(self.mechanism));
        let response = self.connection.call(&request, self.timeout).await?;
        match ErrorCode::try_from_code(response.error_code) {
            None => Ok(()),
            Some(code) => {
                let offered: Vec<_> = response
                    .mechanisms
                    .iter()
                    .map(|name| name.as_str())
                    .collect();
                Err(self.refused(format!("{code}; it offers {}", offered.join(", "))))
            }
        }
    }

    async fn scram(&self, hash: Hash, options: &SaslOptions) -> Result<()> {
        let nonce = nonce()?;
        let (exchange, first) = Exchange::start(hash, &options.user, &options.password, nonce)
            .map_err(|reason| self.refused(reason))?;
        let challenge = self.exchange(first).await?;
        // The key derivation takes milliseconds of CPU: off the async threads.
        let (proven, proof) = tokio::task::spawn_blocking(move || exchange.prove(&challenge))
            .await
            .map_err(|_| Error::Closed)?
            .map_err(|reason| self.refused(reason))?;
        let last = self.exchange(proof).await?;
        proven.finish(&last).map_err(|reason| self.refused(reason))
    }

    async fn exchange(&self, message: Vec<u8>) -> Result<Bytes> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let response = self.connection.call(&request, self.timeout).await?;
        match ErrorCode::try_from_code(response.error_code) {
            None => Ok(response.auth_bytes),
            Some(code) => Err(self.refused(match &response.error_message {
                Some(message) if !message.is_empty() => message.to_string(),
                _ => code.to_string(),
            })),
        }
    }

    fn refused(&self, reason: String) -> Error {
        Error::Authentication {
            broker: self.connection.broker().clone(),
            mechanism: self.mechanism,
            reason,
        }
    }
}

fn nonce() -> Result<String> {
    let mut random = [0u8; 24];
    getrandom::fill(&mut random)
        .map_err(|error| Error::Config(format!("the system has no randomness: {error}")))?;
    Ok(STANDARD_NO_PAD.encode(random))
}
