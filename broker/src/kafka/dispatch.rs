//! One connection's requests: header, version, authentication, then the table's row. Every check that all APIs share is
//! here and nowhere else.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::StrBytes;

use super::ResponseError;
use super::apis::{self, Answer, AnswerSize, Api, IntoAnswer, ServeError};
use super::context::{Context, Services};
use super::session::{self, Ended, Session};
use super::{bare_tokens, guard, handlers, room};
use crate::env::budget::{Permit, SMALL_BYTES, Wanted};
use crate::net::{ConnectionInfo, Finished, FrameHandler, Reply, Service, Started};
use crate::types::Principal;

/// The answer to a wrong password waits so long, as with Kafka's connection.failed.authentication.delay.ms. Who fails often
/// waits before it is looked at, too (`security::guesses`).
const FAILED_AUTHENTICATION_DELAY: Duration = Duration::from_millis(100);

/// What is reserved for an answer that may be large, before it is known how large it is.
const LARGE_ANSWER_BYTES: u64 = 1 << 20;

/// API key, version and correlation id, which every request begins with.
const FIXED_HEADER_BYTES: usize = 8;

/// The Kafka protocol as a service of listeners.
#[derive(Debug)]
pub struct KafkaService {
    pub services: Arc<Services>,
}

impl Service for KafkaService {
    type Handler = KafkaConnection;

    fn connect(&self, info: ConnectionInfo) -> KafkaConnection {
        let session = Arc::new(Session::new(info));
        let catalog = &self.services.catalog;
        let logs_in = !session.info.sasl_mechanisms.is_empty();
        let ended = logs_in.then(|| session::ended(session.clone(), catalog.clone()).boxed());
        KafkaConnection {
            services: self.services.clone(),
            session,
            ended,
        }
    }
}

/// One connection.
pub struct KafkaConnection {
    services: Arc<Services>,
    session: Arc<Session>,
    /// Where sessions log in: resolves when the login has come to its end.
    ended: Option<BoxFuture<'static, Ended>>,
}

impl std::fmt::Debug for KafkaConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConnection")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl FrameHandler for KafkaConnection {
    async fn start(&mut self, frame: Bytes) -> Started {
        let begun = Instant::now();
        let services = self.services.clone();
        let (api, mut serving): (_, Serving) = match self.open(frame, begun) {
            Ok(Opened::Request {
                api,
                context,
                correlation_id,
                body,
            }) if api.answer != AnswerSize::Small => {
                let serving = in_turn(api, context, correlation_id, body);
                return Started::InTurn(Box::pin(serving));
            }
            Ok(Opened::Request {
                api,
                context,
                correlation_id,
                body,
            }) if body.len() >= api.long_body => {
                let serving = beside(api, context, correlation_id, body).await;
                (api, serving)
            }
            Ok(Opened::Request {
                api,
                context,
                correlation_id,
                body,
            }) => (api, (api.serve)(context, correlation_id, body)),
            Ok(Opened::Token {
                api,
                context,
                token,
            }) => (api, Box::pin(bare_tokens::serve(context, token))),
            Ok(Opened::Answered(answer)) => {
                return Started::Ready(answer.reply.unwrap_or_default());
            }
            Err(reason) => {
                return Started::Close {
                    reply: None,
                    reason,
                };
            }
        };
        // The first poll does the ordered part of a request; what it then waits for holds nobody up.
        match futures_util::poll!(&mut serving) {
            Poll::Ready(outcome) => match finish(&services, api, begun, outcome) {
                Finished::Reply(reply) => Started::Ready(reply),
                Finished::Silent => Started::Silent,
                Finished::Close { reply, reason } if api.key == ApiKey::SaslAuthenticate => {
                    Started::Later(Box::pin(delayed_close(reply, reason)))
                }
                Finished::Close { reply, reason } => Started::Close { reply, reason },
            },
            Poll::Pending => Started::Later(Box::pin(async move {
                let outcome = serving.await;
                match finish(&services, api, begun, outcome) {
                    Finished::Close { reply, reason } if api.key == ApiKey::SaslAuthenticate => {
                        delayed_close(reply, reason).await
                    }
                    finished => finished,
                }
            })),
        }
    }

    fn authenticated(&self) -> bool {
        self.session.principal.load().is_some()
    }

    fn principal(&self) -> Option<Principal> {
        self.session.owner()
    }

    fn poll_ended(&mut self, cx: &mut TaskContext<'_>) -> Poll<String> {
        let Some(ended) = &mut self.ended else {
            return Poll::Pending;
        };
        let ended = ready!(ended.poll_unpin(cx));
        self.ended = None;
        Poll::Ready(self.end(ended))
    }

    fn min_frame_bytes(&self) -> usize {
        match self.takes_bare_tokens() {
            true => bare_tokens::MIN_TOKEN_BYTES,
            false => FIXED_HEADER_BYTES,
        }
    }
}

/// A request with a long body: its first turn is waited for here, so that the requests of a connection keep their order.
async fn beside(api: &'static Api, context: Context, correlation_id: i32, body: Bytes) -> Serving {
    let services = context.services.clone();
    let share = context.session.share();
    let turn = services.bounds.turns.turn(&share).await;
    let serving = (api.serve)(context, correlation_id, body);
    Box::pin(async move { services.bounds.turns.run(&share, Some(turn), serving).await })
}

/// Serves a request whose turn has come. The answer of a `Large` one is reserved for before it is made, and then holds what it takes
/// until it is written.
async fn in_turn(
    api: &'static Api,
    context: Context,
    correlation_id: i32,
    body: Bytes,
) -> Finished {
    let begun = Instant::now();
    let services = context.services.clone();
    let mut permit = None;
    if api.answer == AnswerSize::Large {
        let mut reserved = services.memory.answers.large.open(context.party());
        reserved.draw(Wanted::exactly(LARGE_ANSWER_BYTES)).await;
        permit = Some(reserved);
    }
    let serving = match body.len() >= api.long_body {
        true => beside(api, context, correlation_id, body).await,
        false => (api.serve)(context, correlation_id, body),
    };
    let finished = finish(&services, api, begun, serving.await);
    match (finished, permit) {
        (Finished::Reply(reply), Some(permit)) => Finished::Reply(held(reply, permit)),
        (finished, _) => finished,
    }
}

/// The reply with a permit for its bytes. Small ones go without: what a connection has of them unwritten is bounded.
fn held(mut reply: Reply, mut permit: Permit) -> Reply {
    let length: usize = reply.iter().map(Bytes::len).sum();
    if length as u64 <= SMALL_BYTES {
        return reply;
    }
    permit.take((length as u64).saturating_sub(permit.held()));
    permit.shrink_to(length as u64);
    if let Some(last) = reply.last_mut() {
        *last = permit.keep(std::mem::take(last));
    }
    reply
}

async fn delayed_close(reply: Option<Reply>, reason: String) -> Finished {
    tokio::time::sleep(FAILED_AUTHENTICATION_DELAY).await;
    Finished::Close { reply, reason }
}

/// What a request's row, or a step of a login, does.
type Serving = Pin<Box<dyn Future<Output = Result<Answer, ServeError>> + Send>>;

/// A frame after the checks that all APIs share.
enum Opened {
    Request {
        api: &'static Api,
        context: Context,
        correlation_id: i32,
        body: Bytes,
    },
    /// A step of a login, outside the protocol's requests.
    Token {
        api: &'static Api,
        context: Context,
        token: Bytes,
    },
    Answered(Answer),
}

impl KafkaConnection {
    fn takes_bare_tokens(&self) -> bool {
        let takes_bare_tokens = &self.session.takes_bare_tokens;
        takes_bare_tokens.load(Ordering::Acquire)
    }

    /// Counts the end of a login, and puts it into words.
    fn end(&self, ended: Ended) -> String {
        let listener = &self.session.info.listener;
        self.services.metrics.refused(listener, ended.reason);
        ended.message
    }

    fn context(&self, version: i16, client_id: Option<StrBytes>) -> Context {
        Context::new(
            self.services.clone(),
            self.session.clone(),
            version,
            client_id,
        )
    }

    fn open(&self, mut frame: Bytes, now: Instant) -> Result<Opened, String> {
        if self.takes_bare_tokens() {
            let key = ApiKey::SaslAuthenticate as i16;
            let api = apis::find(key).ok_or("bare tokens are not spoken here")?;
            return Ok(Opened::Token {
                api,
                context: self.context(*api.versions.end(), None),
                token: frame,
            });
        }
        let mut fixed = frame
            .get(..FIXED_HEADER_BYTES)
            .ok_or("the frame is too short for a request header")?;
        let (key, version, correlation_id) = (fixed.get_i16(), fixed.get_i16(), fixed.get_i32());
        let api = apis::find(key).ok_or_else(|| format!("API key {key} is not spoken here"))?;
        if !api.before_authentication && !self.authenticated() {
            return Err(format!("{} came before authentication", api.name));
        }
        let catalog = &self.services.catalog;
        self.session
            .check(catalog, now, api.before_authentication)
            .map_err(|ended| self.end(ended))?;
        if !api.versions.contains(&version) {
            if api.key == ApiKey::ApiVersions {
                // The one answer that every client understands, whatever it asked with (KIP-511).
                let answer = handlers::api_versions::unsupported()
                    .into_answer(&self.context(0, None), correlation_id);
                return answer
                    .map(Opened::Answered)
                    .map_err(|error| error.to_string());
            }
            let (low, high) = (api.versions.start(), api.versions.end());
            return Err(format!(
                "{} version {version} is not supported ({low} to {high} are)",
                api.name
            ));
        }
        let header: RequestHeader =
            guard::decode_prefix(&mut frame, api.key.request_header_version(version))
                .map_err(|error| format!("malformed header of {}: {error}", api.name))?;
        let context = self.context(version, header.client_id);
        Ok(Opened::Request {
            api,
            context,
            correlation_id,
            body: frame,
        })
    }
}

/// Counts an answer and says how the connection goes on.
fn finish(
    services: &Services,
    api: &'static Api,
    begun: Instant,
    outcome: Result<Answer, ServeError>,
) -> Finished {
    match outcome {
        Ok(answer) => {
            services
                .metrics
                .request(api.name, begun.elapsed(), answer.error_name());
            let failed_authentication = api.before_authentication
                && answer.error == ResponseError::SaslAuthenticationFailed.code();
            match answer.reply {
                reply @ Some(_) if failed_authentication => Finished::Close {
                    reply,
                    reason: "authentication failed".to_owned(),
                },
                Some(reply) => Finished::Reply(reply),
                None => Finished::Silent,
            }
        }
        Err(error) => {
            let label = match &error {
                ServeError::Decode(_) | ServeError::TooLong(_) => "InvalidRequest",
                ServeError::TooLarge { .. } => {
                    services.metrics.bounded(room::SETTING);
                    "PolicyViolation"
                }
                ServeError::Encode(_) => "UnknownServerError",
                ServeError::Close(_) => "Closed",
            };
            services
                .metrics
                .request(api.name, begun.elapsed(), Some(label));
            Finished::Close {
                reply: None,
                reason: format!("{}: {error}", api.name),
            }
        }
    }
}
