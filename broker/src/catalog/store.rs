//! The store file: six tables of text keys and versioned JSON values in one redb database.
//!
//! - A **value** is `{"version":1,"value":…}`. A reader refuses a version it does not know instead of guessing.
//! - A **change** puts or removes one key; `commit` applies a list of them in one transaction that is synced to the disk.
//!
//! redb locks the file against other processes. Every page's checksum is verified at open, so that damage is found before
//! anything is served from it.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::disk::StoreFile;
use crate::env::files::{self, Access, Disk};

/// The longest key, in bytes of UTF-8: every legal name and ACL fits with room to spare.
pub const MAX_KEY_BYTES: usize = 4096;
/// The longest encoded value, in bytes: a plugin with all its revisions and their settings fits.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The store's file in the data folder.
pub const STORE_FILE: &str = "catalog.redb";
const VALUE_VERSION: u32 = 1;
/// Pages kept by redb. Reads are answered from the catalog's own memory, so the cache serves changes alone.
const CACHE_BYTES: usize = 4 << 20;

/// A kind of named thing. The name is the table's name in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Table {
    Topic,
    /// Topics by id whose files may still be there.
    DeletedTopic,
    Acl,
    User,
    Plugin,
    Counter,
    /// What the broker is, by the kind of fact.
    Identity,
}

impl Table {
    const ALL: [Self; 7] = [
        Self::Topic,
        Self::DeletedTopic,
        Self::Acl,
        Self::User,
        Self::Plugin,
        Self::Counter,
        Self::Identity,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::DeletedTopic => "deleted_topic",
            Self::Acl => "acl",
            Self::User => "user",
            Self::Plugin => "plugin",
            Self::Counter => "counter",
            Self::Identity => "identity",
        }
    }

    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One put (`value` is given) or removal, encoded and within the bounds.
#[derive(Debug)]
pub(super) struct Change {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct VersionedRef<'a, T> {
    version: u32,
    value: &'a T,
}

#[derive(Deserialize)]
struct Versioned<T> {
    value: T,
}

#[derive(Deserialize)]
struct VersionAlone {
    version: u32,
}

impl Change {
    pub fn put<T: Serialize>(table: Table, key: &str, value: &T) -> Result<Self, CatalogError> {
        let name = table.name();
        if key.len() > MAX_KEY_BYTES {
            return Err(CatalogError::Invalid(format!(
                "the {name}'s name has {} bytes; at most {MAX_KEY_BYTES} can be stored",
                key.len()
            )));
        }
        let encoded = serde_json::to_vec(&VersionedRef {
            version: VALUE_VERSION,
            value,
        })
        .map_err(|error| CatalogError::Invalid(format!("{name} {key:?}: {error}")))?;
        if encoded.len() > MAX_VALUE_BYTES {
            return Err(CatalogError::Invalid(format!(
                "{name} {key:?} takes {} bytes; at most {MAX_VALUE_BYTES} can be stored",
                encoded.len()
            )));
        }
        Ok(Self {
            table,
            key: key.to_owned(),
            value: Some(encoded),
        })
    }

    pub fn remove(table: Table, key: &str) -> Self {
        Self {
            table,
            key: key.to_owned(),
            value: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    state: Mutex<State>,
    /// Opens the file anew; `None` on a disk of the caller's, which is never full.
    reopen: Option<Open>,
    make_room: OnceLock<MakesRoom>,
}

/// Gives space to a disk that is full; false when there is none to give.
pub type MakeRoom = Box<dyn Fn() -> bool + Send + Sync>;

struct MakesRoom(MakeRoom);

impl fmt::Debug for MakesRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakesRoom")
    }
}

type Open = fn(&Path) -> Result<Database, DatabaseError>;

#[derive(Debug)]
struct State {
    /// redb refuses everything after an error of the disk; `None` until it could be opened anew.
    database: Option<Database>,
    /// What a change that failed may have left in the file, as it was before.
    undo: Vec<Change>,
}

impl Store {
    pub fn open(directory: &Path) -> Result<Self, CatalogError> {
        let file = directory.join(STORE_FILE);
        let fail =
            |error: &dyn Display| CatalogError::Store(format!("{}: {error}", file.display()));
        files::create_private_folders(directory).map_err(|error| fail(&error))?;
        let database = open_file(&file).map_err(|error| open_error(directory, &error))?;
        let sync = || std::fs::File::open(directory)?.sync_all();
        Self::checked(database, directory, sync, Some(open_file))
    }

    /// As `open`, on another disk than this machine's.
    pub fn open_on(disk: &dyn Disk, directory: &Path) -> Result<Self, CatalogError> {
        let file = directory.join(STORE_FILE);
        let fail =
            |error: &dyn Display| CatalogError::Store(format!("{}: {error}", file.display()));
        disk.create_folders(directory)
            .map_err(|error| fail(&error))?;
        files::distrust_cache(disk, &file).map_err(|error| fail(&error))?;
        let backend = StoreFile::open(disk, &file)
            .map_err(|error| fail(&error))?
            .ok_or_else(|| open_error(directory, &DatabaseError::DatabaseAlreadyOpen))?;
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| open_error(directory, &error))?;
        Self::checked(database, directory, || disk.sync_folder(directory), None)
    }

    /// Verifies what was opened, and makes what a new store consists of.
    fn checked(
        mut database: Database,
        directory: &Path,
        sync_directory: impl FnOnce() -> std::io::Result<()>,
        reopen: Option<Open>,
    ) -> Result<Self, CatalogError> {
        let file = directory.join(STORE_FILE);
        let intact = database
            .check_integrity()
            .map_err(|error| open_error(directory, &error))?;
        if !intact {
            tracing::warn!(
                file = %file.display(),
                "the catalog was damaged and has been repaired to its last intact change"
            );
        }
        // The name of a new file is durable only when its directory is.
        sync_directory()
            .map_err(|error| CatalogError::Store(format!("{}: {error}", file.display())))?;
        create_tables(&database)
            .map_err(|error| CatalogError::Store(format!("{}: {error}", file.display())))?;
        let state = Mutex::new(State {
            database: Some(database),
            undo: Vec::new(),
        });
        Ok(Self {
            file,
            state,
            reopen,
            make_room: OnceLock::new(),
        })
    }

    /// Every key and value of a table, in the order of keys.
    pub fn load<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<Vec<(String, T)>, CatalogError> {
        let encoded = self.read_table(table).map_err(|error| self.fail(&error))?;
        encoded
            .into_iter()
            .map(|(key, value)| {
                let value = decode(&value).map_err(|message| {
                    CatalogError::Store(format!(
                        "{}: {} {key:?} {message}",
                        self.file.display(),
                        table.name()
                    ))
                })?;
                Ok((key, value))
            })
            .collect()
    }

    /// Says who gives space to a full disk. The first call counts.
    pub fn on_full_disk(&self, make_room: MakeRoom) {
        let _ = self.make_room.set(MakesRoom(make_room));
    }

    /// Applies all changes or none; they are on the disk when this returns. After the disk was full the file is opened
    /// anew. On a disk that is full now they are given the room that is kept for that, so that it can be left.
    pub fn commit(&self, changes: &[Change]) -> Result<(), CatalogError> {
        self.commit_with(changes, self.make_room.get())
    }

    /// As `commit`, of what clients make at will and what takes ever more space: on a full disk it is refused.
    pub fn commit_if_room(&self, changes: &[Change]) -> Result<(), CatalogError> {
        self.commit_with(changes, None)
    }

    fn commit_with(
        &self,
        changes: &[Change],
        make_room: Option<&MakesRoom>,
    ) -> Result<(), CatalogError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        loop {
            let failed = match self.attempt(&mut state, changes) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let again = is_full(&failed) && make_room.is_some_and(|make_room| make_room.0());
            if !again {
                return Err(self.fail(&failed));
            }
        }
    }

    fn attempt(&self, state: &mut State, changes: &[Change]) -> Result<(), Box<redb::Error>> {
        if state.database.is_none()
            && let Some(open) = self.reopen
        {
            state.database = Some(open(&self.file).map_err(boxed)?);
        }
        let State { database, undo } = &mut *state;
        let Some(database) = database else {
            return Err(boxed(redb::Error::PreviousIo));
        };
        let mut before = std::mem::take(undo);
        let failed = match write(database, changes, &mut before) {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if self.reopen.is_some() && is_full(&failed) {
            *undo = before;
            state.database = None;
        }
        Err(failed)
    }

    fn read_table(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, Box<redb::Error>> {
        let state = self.state.lock();
        let Some(database) = &state.database else {
            return Err(boxed(redb::Error::PreviousIo));
        };
        let transaction = database.begin_read().map_err(boxed)?;
        let table = transaction.open_table(table.definition()).map_err(boxed)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(boxed)? {
            let (key, value) = row.map_err(boxed)?;
            rows.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(rows)
    }

    fn fail(&self, error: &redb::Error) -> CatalogError {
        CatalogError::Store(format!("{}: {error}", self.file.display()))
    }
}

/// Undoes what an earlier change may have left, then applies these. `before` is what to undo, and afterwards what these
/// replaced besides. redb's error is 160 bytes; boxed, it does not weigh on the paths that succeed.
fn write(
    database: &Database,
    changes: &[Change],
    before: &mut Vec<Change>,
) -> Result<(), Box<redb::Error>> {
    let transaction = database.begin_write().map_err(boxed)?;
    for change in before.iter() {
        apply(&transaction, change)?;
    }
    for change in changes {
        let value = apply(&transaction, change)?;
        before.push(Change {
            table: change.table,
            key: change.key.clone(),
            value,
        });
    }
    // What is undone last was replaced first.
    before.reverse();
    transaction.commit().map_err(boxed)
}

/// Makes one change and answers the value before it.
fn apply(
    transaction: &redb::WriteTransaction,
    change: &Change,
) -> Result<Option<Vec<u8>>, Box<redb::Error>> {
    let mut table = transaction
        .open_table(change.table.definition())
        .map_err(boxed)?;
    let key = change.key.as_str();
    let before = match &change.value {
        Some(value) => table.insert(key, value.as_slice()),
        None => table.remove(key),
    };
    let before = before.map_err(boxed)?;
    Ok(before.map(|value| value.value().to_vec()))
}

/// Opens the file on this machine's disk. redb makes what it reads durable by a sync of the pages that it changes alone, so
/// that what it reads has to be on the disk.
fn open_file(file: &Path) -> Result<Database, DatabaseError> {
    let disk = files::machine();
    files::distrust_cache(&*disk, file).map_err(StorageError::Io)?;
    // Made by this, when it is missing, for its owner alone.
    disk.open(file, Access::Write).map_err(StorageError::Io)?;
    builder().create(file)
}

fn create_tables(database: &Database) -> Result<(), Box<redb::Error>> {
    let transaction = database.begin_write().map_err(boxed)?;
    let existing = transaction.list_tables().map_err(boxed)?.count();
    if existing == Table::ALL.len() {
        return transaction.abort().map_err(boxed);
    }
    for table in Table::ALL {
        transaction.open_table(table.definition()).map_err(boxed)?;
    }
    transaction.commit().map_err(boxed)
}

/// True for the error that ends when space returns.
fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(cause)
        if matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

pub(super) fn damaged(directory: &Path, cause: impl Display) -> CatalogError {
    CatalogError::Store(format!(
        "{} is damaged ({cause}); restore it from a backup, or move the whole data folder away to begin anew",
        directory.join(STORE_FILE).display()
    ))
}

fn open_error(directory: &Path, error: &DatabaseError) -> CatalogError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => CatalogError::Store(format!(
            "another tidegate process uses {}",
            directory.display()
        )),
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::RepairAborted => {
            damaged(directory, error)
        }
        DatabaseError::Storage(StorageError::Io(cause))
            if matches!(
                cause.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ) =>
        {
            damaged(directory, error)
        }
        other => CatalogError::Store(format!("{}: {other}", directory.join(STORE_FILE).display())),
    }
}

/// The version is looked at before the value, which a newer version may have given another shape. The message carries
/// positions and never content: a value may be a secret.
fn decode<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, String> {
    let damaged = |error: serde_json::Error| {
        format!(
            "is damaged (JSON {:?} error at column {})",
            error.classify(),
            error.column()
        )
    };
    let VersionAlone { version } = serde_json::from_slice(encoded).map_err(damaged)?;
    if version != VALUE_VERSION {
        return Err(format!(
            "has version {version}; this tidegate reads version {VALUE_VERSION}: use a newer tidegate"
        ));
    }
    let Versioned { value } = serde_json::from_slice(encoded).map_err(damaged)?;
    Ok(value)
}
