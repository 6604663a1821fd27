//! The audit trail: who changed what, and what was denied, as structured log events under the target `tidegate::audit`.
//! A filter such as `warn,tidegate::audit=info` keeps it when little else is logged. Secrets never come here.

/// Something that an operator changed, such as `plugin deployed`.
pub fn changed(what: &str, name: &str, who: &str) {
    tracing::info!(target: "tidegate::audit", what, name, who, "changed");
}

/// An operation that was denied.
pub fn denied(principal: &str, operation: &str, resource: &str, host: &str) {
    tracing::info!(target: "tidegate::audit", principal, operation, resource, host, "denied");
}
