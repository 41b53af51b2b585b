//! Keys in the store, which several gateways share: how they stand there, sealed, and when each of them does what.
//!
//! What a key does follows from two instants in its row and from the time. So gateways agree on it without a word, and a
//! gateway that cannot reach the store goes on with what it has read.

use std::cmp::Ordering;

use zeroize::Zeroizing;

use super::envelope::Kek;
use super::{Key, KeyError, KeyFault, pem};
use crate::base::algorithm::Algorithm;
use crate::base::secret::Secret;
use crate::store::{Row, Store, StoreError, Target, query};

/// A key as it stands in the store.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub(super) kid: String,
    /// The name of its algorithm.
    pub(super) algorithm: String,
    pub(super) schedule: Schedule,
    /// The key, encrypted.
    inside: Vec<u8>,
}

/// When a key of the store signs, and when it ends; in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From then on it signs, until one does that began later. It verifies and is published before.
    pub signs_at_ms: i64,
    /// From then on nothing that it has signed is accepted; `None` as long as nothing follows it.
    pub retires_at_ms: Option<i64>,
}

/// What a key does at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is published, and will sign.
    Pending,
    /// It signs.
    Signing,
    /// It only verifies.
    Verifying,
    /// Nothing that it has signed is accepted.
    Retired,
}

impl Schedule {
    /// Whether its time is over.
    pub(super) fn is_over(self, now_ms: i64) -> bool {
        self.retires_at_ms.is_some_and(|retires_at_ms| retires_at_ms <= now_ms)
    }

    /// Which of two signs, of those whose time is not over: who began last. Who has not begun comes after that, the first
    /// one first, for the case that there is no other.
    pub(super) fn precedence(self, other: Self, now_ms: i64) -> Ordering {
        let (mine, others) = (self.signs_at_ms, other.signs_at_ms);
        match (mine <= now_ms, others <= now_ms) {
            (true, true) => mine.cmp(&others),
            (false, false) => others.cmp(&mine),
            (begun, _) => begun.cmp(&!begun),
        }
    }
}

impl Sealed {
    /// One that is new.
    pub(super) fn new(
        kek: &Kek,
        kid: &str,
        algorithm: Algorithm,
        text: &str,
        schedule: Schedule,
    ) -> Result<Self, KeyError> {
        let inside = kek.seal(kid, algorithm, text.as_bytes()).map_err(KeyError::on_seal(kid))?;
        Ok(Self { kid: kid.to_owned(), algorithm: algorithm.name().to_owned(), schedule, inside })
    }

    /// The key itself.
    pub(super) fn open(&self, kek: &Kek) -> Result<Key, KeyError> {
        let opened = self.opened(kek);
        let key = opened.map_err(|fault| KeyError::Stored { kid: self.kid.clone(), fault })?;
        Ok(key.scheduled(self.schedule))
    }

    fn opened(&self, kek: &Kek) -> Result<Key, KeyFault> {
        let (algorithm, bytes) = self.text(kek)?;
        if algorithm.is_symmetric() {
            let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            return Key::from_secret(&self.kid, algorithm, &Secret::new(secret));
        }
        pem::parse(&self.kid, algorithm, &pem::KeyText::private(&bytes)?)
    }

    /// The same key, encrypted with another key-encryption key.
    pub(super) fn rewrapped(&self, old: &Kek, new: &Kek) -> Result<Self, KeyError> {
        let rewrapped = self.text(old).and_then(|(algorithm, text)| new.seal(&self.kid, algorithm, &text));
        Ok(Self { inside: rewrapped.map_err(KeyError::on_seal(&self.kid))?, ..self.clone() })
    }

    /// The text that was sealed.
    pub(super) fn text(&self, kek: &Kek) -> Result<(Algorithm, Zeroizing<Vec<u8>>), KeyFault> {
        let algorithm = Algorithm::from_name(&self.algorithm).ok_or(KeyFault::Altered)?;
        Ok((algorithm, kek.open(&self.kid, algorithm, &self.inside)?))
    }

    fn of_row(row: &Row) -> Result<Self, StoreError> {
        let schedule = Schedule { signs_at_ms: row.get("signs_at")?, retires_at_ms: row.get("retires_at")? };
        Ok(Self { kid: row.get("kid")?, algorithm: row.get("alg")?, schedule, inside: row.get("sealed")? })
    }
}

/// Reads all keys, in the order in which they sign.
pub(super) async fn read(target: &mut impl Target) -> Result<Vec<Sealed>, StoreError> {
    let all = query("SELECT kid, alg, signs_at, retires_at, sealed FROM token_keys ORDER BY signs_at, kid");
    all.fetch_all(target).await?.iter().map(Sealed::of_row).collect()
}

/// Writes a new one.
pub(super) async fn insert(target: &mut impl Target, key: &Sealed, now_ms: i64) -> Result<(), StoreError> {
    let insert = "INSERT INTO token_keys (kid, alg, created_at, signs_at, retires_at, sealed) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    query(insert)
        .bind(&key.kid)
        .bind(&key.algorithm)
        .bind(now_ms)
        .bind(key.schedule.signs_at_ms)
        .bind(key.schedule.retires_at_ms)
        .bind(key.inside.as_slice())
        .execute(target)
        .await
        .map(drop)
}

/// Puts a key that is encrypted anew in the place of itself.
pub(super) async fn replace(target: &mut impl Target, key: &Sealed) -> Result<(), StoreError> {
    let replace = query("UPDATE token_keys SET sealed = $2 WHERE kid = $1");
    replace.bind(&key.kid).bind(key.inside.as_slice()).execute(target).await.map(drop)
}

impl Store {
    /// The keys in the store, as they stand there.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn sealed_keys(&self) -> Result<Vec<Sealed>, StoreError> {
        read(&mut self.watching_connection().await?).await
    }
}

/// Notices changes of the keys in the store, by anybody.
#[derive(Debug)]
pub struct KeyWatch {
    store: Store,
    seen: Option<Seen>,
}

/// What was last seen of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Differs when the connection was lost: then everything is read again.
    generation: i64,
    /// Differs when keys may have changed.
    version: i64,
    /// Differs when they have.
    revision: i64,
}

/// What a look at the store has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// The keys may be others; this is to be told once they were taken in.
    Some(Look),
}

/// A look that has found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look(Seen);

impl KeyWatch {
    /// One that has seen nothing.
    pub fn new(store: Store) -> Self {
        Self { store, seen: None }
    }

    /// Looks once. It is asked all the time, so it reads nothing while nothing is written.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn look(&mut self) -> Result<News, StoreError> {
        let version = self.store.version().await?;
        let (generation, version) = (version.generation, version.keys);
        if let Some(seen) = self.seen.filter(|seen| seen.generation == generation)
            && seen.version == version
        {
            return Ok(News::None);
        }
        let read = query("SELECT value FROM revisions WHERE topic = 'keys'");
        let row = read.fetch_one(&mut self.store.watching_connection().await?).await?;
        let now = Seen { generation, version, revision: row.get("value")? };
        let same = |seen: Seen| seen.generation == generation && seen.revision == now.revision;
        if self.seen.is_some_and(same) {
            self.seen = Some(now);
            return Ok(News::None);
        }
        Ok(News::Some(Look(now)))
    }

    /// Says that what was found is known now, whatever came of it.
    pub fn settle(&mut self, look: Look) {
        self.seen = Some(look.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_last_signs_and_who_has_not_begun_only_in_need() {
        let at = |signs_at_ms| Schedule { signs_at_ms, retires_at_ms: None };
        let signs = |times: &[i64], now_ms| {
            let all = times.iter().map(|&time| at(time));
            all.max_by(|one, other| one.precedence(*other, now_ms)).unwrap().signs_at_ms
        };
        assert_eq!(signs(&[10, 20, 30], 25), 20);
        assert_eq!(signs(&[30, 20, 10], 30), 30);
        assert_eq!(signs(&[30, 20], 15), 20);
        assert_eq!(signs(&[20, 30], 15), 20);
    }
}
