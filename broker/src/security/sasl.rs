//! SASL exchanges on the broker's side: bytes in, bytes out.
//!
//! An *exchange* is what passes between a client's choice of a mechanism and the verdict. A *verifier* is what the
//! catalog keeps of a password (RFC 5802 §3: salt, iterations, stored key, server key); PLAIN is checked against the
//! same verifier, so that no password is ever stored.
//!
//! Invariants: an exchange answers at most once with `Done`; after `Done` or `Failed` it fails for ever. A client learns
//! neither from the words nor from the number of steps whether a name exists: an unknown user gets a *decoy*
//! verifier, whose proof nobody can give. It follows from the name and a secret that is kept with the data, so that its salt
//! stays as a real one's does, and its iterations are spread as those of the users are.

mod plain;
mod scram;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::catalog::{Catalog, ScramVerifier, User};
use crate::config::SaslMechanism;
use crate::env::random_bytes;
use crate::types::Principal;
use scram::{Digest, Scram};

/// PBKDF2 iterations that a verifier may have. 4,096 is the least that RFC 7677 §4 and Kafka's clients accept. Kafka stops
/// at 16,384, which is below today's advice for passwords that people choose (OWASP: 600,000 for SHA-256); one million
/// leaves room for that advice and keeps one PLAIN login, which the broker derives itself, under about a second.
pub const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;

/// The longest message taken from a client, in bytes. A SCRAM message with the longest name and nonce stays under it.
const MAX_MESSAGE_BYTES: usize = 4_096;
/// The longest user name and password, in bytes.
const MAX_NAME_BYTES: usize = 255;
const MAX_PASSWORD_BYTES: usize = 1_024;
const SALT_BYTES: usize = 24;

/// What every failed exchange tells the client, whichever of name and password was wrong.
const REFUSED: &str = "authentication failed: wrong user name or password";

/// Every mechanism with the name that it has on the wire.
const MECHANISMS: [(SaslMechanism, &str); 3] = [
    (SaslMechanism::Plain, "PLAIN"),
    (SaslMechanism::ScramSha256, "SCRAM-SHA-256"),
    (SaslMechanism::ScramSha512, "SCRAM-SHA-512"),
];

/// Finds a user by the prepared name.
type Lookup = Arc<dyn Fn(&str) -> Option<Arc<User>> + Send + Sync>;

/// What the verifiers of unknown users are made of.
#[derive(Clone)]
pub struct Decoys {
    pub secret: Arc<[u8]>,
    /// The iterations of the user at a place from 0 to 1 among all users, in the order of their iterations.
    pub iterations: Arc<dyn Fn(f64) -> u32 + Send + Sync>,
}

/// One exchange in progress on one connection.
pub struct SaslExchange {
    mechanism: SaslMechanism,
    lookup: Lookup,
    decoys: Decoys,
    stage: Stage,
}

enum Stage {
    Plain,
    Scram(Box<Scram>),
    Over,
}

impl fmt::Debug for SaslExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslExchange")
            .field("mechanism", &self.mechanism)
            .field("over", &matches!(self.stage, Stage::Over))
            .finish_non_exhaustive()
    }
}

/// What a client's message led to.
#[derive(Debug)]
pub enum SaslStep {
    Challenge(Vec<u8>),
    Done {
        principal: Principal,
        /// The user as it was when the password was checked.
        user: Arc<User>,
        message: Vec<u8>,
    },
    /// What the client may be told: never which of name and password was wrong.
    Failed(String),
}

impl SaslMechanism {
    /// `SCRAM-SHA-256` and the like.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => MECHANISMS[0].1,
            Self::ScramSha256 => MECHANISMS[1].1,
            Self::ScramSha512 => MECHANISMS[2].1,
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        let known = MECHANISMS.iter().find(|(_, known)| *known == name);
        known.map(|(mechanism, _)| *mechanism)
    }
}

impl SaslExchange {
    /// `secret` is what decoys follow from. Without users their iterations are those that a new one would get.
    pub fn new(
        mechanism: SaslMechanism,
        catalog: Arc<Catalog>,
        secret: Arc<[u8]>,
        iterations: u32,
    ) -> Self {
        let users = catalog.clone();
        let iterations = move |place| catalog.iterations_at(place).unwrap_or(iterations);
        let decoys = Decoys {
            secret,
            iterations: Arc::new(iterations),
        };
        Self::with_lookup(mechanism, Arc::new(move |name| users.user(name)), decoys)
    }

    /// As `new`, with the users taken from `lookup`.
    pub fn with_lookup(mechanism: SaslMechanism, lookup: Lookup, decoys: Decoys) -> Self {
        let server_nonce = scram::nonce(&random_bytes::<24>());
        Self {
            mechanism,
            lookup,
            decoys,
            stage: match mechanism {
                SaslMechanism::Plain => Stage::Plain,
                SaslMechanism::ScramSha256 => {
                    Stage::Scram(Box::new(Scram::new(Digest::Sha256, server_nonce)))
                }
                SaslMechanism::ScramSha512 => {
                    Stage::Scram(Box::new(Scram::new(Digest::Sha512, server_nonce)))
                }
            },
        }
    }

    /// Whose password the next step would check with this message; `None` when it would check none.
    pub fn claims(&self, message: &[u8]) -> Option<String> {
        match &self.stage {
            Stage::Plain => plain::claims(message),
            Stage::Scram(exchange) => exchange.claims().map(str::to_owned),
            Stage::Over => None,
        }
    }

    /// Whether a step derives a key from a password, which takes milliseconds of a processor.
    pub fn derives(&self) -> bool {
        matches!(self.stage, Stage::Plain)
    }

    pub fn mechanism(&self) -> SaslMechanism {
        self.mechanism
    }

    /// CPU bound where it `derives`: call it off the async threads then.
    pub fn step(&mut self, message: &[u8]) -> SaslStep {
        if message.len() > MAX_MESSAGE_BYTES {
            self.stage = Stage::Over;
            return SaslStep::Failed(format!(
                "SASL message of {} bytes: at most {MAX_MESSAGE_BYTES} are taken",
                message.len()
            ));
        }
        let users = Users {
            lookup: &self.lookup,
            decoys: &self.decoys,
        };
        // Taken out first: whatever happens below, an exchange that is not put back is over.
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Plain => match plain::verify(message, &users) {
                Ok(user) => done(user, Vec::new()),
                Err(reason) => SaslStep::Failed(reason),
            },
            Stage::Scram(mut exchange) => match exchange.step(message, &users) {
                Ok(scram::Answer::Challenge(challenge)) => {
                    self.stage = Stage::Scram(exchange);
                    SaslStep::Challenge(challenge)
                }
                Ok(scram::Answer::Done { user, message }) => done(user, message),
                Err(reason) => SaslStep::Failed(reason),
            },
            Stage::Over => SaslStep::Failed(
                "the SASL exchange is over: begin again with a new handshake".into(),
            ),
        }
    }
}

fn done(user: Arc<User>, message: Vec<u8>) -> SaslStep {
    SaslStep::Done {
        principal: Principal::user(&user.name),
        user,
        message,
    }
}

/// The users as an exchange sees them: every name has a verifier, though only a real one can be satisfied.
struct Users<'a> {
    lookup: &'a Lookup,
    decoys: &'a Decoys,
}

impl Users<'_> {
    /// The verifier to answer with, and the user it belongs to if there is one. Takes as long for one as for the other.
    fn verifier(&self, name: &str, digest: Digest) -> (ScramVerifier, Option<Arc<User>>) {
        let decoy = scram::decoy(name, digest, self.decoys);
        match (self.lookup)(name) {
            Some(user) => match digest {
                Digest::Sha256 => (user.sha256.clone(), Some(user)),
                Digest::Sha512 => (user.sha512.clone(), Some(user)),
            },
            None => (decoy, None),
        }
    }
}

/// Derives both verifiers of a new password (SASLprep, random salt). `iterations` must lie in `ITERATIONS`, the name in
/// 1 to 255 bytes, the password in 1 to 1,024. CPU bound.
pub fn new_user(name: &str, password: &str, iterations: u32) -> Result<User, String> {
    if !ITERATIONS.contains(&iterations) {
        return Err(format!(
            "{iterations} iterations: choose {} to {}",
            ITERATIONS.start(),
            ITERATIONS.end()
        ));
    }
    let name = prepare(name, MAX_NAME_BYTES).map_err(|fault| format!("user name: {fault}"))?;
    let password =
        prepare(password, MAX_PASSWORD_BYTES).map_err(|fault| format!("password: {fault}"))?;
    let derive = |digest: Digest| {
        scram::verifier(digest, &password, &random_bytes::<SALT_BYTES>(), iterations)
    };
    Ok(User {
        sha256: derive(Digest::Sha256),
        sha512: derive(Digest::Sha512),
        name,
    })
}

/// SASLprep (RFC 4013), so that the same name or password typed on two keyboards is the same bytes.
fn prepare(text: &str, max_bytes: usize) -> Result<String, String> {
    if text.len() > max_bytes {
        return Err(format!(
            "{} bytes: at most {max_bytes} are taken",
            text.len()
        ));
    }
    let prepared = stringprep::saslprep(text)
        .map_err(|_| "has a character that SASLprep (RFC 4013) prohibits".to_string())?;
    if prepared.is_empty() {
        return Err("is empty".into());
    }
    Ok(prepared.into_owned())
}

#[cfg(test)]
mod tests;
