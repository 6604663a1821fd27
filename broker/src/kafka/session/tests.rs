use std::net::SocketAddr;

use super::*;
use crate::config::Transport;
use crate::security::sasl::{Decoys, new_user};

const PLAIN: SaslMechanism = SaslMechanism::Plain;
const SCRAM: SaslMechanism = SaslMechanism::ScramSha256;

struct Bed {
    catalog: Arc<Catalog>,
    _folder: tempfile::TempDir,
}

fn bed() -> Bed {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(folder.path()).expect("a catalog");
    let bed = Bed {
        catalog,
        _folder: folder,
    };
    bed.set("alice");
    bed.set("bob");
    bed
}

impl Bed {
    /// Gives a user a password.
    fn set(&self, name: &str) {
        let user = new_user(name, "password", 4096).expect("a user");
        self.catalog.put_user(user).expect("stored");
    }

    fn user(&self, name: &str) -> Arc<User> {
        self.catalog.user(name).expect("a user")
    }

    /// A session of this user.
    fn session(&self, name: &str, expires: Option<Instant>) -> Session {
        let session = session(&[PLAIN, SCRAM]);
        let logged_in = session.log_in(&self.catalog, SCRAM, self.user(name), expires);
        logged_in.expect("logged in");
        session
    }

    fn check(&self, session: &Session) -> Result<(), &'static str> {
        let checked = session.check(&self.catalog, Instant::now(), false);
        checked.map_err(|ended| ended.reason)
    }
}

fn session(mechanisms: &[SaslMechanism]) -> Session {
    Session::new(ConnectionInfo {
        listener: "tcp".into(),
        transport: Transport::Tcp,
        peer: SocketAddr::from(([10, 0, 0, 1], 50_000)),
        certificate_principal: None,
        sasl_mechanisms: mechanisms.into(),
        advertised: ("localhost".into(), 9092),
    })
}

fn begin(session: &Session, name: &str, now: Instant) -> Result<(), ResponseError> {
    session.begin(name, now, |mechanism| {
        let decoys = Decoys {
            secret: Arc::new([]),
            iterations: Arc::new(|_| 4096),
        };
        SaslExchange::with_lookup(mechanism, Arc::new(|_| None), decoys)
    })
}

#[test]
fn a_session_ends_with_its_user_or_its_password() {
    let bed = bed();
    let (alice, bob) = (bed.session("alice", None), bed.session("bob", None));
    assert_eq!(bed.check(&alice), Ok(()));
    bed.set("bob");
    assert_eq!(bed.check(&alice), Ok(()), "another's password");
    assert_eq!(bed.check(&bob), Err("password-changed"));
    bed.catalog.delete_user("alice").expect("removed");
    assert_eq!(bed.check(&alice), Err("user-removed"));
    bed.set("alice");
    assert_eq!(
        bed.check(&alice),
        Err("password-changed"),
        "another user by that name"
    );
    assert_eq!(bed.check(&session(&[])), Ok(()), "who never logged in");
}

#[test]
fn a_user_that_changes_while_the_password_is_checked_does_not_log_in() {
    let bed = bed();
    let checked = bed.user("alice");
    bed.set("alice");
    let session = session(&[SCRAM]);
    let told = session.log_in(&bed.catalog, SCRAM, checked, None);
    assert!(told.is_err_and(|reason| reason.contains("changed")));
    assert!(session.principal.load().is_none());
}

#[test]
fn a_lifetime_ends_all_but_the_next_login() {
    let bed = bed();
    let end = Instant::now() + Duration::from_secs(60);
    let session = bed.session("alice", Some(end));
    let check = |now, logs_in| {
        let checked = session.check(&bed.catalog, now, logs_in);
        checked.map_err(|ended| ended.reason)
    };
    assert_eq!(check(end - Duration::from_secs(1), false), Ok(()));
    assert_eq!(check(end, false), Err("session-expired"));
    assert_eq!(check(end, true), Ok(()));
    let later = end + Duration::from_secs(60);
    let again = session.log_in(&bed.catalog, SCRAM, bed.user("alice"), Some(later));
    assert_eq!(again, Ok(()));
    assert_eq!(check(end, false), Ok(()));
}

#[test]
fn a_session_stays_its_users() {
    let bed = bed();
    let end = Instant::now() + Duration::from_secs(60);
    let session = bed.session("alice", Some(end));
    let told = session.log_in(&bed.catalog, SCRAM, bed.user("bob"), Some(end));
    assert!(told.is_err_and(|reason| reason.contains("Cannot change principals")));
    assert_eq!(**session.principal.load(), Some(Principal::user("alice")));
}

#[test]
fn a_handshake_chooses_what_is_offered_and_only_where_sasl_is_spoken() {
    let now = Instant::now();
    let illegal = Err(ResponseError::IllegalSaslState);
    assert_eq!(begin(&session(&[]), "PLAIN", now), illegal);
    let fresh = session(&[SCRAM]);
    let unsupported = Err(ResponseError::UnsupportedSaslMechanism);
    assert_eq!(begin(&fresh, "PLAIN", now), unsupported);
    assert_eq!(begin(&fresh, "SCRAM-SHA-256", now), Ok(()));
    let exchange = fresh.take_exchange().expect("begun");
    assert_eq!(
        begin(&fresh, "SCRAM-SHA-256", now),
        illegal,
        "while a step is taken"
    );
    fresh.put_exchange(Some(exchange));
    assert_eq!(begin(&fresh, "PLAIN", now), unsupported);
    assert_eq!(
        fresh.take_exchange().err(),
        Some(NoStep::OutOfOrder),
        "a handshake that fails ends what was begun"
    );
}

#[test]
fn a_session_logs_in_again_where_logins_end_and_once_in_a_second() {
    let bed = bed();
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let illegal = Err(ResponseError::IllegalSaslState);
    assert_eq!(
        begin(&bed.session("alice", None), "SCRAM-SHA-256", now),
        illegal
    );
    let session = bed.session("alice", Some(now + 60 * second));
    assert_eq!(begin(&session, "SCRAM-SHA-256", now), Ok(()));
    assert_eq!(begin(&session, "SCRAM-SHA-256", now), illegal);
    assert_eq!(begin(&session, "SCRAM-SHA-256", now + second), Ok(()));
    assert_eq!(begin(&session, "PLAIN", now + 2 * second), Ok(()));
    let doomed = session.take_exchange().err();
    let told = "SASL mechanism 'PLAIN' requested by client is not supported for re-authentication of mechanism 'SCRAM-SHA-256'";
    assert_eq!(doomed, Some(NoStep::Doomed(told.to_owned())));
}

#[tokio::test]
async fn a_connection_that_waits_is_told_of_the_end() {
    let bed = bed();
    let session = Arc::new(bed.session("alice", None));
    let mut ended = Box::pin(ended(session.clone(), bed.catalog.clone()));
    assert!(futures_util::poll!(&mut ended).is_pending());
    bed.set("bob");
    assert!(futures_util::poll!(&mut ended).is_pending());
    bed.set("alice");
    assert_eq!(ended.await.reason, "password-changed");
}
