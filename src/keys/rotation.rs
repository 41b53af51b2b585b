//! Changing the keys in the store: the next one is published first and signs later, and the one before it ends once
//! everything that it has signed has ended.

use std::fmt;
use std::io;
use std::time::Duration;

use super::envelope::Kek;
use super::stored::{self, Schedule, Sealed};
use super::{KeyError, KeyRing, generate};
use crate::base::algorithm::Algorithm;
use crate::base::clock::{Clock, ClockIsWrong};
use crate::base::ids;
use crate::base::secret::Secret;
use crate::config::Tokens;
use crate::store::{Sql, Store, StoreError, Transaction, query};

/// How far clocks of gateways may differ: the key before goes on for so much longer, and who retires a key at once does so
/// by all of them.
pub const CLOCK_DIFFERENCE: Duration = Duration::from_mins(1);
/// How long the row of a retired key is kept, so that its tokens are refused by name.
const KEPT_AFTERWARDS: Duration = Duration::from_hours(30 * 24);

/// What is wanted of a rotation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The algorithm of the next key; `None` is that of the key that signs.
    pub algorithm: Option<Algorithm>,
    /// Whether it signs at once, without being published before.
    pub at_once: bool,
    /// How long the key before verifies once the next one signs; `None` is as long as its tokens live.
    pub keep: Option<Duration>,
    /// Whether others verify statements of the gateway, which cannot be signed with a shared secret.
    pub needs_pair: bool,
}

/// What came of a rotation. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The next key.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: String,
    /// When it signs.
    pub signs_at_ms: i64,
    /// The key of the store that signs until then, and when that ends.
    pub before: Option<(String, i64)>,
}

/// Why keys were not changed.
#[derive(Debug)]
pub enum RotationError {
    /// There is no key-encryption key, so keys are not in the store.
    NotInStore,
    /// A key cannot be read or made.
    Keys(KeyError),
    /// The store cannot be read or written.
    Store(StoreError),
    /// The new key-encryption key cannot be read.
    NewEncryptionKey(io::Error),
    /// The clock is not believed.
    Clock(ClockIsWrong),
    /// The next key is published already.
    UnderWay {
        /// Its id.
        kid: String,
        /// When it signs, in milliseconds since 1970.
        signs_at_ms: i64,
    },
    /// The next key is published already, and has another algorithm than is wanted.
    OtherAlgorithm {
        /// Its id.
        kid: String,
        /// Its algorithm.
        algorithm: String,
    },
    /// Upstreams get statements that a shared secret cannot sign.
    Symmetric(Algorithm),
    /// The store has no such key.
    NoSuchKey(String),
    /// The key signs, so another one has to sign first.
    Signs(String),
}

impl fmt::Display for RotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInStore => f.write_str(
                "keys are not kept in the store: set tokens.key_encryption_key_file, which encrypts them there",
            ),
            Self::Keys(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::NewEncryptionKey(error) => {
                write!(f, "the new key-encryption key cannot be read: {error}")
            }
            Self::Clock(error) => error.fmt(f),
            Self::UnderWay { kid, .. } => write!(
                f,
                "key {kid:?} is the next one already, and nothing was changed; \"tollgate key list\" says when it \
                 signs, \"tollgate key rotate --now\" lets it sign at once"
            ),
            Self::OtherAlgorithm { kid, algorithm } => write!(
                f,
                "key {kid:?} is the next one already and has the algorithm {algorithm}; nothing was changed"
            ),
            Self::Symmetric(algorithm) => write!(
                f,
                "{algorithm} cannot sign the assertions that upstreams get; choose an algorithm with a key pair"
            ),
            Self::NoSuchKey(kid) => write!(f, "the store has no key {kid:?}"),
            Self::Signs(kid) => write!(
                f,
                "key {kid:?} signs, so another one has to sign first: \"tollgate key rotate --now\""
            ),
        }
    }
}

impl std::error::Error for RotationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Keys(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::NewEncryptionKey(error) => Some(error),
            Self::Clock(error) => Some(error),
            Self::NotInStore
            | Self::UnderWay { .. }
            | Self::OtherAlgorithm { .. }
            | Self::Symmetric(_)
            | Self::NoSuchKey(_)
            | Self::Signs(_) => None,
        }
    }
}

impl From<StoreError> for RotationError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// How long a key verifies after another one signs: as long as the longest token lives, with leeway and clocks that differ.
fn life_of_tokens(tokens: &Tokens) -> Duration {
    tokens.access_lifetime.max(tokens.refresh_lifetime).saturating_add(tokens.leeway)
}

/// Makes the next key and writes it to the store. Every gateway publishes it as soon as it hears of it, and signs with it
/// after `tokens.key_rotation_delay`.
///
/// # Errors
///
/// A [`RotationError`]; nothing is changed then.
pub async fn rotate(
    store: &Store,
    tokens: &Tokens,
    wanted: &Wanted,
    clock: &Clock,
) -> Result<Rotated, RotationError> {
    let secret = tokens.key_encryption_key.as_ref().ok_or(RotationError::NotInStore)?;
    clock.credible_unix_ms().map_err(RotationError::Clock)?;
    // With a key-encryption key that opens none of the others, none is sealed.
    let sealed = store.sealed_keys().await?;
    let ring = KeyRing::load_existing(tokens, &sealed, clock).map_err(RotationError::Keys)?;
    let usual = ring.as_ref().map_or(Algorithm::EdDSA, |ring| ring.signer().algorithm());
    let algorithm = wanted.algorithm.unwrap_or(usual);
    if wanted.needs_pair && algorithm.is_symmetric() {
        return Err(RotationError::Symmetric(algorithm));
    }
    // Before the transaction: an RSA key takes its time.
    let new = NewKey::make(algorithm).map_err(RotationError::Keys)?;
    let mut transaction = begin_alone(store).await?;
    let all = stored::read(&mut transaction).await?;
    let now_ms = clock.credible_unix_ms().map_err(RotationError::Clock)?;
    let standing = Standing::of(&all, now_ms);
    let keep_ms =
        milliseconds(wanted.keep.unwrap_or_else(|| life_of_tokens(tokens)).saturating_add(CLOCK_DIFFERENCE));
    let rotated = match standing.pending {
        Some(next) if !wanted.at_once => {
            let (kid, signs_at_ms) = (next.kid.clone(), next.schedule.signs_at_ms);
            return Err(RotationError::UnderWay { kid, signs_at_ms });
        }
        Some(next) if wanted.algorithm.is_some_and(|algorithm| algorithm.name() != next.algorithm) => {
            let (kid, algorithm) = (next.kid.clone(), next.algorithm.clone());
            return Err(RotationError::OtherAlgorithm { kid, algorithm });
        }
        Some(next) => {
            let signs_at_ms = standing.earliest(now_ms);
            let sign = "UPDATE token_keys SET signs_at = $2 WHERE kid = $1";
            query(sign).bind(&next.kid).bind(signs_at_ms).execute(&mut transaction).await?;
            standing.follow(&mut transaction, signs_at_ms, keep_ms).await?.told(&next.kid, &next.algorithm)
        }
        None => {
            // Where nothing signs yet, nobody has to learn of it first.
            let waits = ring.is_some() && !wanted.at_once;
            let delay_ms = if waits { milliseconds(tokens.key_rotation_delay) } else { 0 };
            let signs_at_ms = standing.earliest(now_ms.saturating_add(delay_ms));
            let kek = Kek::of(secret).map_err(KeyError::on_seal(&new.kid)).map_err(RotationError::Keys)?;
            let schedule = Schedule { signs_at_ms, retires_at_ms: None };
            let key = new.sealed(&kek, schedule).map_err(RotationError::Keys)?;
            let told = standing.follow(&mut transaction, signs_at_ms, keep_ms).await?;
            stored::insert(&mut transaction, &key, now_ms).await?;
            told.told(&key.kid, &key.algorithm)
        }
    };
    let forget = "DELETE FROM token_keys WHERE retires_at < $1";
    let forgotten_ms = now_ms.saturating_sub(milliseconds(KEPT_AFTERWARDS));
    query(forget).bind(forgotten_ms).execute(&mut transaction).await?;
    transaction.commit().await?;
    Ok(rotated)
}

/// Ends a key of the store now: what it has signed is refused everywhere as soon as the gateways hear of it. The next key,
/// which has signed nothing, is withdrawn, and the one before it goes on. That it has ended already is no fault.
///
/// # Errors
///
/// A [`RotationError`]; nothing is changed then.
pub async fn retire(store: &Store, tokens: &Tokens, kid: &str, clock: &Clock) -> Result<(), RotationError> {
    if tokens.key_encryption_key.is_none() {
        return Err(RotationError::NotInStore);
    }
    let mut transaction = begin_alone(store).await?;
    let all = stored::read(&mut transaction).await?;
    let now_ms = clock.credible_unix_ms().map_err(RotationError::Clock)?;
    let standing = Standing::of(&all, now_ms);
    let is = |key: Option<&Sealed>| key.is_some_and(|key| key.kid == kid);
    let Some(key) = all.iter().find(|key| key.kid == kid) else {
        return Err(RotationError::NoSuchKey(kid.to_owned()));
    };
    if key.schedule.is_over(now_ms) {
        return Ok(());
    }
    if is(standing.signer) {
        return Err(RotationError::Signs(kid.to_owned()));
    }
    if is(standing.pending) {
        let withdraw = "DELETE FROM token_keys WHERE kid = $1";
        query(withdraw).bind(kid).execute(&mut transaction).await?;
        if let Some(signer) = standing.signer {
            let go_on = "UPDATE token_keys SET retires_at = NULL WHERE kid = $1";
            query(go_on).bind(&signer.kid).execute(&mut transaction).await?;
        }
    } else {
        // By a clock that is late as well.
        let retires_at_ms = now_ms.saturating_sub(milliseconds(CLOCK_DIFFERENCE));
        let end = "UPDATE token_keys SET retires_at = $2 WHERE kid = $1";
        query(end).bind(kid).bind(retires_at_ms).execute(&mut transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Encrypts all keys of the store with another key-encryption key, and returns how many they are. Gateways that run keep the
/// keys that they have until they are given that one.
///
/// # Errors
///
/// A [`RotationError`]; nothing is changed then.
pub async fn rewrap(store: &Store, tokens: &Tokens, new: &Secret) -> Result<usize, RotationError> {
    let old = tokens.key_encryption_key.as_ref().ok_or(RotationError::NotInStore)?;
    let kek = |secret| Kek::of(secret).map_err(KeyError::on_seal("")).map_err(RotationError::Keys);
    let (old, new) = (kek(old)?, kek(new)?);
    let mut transaction = begin_alone(store).await?;
    let all = stored::read(&mut transaction).await?;
    for key in &all {
        let sealed = key.rewrapped(&old, &new).map_err(RotationError::Keys)?;
        stored::replace(&mut transaction, &sealed).await?;
    }
    transaction.commit().await?;
    Ok(all.len())
}

/// Makes the first key, unless another gateway has just done so.
pub(super) async fn make_first(store: &Store, kek: &Kek, clock: &Clock) -> Result<(), KeyError> {
    let new = NewKey::make(Algorithm::EdDSA)?;
    let mut transaction = begin_alone(store).await.map_err(KeyError::Store)?;
    let all = stored::read(&mut transaction).await.map_err(KeyError::Store)?;
    let now_ms = clock.now_unix_ms();
    let standing = Standing::of(&all, now_ms);
    if standing.signer.or(standing.pending).is_some() {
        return Ok(());
    }
    let signs_at_ms = standing.earliest(now_ms);
    let key = new.sealed(kek, Schedule { signs_at_ms, retires_at_ms: None })?;
    stored::insert(&mut transaction, &key, now_ms).await.map_err(KeyError::Store)?;
    transaction.commit().await.map_err(KeyError::Store)
}

/// Begins a transaction in which nobody else changes keys: SQLite has one writer, and in PostgreSQL a row is locked.
async fn begin_alone(store: &Store) -> Result<Transaction, StoreError> {
    let mut transaction = store.begin().await?;
    let lock = Sql::of(
        "SELECT value FROM revisions WHERE topic = 'keys'",
        "SELECT value FROM revisions WHERE topic = 'keys' FOR UPDATE",
    );
    query(lock).fetch_one(&mut transaction).await?;
    Ok(transaction)
}

/// A key that is in no store yet.
struct NewKey {
    kid: String,
    algorithm: Algorithm,
    text: zeroize::Zeroizing<String>,
}

impl NewKey {
    fn make(algorithm: Algorithm) -> Result<Self, KeyError> {
        let id = ids::random_id().map_err(KeyError::Randomness)?;
        let kid = id.chars().take(generate::KID_LETTERS).collect();
        Ok(Self { kid, algorithm, text: generate::new_key_file(algorithm)? })
    }

    fn sealed(&self, kek: &Kek, schedule: Schedule) -> Result<Sealed, KeyError> {
        Sealed::new(kek, &self.kid, self.algorithm, &self.text, schedule)
    }
}

/// Which key signs and which one will.
struct Standing<'a> {
    signer: Option<&'a Sealed>,
    pending: Option<&'a Sealed>,
    /// When the last one signs, or signed first.
    last_ms: i64,
}

impl<'a> Standing<'a> {
    fn of(all: &'a [Sealed], now_ms: i64) -> Self {
        let good = || all.iter().filter(|key| !key.schedule.is_over(now_ms));
        let signer = good().rfind(|key| key.schedule.signs_at_ms <= now_ms);
        let pending = good().rfind(|key| key.schedule.signs_at_ms > now_ms);
        let last = all.iter().map(|key| key.schedule.signs_at_ms).filter(|&time| time <= now_ms).max();
        Self { signer, pending, last_ms: last.unwrap_or(i64::MIN) }
    }

    /// When the next key signs at the earliest: no two begin at the same moment.
    fn earliest(&self, wanted_ms: i64) -> i64 {
        wanted_ms.max(self.last_ms.saturating_add(1))
    }

    /// Sets the end of the key that signs until then.
    async fn follow(
        &self,
        transaction: &mut Transaction,
        signs_at_ms: i64,
        keep_ms: i64,
    ) -> Result<Followed<'a>, StoreError> {
        let Some(signer) = self.signer else { return Ok(Followed { signs_at_ms, before: None }) };
        let retires_at_ms = signs_at_ms.saturating_add(keep_ms);
        let end = "UPDATE token_keys SET retires_at = $2 WHERE kid = $1";
        query(end).bind(&signer.kid).bind(retires_at_ms).execute(transaction).await?;
        Ok(Followed { signs_at_ms, before: Some((&signer.kid, retires_at_ms)) })
    }
}

struct Followed<'a> {
    signs_at_ms: i64,
    before: Option<(&'a str, i64)>,
}

impl Followed<'_> {
    fn told(self, kid: &str, algorithm: &str) -> Rotated {
        Rotated {
            kid: kid.to_owned(),
            algorithm: algorithm.to_owned(),
            signs_at_ms: self.signs_at_ms,
            before: self.before.map(|(kid, retires_at_ms)| (kid.to_owned(), retires_at_ms)),
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
