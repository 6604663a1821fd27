//! SCRAM (RFC 5802, RFC 7677) as a pure machine: the server's nonce and the users come in, messages go out.
//!
//! *client-first* names the user and the client's nonce; *server-first* answers with salt, iterations and both nonces;
//! *client-final* proves the password; *server-final* proves that the broker holds the verifier. Channel binding is not
//! offered: `n,,` and `y,,` are taken, `p=` is refused. Extensions that are not mandatory (`m=`) are ignored.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{Decoys, MAX_NAME_BYTES, REFUSED, SALT_BYTES, Users, prepare};
use crate::catalog::{ScramVerifier, User};

/// The longest nonce taken from a client, in bytes; clients send 20 to 48.
const MAX_NONCE_BYTES: usize = 512;

/// The hash function of a mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Digest {
    Sha256,
    Sha512,
}

impl Digest {
    fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        const ANY_LENGTH: &str = "HMAC takes a key of any length";
        match self {
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_LENGTH);
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    /// `Hi` of RFC 5802 §2.2.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec()
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec()
            }
        }
    }
}

/// What the broker keeps of a password (RFC 5802 §3). The password has been prepared.
pub(super) fn verifier(
    digest: Digest,
    password: &str,
    salt: &[u8],
    iterations: u32,
) -> ScramVerifier {
    let salted = digest.salted_password(password.as_bytes(), salt, iterations);
    ScramVerifier {
        salt: salt.to_vec(),
        iterations,
        stored_key: digest.hash(&digest.hmac(&salted, b"Client Key")),
        server_key: digest.hmac(&salted, b"Server Key"),
    }
}

/// A verifier for a user that does not exist: the same salt at every attempt, and keys that no password derives.
pub(super) fn decoy(name: &str, digest: Digest, decoys: &Decoys) -> ScramVerifier {
    let derive =
        |purpose: &str| digest.hmac(&decoys.secret, format!("{purpose}\0{name}").as_bytes());
    let mut salt = derive("salt");
    salt.truncate(SALT_BYTES);
    let place = derive("iterations");
    let place = place
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes));
    ScramVerifier {
        salt,
        iterations: (decoys.iterations)(f64::from(place) / f64::from(u32::MAX)),
        stored_key: derive("stored key"),
        server_key: derive("server key"),
    }
}

/// Random bytes as printable text, which is what a nonce must be.
pub(super) fn nonce(random: &[u8]) -> String {
    BASE64.encode(random)
}

/// One exchange, between its messages.
pub(super) struct Scram {
    digest: Digest,
    server_nonce: String,
    /// `None` until client-first was answered.
    challenged: Option<Challenged>,
}

struct Challenged {
    name: String,
    user: Option<Arc<User>>,
    verifier: ScramVerifier,
    gs2_header: String,
    /// Client's and server's, joined.
    nonce: String,
    /// client-first-message-bare and server-first-message, joined by a comma: the beginning of AuthMessage.
    transcript: String,
}

pub(super) enum Answer {
    Challenge(Vec<u8>),
    Done { user: Arc<User>, message: Vec<u8> },
}

impl Scram {
    pub(super) fn new(digest: Digest, server_nonce: String) -> Self {
        Self {
            digest,
            server_nonce,
            challenged: None,
        }
    }

    /// The name in client-first, once that was answered.
    pub(super) fn claims(&self) -> Option<&str> {
        let challenged = self.challenged.as_ref()?;
        Some(&challenged.name)
    }

    /// Takes the client's next message. `Err` is what the client may be told.
    pub(super) fn step(&mut self, message: &[u8], users: &Users<'_>) -> Result<Answer, String> {
        let message = std::str::from_utf8(message)
            .map_err(|_| "malformed SCRAM message: not UTF-8".to_string())?;
        match self.challenged.take() {
            None => self.challenge(message, users).map(Answer::Challenge),
            Some(challenged) => challenged.verify(self.digest, message),
        }
    }

    fn challenge(&mut self, message: &str, users: &Users<'_>) -> Result<Vec<u8>, String> {
        let first = ClientFirst::parse(message)?;
        let name = prepare(&first.name, MAX_NAME_BYTES).map_err(|_| REFUSED.to_string())?;
        if !first.authorize_as.is_empty() && first.authorize_as != first.name {
            return Err(
                "SCRAM: acting as another user is not supported; leave authzid empty".into(),
            );
        }
        let (verifier, user) = users.verifier(&name, self.digest);
        let nonce = format!("{}{}", first.nonce, self.server_nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&verifier.salt),
            verifier.iterations
        );
        self.challenged = Some(Challenged {
            name,
            user,
            verifier,
            gs2_header: first.gs2_header.to_string(),
            nonce,
            transcript: format!("{},{server_first}", first.bare),
        });
        Ok(server_first.into_bytes())
    }
}

impl Challenged {
    fn verify(self, digest: Digest, message: &str) -> Result<Answer, String> {
        let last = ClientFinal::parse(message)?;
        if BASE64.decode(last.channel_binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err("SCRAM: the channel binding differs from the first message".into());
        }
        if last.nonce != self.nonce {
            return Err("SCRAM: the nonce is not the one of this exchange".into());
        }
        let proof = BASE64
            .decode(last.proof)
            .map_err(|_| malformed("the proof is not base64"))?;
        let auth_message = format!("{},{}", self.transcript, last.without_proof);
        let signature = digest.hmac(&self.verifier.stored_key, auth_message.as_bytes());
        if proof.len() != signature.len() {
            return Err(malformed("the proof has the wrong length"));
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let proven = bool::from(digest.hash(&client_key).ct_eq(&self.verifier.stored_key));
        let Some(user) = self.user.filter(|_| proven) else {
            return Err(REFUSED.into());
        };
        let answer = digest.hmac(&self.verifier.server_key, auth_message.as_bytes());
        Ok(Answer::Done {
            user,
            message: format!("v={}", BASE64.encode(answer)).into_bytes(),
        })
    }
}

/// client-first-message: `gs2-header` then `n=name,r=nonce[,extensions]`.
struct ClientFirst<'a> {
    gs2_header: &'a str,
    authorize_as: String,
    bare: &'a str,
    name: String,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a str) -> Result<Self, String> {
        let (flag, rest) = message
            .split_once(',')
            .ok_or_else(|| malformed("no channel binding flag"))?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => {
                return Err(
                    "SCRAM: channel binding is not supported; begin with n,, or y,,".into(),
                );
            }
            _ => return Err(malformed("the channel binding flag is none of n, y and p")),
        }
        let (authorize_as, bare) = rest
            .split_once(',')
            .ok_or_else(|| malformed("the GS2 header does not end"))?;
        let authorize_as = match authorize_as {
            "" => String::new(),
            field => unescape(
                field
                    .strip_prefix("a=")
                    .ok_or_else(|| malformed("expected a=authzid or nothing"))?,
            )?,
        };
        let mut fields = bare.split(',');
        let name = field(fields.next(), "n=")?;
        let nonce = field(fields.next(), "r=")?;
        if nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES || !nonce.bytes().all(is_printable) {
            return Err(malformed("the nonce is empty, too long or not printable"));
        }
        Ok(Self {
            gs2_header: &message[..message.len() - bare.len()],
            authorize_as,
            bare,
            name: unescape(name)?,
            nonce,
        })
    }
}

/// client-final-message: `c=binding,r=nonce[,extensions],p=proof`.
struct ClientFinal<'a> {
    without_proof: &'a str,
    channel_binding: &'a str,
    nonce: &'a str,
    proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a str) -> Result<Self, String> {
        let (without_proof, proof) = message
            .rsplit_once(",p=")
            .ok_or_else(|| malformed("no proof"))?;
        let mut fields = without_proof.split(',');
        Ok(Self {
            channel_binding: field(fields.next(), "c=")?,
            nonce: field(fields.next(), "r=")?,
            without_proof,
            proof,
        })
    }
}

/// The value of a field that must stand here.
fn field<'a>(field: Option<&'a str>, key: &str) -> Result<&'a str, String> {
    match field {
        Some(field) if field.starts_with("m=") => {
            Err("SCRAM: the mandatory extension m= is not supported".into())
        }
        Some(field) => field
            .strip_prefix(key)
            .ok_or_else(|| malformed(&format!("expected {key}"))),
        None => Err(malformed(&format!("expected {key}"))),
    }
}

/// RFC 5802 §5.1: `=2C` is a comma, `=3D` an equals sign, any other `=` is illegal.
fn unescape(name: &str) -> Result<String, String> {
    let mut pieces = name.split('=');
    let mut plain = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let (character, rest) = if let Some(rest) = piece.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = piece.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(malformed("a name has = that is neither =2C nor =3D"));
        };
        plain.push(character);
        plain.push_str(rest);
    }
    Ok(plain)
}

/// RFC 5802 §7 `printable`: visible ASCII except the comma.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b','
}

fn malformed(what: &str) -> String {
    format!("malformed SCRAM message: {what}")
}
