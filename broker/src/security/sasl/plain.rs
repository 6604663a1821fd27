//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL password` in one message, checked by deriving the stored SCRAM key.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::scram::{self, Digest};
use super::{MAX_NAME_BYTES, MAX_PASSWORD_BYTES, REFUSED, Users, prepare};
use crate::catalog::User;

/// The user whose password the message proves, or what the client may be told. An unknown user costs the same derivation.
pub(super) fn verify(message: &[u8], users: &Users<'_>) -> Result<Arc<User>, String> {
    let Fields {
        authorize_as,
        name,
        password,
    } = Fields::parse(message)?;
    if !authorize_as.is_empty() && authorize_as != name {
        return Err("PLAIN: acting as another user is not supported; leave authzid empty".into());
    }
    let (Ok(name), Ok(password)) = (
        prepare(name, MAX_NAME_BYTES),
        prepare(password, MAX_PASSWORD_BYTES),
    ) else {
        return Err(REFUSED.into());
    };
    let (verifier, user) = users.verifier(&name, Digest::Sha256);
    let derived = scram::verifier(
        Digest::Sha256,
        &password,
        &verifier.salt,
        verifier.iterations,
    );
    let proven = bool::from(derived.stored_key.ct_eq(&verifier.stored_key));
    user.filter(|_| proven).ok_or_else(|| REFUSED.into())
}

/// Whose password the message would prove.
pub(super) fn claims(message: &[u8]) -> Option<String> {
    let fields = Fields::parse(message).ok()?;
    prepare(fields.name, MAX_NAME_BYTES).ok()
}

struct Fields<'a> {
    authorize_as: &'a str,
    name: &'a str,
    password: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, String> {
        let malformed = || "malformed PLAIN message: expected authzid, user name and password apart by NUL bytes";
        let text = std::str::from_utf8(message).map_err(|_| malformed())?;
        let mut fields = text.split('\0');
        let (Some(authorize_as), Some(name), Some(password), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(malformed().into());
        };
        Ok(Self {
            authorize_as,
            name,
            password,
        })
    }
}
