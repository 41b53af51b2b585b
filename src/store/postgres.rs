//! The store of several gateways: a PostgreSQL database.
//!
//! What other gateways write is noticed over a line of its own ([`PostgresStore::watch`]): the database tells at once that
//! something was written (`NOTIFY`), and is asked every [`bounds::WATCH_INTERVAL_MS`] milliseconds all the same. When the
//! line is lost, the next one begins a generation, and everything is read again.

use std::str::FromStr as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::Version;
use super::connection;
use super::error::StoreError;
use super::query::query;
use crate::base::bounds;
use crate::base::secret::Secret;
use crate::config;

/// How much longer than the server an answer is waited for: the server ends its statements by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the line that notices changes may take to answer, and to be connected.
const LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// Changes that come within this time are looked at together.
const GATHERING: Duration = Duration::from_millis(2);
/// After this time a connection is made anew, so that a database that was moved is found.
const LIFETIME: Duration = Duration::from_mins(30);
/// How long one waits for another gateway that migrates.
const MIGRATION_PATIENCE: Duration = Duration::from_mins(1);
/// A transaction of a gateway that has died or hangs holds its locks no longer.
const IDLE_IN_TRANSACTION_MS: u64 = 5000;
/// Connections for noticing what others write: the line, and one to read with.
const WATCHING: u32 = 2;
/// Where the database tells of changes.
const CHANNEL: &str = "tollgate";

/// Says what was written by anybody.
const LOOK: &str = "SELECT (SELECT value FROM revisions WHERE topic = 'users') AS users, \
                    (SELECT coalesce(max(seq), 0) FROM revocations) AS sessions, \
                    (SELECT value FROM revisions WHERE topic = 'keys') AS keys";

/// A gateway that knows one migration less than another works with the same database.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("./migrations/postgres");
    migrations.set_ignore_missing(true).set_locking(false);
    migrations
});

/// An open database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    options: PgConnectOptions,
    max_connections: u32,
    patience: Duration,
    pools: Mutex<Pools>,
    heard: watch::Sender<Heard>,
}

#[derive(Clone, Debug)]
struct Pools {
    requests: PgPool,
    watching: PgPool,
}

/// What was last heard of the database.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    /// Nobody listens.
    NotYet,
    /// This.
    Version(Version),
    /// It cannot be reached.
    Silence,
}

/// Tells when something was heard of the store.
#[derive(Debug)]
pub struct Changes(Option<watch::Receiver<Heard>>);

impl Changes {
    /// Never tells.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Returns when something was heard, which need not be news.
    pub async fn next(&mut self) {
        let gone = match &mut self.0 {
            Some(heard) => heard.changed().await.is_err(),
            None => true,
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date while no other gateway does.
    pub(super) async fn open(url: &Secret, settings: &config::Store) -> Result<Self, StoreError> {
        let options = options(url, settings.statement_timeout)?;
        let pools = Pools::new(&options, settings.max_connections.get());
        let migrated = timeout(MIGRATION_PATIENCE, migrate(&options)).await;
        migrated.map_err(|_| StoreError::Locked)??;
        Ok(Self {
            max_connections: settings.max_connections.get(),
            patience: settings.statement_timeout.saturating_add(GRACE),
            pools: Mutex::new(pools),
            heard: watch::Sender::new(Heard::NotYet),
            options,
        })
    }

    pub(super) fn changes(&self) -> Changes {
        Changes(Some(self.heard.subscribe()))
    }

    /// What was last heard; where nobody listens, what the database says now.
    pub(super) async fn version(&self) -> Result<Version, StoreError> {
        let heard = *self.heard.borrow();
        match heard {
            Heard::Version(version) => Ok(version),
            Heard::Silence => Err(StoreError::Silent),
            Heard::NotYet => {
                let as_of = Instant::now();
                let mut connection = super::Connection::Postgres(self.acquire_to_watch().await?);
                let row = query(LOOK).fetch_one(&mut connection).await?;
                let (users, sessions, keys) = (row.get("users")?, row.get("sessions")?, row.get("keys")?);
                Ok(Version { generation: 0, users, sessions, keys, as_of })
            }
        }
    }

    /// Listens until it is dropped.
    pub(super) async fn watch(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut line, mut generation) = (None, 0);
        loop {
            wait(&mut line, &mut ticks).await;
            let as_of = Instant::now();
            let answer = match &mut line {
                Some(line) => ask(line).await,
                none @ None => match self.connect_line().await {
                    Ok(mut new) => {
                        generation += 1;
                        let answer = ask(&mut new).await;
                        *none = Some(new);
                        answer
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok((users, sessions, keys)) => {
                    self.publish(Heard::Version(Version { generation, users, sessions, keys, as_of }));
                }
                Err(error) => {
                    line = None;
                    self.fall_silent(&error);
                }
            }
        }
    }

    fn publish(&self, now: Heard) {
        self.heard.send_if_modified(|before| {
            if *before == Heard::Silence {
                tracing::info!("the store can be reached again");
            }
            let is_news = match (*before, now) {
                (Heard::Version(before), Heard::Version(now)) => {
                    Version { as_of: now.as_of, ..before } != now
                }
                (before, now) => before != now,
            };
            *before = now;
            is_news
        });
    }

    /// Whoever asks is told that the database is away. Connections that were made before it went are not used again: some
    /// would be waited for until the operating system gives them up.
    fn fall_silent(&self, error: &StoreError) {
        let before = self.heard.send_replace(Heard::Silence);
        if before != Heard::Silence {
            tracing::error!(%error, "the store cannot be reached");
            let new = Pools::new(&self.options, self.max_connections);
            *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    async fn connect_line(&self) -> Result<PgListener, StoreError> {
        // A pool of its own, so that a line that hangs takes no other's place.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LINE_TIMEOUT);
        let pool = pool.connect_lazy_with(self.options.clone());
        let connecting = async {
            let mut line = PgListener::connect_with(&pool).await?;
            line.eager_reconnect(false);
            line.ignore_pool_close_event(true);
            line.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(line)
        };
        Ok(timeout(LINE_TIMEOUT, connecting).await.map_err(|_| StoreError::Silent)??)
    }

    fn pools(&self) -> Pools {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// While nothing reaches the database nobody waits for it.
    fn unless_silent(&self) -> Result<(), StoreError> {
        if *self.heard.borrow() == Heard::Silence { Err(StoreError::Silent) } else { Ok(()) }
    }

    pub(super) async fn acquire(&self) -> Result<connection::PgConnection, StoreError> {
        self.unless_silent()?;
        let connection = self.pools().requests.acquire().await?;
        Ok(connection::PgConnection::new(connection, self.patience))
    }

    pub(super) async fn acquire_to_watch(&self) -> Result<connection::PgConnection, StoreError> {
        let connection = self.pools().watching.acquire().await?;
        Ok(connection::PgConnection::new(connection, self.patience))
    }

    pub(super) async fn begin(&self) -> Result<connection::PgTransaction, StoreError> {
        self.unless_silent()?;
        // A caller may wait for a connection first.
        let patience = self.patience.max(ACQUIRE_TIMEOUT.saturating_add(GRACE));
        connection::PgTransaction::begin(&self.pools().requests, patience).await
    }

    pub(super) async fn close(&self) {
        let Pools { requests, watching } = self.pools();
        requests.close().await;
        watching.close().await;
    }
}

impl Pools {
    fn new(options: &PgConnectOptions, max_connections: u32) -> Self {
        let pool = |most: u32| {
            PgPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .max_lifetime(LIFETIME)
                .connect_lazy_with(options.clone())
        };
        Self { requests: pool(max_connections), watching: pool(WATCHING - 1) }
    }
}

/// Waits until it is time to ask, or until the database says so.
async fn wait(line: &mut Option<PgListener>, ticks: &mut tokio::time::Interval) {
    let Some(open) = line else {
        ticks.tick().await;
        return;
    };
    let heard = tokio::select! {
        _ = ticks.tick() => return,
        heard = open.try_recv() => heard,
    };
    if let Ok(Some(_)) = heard {
        tokio::time::sleep(GATHERING).await;
        while open.next_buffered().is_some() {}
    } else {
        // It is made anew when it is asked over.
        *line = None;
    }
}

async fn ask(line: &mut PgListener) -> Result<(i64, i64, i64), StoreError> {
    let asked = timeout(LINE_TIMEOUT, sqlx::query_as(LOOK).fetch_one(line)).await;
    Ok(asked.map_err(|_| StoreError::Silent)??)
}

fn options(url: &Secret, statement_timeout: Duration) -> Result<PgConnectOptions, StoreError> {
    let text = std::str::from_utf8(url.expose()).map_err(|_| StoreError::Url)?;
    let options = PgConnectOptions::from_str(text).map_err(|_| StoreError::Url)?;
    let host = options.get_host().to_owned();
    let is_near = options.get_socket().is_some()
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_near && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa) {
        tracing::warn!(
            host,
            "nobody checks that this is the store's database: add sslmode=verify-full to the URL"
        );
    }
    let timeout_ms = statement_timeout.as_millis().to_string();
    let idle_ms = IDLE_IN_TRANSACTION_MS.to_string();
    let named = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("tollgate"),
    };
    let settings = [
        ("statement_timeout", timeout_ms.as_str()),
        ("lock_timeout", &timeout_ms),
        ("idle_in_transaction_session_timeout", &idle_ms),
        // A gateway that is cut off keeps no locks either.
        ("tcp_user_timeout", &idle_ms),
        ("default_transaction_isolation", "read committed"),
    ];
    Ok(named.options(settings).disable_statement_logging())
}

/// Brings the schema up to date, in one transaction that begins with a lock.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let cannot = |source: sqlx::Error| StoreError::CannotConnect { source: source.into() };
    let mut connection = options.connect().await.map_err(cannot)?;
    let mut transaction = connection.begin().await.map_err(cannot)?;
    let unhurried = "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true), \
                     pg_advisory_xact_lock(hashtext('tollgate'), hashtext(current_schema()))";
    sqlx::query(unhurried).execute(&mut *transaction).await.map_err(cannot)?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    let needed = needed_migration(&mut transaction).await.map_err(cannot)?;
    if let Some(version) = needed.filter(|needed| *needed > known) {
        return Err(StoreError::NewerSchema { version });
    }
    MIGRATIONS.run_direct(None, &mut *transaction, false).await.map_err(on_migrate)?;
    transaction.commit().await.map_err(cannot)?;
    // The server hears of it when the process ends, at the latest.
    connection.close().await.or(Ok(()))
}

/// The migration that a program has to know, when there is a schema already.
async fn needed_migration(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let present = "SELECT to_regclass('schema_compatibility') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(present).fetch_one(&mut *connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(oldest_migration) FROM schema_compatibility").fetch_one(connection).await
}

fn on_migrate(error: MigrateError) -> StoreError {
    if let MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) = error {
        return StoreError::AlteredSchema { version };
    }
    StoreError::CannotConnect { source: error.into() }
}

#[cfg(test)]
mod tests {
    use crate::store::scratch::Place;
    use crate::store::{Store, StoreError, query};

    /// `None` where there is no PostgreSQL on this machine.
    async fn opened() -> Option<(Place, Store)> {
        let place = Place::postgres()?;
        let store = place.open().await;
        Some((place, store))
    }

    #[tokio::test]
    async fn gateways_that_start_together_migrate_once() {
        let Some(place) = Place::postgres() else { return };
        let opened = futures_util::future::join_all((0..6).map(|_| Store::connect(&place.settings))).await;
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }

    #[tokio::test]
    async fn a_version_that_knows_one_migration_less_works_until_something_is_taken_away() {
        let Some((place, store)) = opened().await else { return };
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9000, 'later', TRUE, '\\x00', 0)";
        store.run(later).await.unwrap();
        place.open().await;
        store.run("UPDATE schema_compatibility SET oldest_migration = 9000").await.unwrap();
        let refused = Store::connect(&place.settings).await.unwrap_err();
        assert!(matches!(refused, StoreError::NewerSchema { version: 9000 }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_schema_that_was_altered_is_refused() {
        let Some((place, store)) = opened().await else { return };
        store.run("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1").await.unwrap();
        let refused = Store::connect(&place.settings).await.unwrap_err();
        assert!(matches!(refused, StoreError::AlteredSchema { version: 1 }), "{refused:?}");
    }

    #[tokio::test]
    async fn who_has_seen_a_number_misses_no_smaller_one() {
        let Some((place, store)) = opened().await else { return };
        let other = place.open().await;
        let add = "INSERT INTO revocations (sid, until) VALUES ($1, 1)";
        let mut slow = store.begin().await.unwrap();
        query(add).bind("slow").execute(&mut slow).await.unwrap();
        let fast = tokio::spawn(async move {
            let mut fast = other.begin().await.unwrap();
            query(add).bind("fast").execute(&mut fast).await.unwrap();
            fast.commit().await.unwrap();
        });
        // However long the one before takes, nobody sees a number above it.
        for _ in 0..20 {
            assert_eq!(store.number("SELECT count(*) AS value FROM revocations").await, 0);
        }
        slow.commit().await.unwrap();
        fast.await.unwrap();
        let in_order = "SELECT max(seq) - min(seq) AS value FROM revocations \
                        WHERE sid = 'slow' OR seq > (SELECT seq FROM revocations WHERE sid = 'slow')";
        assert_eq!(store.number(in_order).await, 1);
    }

    #[tokio::test]
    async fn what_is_committed_is_on_the_disk_and_statements_have_an_end() {
        let Some((_place, store)) = opened().await else { return };
        let mut transaction = store.begin().await.unwrap();
        for (setting, expected) in [
            ("SELECT current_setting('synchronous_commit') AS value", "on"),
            ("SELECT current_setting('statement_timeout') AS value", "2s"),
            ("SELECT current_setting('idle_in_transaction_session_timeout') AS value", "5s"),
            ("SELECT current_setting('transaction_isolation') AS value", "read committed"),
        ] {
            let row = query(setting).fetch_one(&mut transaction).await.unwrap();
            assert_eq!(row.get::<String>("value").unwrap(), expected);
        }
        let endless = query("SELECT pg_sleep(10)").execute(&mut transaction).await;
        assert!(matches!(endless, Err(StoreError::Locked)), "{endless:?}");
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_told_without_its_password() {
        let mut place = Place::sqlite();
        for url in ["postgres://u:hunter2@127.0.0.1:1/d", "postgres://u:hunter2@127.0.0.1:x/d"] {
            place.settings.place = crate::config::StorePlace::Postgres(crate::base::secret::Secret::new(url));
            let error = Store::connect(&place.settings).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
