//! Users who authenticate by SCRAM.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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

/// What memory holds of the users, and who is told when it changes.
#[derive(Debug)]
pub(super) struct Users {
    state: RwLock<State>,
    /// Counts the changes. Moved after the state has.
    changes: AtomicU64,
    watch: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    by_name: BTreeMap<String, Arc<User>>,
    /// How many users have so many iterations.
    iterations: BTreeMap<u32, usize>,
}

impl State {
    fn insert(&mut self, user: User) {
        *self.iterations.entry(user.sha256.iterations).or_default() += 1;
        let before = self.by_name.insert(user.name.clone(), Arc::new(user));
        self.forget(before);
    }

    fn remove(&mut self, name: &str) {
        let before = self.by_name.remove(name);
        self.forget(before);
    }

    fn forget(&mut self, user: Option<Arc<User>>) {
        let Some(user) = user else { return };
        let iterations = user.sha256.iterations;
        if let Some(count) = self.iterations.get_mut(&iterations) {
            *count -= 1;
            if *count == 0 {
                self.iterations.remove(&iterations);
            }
        }
    }
}

impl Users {
    pub(super) fn load(store: &Store) -> Result<Self, CatalogError> {
        let mut state = State::default();
        for (_, user) in store.load::<User>(Table::User)? {
            state.insert(user);
        }
        Ok(Self {
            state: RwLock::new(state),
            changes: AtomicU64::new(0),
            watch: watch::Sender::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write());
        let number = self.changes.fetch_add(1, Ordering::Release) + 1;
        self.watch.send_replace(number);
    }
}

impl Catalog {
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.state.read().by_name.get(name).cloned()
    }

    /// Names, sorted.
    pub fn users(&self) -> Vec<String> {
        self.users.state.read().by_name.keys().cloned().collect()
    }

    /// How often users have changed. What is looked up after this call is at least as new as its answer.
    pub fn user_changes(&self) -> u64 {
        self.users.changes.load(Ordering::Acquire)
    }

    /// Tells each change of users from now on.
    pub fn watch_users(&self) -> watch::Receiver<u64> {
        self.users.watch.subscribe()
    }

    /// The iterations of the user at this place, from 0 to 1, among all users in the order of their iterations; `None`
    /// without users.
    pub fn iterations_at(&self, place: f64) -> Option<u32> {
        let state = self.users.state.read();
        let mut before = place * state.by_name.len() as f64;
        let mut found = None;
        for (iterations, users) in &state.iterations {
            found = Some(*iterations);
            if before < *users as f64 {
                break;
            }
            before -= *users as f64;
        }
        found
    }

    /// Creates or replaces.
    ///
    /// # Errors
    /// `Invalid` above `MAX_USERS` or above the size bounds.
    pub fn put_user(&self, user: User) -> Result<(), CatalogError> {
        let store = self.store.lock();
        let users = self.users.state.read().by_name.len();
        if users >= MAX_USERS && self.user(&user.name).is_none() {
            return Err(CatalogError::Invalid(format!(
                "the catalog holds {users} users; at most {MAX_USERS} are allowed"
            )));
        }
        store.commit(&[Change::put(Table::User, &user.name, &user)?])?;
        self.users.change(|state| state.insert(user));
        Ok(())
    }

    pub fn delete_user(&self, name: &str) -> Result<(), CatalogError> {
        let store = self.store.lock();
        if self.user(name).is_none() {
            return Err(CatalogError::Missing(format!("user {name:?}")));
        }
        store.commit(&[Change::remove(Table::User, name)])?;
        self.users.change(|state| state.remove(name));
        Ok(())
    }
}
