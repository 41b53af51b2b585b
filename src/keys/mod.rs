//! The keys that sign and verify tokens, by their id.
//!
//! An algorithm always belongs to a key. What a token's header says is only compared with it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::base::algorithm::Algorithm;
use crate::base::clock::Clock;
use crate::base::ids::RandomnessUnavailable;
use crate::config;
use crate::store::{Store, StoreError};

mod envelope;
mod generate;
mod key;
mod pem;
mod rotation;
mod stored;

pub use generate::new_key_file;
pub use key::{Key, SigningFailed};
pub use rotation::{CLOCK_DIFFERENCE, Rotated, RotationError, Wanted, retire, rewrap, rotate};
pub use stored::{KeyWatch, Look, News, Schedule, Sealed, State};

use envelope::Kek;

/// The number of the next ring.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Every key of the gateway: those that sign, each in its time, and all that verify.
#[derive(Debug)]
pub struct KeyRing {
    /// Tells rings apart.
    number: u64,
    /// Those of files and of the configuration, the one that signs first.
    local: Vec<Arc<Key>>,
    /// Those of the store.
    stored: Vec<Arc<Key>>,
    /// What signs when no key of the store does.
    signer: Arc<Key>,
    clock: Clock,
}

impl KeyRing {
    /// Loads every configured key. Without any, loads the key in `tokens.key_directory`, or generates an `EdDSA` key there.
    /// What is in the store is left out.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] for the first key that cannot be used, or when the first one cannot sign.
    pub fn load(tokens: &config::Tokens, clock: &Clock) -> Result<Self, KeyError> {
        Self::load_with(tokens, &[], clock)
    }

    /// The same with those of the store, where `tokens.key_encryption_key` is set. Then none is made.
    ///
    /// # Errors
    ///
    /// As [`KeyRing::load`], and [`KeyError::NoneInStore`] where one has to be made.
    pub fn load_with(tokens: &config::Tokens, sealed: &[Sealed], clock: &Clock) -> Result<Self, KeyError> {
        let in_store = tokens.key_encryption_key.is_some();
        let local = match (tokens.keys.is_empty(), in_store) {
            (false, _) => tokens.keys.iter().map(load_configured).collect::<Result<Vec<_>, _>>()?,
            (true, true) => generate::load_all(&tokens.key_directory)?,
            (true, false) => generate::load_or_generate(&tokens.key_directory)?,
        };
        if let Some(first) = local.first().filter(|_| !in_store)
            && let Some(fault) = first.signing_fault()
        {
            let file = tokens.keys.first().and_then(|key| file_of(&key.material)).map(Path::to_path_buf);
            return Err(KeyError::Key { kid: first.kid().to_owned(), file, fault });
        }
        let local = local.into_iter().map(Arc::new).collect();
        Self::of(local, tokens, sealed, clock)
    }

    /// The same keys of files and of the configuration with others of the store.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] of a key of the store.
    pub fn with_stored(&self, tokens: &config::Tokens, sealed: &[Sealed]) -> Result<Self, KeyError> {
        Self::of(self.local.clone(), tokens, sealed, &self.clock)
    }

    fn of(
        local: Vec<Arc<Key>>,
        tokens: &config::Tokens,
        sealed: &[Sealed],
        clock: &Clock,
    ) -> Result<Self, KeyError> {
        let stored = open_all(tokens, sealed)?;
        if let Some(twice) = stored.iter().find(|key| local.iter().any(|local| local.kid() == key.kid())) {
            return Err(KeyError::Stored { kid: twice.kid().to_owned(), fault: KeyFault::Twice });
        }
        let now_ms = clock.now_unix_ms();
        let signs = |key: &&Arc<Key>| key.signing_fault().is_none();
        let signer = local.first().filter(signs).or_else(|| latest(&stored, now_ms)).map(Arc::clone);
        let signer = signer.ok_or_else(|| match tokens.key_encryption_key {
            Some(_) => KeyError::NoneInStore,
            None => KeyError::Directory {
                path: tokens.key_directory.clone(),
                source: io::Error::from(io::ErrorKind::NotFound),
            },
        })?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, local, stored, signer, clock: clock.clone() })
    }

    /// The same without making a key: `None` where one would be made.
    ///
    /// # Errors
    ///
    /// A [`KeyError`], as [`KeyRing::load_with`] has it.
    pub fn load_existing(
        tokens: &config::Tokens,
        sealed: &[Sealed],
        clock: &Clock,
    ) -> Result<Option<Self>, KeyError> {
        let in_store = tokens.key_encryption_key.is_some();
        if !in_store && tokens.keys.is_empty() && generate::key_files(&tokens.key_directory)?.is_empty() {
            return Ok(None);
        }
        match Self::load_with(tokens, sealed, clock) {
            Err(KeyError::NoneInStore) => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    /// Loads all keys, also those of the store, and makes one there, or in `tokens.key_directory`, where there is none.
    ///
    /// # Errors
    ///
    /// A [`KeyError`].
    pub async fn open(tokens: &config::Tokens, store: &Store, clock: &Clock) -> Result<Self, KeyError> {
        let Some(secret) = &tokens.key_encryption_key else { return Self::load(tokens, clock) };
        let sealed = store.sealed_keys().await.map_err(KeyError::Store)?;
        match Self::load_with(tokens, &sealed, clock) {
            Err(KeyError::NoneInStore) => {}
            loaded => return loaded,
        }
        let kek = Kek::of(secret).map_err(KeyError::on_seal(""))?;
        rotation::make_first(store, &kek, clock).await?;
        let sealed = store.sealed_keys().await.map_err(KeyError::Store)?;
        Self::load_with(tokens, &sealed, clock)
    }

    /// Whether the same tokens pass, and the same ones are made, now and later.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |mine: &[Arc<Key>], others: &[Arc<Key>]| {
            mine.len() == others.len() && mine.iter().zip(others).all(|(one, other)| one.is_same(other))
        };
        same(&self.local, &other.local) && same(&self.stored, &other.stored)
    }

    /// What tells this ring from every other one of the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The key that signs now.
    pub fn signer(&self) -> &Key {
        let now_ms = self.clock.now_unix_ms();
        let begun = |key: &&Arc<Key>| {
            let begins = key.schedule().is_some_and(|schedule| schedule.signs_at_ms <= now_ms);
            begins || self.signer.schedule().is_some()
        };
        latest(&self.stored, now_ms).filter(begun).unwrap_or(&self.signer)
    }

    /// What a key of this ring does now.
    pub fn state(&self, key: &Key) -> State {
        let now_ms = self.clock.now_unix_ms();
        if key.is_retired(now_ms) {
            State::Retired
        } else if self.signer().kid() == key.kid() {
            State::Signing
        } else if key.schedule().is_some_and(|schedule| schedule.signs_at_ms > now_ms) {
            State::Pending
        } else {
            State::Verifying
        }
    }

    /// The key of this id, retired or not.
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.keys().find(|key| key.kid() == kid)
    }

    /// All keys, retired ones among them: first those of the configuration, then those of the store in the order in which
    /// they sign.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.local.iter().chain(&self.stored).map(AsRef::as_ref)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517 section 5): no symmetric keys, and none that has retired.
    pub fn jwks_json(&self) -> String {
        let now_ms = self.clock.now_unix_ms();
        let published = self.keys().filter(|key| !key.is_retired(now_ms));
        let keys: Vec<Value> = published.filter_map(Key::public_jwk).collect();
        json!({ "keys": keys }).to_string()
    }
}

/// The key that signs among those of the store.
fn latest(stored: &[Arc<Key>], now_ms: i64) -> Option<&Arc<Key>> {
    let good = stored.iter().filter(|key| !key.is_retired(now_ms));
    good.filter_map(|key| Some((key.schedule()?, key)))
        .max_by(|(one, _), (other, _)| one.precedence(*other, now_ms))
        .map(|(_, key)| key)
}

/// Opens the keys of the store, where they are wanted.
fn open_all(tokens: &config::Tokens, sealed: &[Sealed]) -> Result<Vec<Arc<Key>>, KeyError> {
    let Some(secret) = &tokens.key_encryption_key else { return Ok(Vec::new()) };
    let kek = Kek::of(secret).map_err(KeyError::on_seal(""))?;
    sealed.iter().map(|key| key.open(&kek).map(Arc::new)).collect()
}

fn load_configured(key: &config::Key) -> Result<Key, KeyError> {
    let loaded = match &key.material {
        config::KeyMaterial::Secret(secret) => Key::from_secret(&key.kid, key.algorithm, secret),
        config::KeyMaterial::PemFile(path) => {
            pem::read_file(path).and_then(|text| pem::parse(&key.kid, key.algorithm, &text))
        }
    };
    let fault = |fault| KeyError::Key {
        kid: key.kid.clone(),
        file: file_of(&key.material).map(Path::to_path_buf),
        fault,
    };
    loaded.map(|loaded| loaded.until(key.verify_until)).map_err(fault)
}

fn file_of(material: &config::KeyMaterial) -> Option<&Path> {
    match material {
        config::KeyMaterial::PemFile(path) => Some(path),
        config::KeyMaterial::Secret(_) => None,
    }
}

/// Why the keys cannot be used. It never holds a byte of a key.
#[derive(Debug)]
pub enum KeyError {
    /// One key is at fault.
    Key {
        /// Its id.
        kid: String,
        /// Its file, when it has one.
        file: Option<PathBuf>,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The directory of generated keys cannot be read or written.
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A key of the store is at fault.
    Stored {
        /// Its id.
        kid: String,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The keys in the store cannot be read or written.
    Store(StoreError),
    /// There is no key in the store, and none elsewhere that may sign.
    NoneInStore,
    /// There was no randomness to make a key of.
    Randomness(RandomnessUnavailable),
    /// The cryptographic library made no key.
    NotGenerated,
}

/// What is wrong with one key.
#[derive(Debug)]
pub enum KeyFault {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is larger than [`crate::base::bounds::MAX_FILE_BYTES`].
    TooLarge,
    /// There is no PEM block in the file, or a damaged one.
    NotPem,
    /// The PEM block is no key.
    NotAKey,
    /// The key is protected by a password.
    Encrypted,
    /// The key is sound, but not for this algorithm.
    WrongKind {
        /// What it is.
        found: &'static str,
        /// The algorithm that it was configured for.
        algorithm: Algorithm,
    },
    /// The block is said to be a key, but cannot be read as one.
    Broken,
    /// The RSA modulus is shorter than 2048 bits.
    RsaTooSmall,
    /// It has to sign, but is a public key.
    PublicOnly,
    /// It has to sign, but is retiring.
    Retiring,
    /// It was encrypted with another key-encryption key.
    OtherEncryptionKey,
    /// It is not what was encrypted, or was encrypted for another id or algorithm.
    Altered,
    /// It was encrypted by a newer version of this program.
    UnknownSeal,
    /// It could not be encrypted.
    NotSealed,
    /// Another key has the same id.
    Twice,
}

impl KeyError {
    /// What is told of a key that cannot be encrypted.
    pub(super) fn on_seal(kid: &str) -> impl Fn(KeyFault) -> Self + '_ {
        |fault| Self::Stored { kid: kid.to_owned(), fault }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { kid, file: Some(file), fault } => {
                write!(f, "key {kid:?} in {}: {fault}", file.display())
            }
            Self::Key { kid, file: None, fault } => write!(f, "key {kid:?}: {fault}"),
            Self::Directory { path, source } => write!(f, "key directory {}: {source}", path.display()),
            Self::Stored { kid, fault } => write!(f, "key {kid:?} of the store: {fault}"),
            Self::Store(error) => write!(f, "the keys in the store cannot be read or written: {error}"),
            Self::NoneInStore => f.write_str(
                "there is no key in the store yet; the gateway makes one when it starts for the first time",
            ),
            Self::Randomness(source) => write!(f, "no key could be generated: {source}"),
            Self::NotGenerated => f.write_str("no key could be generated"),
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(source) => write!(f, "the file cannot be read: {source}"),
            Self::TooLarge => f.write_str("the file is too large for a key"),
            Self::NotPem => f.write_str("the file holds no sound PEM block (-----BEGIN PRIVATE KEY-----)"),
            Self::NotAKey => f.write_str("the file holds something else than a private or public key"),
            Self::Encrypted => f.write_str("the key is encrypted; it has to be stored without a password"),
            Self::WrongKind { found, algorithm } => write!(f, "{algorithm} cannot use a key of kind {found}"),
            Self::Broken => f.write_str("the key is damaged"),
            Self::RsaTooSmall => f.write_str("the RSA key is shorter than 2048 bits"),
            Self::PublicOnly => f.write_str("the first key signs, so it has to be a private key"),
            Self::Retiring => f.write_str("the first key signs, so it cannot have verify_until"),
            Self::OtherEncryptionKey => f.write_str(
                "it was encrypted with another key-encryption key than that of tokens.key_encryption_key",
            ),
            Self::Altered => f.write_str("what the store holds of it was altered, or belongs to another key"),
            Self::UnknownSeal => {
                f.write_str("it was encrypted by a newer version of this program, or was altered")
            }
            Self::NotSealed => f.write_str("the cryptographic library did not encrypt it"),
            Self::Twice => f.write_str("a key of the configuration has the same id"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key { fault: KeyFault::Unreadable(source), .. } | Self::Directory { source, .. } => {
                Some(source)
            }
            Self::Randomness(source) => Some(source),
            Self::Store(error) => Some(error),
            Self::Key { .. } | Self::Stored { .. } | Self::NoneInStore | Self::NotGenerated => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
