//! One connection's state: who it is, by what right, and until when.
//!
//! A *login* is what a password made of a session. It holds the user as it was when the password was checked: when the
//! catalog has another one by that name, or none, the session is over. That is looked at before each request, and at each
//! change of users for connections that wait. Where sessions have a lifetime (KIP-368) a login also ends by the clock: the
//! next request after it must be a new login on the same connection, by the same mechanism and of the same user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use crate::catalog::{Catalog, User};
use crate::config::SaslMechanism;
use crate::coordinator::shares::Holder;
use crate::net::ConnectionInfo;
use crate::security::sasl::SaslExchange;
use crate::types::Principal;

/// A session may log in again so often, as Kafka's may.
const MIN_REAUTHENTICATION_INTERVAL: Duration = Duration::from_secs(1);

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    /// No other connection of this process has it.
    pub number: u64,
    pub info: ConnectionInfo,
    /// The peer's address without its port, as ACL hosts name it.
    pub host: String,
    /// `None` until the connection has authenticated, where its listener wants that.
    pub principal: ArcSwap<Option<Principal>>,
    /// From a SaslHandshake of version 0 to the end of its exchange, every frame is a token (`bare_tokens`).
    pub takes_bare_tokens: AtomicBool,
    login: ArcSwapOption<Login>,
    sasl: Mutex<Sasl>,
}

/// What a password made of a session.
#[derive(Debug)]
pub struct Login {
    mechanism: SaslMechanism,
    user: Arc<User>,
    expires: Option<Instant>,
    /// The catalog's changes of users up to which the user was found unchanged.
    checked: AtomicU64,
}

#[derive(Debug, Default)]
struct Sasl {
    exchange: Exchange,
    /// When the session last began to log in again.
    begun_again: Option<Instant>,
}

/// What SaslHandshake began.
#[derive(Debug, Default)]
enum Exchange {
    #[default]
    None,
    Waiting(SaslExchange),
    /// A step is being taken.
    Stepping,
    /// The next step fails with these words.
    Doomed(String),
}

/// Why a session is over: a word for metrics, and words for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub reason: &'static str,
    pub message: String,
}

/// Why there is no step to take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoStep {
    OutOfOrder,
    Doomed(String),
}

impl Session {
    pub fn new(info: ConnectionInfo) -> Self {
        let anonymous = info.sasl_mechanisms.is_empty().then(Principal::anonymous);
        let principal = info.certificate_principal.clone().or(anonymous);
        Self {
            number: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            host: info.peer.ip().to_canonical().to_string(),
            principal: ArcSwap::from_pointee(principal),
            takes_bare_tokens: AtomicBool::new(false),
            login: ArcSwapOption::empty(),
            sasl: Mutex::default(),
            info,
        }
    }

    /// The principal that authenticated, if the listener asks for that: an anonymous one is as many as there are addresses.
    pub fn owner(&self) -> Option<Principal> {
        let principal = self.principal.load();
        let principal = principal.as_ref().as_ref()?;
        (*principal != Principal::anonymous()).then(|| principal.clone())
    }

    /// Who shares with whom where something is bounded by principal: those without a name, by the address they come from.
    pub fn share(&self) -> String {
        let principal = self.principal.load();
        let principal = principal.as_ref().clone();
        let principal = principal.unwrap_or_else(Principal::anonymous);
        Holder::of(&principal, &self.host).to_string()
    }

    /// Whether requests may still be served under the login, if there is one. `logs_in`: the request is part of a login.
    pub fn check(&self, catalog: &Catalog, now: Instant, logs_in: bool) -> Result<(), Ended> {
        // Sessions without SASL have none.
        if self.info.sasl_mechanisms.is_empty() {
            return Ok(());
        }
        let login = self.login.load();
        let Some(login) = login.as_ref() else {
            return Ok(());
        };
        login.check_user(catalog)?;
        match login.expires {
            Some(expires) if now >= expires && !logs_in => Err(Ended {
                reason: "session-expired",
                message: format!(
                    "the session of {} has reached security.connections-max-reauth without a new login",
                    login.user.name
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Begins an exchange by a mechanism that the listener offers, or says why not. `exchange` makes it. Whatever was begun
    /// before is over.
    pub fn begin(
        &self,
        name: &str,
        now: Instant,
        exchange: impl FnOnce(SaslMechanism) -> SaslExchange,
    ) -> Result<(), ResponseError> {
        let mut sasl = self.sasl.lock();
        if matches!(sasl.exchange, Exchange::Stepping) {
            return Err(ResponseError::IllegalSaslState);
        }
        sasl.exchange = Exchange::None;
        let login = self.login.load();
        let offered = &self.info.sasl_mechanisms;
        let is_again = login.is_some();
        if offered.is_empty() || (is_again && !self.may_begin_again(&mut sasl, now)) {
            return Err(ResponseError::IllegalSaslState);
        }
        let mechanism = SaslMechanism::from_name(name)
            .filter(|mechanism| offered.contains(mechanism))
            .ok_or(ResponseError::UnsupportedSaslMechanism)?;
        sasl.exchange = match login.as_ref() {
            // As Kafka does: the step fails, and not the handshake.
            Some(login) if login.mechanism != mechanism => Exchange::Doomed(format!(
                "SASL mechanism '{name}' requested by client is not supported for re-authentication of mechanism '{}'",
                login.mechanism.name()
            )),
            _ => Exchange::Waiting(exchange(mechanism)),
        };
        Ok(())
    }

    fn may_begin_again(&self, sasl: &mut Sasl, now: Instant) -> bool {
        let login = self.login.load();
        let has_end = login.as_ref().is_some_and(|login| login.expires.is_some());
        let too_soon = sasl.begun_again.is_some_and(|before| {
            now.saturating_duration_since(before) < MIN_REAUTHENTICATION_INTERVAL
        });
        if !has_end || too_soon {
            return false;
        }
        sasl.begun_again = Some(now);
        true
    }

    /// Takes the exchange out for a step: whatever goes wrong in it, there is nothing left to go on with.
    pub fn take_exchange(&self) -> Result<SaslExchange, NoStep> {
        let mut sasl = self.sasl.lock();
        match std::mem::replace(&mut sasl.exchange, Exchange::Stepping) {
            Exchange::Waiting(exchange) => Ok(exchange),
            Exchange::Stepping => Err(NoStep::OutOfOrder),
            Exchange::None => {
                sasl.exchange = Exchange::None;
                Err(NoStep::OutOfOrder)
            }
            Exchange::Doomed(reason) => {
                sasl.exchange = Exchange::None;
                Err(NoStep::Doomed(reason))
            }
        }
    }

    /// Whether an exchange waits for its next step.
    pub fn is_exchanging(&self) -> bool {
        matches!(self.sasl.lock().exchange, Exchange::Waiting(_))
    }

    /// The step is taken; an exchange that goes on waits for the next one.
    pub fn put_exchange(&self, exchange: Option<SaslExchange>) {
        self.sasl.lock().exchange = exchange.map_or(Exchange::None, Exchange::Waiting);
    }

    /// The password was right: the session is the user's from now on, for `lifetime` if there is one. `Err` with what the
    /// client may be told.
    pub fn log_in(
        &self,
        catalog: &Catalog,
        mechanism: SaslMechanism,
        user: Arc<User>,
        expires: Option<Instant>,
    ) -> Result<(), String> {
        let before = self.login.load();
        if let Some(before) = before.as_ref()
            && before.user.name != user.name
        {
            return Err(format!(
                "Cannot change principals during re-authentication from User.{}: User.{}",
                before.user.name, user.name
            ));
        }
        let principal = Principal::user(&user.name);
        let login = Login {
            mechanism,
            user,
            expires,
            checked: AtomicU64::new(u64::MAX),
        };
        login
            .check_user(catalog)
            .map_err(|_| "authentication failed: the user has changed meanwhile".to_owned())?;
        self.login.store(Some(Arc::new(login)));
        self.principal.store(Arc::new(Some(principal)));
        Ok(())
    }
}

impl Login {
    /// Whether the catalog still has the user whose password was checked.
    fn check_user(&self, catalog: &Catalog) -> Result<(), Ended> {
        let changes = catalog.user_changes();
        if self.checked.load(Ordering::Relaxed) == changes {
            return Ok(());
        }
        let name = &self.user.name;
        match catalog.user(name) {
            Some(user) if Arc::ptr_eq(&user, &self.user) => {
                self.checked.store(changes, Ordering::Relaxed);
                Ok(())
            }
            Some(_) => Err(Ended {
                reason: "password-changed",
                message: format!("the password of {name} has been set anew"),
            }),
            None => Err(Ended {
                reason: "user-removed",
                message: format!("the user {name} has been removed"),
            }),
        }
    }
}

/// Resolves when the session's user is another than the one who logged in.
pub async fn ended(session: Arc<Session>, catalog: Arc<Catalog>) -> Ended {
    let mut changes = catalog.watch_users();
    // The catalog outlives this future, which holds it: an error never comes.
    while changes.changed().await.is_ok() {
        let login = session.login.load_full();
        if let Some(Err(ended)) = login.map(|login| login.check_user(&catalog)) {
            return ended;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
