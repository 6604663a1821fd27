//! Named things and their settings: topics, ACLs, users, plugins, producer-id blocks. Small, transactional, durable.
//!
//! - The **store** is one file, `catalog.redb`; a **change** is a list of puts and removals that is committed whole or not
//!   at all, and is on the disk before anybody can see it.
//! - The **state** is what memory holds of the store. Every read is answered from it and never waits for the disk.
//!
//! One mutating call runs at a time, behind the store's lock, so that memory and file pass through the same states in the
//! same order. Mutating calls block on the disk: asynchronous callers run them on a blocking thread.
//!
//! Which names are legal, and who may do what, is the caller's to decide. The catalog bounds sizes and counts alone.

mod acl;
mod disk;
mod identity;
mod plugin;
mod producer_id;
mod store;
mod topic;
mod user;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

pub use acl::{Acl, MAX_ACLS, Operation, PatternType, Permission, ResourceType};
pub use plugin::{PluginEntry, PluginRevision};
pub use store::{MAX_KEY_BYTES, MAX_VALUE_BYTES, MakeRoom, STORE_FILE};
pub use topic::Topic;
pub use user::{MAX_USERS, ScramVerifier, User};

use crate::env::files::Disk;
use store::Store;
use topic::Topics;
use user::Users;

/// The catalog of one broker. Reads take a shared lock for the length of a look-up.
#[derive(Debug)]
pub struct Catalog {
    /// Taken first by every change and held until memory shows it.
    store: Mutex<Store>,
    topics: RwLock<Topics>,
    /// Sorted, without repetition.
    acls: ArcSwap<Vec<Acl>>,
    users: Users,
    plugins: RwLock<BTreeMap<String, Arc<PluginEntry>>>,
    /// Reserved in the store and not given yet.
    producer_ids: Mutex<Range<i64>>,
}

/// Sorted by what the caller can do: take another name, create it first, mend the input, mend the disk.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0} exists already")]
    Exists(String),
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0}")]
    Invalid(String),
    /// The store failed: nothing was changed.
    #[error("catalog store: {0}")]
    Store(String),
}

impl Catalog {
    /// Opens the store file in `directory`, creating both when they are missing, and loads it.
    ///
    /// # Errors
    /// `Store` when another process has it open, when the file is damaged or from a newer version, or when the disk
    /// refuses; the message names the file or the directory.
    pub fn open(directory: &Path) -> Result<Arc<Self>, CatalogError> {
        Self::guarded(directory, || Store::open(directory))
    }

    /// As `open`, with the store file on the given disk.
    pub fn open_on(disk: &dyn Disk, directory: &Path) -> Result<Arc<Self>, CatalogError> {
        Self::guarded(directory, || Store::open_on(disk, directory))
    }

    /// Says who gives space to a full disk, so that something can be deleted on it. The first call counts.
    pub fn on_full_disk(&self, make_room: MakeRoom) {
        self.store.lock().on_full_disk(make_room);
    }

    /// The store panics on some damaged pages, at open or while they are read; to the caller both are damage.
    fn guarded(
        directory: &Path,
        open: impl FnOnce() -> Result<Store, CatalogError>,
    ) -> Result<Arc<Self>, CatalogError> {
        let load = AssertUnwindSafe(|| Self::load(open()?));
        std::panic::catch_unwind(load)
            .unwrap_or_else(|_| Err(store::damaged(directory, "a page cannot be read")))
    }

    fn load(store: Store) -> Result<Arc<Self>, CatalogError> {
        let topics = RwLock::new(Topics::load(&store)?);
        let acls = ArcSwap::from_pointee(acl::load(&store)?);
        let users = Users::load(&store)?;
        let plugins = RwLock::new(plugin::load(&store)?);
        Ok(Arc::new(Self {
            store: Mutex::new(store),
            topics,
            acls,
            users,
            plugins,
            producer_ids: Mutex::new(0..0),
        }))
    }
}
