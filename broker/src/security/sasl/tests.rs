use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq;

use super::*;

const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

/// `user` with the password `pencil`, the salt and the iterations of RFC 7677 §3.
fn rfc_user() -> User {
    let salt = BASE64.decode(SALT).unwrap();
    User {
        name: "user".into(),
        sha256: scram::verifier(Digest::Sha256, "pencil", &salt, 4096),
        sha512: scram::verifier(Digest::Sha512, "pencil", &salt, 4096),
    }
}

fn decoys(secret: &[u8]) -> Decoys {
    Decoys {
        secret: secret.into(),
        iterations: Arc::new(|place| if place < 0.5 { 4096 } else { 8192 }),
    }
}

fn exchange(mechanism: SaslMechanism) -> SaslExchange {
    exchange_with(mechanism, decoys(b"secret"))
}

fn exchange_with(mechanism: SaslMechanism, decoys: Decoys) -> SaslExchange {
    let user = Arc::new(rfc_user());
    let lookup = Arc::new(move |name: &str| (name == user.name).then(|| user.clone()));
    SaslExchange::with_lookup(mechanism, lookup, decoys)
}

fn exchange_with_rfc_nonce(mechanism: SaslMechanism, digest: Digest) -> SaslExchange {
    let mut exchange = exchange(mechanism);
    exchange.stage = Stage::Scram(Box::new(Scram::new(digest, SERVER_NONCE.into())));
    exchange
}

fn challenge(exchange: &mut SaslExchange, message: &str) -> String {
    match exchange.step(message.as_bytes()) {
        SaslStep::Challenge(challenge) => String::from_utf8(challenge).unwrap(),
        other => panic!("{message:?} led to {other:?}"),
    }
}

fn failure(exchange: &mut SaslExchange, message: &[u8]) -> String {
    match exchange.step(message) {
        SaslStep::Failed(reason) => reason,
        other => panic!("{:?} led to {other:?}", String::from_utf8_lossy(message)),
    }
}

/// The proof of RFC 7677 §3, and for SHA-512 the same computed with Python's hashlib.
fn check_vector(mechanism: SaslMechanism, digest: Digest, proof: &str, signature: &str) {
    let mut exchange = exchange_with_rfc_nonce(mechanism, digest);
    assert_eq!(
        challenge(&mut exchange, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
        format!("r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE},s={SALT},i=4096")
    );
    let last = format!("c=biws,r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE},p={proof}");
    match exchange.step(last.as_bytes()) {
        SaslStep::Done {
            principal, message, ..
        } => {
            assert_eq!(principal, Principal::user("user"));
            assert_eq!(
                String::from_utf8(message).unwrap(),
                format!("v={signature}")
            );
        }
        other => panic!("{other:?}"),
    }
    let again = failure(&mut exchange, last.as_bytes());
    assert!(again.contains("over"), "{again}");
}

#[test]
fn scram_sha_256_follows_the_vector_of_rfc_7677() {
    check_vector(
        SaslMechanism::ScramSha256,
        Digest::Sha256,
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    );
}

#[test]
fn scram_sha_512_follows_an_independent_computation() {
    check_vector(
        SaslMechanism::ScramSha512,
        Digest::Sha512,
        "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
        "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
    );
}

/// Logs in as a client that knows `password` would, from the broker's own challenge.
fn log_in(exchange: &mut SaslExchange, header: &str, name: &str, password: &str) -> SaslStep {
    let bare = format!("n={name},r=abcdef");
    let server_first = challenge(exchange, &format!("{header}{bare}"));
    let fields: Vec<&str> = server_first.splitn(3, ',').collect();
    let salt = BASE64.decode(&fields[1][2..]).unwrap();
    let iterations = fields[2][2..].parse().unwrap();
    let without_proof = format!("c={},{}", BASE64.encode(header), fields[0]);
    let proof = client_proof(
        password,
        &salt,
        iterations,
        &format!("{bare},{server_first},{without_proof}"),
    );
    exchange.step(format!("{without_proof},p={}", BASE64.encode(proof)).as_bytes())
}

fn client_proof(password: &str, salt: &[u8], iterations: u32, auth_message: &str) -> Vec<u8> {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest as _, Sha256};
    let hmac = |key: &[u8], data: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes()
    };
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
    let client_key = hmac(&salted, b"Client Key");
    let signature = hmac(&Sha256::digest(client_key), auth_message.as_bytes());
    client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect()
}

#[test]
fn scram_accepts_the_right_password_alone() {
    for (header, name, password, accepted) in [
        ("n,,", "user", "pencil", true),
        ("y,,", "user", "pencil", true),
        ("n,a=user,", "user", "pencil", true),
        ("n,,", "user", "pencils", false),
        ("n,,", "nobody", "pencil", false),
    ] {
        let step = log_in(
            &mut exchange(SaslMechanism::ScramSha256),
            header,
            name,
            password,
        );
        match step {
            SaslStep::Done { principal, .. } if accepted => {
                assert_eq!(principal, Principal::user(name));
            }
            SaslStep::Failed(reason) if !accepted => assert_eq!(reason, REFUSED),
            other => panic!("{header}{name}/{password}: {other:?}"),
        }
    }
}

/// The salt and the iterations that a name is challenged with, by a broker with this secret.
fn challenged_with(secret: &[u8], name: &str) -> (String, String) {
    let mut exchange = exchange_with(SaslMechanism::ScramSha256, decoys(secret));
    let answer = challenge(&mut exchange, &format!("n,,n={name},r=x"));
    let (_, rest) = answer.split_once(",s=").unwrap();
    let (salt, iterations) = rest.split_once(",i=").unwrap();
    (salt.to_owned(), iterations.to_owned())
}

#[test]
fn an_unknown_user_is_challenged_as_a_known_one_with_a_salt_that_stays_with_the_secret() {
    let ask = |name: &str| challenged_with(b"secret", name);
    assert_eq!(ask("nobody"), ask("nobody"));
    assert_ne!(ask("nobody").0, ask("somebody").0);
    assert_ne!(ask("nobody").0, challenged_with(b"another", "nobody").0);
    assert_eq!(BASE64.decode(ask("nobody").0).unwrap().len(), SALT_BYTES);
}

#[test]
fn unknown_users_have_the_iterations_of_users_as_often_as_users_have_them() {
    let names = (0..200).map(|number| format!("nobody-{number}"));
    let low = names.filter(|name| challenged_with(b"secret", name).1 == "4096");
    let low = low.count();
    assert!((60..140).contains(&low), "{low} of 200");
}

#[test]
fn an_exchange_tells_whose_password_the_next_step_checks() {
    let mut scram = exchange(SaslMechanism::ScramSha256);
    assert_eq!(scram.claims(b"n,,n=user,r=x"), None);
    challenge(&mut scram, "n,,n=user,r=x");
    assert_eq!(scram.claims(b"anything").as_deref(), Some("user"));
    let plain = exchange(SaslMechanism::Plain);
    assert_eq!(plain.claims(b"\0user\0x").as_deref(), Some("user"));
    assert_eq!(plain.claims(b"malformed"), None);
}

#[test]
fn a_recorded_exchange_cannot_be_replayed() {
    let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let last = format!(
        "c=biws,r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let mut exchange = exchange(SaslMechanism::ScramSha256);
    challenge(&mut exchange, first);
    let reason = failure(&mut exchange, last.as_bytes());
    assert!(reason.contains("nonce"), "{reason}");
}

#[test]
fn a_malformed_first_message_is_refused_with_its_fault() {
    let long_nonce = format!("n,,n=user,r={}", "x".repeat(600));
    let long_name = format!("n,,n={},r=x", "x".repeat(300));
    let huge = "x".repeat(5000);
    for (message, fault) in [
        ("", "flag"),
        ("n", "flag"),
        ("x,,n=user,r=x", "flag"),
        ("p=tls-exporter,,n=user,r=x", "channel binding"),
        ("n,", "GS2"),
        ("n,b=x,n=user,r=x", "authzid"),
        ("n,a=root,n=user,r=x", "another user"),
        ("n,,m=future,n=user,r=x", "mandatory"),
        ("n,,r=x", "expected n="),
        ("n,,n=user", "expected r="),
        ("n,,n=user,r=", "nonce"),
        ("n,,n=user,r=a\u{7f}b", "nonce"),
        (&long_nonce, "nonce"),
        ("n,,n=a=2Xb,r=x", "=2C"),
        ("n,,n=,r=x", "wrong user name"),
        (&long_name, "wrong user name"),
        ("n,,n=a\u{0007}b,r=x", "wrong user name"),
        (&huge, "at most"),
    ] {
        let reason = failure(
            &mut exchange(SaslMechanism::ScramSha256),
            message.as_bytes(),
        );
        assert!(reason.contains(fault), "{message:?}: {reason}");
    }
    let not_text = failure(&mut exchange(SaslMechanism::ScramSha256), &[0xff, 0xfe]);
    assert!(not_text.contains("UTF-8"), "{not_text}");
}

#[test]
fn a_malformed_last_message_is_refused_and_ends_the_exchange() {
    let nonce = format!("r=abc{SERVER_NONCE}");
    for (message, fault) in [
        (String::new(), "proof"),
        (format!("c=biws,{nonce}"), "proof"),
        (format!("c=eSws,{nonce},p=AAAA"), "channel binding"),
        (format!("c=%%,{nonce},p=AAAA"), "channel binding"),
        (format!("{nonce},c=biws,p=AAAA"), "expected c="),
        ("c=biws,r=abc,p=AAAA".to_string(), "nonce"),
        (format!("c=biws,{nonce},p=%%"), "base64"),
        (format!("c=biws,{nonce},p=AAAA"), "length"),
        (
            format!("c=biws,{nonce},p={}", BASE64.encode([0; 32])),
            "wrong user name",
        ),
    ] {
        let mut exchange = exchange_with_rfc_nonce(SaslMechanism::ScramSha256, Digest::Sha256);
        challenge(&mut exchange, "n,,n=user,r=abc");
        let reason = failure(&mut exchange, message.as_bytes());
        assert!(reason.contains(fault), "{message:?}: {reason}");
        let after = failure(&mut exchange, b"n,,n=user,r=abc");
        assert!(after.contains("over"), "{after}");
    }
}

#[test]
fn names_are_unescaped_and_extensions_are_tolerated() {
    let asked = Arc::new(parking_lot::Mutex::new(String::new()));
    let seen = asked.clone();
    let lookup: Lookup = Arc::new(move |name| {
        *seen.lock() = name.to_string();
        None
    });
    let mut exchange =
        SaslExchange::with_lookup(SaslMechanism::ScramSha512, lookup, decoys(b"secret"));
    challenge(&mut exchange, "n,,n=a=2Cb=3Dc,r=x,tokenauth=true");
    assert_eq!(*asked.lock(), "a,b=c");
}

#[test]
fn plain_accepts_the_right_password_alone() {
    for (message, expected) in [
        ("\0user\0pencil", Ok(())),
        ("user\0user\0pencil", Ok(())),
        ("\0user\0pencils", Err(REFUSED)),
        ("\0nobody\0pencil", Err(REFUSED)),
        ("\0user\0", Err(REFUSED)),
        ("root\0user\0pencil", Err("another user")),
        ("", Err("malformed")),
        ("user\0pencil", Err("malformed")),
        ("\0user\0pencil\0more", Err("malformed")),
    ] {
        let step = exchange(SaslMechanism::Plain).step(message.as_bytes());
        match (step, expected) {
            (SaslStep::Done { principal, .. }, Ok(())) => {
                assert_eq!(principal, Principal::user("user"));
            }
            (SaslStep::Failed(reason), Err(fault)) => {
                assert!(reason.contains(fault), "{message:?}: {reason}");
            }
            (step, _) => panic!("{message:?}: {step:?}"),
        }
    }
}

#[test]
fn a_new_user_logs_in_with_either_mechanism_and_never_shares_a_salt() {
    let user = Arc::new(new_user("J\u{f6}rg", "pass\u{ad}word", 4096).unwrap());
    assert_ne!(user.sha256.salt, user.sha512.salt);
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = lookups.clone();
    let found = user.clone();
    let lookup: Lookup = Arc::new(move |name| {
        counted.fetch_add(1, Ordering::Relaxed);
        (name == found.name).then(|| found.clone())
    });
    // SASLprep drops the soft hyphen and composes the umlaut.
    let mut exchange = SaslExchange::with_lookup(
        SaslMechanism::ScramSha256,
        lookup.clone(),
        decoys(b"secret"),
    );
    let step = log_in(&mut exchange, "n,,", "Jo\u{308}rg", "password");
    assert!(matches!(step, SaslStep::Done { .. }), "{step:?}");
    let mut exchange = SaslExchange::with_lookup(SaslMechanism::Plain, lookup, decoys(b"secret"));
    let step = exchange.step("\0Jo\u{308}rg\0password".as_bytes());
    assert!(matches!(step, SaslStep::Done { .. }), "{step:?}");
    assert_eq!(lookups.load(Ordering::Relaxed), 2);
    let other = new_user("J\u{f6}rg", "password", 4096).unwrap();
    assert!(!bool::from(other.sha256.salt.ct_eq(&user.sha256.salt)));
}

#[test]
fn a_new_user_outside_the_bounds_is_refused() {
    let long = "x".repeat(2000);
    for (name, password, iterations, fault) in [
        ("alice", "secret", 4095, "iterations"),
        ("alice", "secret", 1_000_001, "iterations"),
        ("", "secret", 4096, "user name: is empty"),
        ("alice", "", 4096, "password: is empty"),
        (&long, "secret", 4096, "user name"),
        ("alice", &long, 4096, "password"),
        ("ali\0ce", "secret", 4096, "SASLprep"),
    ] {
        let reason = new_user(name, password, iterations).unwrap_err();
        assert!(reason.contains(fault), "{reason}");
        assert!(!reason.contains("secret"), "{reason}");
    }
}

#[test]
fn mechanisms_go_by_the_names_of_the_wire() {
    for (mechanism, name) in MECHANISMS {
        assert_eq!(mechanism.name(), name);
        assert_eq!(SaslMechanism::from_name(name), Some(mechanism));
    }
    assert_eq!(SaslMechanism::from_name("scram-sha-256"), None);
    assert_eq!(SaslMechanism::from_name("GSSAPI"), None);
}

#[test]
fn nothing_secret_shows_in_debug() {
    let mut exchange = exchange(SaslMechanism::ScramSha256);
    challenge(&mut exchange, "n,,n=user,r=secretnonce");
    assert_eq!(
        format!("{exchange:?}"),
        "SaslExchange { mechanism: ScramSha256, over: false, .. }"
    );
}
