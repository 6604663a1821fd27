//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL password` in one message, checked by deriving the stored SCRAM key.

use subtle::ConstantTimeEq;

use super::scram::{self, Digest};
use super::{MAX_NAME_BYTES, MAX_PASSWORD_BYTES, REFUSED, Users, prepare};

/// The name that the message proves, or what the client may be told. An unknown user costs the same derivation.
pub(super) fn verify(message: &[u8], users: &Users<'_>) -> Result<String, String> {
    let malformed =
        || "malformed PLAIN message: expected authzid, user name and password apart by NUL bytes";
    let text = std::str::from_utf8(message).map_err(|_| malformed())?;
    let mut fields = text.split('\0');
    let (Some(authorize_as), Some(name), Some(password), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed().into());
    };
    if !authorize_as.is_empty() && authorize_as != name {
        return Err("PLAIN: acting as another user is not supported; leave authzid empty".into());
    }
    let (Ok(name), Ok(password)) = (
        prepare(name, MAX_NAME_BYTES),
        prepare(password, MAX_PASSWORD_BYTES),
    ) else {
        return Err(REFUSED.into());
    };
    let (verifier, exists) = users.verifier(&name, Digest::Sha256);
    let derived = scram::verifier(
        Digest::Sha256,
        &password,
        &verifier.salt,
        verifier.iterations,
    );
    if bool::from(derived.stored_key.ct_eq(&verifier.stored_key)) && exists {
        Ok(name)
    } else {
        Err(REFUSED.into())
    }
}
