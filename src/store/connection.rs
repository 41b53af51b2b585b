//! Connections and transactions of either database.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Sqlite};

use super::error::StoreError;
use super::query::{On, Target, patiently};

/// How a transaction begins. Whatever the server is set to, what was committed must be on its disk.
const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = on";

/// A connection, which goes back to the others when it is dropped.
pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PgConnection),
}

/// A transaction. Dropped, it is rolled back.
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(PgTransaction),
}

/// A connection to PostgreSQL, and how long its answers are waited for.
pub(crate) struct PgConnection {
    inner: PoolConnection<Postgres>,
    patience: Duration,
}

/// A transaction in PostgreSQL.
pub(crate) struct PgTransaction {
    inner: sqlx::Transaction<'static, Postgres>,
    patience: Duration,
}

impl PgConnection {
    pub(super) fn new(inner: PoolConnection<Postgres>, patience: Duration) -> Self {
        Self { inner, patience }
    }
}

impl PgTransaction {
    /// Begins a transaction.
    pub(super) async fn begin(pool: &PgPool, patience: Duration) -> Result<Self, StoreError> {
        Ok(Self { inner: patiently(patience, pool.begin_with(BEGIN)).await?, patience })
    }
}

impl Transaction {
    /// Commits. Everything is on the disk when it returns.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => Ok(transaction.commit().await?),
            Self::Postgres(PgTransaction { inner, patience }) => patiently(patience, inner.commit()).await,
        }
    }
}

impl Target for Connection {
    fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(connection) => On::Sqlite(connection),
            Self::Postgres(connection) => On::Postgres(&mut connection.inner, connection.patience),
        }
    }

    fn is_lost(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(connection) => connection.inner.close_on_drop(),
        }
    }
}

impl Target for Transaction {
    fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(transaction) => On::Sqlite(transaction),
            Self::Postgres(transaction) => On::Postgres(&mut transaction.inner, transaction.patience),
        }
    }
}
