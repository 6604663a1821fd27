//! The client's side of SCRAM (RFC 5802, RFC 7677): bytes in, bytes out.
//!
//! first message (nonce) → server's salt and count → final message (proof) → server's signature, which is checked:
//! a server that does not know the password is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Fewer iterations than RFC 7677 allows would make a stolen exchange cheap to crack.
const MIN_ITERATIONS: u32 = 4096;
/// More would let a hostile server keep the client computing.
const MAX_ITERATIONS: u32 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        const ANY_KEY: &str = "HMAC takes a key of any length";
        match self {
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_KEY);
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_KEY);
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

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

/// An exchange that has sent its first message.
pub(crate) struct Exchange {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// An exchange that has sent its proof.
pub(crate) struct Proven {
    server_signature: Vec<u8>,
}

impl Exchange {
    /// The exchange and its first message. `nonce` is random, printable and without commas.
    pub fn start(
        hash: Hash,
        user: &str,
        password: &str,
        nonce: String,
    ) -> Result<(Self, Vec<u8>), String> {
        let user = prepare(user)?.replace('=', "=3D").replace(',', "=2C");
        let password = prepare(password)?;
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("n,,{first_bare}").into_bytes();
        let exchange = Self {
            hash,
            password,
            nonce,
            first_bare,
        };
        Ok((exchange, message))
    }

    /// The final message, from the server's first.
    pub fn prove(self, server_first: &[u8]) -> Result<(Proven, Vec<u8>), String> {
        let server_first =
            std::str::from_utf8(server_first).map_err(|_| "the challenge is not text")?;
        let nonce = attribute(server_first, "r=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the challenge answers another exchange (its nonce is not ours)".into());
        }
        let salt = BASE64
            .decode(attribute(server_first, "s=")?)
            .map_err(|_| "the challenge's salt is not base64")?;
        let iterations: u32 = attribute(server_first, "i=")?
            .parse()
            .map_err(|_| "the challenge's iteration count is not a number")?;
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(format!(
                "the challenge asks for {iterations} iterations; accepted are {MIN_ITERATIONS} to {MAX_ITERATIONS}"
            ));
        }
        let hash = self.hash;
        let salted = hash.salted_password(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let message = format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes();
        let server_key = hash.hmac(&salted, b"Server Key");
        let server_signature = hash.hmac(&server_key, signed.as_bytes());
        Ok((Proven { server_signature }, message))
    }
}

impl Proven {
    /// Checks that the server knows the password too.
    pub fn finish(self, server_final: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(server_final).map_err(|_| "the last message is not text")?;
        if let Ok(error) = attribute(text, "e=") {
            return Err(error.to_owned());
        }
        let signature = BASE64
            .decode(attribute(text, "v=")?)
            .map_err(|_| "the server's signature is not base64")?;
        if signature == self.server_signature {
            Ok(())
        } else {
            Err("the server's signature is wrong: it does not know the password".into())
        }
    }
}

fn prepare(text: &str) -> Result<String, String> {
    stringprep::saslprep(text)
        .map(|prepared| prepared.into_owned())
        .map_err(|error| {
            format!("user or password holds a character that SASLprep forbids: {error}")
        })
}

fn attribute<'a>(message: &'a str, name: &str) -> Result<&'a str, String> {
    message
        .split(',')
        .find_map(|part| part.strip_prefix(name))
        .ok_or_else(|| format!("the server's message lacks {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3.
    #[test]
    fn follows_the_example_of_rfc_7677() {
        let (exchange, first) = Exchange::start(
            Hash::Sha256,
            "user",
            "pencil",
            "rOprNGfwEbeRWgbNEkqO".into(),
        )
        .unwrap();
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (proven, proof) = exchange
            .prove(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
            .unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proven
            .finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap();
    }

    fn started() -> Exchange {
        Exchange::start(Hash::Sha512, "user", "pencil", "abc".into())
            .unwrap()
            .0
    }

    #[test]
    fn refuses_challenges_that_break_the_exchange() {
        for (challenge, expected) in [
            (&b"r=other,s=AAAA,i=4096"[..], "nonce"),
            (b"r=abc,s=AAAA,i=4096", "nonce"),
            (b"r=abcd,s=!,i=4096", "base64"),
            (b"r=abcd,s=AAAA,i=1", "iterations"),
            (b"r=abcd,s=AAAA,i=99999999", "iterations"),
            (b"r=abcd,i=4096", "lacks s="),
            (b"\xff", "not text"),
        ] {
            let error = started().prove(challenge).err().unwrap_or_default();
            assert!(error.contains(expected), "{challenge:?}: {error}");
        }
    }

    #[test]
    fn refuses_a_server_that_does_not_know_the_password() {
        let (proven, _) = started().prove(b"r=abcd,s=AAAA,i=4096").unwrap();
        let error = proven.finish(b"v=AAAA").unwrap_err();
        assert!(error.contains("does not know"), "{error}");
    }
}
