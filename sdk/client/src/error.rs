//! What can go wrong, sorted by what the caller can do about it ([`ErrorKind`]).
//!
//! Every error names the broker and, where it concerns one, the API and the topic, partition or group. Errors are
//! cheap to clone, because one failed batch fails every record in it.

use std::sync::Arc;
use std::time::Duration;

/// An error code of the Kafka protocol, as a broker answered it.
pub use kafka_protocol::ResponseError as ErrorCode;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The same call may succeed later: a broker is down, a leader moves, a deadline passed.
    Retriable,
    /// The request or the options are wrong, or what they name does not exist: change them.
    Invalid,
    /// The broker does not let this principal in, or does not let it do this.
    Denied,
    /// Broker and client do not understand each other: a version gap or a defect.
    Incompatible,
    /// The client was closed.
    Closed,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option is wrong; the message says which and what would be right.
    #[error("{0}")]
    Config(String),
    /// A record or an argument is wrong.
    #[error("{0}")]
    InvalidInput(String),
    #[error("cannot connect to {broker}: {reason}")]
    Connect {
        broker: Arc<str>,
        reason: String,
        /// The operating system's reason, when it gave one.
        io: Option<std::io::ErrorKind>,
    },
    #[error("the connection to {broker} ended: {reason}")]
    Disconnected { broker: Arc<str>, reason: String },
    #[error("{what} did not finish within {after:?}")]
    Timeout { what: String, after: Duration },
    #[error("{broker} refused the login by {mechanism}: {reason}")]
    Authentication {
        broker: Arc<str>,
        mechanism: &'static str,
        reason: String,
    },
    /// The broker answered with an error code.
    #[error("{broker} answered {api} of {subject} with {code}{}", detail(.message))]
    Broker {
        broker: Arc<str>,
        api: &'static str,
        /// The topic, partition, group or other thing that the code is about.
        subject: String,
        code: ErrorCode,
        message: Option<String>,
    },
    #[error("{broker} does not speak a version of {api} that this client speaks")]
    UnsupportedVersion { broker: Arc<str>, api: &'static str },
    /// Bytes from the broker that are not what the protocol says.
    #[error("malformed {what} from {broker}: {reason}")]
    Malformed {
        broker: Arc<str>,
        what: &'static str,
        reason: String,
    },
    #[error("the client is closed")]
    Closed,
}

fn detail(message: &Option<String>) -> String {
    message
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::InvalidInput(_) => ErrorKind::Invalid,
            Self::Connect { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => {
                ErrorKind::Retriable
            }
            Self::Authentication { .. } => ErrorKind::Denied,
            Self::Broker { code, .. } => code_kind(*code),
            Self::UnsupportedVersion { .. } | Self::Malformed { .. } => ErrorKind::Incompatible,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.kind() == ErrorKind::Retriable
    }

    /// The broker's error code, when a broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }
}

fn code_kind(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed
        | ErrorCode::SecurityDisabled => ErrorKind::Denied,
        ErrorCode::UnsupportedVersion
        | ErrorCode::UnsupportedForMessageFormat
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::Unknown(_) => ErrorKind::Incompatible,
        ErrorCode::RebalanceInProgress | ErrorCode::ConcurrentTransactions => ErrorKind::Retriable,
        code if code.is_retriable() => ErrorKind::Retriable,
        _ => ErrorKind::Invalid,
    }
}

/// Turns an error code of an answer into a result.
pub(crate) fn check(
    code: i16,
    broker: &Arc<str>,
    api: &'static str,
    subject: impl FnOnce() -> String,
    message: Option<&str>,
) -> Result<()> {
    match ErrorCode::try_from_code(code) {
        None => Ok(()),
        Some(code) => Err(Error::Broker {
            broker: broker.clone(),
            api,
            subject: subject(),
            code,
            message: message.filter(|text| !text.is_empty()).map(str::to_owned),
        }),
    }
}
