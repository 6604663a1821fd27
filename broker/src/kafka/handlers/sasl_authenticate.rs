//! SaslAuthenticate (key 36), versions 0–2: one step of the exchange that SaslHandshake began.
//!
//! Needs no permission: it comes before authentication. A step answers with the next challenge or, at the end, makes the
//! session its user's. SASL_AUTHENTICATION_FAILED with a message that never tells name from password ends the exchange; the
//! dispatcher then closes the connection. So it is when a session that logs in again (KIP-368) names another user or
//! mechanism than before. ILLEGAL_SASL_STATE: there is no exchange. Who has failed often waits before the step is taken
//! (`security::guesses`); when too many wait already, the connection is closed without an answer, which clients try again.
//! Version 1 adds the session's lifetime (0: it has no end), 2 is flexible.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use crate::catalog::User;
use crate::config::SaslMechanism;
use crate::env;
use crate::kafka::apis::{Answer, IntoAnswer, ServeError};
use crate::kafka::context::Context;
use crate::kafka::error::message;
use crate::kafka::session::NoStep;
use crate::observe::audit;
use crate::security::logins::Attempt;
use crate::security::sasl::{SaslExchange, SaslStep};

pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// An answer, or an end without one.
#[derive(Debug)]
pub enum Step {
    Answered(Box<SaslAuthenticateResponse>),
    TooManyWait,
}

impl IntoAnswer for Step {
    fn into_answer(self, context: &Context, correlation_id: i32) -> Result<Answer, ServeError> {
        match self {
            Self::Answered(response) => response.into_answer(context, correlation_id),
            Self::TooManyWait => Err(ServeError::Close(
                "too many logins of this address wait, because others of it failed".to_owned(),
            )),
        }
    }
}

pub async fn handle(context: &Context, request: SaslAuthenticateRequest) -> Step {
    let response = match context.session.take_exchange() {
        Ok(exchange) => step(context, exchange, request.auth_bytes).await,
        Err(NoStep::OutOfOrder) => Some(refused(
            ResponseError::IllegalSaslState,
            "SaslAuthenticate must follow a SaslHandshake that succeeded",
        )),
        Err(NoStep::Doomed(reason)) => {
            Some(refused(ResponseError::SaslAuthenticationFailed, &reason))
        }
    };
    response.map_or(Step::TooManyWait, |response| {
        Step::Answered(Box::new(response))
    })
}

/// Takes the exchange's next step. `None`: too many wait.
async fn step(
    context: &Context,
    exchange: SaslExchange,
    bytes: Bytes,
) -> Option<SaslAuthenticateResponse> {
    let (services, session) = (&context.services, &context.session);
    let address = session.info.peer.ip();
    let mechanism = exchange.mechanism();
    let mut attempt = None;
    if let Some(user) = exchange.claims(&bytes) {
        let Some(admitted) = services.logins.admit(address, &user).await else {
            let listener = &session.info.listener;
            services.metrics.refused(listener, "too-many-failed-logins");
            return None;
        };
        if !admitted.waited.is_zero() {
            services.metrics.throttled("failed-logins", admitted.waited);
        }
        attempt = Some(admitted);
    }
    let outcome = match taken(context, exchange, bytes).await {
        Some((exchange, SaslStep::Challenge(challenge))) => {
            session.put_exchange(Some(exchange));
            return Some(stepped(challenge));
        }
        Some((_, SaslStep::Done { user, message, .. })) => {
            log_in(context, mechanism, user).map(|lifetime| (message, lifetime))
        }
        Some((_, SaslStep::Failed(reason))) => Err(reason),
        None => Err("authentication failed within the broker; its log says why".to_owned()),
    };
    session.put_exchange(None);
    services
        .metrics
        .authentication(mechanism.name(), outcome.is_ok());
    Some(match outcome {
        Ok((message, lifetime)) => {
            if let Some(attempt) = attempt {
                attempt.succeeded();
            }
            stepped(message).with_session_lifetime_ms(lifetime)
        }
        Err(reason) => {
            tell(context, mechanism, attempt, &reason);
            refused(ResponseError::SaslAuthenticationFailed, &reason)
        }
    })
}

/// Where a key is derived from a password, the step is taken beside the serving threads, in its turn. `None` when it broke.
async fn taken(
    context: &Context,
    mut exchange: SaslExchange,
    bytes: Bytes,
) -> Option<(SaslExchange, SaslStep)> {
    if !exchange.derives() {
        let step = exchange.step(&bytes);
        return Some((exchange, step));
    }
    let address = context.session.info.peer.ip();
    let turn = context.services.logins.derivation(address).await;
    let derived = env::blocking(move || {
        let step = exchange.step(&bytes);
        // Until here: a peer that has hung up meanwhile has had its turn all the same.
        drop(turn);
        (exchange, step)
    });
    derived.await.ok()
}

/// Makes the session the user's. The milliseconds that it lasts, 0 without end, as far as the version can say.
fn log_in(context: &Context, mechanism: SaslMechanism, user: Arc<User>) -> Result<i64, String> {
    let services = &context.services;
    let lifetime = services.config.security.connections_max_reauth;
    let expires = (lifetime > Duration::ZERO)
        .then(|| Instant::now().checked_add(lifetime))
        .flatten();
    let session = &context.session;
    session.log_in(&services.catalog, mechanism, user, expires)?;
    let told = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    Ok(if context.version >= 1 { told } else { 0 })
}

/// Tells log and limiter of a failure.
fn tell(context: &Context, mechanism: SaslMechanism, attempt: Option<Attempt>, reason: &str) {
    let session = &context.session;
    let address = session.info.peer.ip();
    let (user, line) = match attempt {
        Some(attempt) => (attempt.user().to_owned(), attempt.failed()),
        None => (String::new(), context.services.logins.failed(address, "")),
    };
    if let Some(left_out) = line {
        audit::login_failed(&audit::FailedLogin {
            user: &user,
            host: &session.host,
            listener: &session.info.listener,
            mechanism: mechanism.name(),
            reason,
            left_out,
        });
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
