//! `[store]`: where users, sessions, revocations and lockouts are kept.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use super::complaint::{Complaint, alternatives, choose, quoted};
use super::database_url::{Shown, database_url};
use super::kind::Kind;
use super::reader::{Located, Reader, Table};
use super::units;
use crate::base::secret::Secret;

const DEFAULT_STORE: &str = "data/tollgate.db";
const DEFAULT_MAX_CONNECTIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(30);
/// The shortest time after which a gateway may count as behind: it looks for changes ten times a second.
const MIN_STALE_AFTER: Duration = Duration::from_secs(1);

/// What the URL of a PostgreSQL database may say behind its "?".
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
    "options",
];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where it is.
    pub place: StorePlace,
    /// Connections of this gateway to a PostgreSQL database that requests use. Two more notice changes.
    pub max_connections: NonZeroU32,
    /// How long a statement in a PostgreSQL database may take.
    pub statement_timeout: Duration,
    /// What happens to tokens that are known while the store cannot be read.
    pub stale_policy: StalePolicy,
    /// How long it is until that is done.
    pub stale_after: Duration,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// A file, of one gateway.
    Sqlite(PathBuf),
    /// A `postgres://` URL, which may hold a password, for several gateways.
    Postgres(Secret),
}

/// `stale_policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StalePolicy {
    /// They pass, unless it is known that they are revoked.
    Serve,
    /// They are refused.
    Refuse,
}

impl Store {
    /// A store in this file.
    pub fn in_file(path: PathBuf) -> Self {
        Self {
            place: StorePlace::Sqlite(path),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            stale_policy: StalePolicy::Serve,
            stale_after: DEFAULT_STALE_AFTER,
        }
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            StorePlace::Sqlite(path) => Some(path),
            StorePlace::Postgres(_) => None,
        }
    }

    /// Whether the store is a file that nobody has made.
    pub fn is_missing(&self) -> bool {
        self.file().is_some_and(|path| !path.exists())
    }

    /// What it is called, without a password.
    pub fn name(&self) -> String {
        match &self.place {
            StorePlace::Sqlite(path) => path.display().to_string(),
            StorePlace::Postgres(_) => "PostgreSQL".to_owned(),
        }
    }
}

/// Reads `[store]`.
pub(super) fn store(root: &mut Table<'_>) -> Store {
    let mut table = root.table("store");
    let reader = table.reader;
    let url = database_url(&mut table, Shown::OfFiles);
    let place = url.and_then(|Located { value, span }| reader.accept(&span, place(reader, value)));
    let usual = Store::in_file(reader.resolve(DEFAULT_STORE));
    let max_connections = table.integer::<NonZeroU32>("max_connections", 1..=1000);
    let statement_timeout = table.parsed("statement_timeout", Kind::Duration, statement_timeout);
    let stale_policy = table.parsed("stale_policy", Kind::Text, |text| {
        choose(text, &[("serve", StalePolicy::Serve), ("refuse", StalePolicy::Refuse)])
    });
    let stale_after = table.parsed("stale_after", Kind::Duration, stale_after);
    table.finish();
    Store {
        place: place.unwrap_or(usual.place),
        max_connections: max_connections.unwrap_or(usual.max_connections),
        statement_timeout: statement_timeout.unwrap_or(usual.statement_timeout),
        stale_policy: stale_policy.unwrap_or(usual.stale_policy),
        stale_after: stale_after.unwrap_or(usual.stale_after),
    }
}

fn statement_timeout(text: &str) -> Result<Duration, Complaint> {
    let duration = units::duration(text)?;
    if duration < Duration::from_millis(100) || duration > Duration::from_mins(1) {
        return Err(Complaint::new(format!("{} is out of range", quoted(text)))
            .hint("a statement has from \"100ms\" to \"1m\""));
    }
    Ok(duration)
}

fn stale_after(text: &str) -> Result<Duration, Complaint> {
    let duration = units::duration(text)?;
    if duration < MIN_STALE_AFTER {
        return Err(Complaint::new(format!("{} is out of range", quoted(text)))
            .hint("the store may be behind for a second without anything being wrong"));
    }
    Ok(duration)
}

fn place(reader: &Reader<'_>, url: Secret) -> Result<StorePlace, Complaint> {
    let text = std::str::from_utf8(url.expose()).unwrap_or_default();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        check_postgres(text)?;
        return Ok(StorePlace::Postgres(url));
    }
    sqlite_path(reader, text).map(StorePlace::Sqlite)
}

/// No complaint holds a part of the URL but names that are known, since the rest may be a password in the wrong place.
fn check_postgres(url: &str) -> Result<(), Complaint> {
    let form = "write \"postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full\", with ${VARIABLE} for the password";
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !PARAMETERS.contains(&key) {
            return Err(Complaint::new("the URL of the store has a parameter that is not known")
                .hint(format!("there are {}", alternatives(PARAMETERS))));
        }
        if key == "sslmode" && !SSL_MODES.contains(&value) {
            return Err(Complaint::new("\"sslmode\" of the store is none that there is")
                .hint(format!("write {}", alternatives(SSL_MODES))));
        }
    }
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() && !parameters.contains("host=") {
        return Err(Complaint::new("the URL of the store names no host").hint(form));
    }
    if sqlx::postgres::PgConnectOptions::from_str(url).is_err() {
        return Err(Complaint::new("not the URL of a store").hint(format!(
            "{form}; letters of a password other than A-Z a-z 0-9 - . _ ~ are written as %XX"
        )));
    }
    Ok(())
}

fn sqlite_path(reader: &Reader<'_>, url: &str) -> Result<PathBuf, Complaint> {
    let form = "write \"sqlite://data/tollgate.db\", or \"sqlite:///var/lib/tollgate/tollgate.db\" for an absolute path";
    let Some(path) = url.strip_prefix("sqlite://") else {
        // Of another URL nothing is told, since it may hold a password.
        return Err(match url.split_once(':') {
            Some(("sqlite", path)) => Complaint::new(format!("{} is not the URL of a store", quoted(url)))
                .hint(format!("did you mean \"sqlite://{path}\"?")),
            None if !url.is_empty() && !url.contains('@') => {
                Complaint::new(format!("{} is not the URL of a store", quoted(url)))
                    .hint(format!("did you mean \"sqlite://{url}\"?"))
            }
            Some(_) | None => Complaint::new("not the URL of a store").hint(form),
        });
    };
    if path.contains(":memory:") {
        return Err(Complaint::new("the store must be a file")
            .hint("a store in memory would forget users and revocations when the gateway stops"));
    }
    if path.is_empty() || path.ends_with('/') || path.contains(['?', '#', '\0']) {
        return Err(Complaint::new(format!("{} does not name a file", quoted(url))).hint(form));
    }
    Ok(reader.resolve(path))
}
