//! The store of one gateway: one SQLite file, opened, made and migrated here.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, Transaction};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::StoreError;
use super::{Version, place};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for a lock of another connection, and a caller for a connection.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that read and write at once. Each has a thread; SQLite lets one of them write.
const MAX_CONNECTIONS: u32 = 4;

/// How soon opening is tried again while another process holds a lock that SQLite does not wait for.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What SQLite calls a database that is in no file.
const IN_MEMORY: &str = "sqlite::memory:";

/// Held while a store is opened.
static OPENING: Mutex<()> = Mutex::const_new(());

/// An open file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    /// Where the file is and which one it was when it was opened, unless the store is in memory.
    place: Option<(PathBuf, place::Identity)>,
    pool: SqlitePool,
    options: SqliteConnectOptions,
    watcher: Mutex<Watcher>,
}

/// A connection that never writes, so that it sees every commit as one of somebody else.
#[derive(Debug)]
struct Watcher {
    connection: Option<SqliteConnection>,
    /// How often a connection was made: `PRAGMA data_version` means nothing across connections.
    generation: i64,
}

impl SqliteStore {
    pub(super) async fn in_memory() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(IN_MEMORY)?
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        let connection = connect(Path::new(IN_MEMORY), &options, BUSY_TIMEOUT).await?;
        Ok(Self::of(None, options, connection, BUSY_TIMEOUT))
    }

    pub(super) async fn open_within(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        // A process that closes a file loses its locks on it, also those of another handle. So while one handle makes
        // the file no other one opens it.
        let _alone = OPENING.lock().await;
        place::prepare(path)
            .map_err(|source| StoreError::CannotOpen { path: path.to_owned(), source: source.into() })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(patience)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer is sent only after its write is durable.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .disable_statement_logging();
        let connection = connect(path, &options, patience).await?;
        let cannot_open =
            |source: std::io::Error| StoreError::CannotOpen { path: path.to_owned(), source: source.into() };
        let identity = place::identity(path).map_err(cannot_open)?;
        Ok(Self::of(Some((path.to_owned(), identity)), options, connection, patience))
    }

    fn of(
        place: Option<(PathBuf, place::Identity)>,
        options: SqliteConnectOptions,
        connection: SqliteConnection,
        patience: Duration,
    ) -> Self {
        // The pool has no timers, so it belongs to no particular runtime.
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(patience)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                // When a disk fails or is full, SQLite ends the transaction by itself, and the connection, which goes on
                // counting it, could never begin another one.
                let is_usable = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_usable) })
            })
            .connect_lazy_with(options.clone());
        let watcher = Mutex::new(Watcher { connection: Some(connection), generation: 0 });
        Self { place, pool, options, watcher }
    }

    pub(super) async fn version(&self) -> Result<Version, StoreError> {
        self.is_in_place()?;
        let as_of = Instant::now();
        let mut watcher = self.watcher.lock().await;
        if watcher.connection.is_none() {
            watcher.connection = Some(self.options.connect().await?);
            watcher.generation = watcher.generation.wrapping_add(1);
        }
        let read = match watcher.connection.as_mut() {
            Some(connection) => {
                sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(connection).await
            }
            None => Err(sqlx::Error::WorkerCrashed),
        };
        match read.map_err(StoreError::from) {
            // It counts all commits, whatever they were about.
            Ok(count) => {
                let generation = watcher.generation;
                Ok(Version { generation, users: count, sessions: count, keys: count, as_of })
            }
            Err(StoreError::Locked) => Err(StoreError::Locked),
            Err(error) => {
                watcher.connection = None;
                Err(error)
            }
        }
    }

    /// Waits for statements in progress and closes the file, which folds the write-ahead log into it.
    pub(super) async fn close(&self) {
        self.pool.close().await;
        if let Some(connection) = self.watcher.lock().await.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store was not closed cleanly");
        }
    }

    /// The connections, for the modules that own tables.
    pub(super) fn pool(&self) -> Result<&SqlitePool, StoreError> {
        self.is_in_place()?;
        Ok(&self.pool)
    }

    /// Whether the file is still where it was opened. What is open would be written all the same, where nobody finds it,
    /// and what other processes write into another file in its place would never be noticed.
    fn is_in_place(&self) -> Result<(), StoreError> {
        let Some((path, identity)) = &self.place else { return Ok(()) };
        match place::identity(path) {
            Ok(now) if now == *identity => Ok(()),
            Ok(_) => Err(StoreError::Replaced { path: path.clone() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::Replaced { path: path.clone() })
            }
            Err(source) => Err(StoreError::CannotOpen { path: path.clone(), source: source.into() }),
        }
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.pool()?.acquire().await?)
    }

    /// Begins a transaction that writes. It takes the lock at once: one that begins by reading could not wait for it.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool()?.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Connects and migrates. SQLite itself does not wait when two connections switch a new file to write-ahead logging.
async fn connect(
    path: &Path,
    options: &SqliteConnectOptions,
    patience: Duration,
) -> Result<SqliteConnection, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        let attempt = async {
            let mut connection = options.connect().await.map_err(|error| StoreError::on_open(path, error))?;
            migrate(path, &mut connection).await?;
            Ok(connection)
        };
        match attempt.await {
            Err(StoreError::Locked) if Instant::now() < deadline => tokio::time::sleep(RETRY_AFTER).await,
            outcome => return outcome,
        }
    }
}

/// One transaction around everything: two processes that start together must not both migrate.
async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction =
        connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| StoreError::on_open(path, error))?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| StoreError::on_migrate(path, error))?;
    transaction.commit().await.map_err(|error| StoreError::on_open(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_within(path, BUSY_TIMEOUT).await
    }

    async fn execute(store: &SqliteStore, sql: &'static str) {
        sqlx::query(sql).execute(store.pool().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn files_are_for_the_owner_only() {
        let scratch = Scratch::new();
        let path = scratch.path("made/deeper/tollgate.db");
        let store = open(&path).await.unwrap();
        execute(&store, "UPDATE revisions SET value = value + 1").await;
        assert_eq!(Scratch::mode(&scratch.path("made")), 0o700);
        assert_eq!(Scratch::mode(&scratch.path("made/deeper")), 0o700);
        for name in ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm"] {
            assert_eq!(Scratch::mode(&scratch.path(&format!("made/deeper/{name}"))), 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn an_existing_file_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        let path = scratch.write("tollgate.db", "");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        open(&path).await.unwrap();
        assert_eq!(Scratch::mode(&path), 0o600);
    }

    #[tokio::test]
    async fn settings_are_as_promised_on_every_connection() {
        let scratch = Scratch::new();
        let store = open(&scratch.path("s.db")).await.unwrap();
        for _ in 0..2 {
            let mut held = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                let mut connection = store.pool().unwrap().acquire().await.unwrap();
                let row: (String, i64, i64, i64) = sqlx::query_as(
                    "SELECT journal_mode, foreign_keys, synchronous, timeout \
                     FROM pragma_journal_mode, pragma_foreign_keys, pragma_synchronous, pragma_busy_timeout",
                )
                .fetch_one(&mut *connection)
                .await
                .unwrap();
                assert_eq!(row, ("wal".to_owned(), 1, 2, 2000));
                held.push(connection);
            }
        }
    }

    #[tokio::test]
    async fn two_handles_see_each_other_s_commits() {
        let scratch = Scratch::new();
        let path = scratch.path("s.db");
        let one = open(&path).await.unwrap();
        let two = open(&path).await.unwrap();
        let before = one.version().await.unwrap().users;
        assert_eq!(one.version().await.unwrap().users, before);
        execute(&two, "UPDATE revisions SET value = value + 1").await;
        let after = one.version().await.unwrap().users;
        assert_ne!(after, before);
        assert_eq!(one.version().await.unwrap().users, after);
        // Its own commits count too, for they come from another connection.
        execute(&one, "UPDATE revisions SET value = value + 1").await;
        assert_ne!(one.version().await.unwrap().users, after);
    }

    #[tokio::test]
    async fn stores_that_start_together_migrate_once() {
        let scratch = Scratch::new();
        let path = scratch.path("s.db");
        let opened = futures_util::future::join_all((0..4).map(|_| open(&path))).await;
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }

    #[tokio::test]
    async fn a_locked_store_is_waited_for_but_not_for_ever() {
        let scratch = Scratch::new();
        let path = scratch.write("s.db", "");
        let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let held = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
        let short = Duration::from_millis(30);
        assert!(matches!(SqliteStore::open_within(&path, short).await, Err(StoreError::Locked)));
        let opening = tokio::spawn(async move { open(&path).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!opening.is_finished());
        held.rollback().await.unwrap();
        assert!(opening.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn connections_that_skip_the_queue_switch_the_journal_all_the_same() {
        let scratch = Scratch::new();
        let path = scratch.write("s.db", "");
        let options = SqliteConnectOptions::new().filename(&path).journal_mode(SqliteJournalMode::Wal);
        let connected = (0..6).map(|_| connect(&path, &options, BUSY_TIMEOUT));
        let connected = futures_util::future::join_all(connected).await;
        assert!(connected.iter().all(Result::is_ok), "{connected:?}");
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_and_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("s.db");
        let store = open(&path).await.unwrap();
        execute(
            &store,
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9000, 'later', TRUE, x'00', 0)",
        )
        .await;
        store.close().await;
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { version: 9000 }), "{error:?}");
        assert!(error.to_string().contains("newer version"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn an_altered_schema_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path("s.db");
        let store = open(&path).await.unwrap();
        execute(&store, "UPDATE _sqlx_migrations SET checksum = x'00'").await;
        assert!(matches!(open(&path).await.unwrap_err(), StoreError::AlteredSchema { version: 1 }));
    }

    #[tokio::test]
    async fn what_is_no_store_is_refused() {
        let scratch = Scratch::new();
        let text = scratch.write("text", "this is not a database, however long it may be. ".repeat(100));
        let paths = [text, scratch.path("."), scratch.write("file", "").join("s.db")];
        for path in paths {
            let error = open(&path).await.unwrap_err();
            assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
            assert!(error.to_string().contains(&path.display().to_string()));
        }
    }

    #[tokio::test]
    async fn a_transaction_that_the_disk_has_ended_makes_no_connection_useless() {
        let scratch = Scratch::new();
        let store = open(&scratch.path("s.db")).await.unwrap();
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut transaction = store.begin().await.unwrap();
            // As SQLite does by itself on a disk that is full, unknown to whoever counts transactions.
            sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
            assert!(transaction.commit().await.is_err());
        }
        store.begin().await.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_or_replaced_is_not_written() {
        let scratch = Scratch::new();
        let (path, away) = (scratch.path("s.db"), scratch.path("away.db"));
        let store = open(&path).await.unwrap();
        let refused = async || {
            let refused = |error| matches!(error, StoreError::Replaced { .. });
            refused(store.begin().await.unwrap_err())
                && refused(store.version().await.unwrap_err())
                && store.pool().is_err_and(refused)
        };
        std::fs::rename(&path, &away).unwrap();
        assert!(refused().await);
        std::fs::copy(&away, &path).unwrap();
        assert!(refused().await, "a copy is another file");
        std::fs::rename(&away, &path).unwrap();
        execute(&store, "UPDATE revisions SET value = value + 1").await;
    }

    #[tokio::test]
    async fn a_closed_store_is_unavailable() {
        let scratch = Scratch::new();
        let store = open(&scratch.path("s.db")).await.unwrap();
        store.close().await;
        assert!(matches!(store.begin().await.unwrap_err(), StoreError::Unavailable { .. }));
    }
}
