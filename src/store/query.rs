//! One text for a statement in both databases, which differ in few words. Placeholders are `$1`, `$2`, … in both.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query as SqlxQuery;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Decode, Row as _, Type};

use super::error::StoreError;

/// The text of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    /// A statement that is written differently in the two databases.
    pub(crate) const fn of(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self::of(both, both)
    }
}

/// What a placeholder stands for.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Integer(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
    Truth(bool),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value))
    }
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(value: Option<&'a [u8]>) -> Self {
        Self::Bytes(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Truth(value)
    }
}

/// What a statement runs on: a connection of either database.
pub(crate) enum On<'c> {
    Sqlite(&'c mut SqliteConnection),
    /// With how long an answer is waited for.
    Postgres(&'c mut PgConnection, Duration),
}

/// A connection, or a transaction.
pub(crate) trait Target {
    /// The connection.
    fn on(&mut self) -> On<'_>;

    /// Told when the database did not answer: nobody knows what the connection will say next.
    fn is_lost(&mut self) {}
}

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column.
    pub(crate) fn get<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}

/// A statement with what its placeholders stand for.
pub(crate) struct Query<'a> {
    sql: Sql,
    values: Vec<Value<'a>>,
}

/// A statement.
pub(crate) fn query<'a>(sql: impl Into<Sql>) -> Query<'a> {
    Query { sql: sql.into(), values: Vec::new() }
}

impl<'a> Query<'a> {
    /// What the next placeholder stands for.
    pub(crate) fn bind(mut self, value: impl Into<Value<'a>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it, and returns how many rows it has changed.
    pub(crate) async fn execute(self, target: &mut impl Target) -> Result<u64, StoreError> {
        let done = match target.on() {
            On::Sqlite(connection) => Ok(self.for_sqlite().execute(&mut *connection).await?.rows_affected()),
            On::Postgres(connection, patience) => {
                let done = self.for_postgres().execute(&mut *connection);
                patiently(patience, done).await.map(|done| done.rows_affected())
            }
        };
        done.inspect_err(|error| tell(target, error))
    }

    /// Runs it for one row at most.
    pub(crate) async fn fetch_optional(self, target: &mut impl Target) -> Result<Option<Row>, StoreError> {
        let found = match target.on() {
            On::Sqlite(connection) => {
                Ok(self.for_sqlite().fetch_optional(&mut *connection).await?.map(Row::Sqlite))
            }
            On::Postgres(connection, patience) => {
                let found = self.for_postgres().fetch_optional(&mut *connection);
                patiently(patience, found).await.map(|found| found.map(Row::Postgres))
            }
        };
        found.inspect_err(|error| tell(target, error))
    }

    /// Runs it for its only row.
    pub(crate) async fn fetch_one(self, target: &mut impl Target) -> Result<Row, StoreError> {
        let found = self.fetch_optional(target).await?;
        found.ok_or(StoreError::Unavailable { source: sqlx::Error::RowNotFound })
    }

    /// Runs it for all rows.
    pub(crate) async fn fetch_all(self, target: &mut impl Target) -> Result<Vec<Row>, StoreError> {
        let found = match target.on() {
            On::Sqlite(connection) => {
                let rows = self.for_sqlite().fetch_all(&mut *connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            On::Postgres(connection, patience) => {
                let rows = self.for_postgres().fetch_all(&mut *connection);
                patiently(patience, rows).await.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        found.inspect_err(|error| tell(target, error))
    }

    fn for_sqlite(self) -> SqlxQuery<'a, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(self.sql.sqlite), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Truth(value) => query.bind(value),
        })
    }

    fn for_postgres(self) -> SqlxQuery<'a, Postgres, PgArguments> {
        self.values.into_iter().fold(sqlx::query(self.sql.postgres), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Truth(value) => query.bind(value),
        })
    }
}

/// Waits for an answer of PostgreSQL, which cancels its statements by itself, but not when it hangs or is cut off.
pub(super) async fn patiently<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Silent),
    }
}

fn tell(target: &mut impl Target, error: &StoreError) {
    if let StoreError::Silent = error {
        target.is_lost();
    }
}
