//! SaslHandshake (key 17), versions 0–1: chooses the mechanism of the exchange that SaslAuthenticate carries; after version 0
//! its tokens go over the wire without the protocol's headers instead (`kafka::bare_tokens`).
//!
//! Needs no permission: it comes before authentication. Answers with the mechanisms of the session's listener.
//! UNSUPPORTED_SASL_MECHANISM: the mechanism is not among them. ILLEGAL_SASL_STATE: the listener speaks no SASL, or the
//! session has logged in already and may not do so again (KIP-368): its login has no end, or it began to a second ago. A
//! session with a client certificate may still become a SASL user.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Instant;

use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use crate::config::SaslMechanism;
use crate::kafka::context::Context;
use crate::kafka::error::code_of;
use crate::security::sasl::SaslExchange;

pub const VERSIONS: RangeInclusive<i16> = 0..=1;

const BARE_TOKENS: i16 = 0;

pub async fn handle(context: &Context, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let (services, session) = (&context.services, &context.session);
    let begun = session.begin(&request.mechanism, Instant::now(), |mechanism| {
        SaslExchange::new(
            mechanism,
            services.catalog.clone(),
            services.logins.decoy_secret(),
            services.config.security.scram_iterations,
        )
    });
    let takes_bare_tokens = context.version == BARE_TOKENS && begun.is_ok();
    let told = &session.takes_bare_tokens;
    told.store(takes_bare_tokens, Ordering::Release);
    response(code_of(&begun), &session.info.sasl_mechanisms)
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
    fn the_answer_encodes() {
        for version in VERSIONS {
            assert_eq!(encodes(version, &response(33, &[])).error_code, 33);
        }
    }
}
