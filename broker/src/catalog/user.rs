//! Users who authenticate by SCRAM.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Change, Store, Table};
use super::{Catalog, CatalogError};

/// The most users a catalog holds.
pub const MAX_USERS: usize = 100_000;

/// A SCRAM verifier (RFC 5802): from it the password cannot be had back, yet it is kept out of `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramVerifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub sha256: ScramVerifier,
    pub sha512: ScramVerifier,
}

pub(super) fn load(store: &Store) -> Result<BTreeMap<String, Arc<User>>, CatalogError> {
    let users = store.load::<User>(Table::User)?;
    Ok(users
        .into_iter()
        .map(|(name, user)| (name, Arc::new(user)))
        .collect())
}

impl Catalog {
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// Names, sorted.
    pub fn users(&self) -> Vec<String> {
        self.users.read().keys().cloned().collect()
    }

    /// Creates or replaces.
    ///
    /// # Errors
    /// `Invalid` above `MAX_USERS` or above the size bounds.
    pub fn put_user(&self, user: User) -> Result<(), CatalogError> {
        let store = self.store.lock();
        let users = self.users.read().len();
        if users >= MAX_USERS && self.user(&user.name).is_none() {
            return Err(CatalogError::Invalid(format!(
                "the catalog holds {users} users; at most {MAX_USERS} are allowed"
            )));
        }
        store.commit(&[Change::put(Table::User, &user.name, &user)?])?;
        self.users.write().insert(user.name.clone(), Arc::new(user));
        Ok(())
    }

    pub fn delete_user(&self, name: &str) -> Result<(), CatalogError> {
        let store = self.store.lock();
        if self.user(name).is_none() {
            return Err(CatalogError::Missing(format!("user {name:?}")));
        }
        store.commit(&[Change::remove(Table::User, name)])?;
        self.users.write().remove(name);
        Ok(())
    }
}
