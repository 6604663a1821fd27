//! The HTTP side: metrics, health, and the operator's API.
