//! Users: who may log in, and who a token's user id stands for now.
//!
//! [`Directory`] is the one door, whether the users are in the [`Store`] or in an htpasswd [`mod@file`]. A login takes the
//! same path and time whether the user exists or not; [`password`] bounds what hashing may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::base::user::User;
use crate::config::{self, UserSource};
use crate::store::{Changes, Store, StoreError, Version};

mod django;
pub mod error;
pub mod file;
pub mod hash;
pub mod import;
pub mod name;
pub mod password;
mod store;
mod threads;

pub use error::{Unavailable, UserChangeError, UsersError, UsersOpenError};
pub use hash::{CredentialMark, StoredHash};
pub use name::{EmailFault, NameFault, check_email, normal_group, normal_name};
pub use password::{HashPool, HashQueue};

pub use django::DjangoError;

use django::DjangoUsers;
use file::{FileUsers, Look};
use hash::HashFault;
use password::{HashError, Standing, Verdict};

/// An active user, and the mark of the password that is valid now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who it is.
    pub user: User,
    /// Changes with the password.
    pub mark: CredentialMark,
}

/// The outcome of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The password is that of this active user.
    Accepted(Account),
    /// Unknown user, wrong password or inactive user: which one is told to nobody.
    Refused,
}

/// What a user id stands for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This user.
    Active(Account),
    /// A user who is switched off.
    Inactive,
    /// Nobody, or nobody any more.
    Unknown,
    /// The store has never held a user: the gateway only verifies tokens, and their claims say who somebody is.
    Unmanaged,
}

/// The users of the configured source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    pool: HashPool,
    epoch: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Source {
    Store(StoreUsers),
    File(Arc<FileUsers>),
    Django(DjangoUsers),
}

#[derive(Debug)]
struct StoreUsers {
    store: Store,
    /// Verified for a user who does not exist: as costly as new hashes.
    dummy: Arc<StoredHash>,
    seen: Mutex<Seen>,
    /// Held while a hash is replaced.
    upgrading: Arc<Mutex<()>>,
}

/// What the last look at the store saw.
#[derive(Debug)]
struct Seen {
    version: Version,
    revision: i64,
    failing: bool,
}

/// What a login is checked against.
struct Candidate {
    hash: Arc<StoredHash>,
    /// Changes with the password, but not with the form that its hash has.
    mark: CredentialMark,
    standing: Standing,
    user: Option<User>,
    /// A hash of what cost the refusal must take the time of.
    reference: hash::Cost,
}

impl Directory {
    /// Opens the configured source. `store` may be missing when the source is a file.
    ///
    /// # Errors
    ///
    /// A [`UsersOpenError`]; for a file it names the line.
    pub async fn open(
        users: &config::Users,
        store: Option<&Store>,
        clock: Clock,
    ) -> Result<Self, UsersOpenError> {
        let pool = HashPool::new(&users.hashing);
        let source = match &users.source {
            UserSource::Store => {
                let store = store.ok_or(UsersOpenError::NoStore)?.clone();
                let dummy = StoredHash::dummy(pool.usual_cost()).map_err(UsersOpenError::Randomness)?;
                // From here on every change is noticed, also one before the watching begins.
                let version = store.version().await.map_err(UsersOpenError::Store)?;
                let revision = store.users_revision().await.map_err(UsersOpenError::Store)?;
                let seen = Mutex::new(Seen { version, revision, failing: false });
                let upgrading = Arc::new(Mutex::new(()));
                Source::Store(StoreUsers { store, dummy: Arc::new(dummy), seen, upgrading })
            }
            UserSource::File(path) => {
                let file = FileUsers::open(path.clone(), pool.clone(), clock);
                Source::File(Arc::new(file.map_err(UsersOpenError::File)?))
            }
            UserSource::Django(users) => {
                Source::Django(DjangoUsers::open(users, pool.clone()).await.map_err(UsersOpenError::from)?)
            }
        };
        Ok(Self { inner: Arc::new(Inner { source, pool, epoch: Arc::new(AtomicU64::new(0)) }) })
    }

    /// Checks a name and a password as a client sent them. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// A [`UsersError`], which says nothing about the user.
    pub async fn authenticate(&self, name: &str, password: &Secret) -> Result<Login, UsersError> {
        // Nobody has such a password, whoever it is tried for.
        if password.is_empty() || password.len() > bounds::MAX_PASSWORD_BYTES {
            return Ok(Login::Refused);
        }
        let turn = self.inner.pool.turn().await?;
        // The empty name is nobody's, and looked up like any other.
        let name = normal_name(name).unwrap_or_default();
        let candidate = self.candidate(&name).await?;
        let verdict = self
            .inner
            .pool
            .verify(&turn, password, &candidate.hash, candidate.standing, candidate.reference)
            .await
            .inspect_err(|error| log_unusable(candidate.user.as_ref(), error))?;
        drop(turn);
        match verdict {
            Verdict::Refused => Ok(Login::Refused),
            Verdict::Accepted => {
                // Hashing and waiting for it take time, in which the user may have been changed.
                let now = self.candidate(&name).await?;
                let same = now.standing == Standing::Active && now.mark == candidate.mark;
                let (mark, user) = (now.mark, now.user.filter(|_| same));
                let Some(user) = user else { return Ok(Login::Refused) };
                if let Source::Store(users) = &self.inner.source {
                    users.upgrade(&self.inner.pool, &user.id, password, &now.hash);
                }
                Ok(Login::Accepted(Account { user, mark }))
            }
        }
    }

    /// Who this user id stands for now.
    ///
    /// # Errors
    ///
    /// [`UsersError::Unavailable`] when the store cannot be read.
    pub async fn find(&self, id: &str) -> Result<Lookup, UsersError> {
        match &self.inner.source {
            Source::Store(users) => Ok(users.store.user_by_id(id).await?),
            Source::File(file) => Ok(match file.table().user(id) {
                Some(entry) if entry.active => {
                    Lookup::Active(Account { user: entry.user.clone(), mark: entry.hash.mark() })
                }
                Some(_) => Lookup::Inactive,
                None => Lookup::Unknown,
            }),
            Source::Django(users) => Ok(users.find(id).await?),
        }
    }

    /// Who has this login name now.
    ///
    /// # Errors
    ///
    /// A [`UsersError`] when the source cannot be read.
    pub async fn find_named(&self, name: &str) -> Result<Lookup, UsersError> {
        let candidate = self.candidate(&normal_name(name).unwrap_or_default()).await?;
        match (candidate.user, candidate.standing) {
            (Some(user), Standing::Active) => Ok(Lookup::Active(Account { user, mark: candidate.mark })),
            (Some(_), Standing::Barred) => Ok(Lookup::Inactive),
            // Nobody has the empty id; it tells whether there are users at all.
            (None, _) => self.find("").await,
        }
    }

    /// Who waits to be hashed.
    pub fn hash_queue(&self) -> HashQueue {
        self.inner.pool.queue()
    }

    /// Whether so many wait to be hashed that another one would be refused; then it counts as refused.
    pub fn is_overloaded(&self) -> bool {
        self.inner.pool.refuses()
    }

    /// Whether both are one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Rises whenever any user may have changed, also by another process. What was found at an older epoch must be found
    /// again.
    pub fn epoch(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.epoch)
    }

    /// Looks for changes every [`bounds::WATCH_INTERVAL_MS`] milliseconds until it is dropped.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.changes();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changes.next() => {}
            }
            self.look().await;
        }
    }

    fn changes(&self) -> Changes {
        match &self.inner.source {
            Source::Store(users) => users.store.changes(),
            Source::File(_) | Source::Django(_) => Changes::none(),
        }
    }

    async fn look(&self) {
        let look = match &self.inner.source {
            Source::Store(users) => users.look().await,
            Source::File(file) => {
                let file = Arc::clone(file);
                // Only a stopping runtime refuses the job.
                tokio::task::spawn_blocking(move || file.look()).await.unwrap_or(Look::Same)
            }
            Source::Django(users) => users.look().await,
        };
        match look {
            Look::Same => {}
            // The change can be found already, so nobody can note the new epoch with the old user.
            Look::Changed => {
                self.inner.epoch.fetch_add(1, Ordering::Release);
            }
        }
    }

    async fn candidate(&self, name: &str) -> Result<Candidate, UsersError> {
        match &self.inner.source {
            Source::Store(users) => users.candidate(name).await,
            Source::File(file) => {
                let table = file.table();
                let dummy = table.dummy();
                let reference = dummy.cost();
                Ok(match table.user(name) {
                    Some(entry) => {
                        let standing = if entry.active { Standing::Active } else { Standing::Barred };
                        let (hash, mark) = (Arc::clone(&entry.hash), entry.hash.mark());
                        Candidate { hash, mark, standing, user: Some(entry.user.clone()), reference }
                    }
                    None => barred(dummy),
                })
            }
            Source::Django(users) => Ok(users.candidate(name).await?),
        }
    }
}

/// What is checked where there is no user: nobody gets in, and it takes as long.
fn barred(dummy: Arc<StoredHash>) -> Candidate {
    let (mark, reference) = (dummy.mark(), dummy.cost());
    Candidate { hash: dummy, mark, standing: Standing::Barred, user: None, reference }
}

impl StoreUsers {
    async fn candidate(&self, name: &str) -> Result<Candidate, UsersError> {
        let reference = self.dummy.cost();
        let Some(record) = self.store.user_by_name(name).await? else {
            return Ok(barred(Arc::clone(&self.dummy)));
        };
        let parsed = StoredHash::parse(&record.hash).map_err(HashError::Fault);
        let hash = parsed.inspect_err(|error| log_unusable(Some(&record.user), error))?;
        let standing = if record.active { Standing::Active } else { Standing::Barred };
        let hash = Arc::new(hash);
        Ok(Candidate { hash, mark: record.mark, standing, user: Some(record.user), reference })
    }

    /// Replaces the hash of another system, now that the password is known, by one of argon2id. It is done in the
    /// background, one at a time; whoever comes in between is upgraded at the next login.
    fn upgrade(&self, pool: &HashPool, id: &str, password: &Secret, old: &Arc<StoredHash>) {
        if old.kind() == hash::Kind::Argon2 {
            return;
        }
        let Ok(alone) = Arc::clone(&self.upgrading).try_lock_owned() else { return };
        let (store, pool, old) = (self.store.clone(), pool.clone(), Arc::clone(old));
        let (id, password) = (id.to_owned(), password.clone());
        tokio::spawn(async move {
            let _alone = alone;
            // A full queue or a locked store: the next login will do.
            let Ok(new) = pool.hash(&password).await else { return };
            match store.upgrade_password(&id, &old, &new).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(user = id, %error, "a password hash was not upgraded"),
            }
        });
    }

    /// Looks whether users have changed. The first failure in a row is logged.
    async fn look(&self) -> Look {
        let mut seen = self.seen.lock().await;
        match self.compare(&mut seen).await {
            Ok(look) => {
                if seen.failing {
                    tracing::info!("the store can be read again");
                }
                seen.failing = false;
                look
            }
            Err(error) => {
                if !seen.failing {
                    tracing::error!(%error, "changes of users are not noticed");
                }
                seen.failing = true;
                Look::Same
            }
        }
    }

    async fn compare(&self, seen: &mut Seen) -> Result<Look, StoreError> {
        let version = self.store.version().await?;
        let is_another = version.generation != seen.version.generation;
        if !is_another && version.users == seen.version.users {
            return Ok(Look::Same);
        }
        // Read after the version: what is committed in between is seen at the next look once more.
        let revision = self.store.users_revision().await?;
        // Behind a new connection there may be a copy of the database that counts some changes once more.
        let is_same = revision == seen.revision && !(is_another && self.store.is_shared());
        let look = if is_same { Look::Same } else { Look::Changed };
        (seen.version, seen.revision) = (version, revision);
        Ok(look)
    }
}

/// A hash that cannot be verified is for the operator to mend: the client learns only that it did not work.
fn log_unusable(user: Option<&User>, error: &HashError) {
    let user = user.map(|user| user.id.as_str());
    match error {
        HashError::Overloaded | HashError::Stopped => {}
        HashError::TooCostly
        | HashError::Fault(HashFault::Malformed { .. } | HashFault::Unsupported { .. })
        | HashError::Randomness(_)
        | HashError::Parameters(_) => tracing::error!(user, %error, "a password cannot be verified"),
    }
}

#[cfg(test)]
mod tests;
