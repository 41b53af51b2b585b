//! The keys that sign and verify tokens, by their id.
//!
//! An algorithm always belongs to a key. What a token's header says is only compared with it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::algorithm::Algorithm;
use crate::base::clock::Clock;
use crate::base::ids::RandomnessUnavailable;
use crate::config;

mod generate;
mod key;
mod pem;

pub use generate::new_key_file;
pub use key::{Key, SigningFailed};

/// Every key of the gateway: one that signs, and all those that verify.
#[derive(Debug)]
pub struct KeyRing {
    signer: Arc<Key>,
    keys: Vec<Arc<Key>>,
    clock: Clock,
}

impl KeyRing {
    /// Loads every configured key. Without any, loads the key in `tokens.key_directory`, or generates an `EdDSA` key there.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] for the first key that cannot be used, or when the first one cannot sign.
    pub fn load(tokens: &config::Tokens, clock: &Clock) -> Result<Self, KeyError> {
        let keys = if tokens.keys.is_empty() {
            generate::load_or_generate(&tokens.key_directory)?
        } else {
            tokens.keys.iter().map(load_configured).collect::<Result<Vec<_>, _>>()?
        };
        let keys: Vec<Arc<Key>> = keys.into_iter().map(Arc::new).collect();
        let signer = keys.first().ok_or_else(|| KeyError::Directory {
            path: tokens.key_directory.clone(),
            source: io::Error::from(io::ErrorKind::NotFound),
        })?;
        let signer = Arc::clone(signer);
        if let Some(fault) = signer.signing_fault() {
            let file = tokens.keys.first().and_then(|key| file_of(&key.material)).map(Path::to_path_buf);
            return Err(KeyError::Key { kid: signer.kid().to_owned(), file, fault });
        }
        Ok(Self { signer, keys, clock: clock.clone() })
    }

    /// The same without making a key: `None` where one would be made.
    ///
    /// # Errors
    ///
    /// A [`KeyError`], as [`KeyRing::load`] has it.
    pub fn load_existing(tokens: &config::Tokens, clock: &Clock) -> Result<Option<Self>, KeyError> {
        if tokens.keys.is_empty() && generate::key_files(&tokens.key_directory)?.is_empty() {
            return Ok(None);
        }
        Self::load(tokens, clock).map(Some)
    }

    /// Whether the same tokens pass, and the same ones are made.
    pub fn is_same(&self, other: &Self) -> bool {
        let pairs = || self.keys.iter().zip(&other.keys);
        self.keys.len() == other.keys.len() && pairs().all(|(one, other)| one.is_same(other))
    }

    /// The key that signs.
    pub fn signer(&self) -> &Key {
        &self.signer
    }

    /// The key of this id, retired or not.
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.keys().find(|key| key.kid() == kid)
    }

    /// All keys, the one that signs first, retired ones among them.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517 section 5): no symmetric keys, and none that has retired.
    pub fn jwks_json(&self) -> String {
        let now_ms = self.clock.now_unix_ms();
        let published = self.keys().filter(|key| !key.is_retired(now_ms));
        let keys: Vec<Value> = published.filter_map(Key::public_jwk).collect();
        json!({ "keys": keys }).to_string()
    }
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
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { kid, file: Some(file), fault } => {
                write!(f, "key {kid:?} in {}: {fault}", file.display())
            }
            Self::Key { kid, file: None, fault } => write!(f, "key {kid:?}: {fault}"),
            Self::Directory { path, source } => write!(f, "key directory {}: {source}", path.display()),
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
            Self::Key { .. } | Self::NotGenerated => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
