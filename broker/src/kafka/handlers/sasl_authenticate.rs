//! SaslAuthenticate (key 36), versions 0–2: one step of the exchange that SaslHandshake began.
//!
//! Needs no permission: it comes before authentication. A step answers with the next challenge or, at the end, makes the
//! session its user's. SASL_AUTHENTICATION_FAILED with a message that never tells name from password ends the exchange; the
//! dispatcher then closes the connection. ILLEGAL_SASL_STATE: there is no exchange. Version 1 adds the session's lifetime
//! (0: it has no end), 2 is flexible.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use crate::env;
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::security::sasl::SaslStep;

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

pub async fn handle(
    context: &Context,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    // Taken for the time of the step: whatever goes wrong in it, there is no exchange left to go on with.
    let Some(mut exchange) = context.session.sasl.lock().take() else {
        let text = "SaslAuthenticate must follow a SaslHandshake that succeeded";
        return refused(ResponseError::IllegalSaslState, text);
    };
    let mechanism = exchange.mechanism().name();
    // PLAIN derives a key from the password, which takes milliseconds of a processor.
    let step = env::blocking(move || {
        let step = exchange.step(&request.auth_bytes);
        (exchange, step)
    });
    let (exchange, step) = match step.await {
        Ok(stepped) => stepped,
        Err(_) => {
            context.services.metrics.authentication(mechanism, false);
            let text = "authentication failed within the broker; its log says why";
            return refused(ResponseError::SaslAuthenticationFailed, text);
        }
    };
    match step {
        SaslStep::Challenge(challenge) => {
            *context.session.sasl.lock() = Some(exchange);
            stepped(challenge)
        }
        SaslStep::Done { principal, message } => {
            context.services.metrics.authentication(mechanism, true);
            context.session.principal.store(Some(principal).into());
            // A handshake that came during this step has begun an exchange that nobody may finish.
            *context.session.sasl.lock() = None;
            stepped(message)
        }
        SaslStep::Failed(reason) => {
            context.services.metrics.authentication(mechanism, false);
            tracing::info!(
                listener = %context.session.info.listener,
                host = %context.session.host,
                mechanism,
                reason,
                "authentication failed"
            );
            refused(ResponseError::SaslAuthenticationFailed, &reason)
        }
    }
}

fn stepped(bytes: Vec<u8>) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_message(None)
        .with_auth_bytes(bytes.into())
}

fn refused(code: ResponseError, text: &str) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_code(code.code())
        .with_error_message(message(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::wire::encodes;

    #[test]
    fn every_shape_encodes_in_every_version() {
        for version in VERSIONS {
            assert_eq!(
                &encodes(version, &stepped(b"r=1".to_vec())).auth_bytes[..],
                b"r=1"
            );
            let failed = refused(ResponseError::SaslAuthenticationFailed, "wrong credentials");
            let seen = encodes(version, &failed);
            assert_eq!(seen.error_code, 58);
            assert!(seen.error_message.is_some() && seen.auth_bytes.is_empty());
        }
    }
}
