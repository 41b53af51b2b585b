//! Users of a Django application, read from its database and never written. What was asked for lately is remembered and
//! read again in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::ids::RandomnessUnavailable;
use crate::base::user::User;
use crate::config::{self, Hasher};

mod database;
mod sql;

pub use self::database::DjangoError;

use self::database::{Database, Row};
use self::sql::BATCH;
use super::file::{Look, most_frequent};
use super::hash::{Cost, CredentialMark, HashFault, StoredHash};
use super::password::{HashPool, Standing};
use super::{Account, Candidate, Lookup};

/// Users that are remembered. When there are more, all are forgotten and looked up again.
const MAX_REMEMBERED: usize = 20_000;
/// What hashes cost where there is none yet: those of Django 5.2.
const DEFAULT_ITERATIONS: u32 = 1_000_000;

/// The users of a Django application.
#[derive(Debug)]
pub(super) struct DjangoUsers {
    database: Database,
    hashers: Vec<Hasher>,
    recheck: Duration,
    pool: HashPool,
    /// Verified where there is no hash that could be: as costly as most.
    dummy: Arc<StoredHash>,
    memory: Mutex<Memory>,
}

/// What was found lately, by id.
#[derive(Debug)]
struct Memory {
    found: HashMap<i64, Remembered>,
    /// The last time that all of it was read again, or this was tried.
    rechecked: Instant,
    /// What was found differs from what somebody was told before.
    changed: bool,
    failing: bool,
}

#[derive(Debug)]
struct Remembered {
    lookup: Lookup,
    read: Instant,
}

/// Why a Django source could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    Database(DjangoError),
    Randomness(RandomnessUnavailable),
}

/// A user to be taken over.
pub(super) struct Takeover {
    pub(super) user: User,
    pub(super) active: bool,
    pub(super) hash: Result<StoredHash, HashFault>,
}

impl DjangoUsers {
    /// Connects, makes sure that the tables and columns are there, and learns what most hashes cost.
    pub(super) async fn open(users: &config::DjangoUsers, pool: HashPool) -> Result<Self, OpenError> {
        let database = Database::new(users).map_err(OpenError::Database)?;
        let sample = database.sample().await.map_err(OpenError::Database)?;
        // An id that nobody has: only the statement counts.
        database.by_ids(&[-1]).await.map_err(OpenError::Database)?;
        let first = database.page(i64::MIN).await.map_err(OpenError::Database)?;
        if first.iter().any(|row| number_of(&row.id).is_none()) {
            return Err(OpenError::Database(DjangoError::IdKind));
        }
        let costs = sample.iter().filter_map(|text| StoredHash::parse_django(text, &users.hashers).ok());
        let costs = costs.map(|hash| hash.cost()).filter(|cost| pool.check_cost(*cost).is_ok());
        let cost = most_frequent(costs).unwrap_or_else(default_cost);
        let dummy = Arc::new(StoredHash::dummy(cost).map_err(OpenError::Randomness)?);
        let memory =
            Memory { found: HashMap::new(), rechecked: Instant::now(), changed: false, failing: false };
        let (hashers, recheck) = (users.hashers.clone(), users.recheck);
        Ok(Self { database, hashers, recheck, pool, dummy, memory: Mutex::new(memory) })
    }

    /// What a login as this user is checked against. A hash that cannot be verified is nobody's password.
    pub(super) async fn candidate(&self, name: &str) -> Result<Candidate, DjangoError> {
        let row = self.database.by_name(name).await?;
        if let Some(row) = &row
            && let Some(id) = number_of(&row.id)
        {
            self.remember(id, &lookup_of(Some(row)));
        }
        let reference = self.dummy.cost();
        let barred = || Candidate {
            hash: Arc::clone(&self.dummy),
            mark: self.dummy.mark(),
            standing: Standing::Barred,
            user: None,
            reference,
        };
        let Some(row) = row else { return Ok(barred()) };
        let Some(hash) = self.usable_hash(&row) else { return Ok(barred()) };
        let standing = if row.active { Standing::Active } else { Standing::Barred };
        let mark = CredentialMark::of(&row.password);
        Ok(Candidate { hash: Arc::new(hash), mark, standing, user: Some(user_of(row)), reference })
    }

    fn usable_hash(&self, row: &Row) -> Option<StoredHash> {
        // Django writes "!" for a user without a password, which is nothing to tell of.
        if row.password.starts_with('!') || row.password.is_empty() {
            return None;
        }
        let user = row.id.as_str();
        match StoredHash::parse_django(&row.password, &self.hashers) {
            Ok(hash) if self.pool.check_cost(hash.cost()).is_ok() => Some(hash),
            Ok(hash) => {
                let kind = hash.kind().name();
                tracing::warn!(user, kind, "a password hash needs more memory or time than one may have");
                None
            }
            Err(HashFault::Unsupported { kind }) => {
                tracing::warn!(
                    user,
                    kind,
                    "a password hash is of a kind that users.django.hashers does not list"
                );
                None
            }
            Err(HashFault::Malformed { kind }) => {
                tracing::warn!(user, kind, "a password hash is malformed");
                None
            }
        }
    }

    /// Who this id stands for: as it was read at most about `recheck` ago, or as it is now.
    pub(super) async fn find(&self, id: &str) -> Result<Lookup, DjangoError> {
        let Some(number) = number_of(id) else { return Ok(Lookup::Unknown) };
        if let Some(known) = self.fresh(number) {
            return Ok(known);
        }
        let lookup = lookup_of(self.database.by_id(number).await?.as_ref());
        self.remember(number, &lookup);
        Ok(lookup)
    }

    /// Reads everybody again who was asked for, when it is time.
    pub(super) async fn look(&self) -> Look {
        let due = {
            let mut memory = self.memory();
            let due = memory.rechecked.elapsed() >= self.recheck;
            if due {
                memory.rechecked = Instant::now();
            }
            due
        };
        if due {
            let outcome = self.recheck().await;
            let mut memory = self.memory();
            match &outcome {
                Ok(()) if memory.failing => tracing::info!("the Django database can be read again"),
                Err(error) if !memory.failing => tracing::error!(%error, "changes of users are not noticed"),
                Ok(()) | Err(_) => {}
            }
            memory.failing = outcome.is_err();
        }
        if std::mem::take(&mut self.memory().changed) { Look::Changed } else { Look::Same }
    }

    async fn recheck(&self) -> Result<(), DjangoError> {
        let mut ids: Vec<i64> = self.memory().found.keys().copied().collect();
        ids.sort_unstable();
        for batch in ids.chunks(BATCH) {
            let rows = self.database.by_ids(batch).await?;
            let rows: HashMap<i64, &Row> =
                rows.iter().filter_map(|row| Some((number_of(&row.id)?, row))).collect();
            for id in batch {
                self.remember(*id, &lookup_of(rows.get(id).copied()));
            }
        }
        Ok(())
    }

    /// Every user, in the order of ids.
    pub(super) async fn everybody(&self) -> Result<Vec<Takeover>, DjangoError> {
        let mut users = Vec::new();
        let mut after = i64::MIN;
        loop {
            let page = self.database.page(after).await?;
            let Some(last) = page.last().and_then(|row| number_of(&row.id)) else { return Ok(users) };
            after = last;
            users.extend(page.into_iter().map(|row| Takeover {
                hash: StoredHash::parse_django(&row.password, &self.hashers),
                active: row.active,
                user: user_of(row),
            }));
        }
    }

    fn fresh(&self, id: i64) -> Option<Lookup> {
        let memory = self.memory();
        let known = memory.found.get(&id)?;
        // While the database cannot be read, what is remembered grows old and is not used.
        let fresh = known.read.elapsed() <= self.recheck.saturating_add(Duration::from_secs(1));
        fresh.then(|| known.lookup.clone())
    }

    fn remember(&self, id: i64, lookup: &Lookup) {
        let mut memory = self.memory();
        if memory.found.len() >= MAX_REMEMBERED && !memory.found.contains_key(&id) {
            // Those who are forgotten are not read again, so everybody must ask for them anew.
            memory.found.clear();
            memory.changed = true;
        }
        let known = Remembered { lookup: lookup.clone(), read: Instant::now() };
        if let Some(before) = memory.found.insert(id, known)
            && before.lookup != *lookup
        {
            memory.changed = true;
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_cost() -> Cost {
    let iterations = std::num::NonZeroU32::new(DEFAULT_ITERATIONS).unwrap_or(std::num::NonZeroU32::MIN);
    Cost::Pbkdf2 { digest: super::hash::Pbkdf2Digest::Sha256, iterations }
}

fn lookup_of(row: Option<&Row>) -> Lookup {
    match row {
        None => Lookup::Unknown,
        Some(row) if !row.active => Lookup::Inactive,
        Some(row) => {
            let user = User {
                id: row.id.clone(),
                name: row.name.clone(),
                email: row.email.clone(),
                groups: row.groups.clone(),
            };
            Lookup::Active(Account { user, mark: CredentialMark::of(&row.password) })
        }
    }
}

fn user_of(row: Row) -> User {
    User { id: row.id, name: row.name, email: row.email, groups: row.groups }
}

/// The number that this id stands for. "01" and "+1" are not ids of user 1: an id has one spelling.
fn number_of(id: &str) -> Option<i64> {
    id.parse::<i64>().ok().filter(|number| number.to_string() == id)
}
