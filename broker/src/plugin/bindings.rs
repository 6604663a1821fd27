//! The host's side of `wit/`: the same records and variants, field for field. A test of a real component checks that they agree.
//!
//! What goes in is owned and shared (`Arc`), so that a function is looked up and type-checked once for each instance and its
//! buffers are used again by the next call.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Lower, TypedFunc};

/// The columns that a plugin wants to see.
#[derive(ComponentType, Lift, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[component(record)]
pub struct Columns {
    pub key: bool,
    pub value: bool,
    pub headers: bool,
    pub timestamps: bool,
}

#[derive(ComponentType, Lower, Lift, PartialEq, Eq, Debug, Default)]
#[component(record)]
pub struct RecordBatch {
    pub data: Vec<u8>,
    pub lengths: Vec<i32>,
    pub timestamps: Vec<i64>,
}

#[derive(ComponentType, Lower, Debug, Default)]
#[component(record)]
pub struct Origin {
    pub topic: String,
    pub partition: u32,
    #[component(name = "base-offset")]
    pub base_offset: Option<i64>,
    #[component(name = "base-sequence")]
    pub base_sequence: Option<i32>,
    #[component(name = "record-count")]
    pub record_count: u32,
}

#[derive(ComponentType, Lift, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made from a guest's discriminant")]
pub enum RejectCode {
    #[component(name = "malformed")]
    Malformed,
    #[component(name = "schema-mismatch")]
    SchemaMismatch,
    #[component(name = "policy-denied")]
    PolicyDenied,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "unsupported")]
    Unsupported,
    #[component(name = "other")]
    Other,
}

impl RejectCode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::SchemaMismatch => "schema-mismatch",
            Self::PolicyDenied => "policy-denied",
            Self::TooLarge => "too-large",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub struct Reject {
    pub index: u32,
    pub code: RejectCode,
    pub message: String,
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub enum CallError {
    #[component(name = "retry-after-ms")]
    RetryAfterMs(u32),
    #[component(name = "permanent")]
    Permanent(String),
    #[component(name = "misconfigured")]
    Misconfigured(String),
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub enum Assignment {
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "partitions")]
    Partitions(Vec<u32>),
    #[component(name = "reject")]
    Reject(Vec<Reject>),
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub struct Replacement {
    pub batch: RecordBatch,
    pub sources: Vec<u32>,
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub enum Answer {
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "keep")]
    Keep(Vec<u8>),
    #[component(name = "replace")]
    Replace(Replacement),
    #[component(name = "reject")]
    Reject(Vec<Reject>),
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub struct Caller {
    pub kind: Arc<str>,
    pub name: Arc<str>,
    #[component(name = "client-host")]
    pub client_host: String,
    pub listener: String,
    #[component(name = "client-id")]
    pub client_id: Option<String>,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub struct Action {
    pub operation: u8,
    #[component(name = "resource-type")]
    pub resource_type: u8,
    #[component(name = "resource-name")]
    pub resource_name: String,
}

#[derive(ComponentType, Lift, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made from a guest's discriminant")]
pub enum VerdictCode {
    #[component(name = "allow")]
    Allow,
    #[component(name = "deny")]
    Deny,
    #[component(name = "abstain")]
    Abstain,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub struct Decision {
    pub verdict: VerdictCode,
    #[component(name = "cache-ms")]
    pub cache_ms: u32,
    pub reason: Option<String>,
}

#[derive(ComponentType, Lift, Clone, Copy, PartialEq, Eq, Debug)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made from a guest's discriminant")]
pub enum LogLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

type Outcome<T> = (Result<T, CallError>,);

pub type InitWithColumns = TypedFunc<(), (Result<Columns, String>,)>;
pub type InitPlain = TypedFunc<(), (Result<(), String>,)>;
pub type Assign = TypedFunc<(Arc<Origin>, u32, Arc<RecordBatch>), Outcome<Assignment>>;
pub type Apply = TypedFunc<(Arc<Origin>, Arc<RecordBatch>), Outcome<Answer>>;
pub type Check = TypedFunc<(Caller, Vec<Action>), Outcome<Vec<Decision>>>;
