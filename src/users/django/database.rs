//! A connection pool to the database of a Django application, which only ever reads.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use zeroize::Zeroizing;

use crate::base::secret::Secret;
use crate::config::{DjangoDatabase, DjangoUsers};

use super::sql::{BATCH, Dialect, Statements};

/// How long one may wait for a connection, and for a statement.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections of this process to the database, which belongs to another application.
const MAX_CONNECTIONS: u32 = 4;
/// After this time a connection is made anew, so that a database that was moved or replaced is found.
const LIFETIME: Duration = Duration::from_mins(1);

/// Why the database said nothing of use. It never holds a password.
#[derive(Debug)]
pub enum DjangoError {
    /// The URL cannot be understood.
    Url,
    /// It did not answer in time.
    TimedOut,
    /// It refused, or is not there, or has not the tables and columns that were named.
    Database(sqlx::Error),
    /// The ids of the users are not integers.
    IdKind,
}

impl fmt::Display for DjangoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the URL of the Django database cannot be understood"),
            Self::TimedOut => f.write_str("the Django database does not answer in time"),
            Self::Database(error) => write!(f, "the Django database cannot be used: {error}"),
            Self::IdKind => f.write_str("the users of the Django database have ids that are not integers"),
        }
    }
}

impl std::error::Error for DjangoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            Self::Url | Self::TimedOut | Self::IdKind => None,
        }
    }
}

impl From<sqlx::Error> for DjangoError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::PoolTimedOut = error { Self::TimedOut } else { Self::Database(error) }
    }
}

/// A user as the table has it. It has no `Debug`, for it holds the hash as plain text.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) password: Zeroizing<String>,
    pub(super) email: Option<String>,
    pub(super) active: bool,
    /// Sorted.
    pub(super) groups: Vec<String>,
}

/// Id, name, password, e-mail address, "1" when active, and one of the groups.
type Columns = (String, String, String, Option<String>, String, Option<String>);

#[derive(Debug)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    Mysql(MySqlPool),
}

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    pool: Pool,
    statements: Statements,
}

/// Runs the same query on whichever pool there is.
macro_rules! fetch {
    ($database:expr, $row:ty, $statement:expr, $parameters:expr) => {{
        let statement = AssertSqlSafe($statement.clone());
        let rows = async {
            match &$database.pool {
                Pool::Sqlite(pool) => {
                    let query = sqlx::query_as::<_, $row>(statement);
                    $parameters
                        .into_iter()
                        .fold(query, |query, value| query.bind(value))
                        .fetch_all(pool)
                        .await
                }
                Pool::Postgres(pool) => {
                    let query = sqlx::query_as::<_, $row>(statement);
                    $parameters
                        .into_iter()
                        .fold(query, |query, value| query.bind(value))
                        .fetch_all(pool)
                        .await
                }
                Pool::Mysql(pool) => {
                    let query = sqlx::query_as::<_, $row>(statement);
                    $parameters
                        .into_iter()
                        .fold(query, |query, value| query.bind(value))
                        .fetch_all(pool)
                        .await
                }
            }
        };
        tokio::time::timeout(PATIENCE, rows).await.map_err(|_| DjangoError::TimedOut)?
    }};
}

impl Database {
    /// Makes the pool. Nothing is connected yet.
    pub(super) fn new(users: &DjangoUsers) -> Result<Self, DjangoError> {
        let (pool, dialect) = match &users.database {
            DjangoDatabase::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .read_only(true)
                    .create_if_missing(false)
                    .busy_timeout(PATIENCE)
                    .disable_statement_logging();
                let pool = SqlitePoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .max_lifetime(LIFETIME);
                (Pool::Sqlite(pool.connect_lazy_with(options)), Dialect::Sqlite)
            }
            DjangoDatabase::Postgres(url) => {
                let options = PgConnectOptions::from_str(text(url)?).map_err(|_| DjangoError::Url)?;
                let pool = PgPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .max_lifetime(LIFETIME)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            connection
                                .execute(
                                    "SET default_transaction_read_only = on; SET statement_timeout = 2000",
                                )
                                .await?;
                            Ok(())
                        })
                    });
                let options = options.application_name("tollgate").disable_statement_logging();
                (Pool::Postgres(pool.connect_lazy_with(options)), Dialect::Postgres)
            }
            DjangoDatabase::Mysql(url) => {
                let options = MySqlConnectOptions::from_str(text(url)?).map_err(|_| DjangoError::Url)?;
                let pool = MySqlPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .max_lifetime(LIFETIME)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
                            Ok(())
                        })
                    });
                (Pool::Mysql(pool.connect_lazy_with(options.disable_statement_logging())), Dialect::Mysql)
            }
        };
        Ok(Self { pool, statements: Statements::new(dialect, &users.columns) })
    }

    /// The user of exactly this name. `MySQL` alone may find one that is written otherwise.
    pub(super) async fn by_name(&self, name: &str) -> Result<Option<Row>, DjangoError> {
        let rows = fetch!(self, Columns, self.statements.by_name, [name])?;
        Ok(gathered(rows).into_iter().find(|row| row.name == name))
    }

    pub(super) async fn by_id(&self, id: i64) -> Result<Option<Row>, DjangoError> {
        let rows = fetch!(self, Columns, self.statements.by_id, [id])?;
        Ok(gathered(rows).into_iter().next())
    }

    /// The users of at most [`BATCH`] ids.
    pub(super) async fn by_ids(&self, ids: &[i64]) -> Result<Vec<Row>, DjangoError> {
        let Some(last) = ids.last() else { return Ok(Vec::new()) };
        // Always as many parameters, so that it is one prepared statement.
        let padded: Vec<i64> = ids.iter().chain(std::iter::repeat(last)).take(BATCH).copied().collect();
        Ok(gathered(fetch!(self, Columns, self.statements.by_ids, padded)?))
    }

    /// The next users behind this id.
    pub(super) async fn page(&self, after: i64) -> Result<Vec<Row>, DjangoError> {
        Ok(gathered(fetch!(self, Columns, self.statements.page, [after])?))
    }

    /// Some password hashes.
    pub(super) async fn sample(&self) -> Result<Vec<Zeroizing<String>>, DjangoError> {
        let none: [i64; 0] = [];
        let rows = fetch!(self, (String,), self.statements.sample, none)?;
        Ok(rows.into_iter().map(|(password,)| Zeroizing::new(password)).collect())
    }
}

/// One user for all rows of the same id, which differ by the group.
fn gathered(rows: Vec<Columns>) -> Vec<Row> {
    let mut users: Vec<Row> = Vec::new();
    for (id, name, password, email, active, group) in rows {
        let password = Zeroizing::new(password);
        match users.iter_mut().rfind(|user| user.id == id) {
            Some(user) => user.groups.extend(group),
            None => users.push(Row {
                id,
                name,
                password,
                email: email.filter(|email| !email.is_empty()),
                active: active == "1",
                groups: group.into_iter().collect(),
            }),
        }
    }
    for user in &mut users {
        user.groups.sort_unstable();
        user.groups.dedup();
    }
    users
}

fn text(url: &Secret) -> Result<&str, DjangoError> {
    std::str::from_utf8(url.expose()).map_err(|_| DjangoError::Url)
}
