//! SASL as clients spoke it before SaslAuthenticate: after a SaslHandshake of version 0 the tokens go over the wire in frames
//! of their own, a length and the token, without the protocol's headers (Sarama up to 1.43, kafka-python and others).
//!
//! A *bare token* is such a frame. The session takes them from the handshake that succeeded to the end of its exchange, and
//! nothing else: a request among them is a token that is wrong. Each is a step of the same exchange that SaslAuthenticate
//! makes, with the same bounds, counts and delays. The answer is the next token, empty at the end of PLAIN. There is no room
//! for an error: what fails closes the connection, as in Kafka.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::messages::SaslAuthenticateRequest;

use super::apis::{Answer, IntoAnswer as _, ServeError};
use super::context::Context;
use super::handlers::sasl_authenticate::{self, Step};

/// The shortest token that says something: PLAIN with a name and a password of one character each.
pub const MIN_TOKEN_BYTES: usize = 4;

/// Makes one step of the exchange. The exchange is taken at the first poll, as a request's ordered part.
///
/// # Errors
/// Whenever the exchange cannot go on.
pub async fn serve(context: Context, token: Bytes) -> Result<Answer, ServeError> {
    let step = SaslAuthenticateRequest::default().with_auth_bytes(token);
    let answer = match sasl_authenticate::handle(&context, step).await {
        Step::Answered(answer) => answer,
        silent @ Step::TooManyWait => return silent.into_answer(&context, 0),
    };
    if answer.error_code != 0 {
        let message = answer.error_message.unwrap_or_default();
        return Err(ServeError::Close(message.to_string()));
    }
    if !context.session.is_exchanging() {
        let takes_bare_tokens = &context.session.takes_bare_tokens;
        takes_bare_tokens.store(false, Ordering::Release);
    }
    Ok(Answer {
        reply: Some(vec![answer.auth_bytes]),
        error: 0,
    })
}
