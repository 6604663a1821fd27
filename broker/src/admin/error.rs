//! What a caller is told when a call fails.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::catalog::CatalogError;
use crate::plugin::DeployError;

/// An error as JSON: a stable word, what was wrong, and what to do.
#[derive(Debug, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    error: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    fix: &'static str,
    /// Where the token lies that the call has to carry, for callers on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
    /// Each thing that was wrong, where there may be several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            error,
            detail: detail.into(),
            fix: "",
            token_file: None,
            reasons: Vec::new(),
        }
    }

    pub fn fix(mut self, fix: &'static str) -> Self {
        self.fix = fix;
        self
    }

    pub fn token_file(mut self, path: Option<String>) -> Self {
        self.token_file = path;
        self
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// A task of the broker's own died.
    pub fn internal(error: tokio::task::JoinError) -> Self {
        tracing::error!(%error, "an admin call was interrupted");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the call was interrupted; the broker's log says why",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        let (status, word) = match &error {
            CatalogError::Exists(_) => (StatusCode::CONFLICT, "exists"),
            CatalogError::Missing(_) => (StatusCode::NOT_FOUND, "not-found"),
            CatalogError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            CatalogError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
        };
        Self::new(status, word, error.to_string())
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let (status, word) = match &error {
            DeployError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            DeployError::Missing(_) => (StatusCode::NOT_FOUND, "not-found"),
            DeployError::MissingRevision(..) | DeployError::NothingEarlier(..) => {
                (StatusCode::NOT_FOUND, "no-such-revision")
            }
            DeployError::Busy(_) => (StatusCode::CONFLICT, "busy"),
            DeployError::InUse(..) => (StatusCode::CONFLICT, "in-use"),
            DeployError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
        };
        let mut answer = Self::new(status, word, error.to_string());
        if let DeployError::Refused(reasons) = error {
            answer.reasons = reasons;
        }
        answer
    }
}
