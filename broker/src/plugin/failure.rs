//! Why a call gave no answer, and why a deployment was refused.
//!
//! Three kinds are kept apart: *rejects* (this record, never), *call errors* (the guest says that it cannot) and *faults* (the
//! host found that the guest broke its contract, which costs the instance). Beside them stands what the host has no room for. A
//! failure *passes* when the same batch may succeed later: all do but what the guest or the host refuses for good.

/// The name of what a batch does that is too large for plugins.
pub const INPUT: &str = "input";

/// Why a call gave no answer. `Display` names the plugin and its revision and is fit for a client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("plugin {plugin} (revision {revision}): {kind}")]
pub struct PluginFailure {
    pub plugin: String,
    pub revision: u32,
    pub kind: FailureKind,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FailureKind {
    #[error("is not deployed")]
    NotDeployed,
    #[error("is a {0}, which cannot be used here")]
    WrongWorld(String),
    #[error("trapped: {0}")]
    Trap(String),
    #[error("ran past its deadline of {0} ms")]
    Deadline(u64),
    #[error("asked for more than its memory limit of {0} bytes")]
    Memory(u64),
    #[error("returned a wrong answer: {0}")]
    BadOutput(String),
    #[error("cannot answer now: {0}")]
    CallError(String),
    /// A call error that the guest calls permanent.
    #[error("refused the batch: {0}")]
    Refused(String),
    #[error("is suspended after repeated faults")]
    Suspended,
    #[error("cannot take the batch: {0}")]
    Input(String),
    /// The partitioner will never accept these records: an answer, not a failure of the plugin.
    #[error("rejected {} of the batch's records, the first (index {}): {}", .0.len(), first_index(.0), first_message(.0))]
    Rejected(Vec<RecordReject>),
    #[error("cannot be started: {0}")]
    Unavailable(String),
    /// The host has no place or memory for the call; the plugin was not asked, or could not finish for want of it.
    #[error("has more to do than there is room for: {0}")]
    Overloaded(String),
    /// The call would take longer than the calling thread has. Nobody but the broker sees it: the call is made again elsewhere.
    #[error("is not quick enough for a serving thread")]
    NotQuick,
}

fn first_index(rejects: &[RecordReject]) -> u32 {
    rejects.first().map_or(0, |reject| reject.index)
}

fn first_message(rejects: &[RecordReject]) -> &str {
    rejects.first().map_or("", |reject| &reject.message)
}

impl FailureKind {
    /// As metrics and logs name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotDeployed => "not-deployed",
            Self::WrongWorld(_) => "wrong-world",
            Self::Trap(_) => "trap",
            Self::Deadline(_) => "deadline",
            Self::Memory(_) => "memory",
            Self::BadOutput(_) => "bad-output",
            Self::CallError(_) => "call-error",
            Self::Refused(_) => "refused",
            Self::Suspended => "suspended",
            Self::Input(_) => INPUT,
            Self::Rejected(_) => "rejected",
            Self::Unavailable(_) => "unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::NotQuick => "not-quick",
        }
    }

    /// Whether the guest came to an end of its own accord or was not called: its instance is sound.
    pub fn spares_instance(&self) -> bool {
        matches!(
            self,
            Self::CallError(_)
                | Self::Refused(_)
                | Self::Rejected(_)
                | Self::Input(_)
                | Self::WrongWorld(_)
        )
    }

    /// Whether it is an answer of the guest's, which says that it works.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::CallError(_) | Self::Refused(_) | Self::Rejected(_)
        )
    }

    /// Whether the guest broke its contract, or what it was given brought it to.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Trap(_) | Self::Deadline(_) | Self::Memory(_) | Self::BadOutput(_)
        )
    }
}

/// One record a plugin will never accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordReject {
    pub index: u32,
    pub code: &'static str,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Everything that is wrong with the component, at once.
    #[error("the component was refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    #[error("no plugin named {0}")]
    Missing(String),
    #[error("plugin {0} has no revision {1}")]
    MissingRevision(String, u32),
    #[error("plugin {0} keeps no revision before the active one ({1})")]
    NothingEarlier(String, u32),
    #[error("plugin {0} is being compiled already")]
    Busy(String),
    #[error("plugin {0} is in use by {1}")]
    InUse(String, String),
    #[error("{0}")]
    Storage(String),
}
