//! The store: one SQLite file of one gateway, or a PostgreSQL database of several. What is in it belongs to the modules that
//! use it; their statements ([`query`]) are the same for both.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use crate::base::clock::Clock;
use crate::config::{self, StorePlace};

mod connection;
mod error;
mod place;
mod postgres;
mod query;
#[cfg(test)]
pub(crate) mod scratch;
mod sqlite;
mod transfer;

pub(crate) use connection::{Connection, Transaction};
pub use error::StoreError;
pub use postgres::Changes;
pub(crate) use query::{Query, Row, Sql, Target, query};
pub use transfer::TransferError;

use postgres::PostgresStore;
use sqlite::SqliteStore;

/// How often a transaction is tried that was given up for others who wrote the same.
pub(crate) const MAX_ATTEMPTS: u32 = 5;

/// The open store. Cheap to clone; safe to use from several threads and processes.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    clock: Clock,
}

#[derive(Debug)]
enum Inner {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// What differs from the one before when something was committed in between, by this process or another. The numbers have
/// no other meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Differs when a connection was lost: then everything has to be read again.
    pub(crate) generation: i64,
    /// Differs when users may have changed.
    pub(crate) users: i64,
    /// Differs when something may have been revoked.
    pub(crate) sessions: i64,
    /// Differs when keys may have changed.
    pub(crate) keys: i64,
    /// When it was asked for.
    pub(crate) as_of: Instant,
}

impl Store {
    /// Opens the store that is configured, and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]; a store that this version cannot use is left as it is.
    pub async fn connect(settings: &config::Store) -> Result<Self, StoreError> {
        match &settings.place {
            StorePlace::Sqlite(path) => Self::open(path).await,
            StorePlace::Postgres(url) => {
                Ok(Self::of(Inner::Postgres(PostgresStore::open(url, settings).await?)))
            }
        }
    }

    /// Opens the SQLite store at `path`, makes it where it is missing (mode 0600, its directory 0700) and brings its schema
    /// up to date.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]; a store that this version cannot use is left as it is.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Inner::Sqlite(SqliteStore::open_within(path, sqlite::BUSY_TIMEOUT).await?)))
    }

    /// A new store in memory, which is gone with the last handle.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::of(Inner::Sqlite(SqliteStore::in_memory().await?)))
    }

    fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), clock: Clock::System }
    }

    /// The same store with another clock for the times that are recorded.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Whether other gateways write the same store, or may at any time.
    pub fn is_shared(&self) -> bool {
        matches!(*self.inner, Inner::Postgres(_))
    }

    /// What the store has come to.
    pub(crate) async fn version(&self) -> Result<Version, StoreError> {
        match &*self.inner {
            Inner::Sqlite(store) => store.version().await,
            Inner::Postgres(store) => store.version().await,
        }
    }

    /// Listens for what other gateways write, until it is dropped. A store of one gateway has nothing to listen to.
    pub async fn watch(&self) {
        match &*self.inner {
            Inner::Sqlite(_) => std::future::pending().await,
            Inner::Postgres(store) => store.watch().await,
        }
    }

    /// Tells when something was heard.
    pub fn changes(&self) -> Changes {
        match &*self.inner {
            Inner::Sqlite(_) => Changes::none(),
            Inner::Postgres(store) => store.changes(),
        }
    }

    /// Waits for statements in progress and closes the store; a file has everything in it then.
    pub async fn close(&self) {
        match &*self.inner {
            Inner::Sqlite(store) => store.close().await,
            Inner::Postgres(store) => store.close().await,
        }
    }

    /// A connection, for statements that need no transaction.
    pub(crate) async fn connection(&self) -> Result<Connection, StoreError> {
        match &*self.inner {
            Inner::Sqlite(store) => Ok(Connection::Sqlite(store.acquire().await?)),
            Inner::Postgres(store) => Ok(Connection::Postgres(store.acquire().await?)),
        }
    }

    /// A connection of those that are kept for noticing what others write, however many requests wait for the others.
    pub(crate) async fn watching_connection(&self) -> Result<Connection, StoreError> {
        match &*self.inner {
            Inner::Sqlite(store) => Ok(Connection::Sqlite(store.acquire().await?)),
            Inner::Postgres(store) => Ok(Connection::Postgres(store.acquire_to_watch().await?)),
        }
    }

    /// Begins a transaction that writes, and is durable once it is committed.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        match &*self.inner {
            Inner::Sqlite(store) => Ok(Transaction::Sqlite(store.begin().await?)),
            Inner::Postgres(store) => Ok(Transaction::Postgres(store.begin().await?)),
        }
    }

    /// The time for records, in milliseconds since 1970.
    pub(crate) fn now_unix_ms(&self) -> i64 {
        self.clock.now_unix_ms()
    }

    #[cfg(test)]
    pub(crate) async fn run(&self, sql: &'static str) -> Result<u64, StoreError> {
        query(sql).execute(&mut self.connection().await?).await
    }

    /// The only value that a statement selects, which it calls "value".
    #[cfg(test)]
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        query(sql).fetch_one(&mut self.connection().await.unwrap()).await.unwrap().get("value").unwrap()
    }
}
