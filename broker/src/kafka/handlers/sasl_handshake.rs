//! SaslHandshake (key 17), versions 0–1: chooses the mechanism of the exchange that SaslAuthenticate carries; after version 0
//! its tokens go over the wire without the protocol's headers instead (`kafka::bare_tokens`).
//!
//! Needs no permission: it comes before authentication. Answers with the mechanisms of the session's listener.
//! UNSUPPORTED_SASL_MECHANISM: the mechanism is not among them. ILLEGAL_SASL_STATE: the listener speaks no SASL, or the
//! session has authenticated by SASL already. A session with a client certificate may still become a SASL user.
//! Left out: re-authentication (KIP-368), which no client starts, because sessions are given no lifetime.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use crate::config::SaslMechanism;
use crate::kafka::context::{Context, Session};
use crate::kafka::error::code_of;
use crate::security::sasl::SaslExchange;

pub const VERSIONS: RangeInclusive<i16> = 0..=1;

const BARE_TOKENS: i16 = 0;

pub async fn handle(context: &Context, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let session = &context.session;
    let offered = &session.info.sasl_mechanisms;
    let chosen = choose(offered, &request.mechanism, authenticated_by_sasl(session));
    let code = code_of(&chosen);
    let exchange = chosen.ok().map(|mechanism| {
        let catalog = context.services.catalog.clone();
        // An unknown user is answered as a new one would be, or the difference would tell which names exist.
        let iterations = context.services.config.security.scram_iterations;
        SaslExchange::new(mechanism, catalog).with_decoy_iterations(iterations)
    });
    let takes_bare_tokens = context.version == BARE_TOKENS && exchange.is_some();
    // A handshake that fails ends the exchange before it, too.
    *session.sasl.lock() = exchange;
    let told = &session.takes_bare_tokens;
    told.store(takes_bare_tokens, Ordering::Release);
    response(code, offered)
}

/// Whether the session's principal is another than its certificate's.
fn authenticated_by_sasl(session: &Session) -> bool {
    let principal = session.principal.load();
    principal.is_some() && **principal != session.info.certificate_principal
}

fn choose(
    offered: &[SaslMechanism],
    name: &str,
    authenticated: bool,
) -> Result<SaslMechanism, ResponseError> {
    if offered.is_empty() || authenticated {
        return Err(ResponseError::IllegalSaslState);
    }
    SaslMechanism::from_name(name)
        .filter(|mechanism| offered.contains(mechanism))
        .ok_or(ResponseError::UnsupportedSaslMechanism)
}

fn response(code: i16, offered: &[SaslMechanism]) -> SaslHandshakeResponse {
    let names = offered
        .iter()
        .map(|mechanism| StrBytes::from_static_str(mechanism.name()));
    SaslHandshakeResponse::default()
        .with_error_code(code)
        .with_mechanisms(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn a_session_chooses_once_and_only_where_sasl_is_spoken() {
        let offered = [SaslMechanism::ScramSha256];
        let illegal = Err(ResponseError::IllegalSaslState);
        assert_eq!(choose(&[], "SCRAM-SHA-256", false), illegal);
        assert_eq!(choose(&offered, "SCRAM-SHA-256", true), illegal);
    }

    #[test]
    fn the_answer_encodes() {
        for version in VERSIONS {
            assert_eq!(encodes(version, &response(33, &[])).error_code, 33);
        }
    }
}
