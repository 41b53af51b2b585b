//! One stored password hash: what kind it is, what it costs, whether a password fits it.

use std::fmt;

use argon2::password_hash::{self, PasswordHash, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::base::ids::{self, RandomnessUnavailable};

/// bcrypt looks at no more of a password than this many bytes.
const BCRYPT_PASSWORD_BYTES: usize = 72;
/// Least cost of bcrypt, as the power of two of its rounds.
const MIN_BCRYPT_COST: u32 = 4;
/// What one bcrypt takes, in KiB: its tables.
const BCRYPT_MEMORY_KIB: u32 = 4;
/// Most lanes of an argon2 hash.
const MAX_LANES: u32 = 64;
const BCRYPT_ALPHABET: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::BCRYPT, NO_PAD);

/// A well-formed password hash of a kind that is verified here. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash {
    text: Zeroizing<String>,
    cost: Cost,
}

/// Kind and parameters of a hash, which decide how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// bcrypt.
    Bcrypt {
        /// The power of two of its rounds.
        log_rounds: u32,
    },
    /// argon2 (RFC 9106).
    Argon2 {
        /// argon2id, argon2i or argon2d.
        algorithm: Algorithm,
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes; they are computed one after the other.
        lanes: u32,
    },
}

/// Why a text is no hash that can be verified. It never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFault {
    /// It says that it is of this kind, but is not well-formed.
    Malformed {
        /// The kind.
        kind: &'static str,
    },
    /// It is of a kind that is not accepted.
    Unsupported {
        /// The kind.
        kind: &'static str,
    },
}

impl fmt::Display for HashFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { kind } => write!(f, "malformed {kind} hash"),
            Self::Unsupported { kind } => write!(f, "{kind} is not accepted, only bcrypt and argon2 are"),
        }
    }
}

impl std::error::Error for HashFault {}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Cost {
    /// Memory of one such hash, in KiB.
    pub fn memory_kib(self) -> u32 {
        match self {
            Self::Bcrypt { .. } => BCRYPT_MEMORY_KIB,
            Self::Argon2 { memory_kib, .. } => memory_kib,
        }
    }

    /// How much there is to do: KiB written for argon2, rounds for bcrypt. Comparable within one kind only.
    pub fn work(self) -> u64 {
        match self {
            Self::Bcrypt { log_rounds } => 1_u64.checked_shl(log_rounds).unwrap_or(u64::MAX),
            Self::Argon2 { memory_kib, passes, .. } => u64::from(memory_kib) * u64::from(passes),
        }
    }
}

/// Tells one password hash from another without telling the hash: what a session remembers of the password that it was
/// begun with. When the mark differs, the password has been changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialMark([u8; 16]);

impl CredentialMark {
    /// The mark of a stored hash: half of its SHA-256.
    pub fn of(stored_hash: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, stored_hash.as_bytes());
        let mut mark = [0; 16];
        for (byte, digit) in mark.iter_mut().zip(digest.as_ref()) {
            *byte = *digit;
        }
        Self(mark)
    }

    /// The bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A mark that was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl StoredHash {
    /// Its mark.
    pub fn mark(&self) -> CredentialMark {
        CredentialMark::of(self.expose())
    }

    /// Reads an argon2 hash in PHC form or a bcrypt hash (`$2a$`, `$2b$`, `$2y$`).
    ///
    /// # Errors
    ///
    /// A [`HashFault`] that names the kind as far as it can be told.
    pub fn parse(text: &str) -> Result<Self, HashFault> {
        let cost = if text.starts_with("$argon2") {
            argon2_cost(text).ok_or(HashFault::Malformed { kind: "argon2" })?
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            bcrypt_cost(text).ok_or(HashFault::Malformed { kind: "bcrypt" })?
        } else {
            return Err(HashFault::Unsupported { kind: foreign_kind(text) });
        };
        Ok(Self { text: Zeroizing::new(text.to_owned()), cost })
    }

    /// A hash of this cost that no password is known to fit, for users that do not exist.
    pub(super) fn dummy(cost: Cost) -> Result<Self, RandomnessUnavailable> {
        let salt = ids::random_bytes::<16>()?;
        let output = ids::random_bytes::<32>()?;
        let text = match cost {
            Cost::Bcrypt { log_rounds } => {
                let digest = output.first_chunk::<23>().map_or(&output[..], |digest| digest);
                let (salt, digest) = (BCRYPT_ALPHABET.encode(salt), BCRYPT_ALPHABET.encode(digest));
                format!("$2b${log_rounds:02}${salt}{digest}")
            }
            Cost::Argon2 { algorithm, memory_kib, passes, lanes } => {
                let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
                format!("${algorithm}$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}")
            }
        };
        Ok(Self { text: Zeroizing::new(text), cost })
    }

    /// Hashes a new password with argon2id. Slow.
    pub(super) fn create(
        password: &[u8],
        memory_kib: u32,
        passes: u32,
        salt: [u8; 16],
    ) -> Result<Self, password_hash::Error> {
        use argon2::password_hash::PasswordHasher;
        let params = Params::new(memory_kib, passes, Params::DEFAULT_P_COST, None)?;
        let salt = SaltString::encode_b64(&salt)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let text = Zeroizing::new(argon2.hash_password(password, &salt)?.to_string());
        Ok(Self { text, cost: Cost::usual(memory_kib, passes) })
    }

    /// The hash itself, for the one place that keeps it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its kind and parameters.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether the password fits. Slow: as long as the cost says, whatever the password.
    pub(super) fn fits(&self, password: &[u8]) -> Result<bool, HashFault> {
        match self.cost {
            Cost::Argon2 { .. } => {
                let malformed = HashFault::Malformed { kind: "argon2" };
                let parsed = PasswordHash::new(&self.text).map_err(|_| malformed)?;
                match Argon2::default().verify_password(password, &parsed) {
                    Ok(()) => Ok(true),
                    Err(password_hash::Error::Password) => Ok(false),
                    Err(_) => Err(malformed),
                }
            }
            Cost::Bcrypt { .. } => {
                let fits = bcrypt::verify(password, &self.text)
                    .map_err(|_| HashFault::Malformed { kind: "bcrypt" })?;
                // bcrypt cannot tell passwords apart behind byte 72 nor, as it repeats the password with a zero behind
                // it, "a" from "a\0a". It is computed all the same, so that the time tells nothing.
                Ok(fits && password.len() <= BCRYPT_PASSWORD_BYTES && !password.contains(&0))
            }
        }
    }
}

impl Cost {
    /// argon2id with one lane, as new passwords are hashed.
    pub(super) fn usual(memory_kib: u32, passes: u32) -> Self {
        Self::Argon2 { algorithm: Algorithm::Argon2id, memory_kib, passes, lanes: Params::DEFAULT_P_COST }
    }

    /// Does the work that a hash of this cost saved against one of the `reference` cost, so that a refusal takes the same
    /// time for an old, cheap hash. Between kinds no common measure exists, and nothing is done.
    pub(super) fn make_up(self, reference: Self) {
        match (self, reference) {
            (Self::Bcrypt { log_rounds: spent }, Self::Bcrypt { log_rounds: due }) => {
                // 2^spent + 2^spent + 2^(spent+1) + … + 2^(due-1) = 2^due
                for log_rounds in spent..due {
                    let _ = std::hint::black_box(bcrypt::bcrypt(log_rounds, [0; 16], &[0]));
                }
            }
            (Self::Argon2 { .. }, Self::Argon2 { algorithm, passes, lanes, .. }) => {
                let missing = reference.work().saturating_sub(self.work()) / u64::from(passes.max(1));
                let Ok(memory_kib) = u32::try_from(missing) else { return };
                // Too little left to be measured, let alone computed.
                let Ok(params) = Params::new(memory_kib, passes, lanes, None) else { return };
                let mut output = [0; 32];
                let argon2 = Argon2::new(algorithm, Version::V0x13, params);
                let _ = std::hint::black_box(argon2.hash_password_into(&[0], &[0; 16], &mut output));
            }
            (Self::Bcrypt { .. }, Self::Argon2 { .. }) | (Self::Argon2 { .. }, Self::Bcrypt { .. }) => {}
        }
    }
}

fn argon2_cost(text: &str) -> Option<Cost> {
    let parsed = PasswordHash::new(text).ok()?;
    let algorithm = Algorithm::try_from(parsed.algorithm).ok()?;
    Version::try_from(parsed.version.unwrap_or(Version::V0x10.into())).ok()?;
    let lanes = parsed.params.get_decimal("p")?;
    if parsed.salt.is_none() || parsed.hash.is_none() || lanes > MAX_LANES {
        return None;
    }
    let params = Params::try_from(&parsed).ok()?;
    Some(Cost::Argon2 { algorithm, memory_kib: params.m_cost(), passes: params.t_cost(), lanes })
}

fn bcrypt_cost(text: &str) -> Option<Cost> {
    let log_rounds = text.parse::<bcrypt::HashParts>().ok()?.get_cost();
    (MIN_BCRYPT_COST..=31).contains(&log_rounds).then_some(Cost::Bcrypt { log_rounds })
}

/// What an unsupported hash is, by its looks.
fn foreign_kind(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 13] = [
        ("{SHA}", "SHA-1"),
        ("{SSHA", "salted SHA"),
        ("{SHA", "SHA-2"),
        ("{PLAIN}", "plain text"),
        ("$apr1$", "MD5 (apr1)"),
        ("$1$", "MD5 (crypt)"),
        ("$2x$", "defective bcrypt (2x)"),
        ("$5$", "SHA-256 (crypt)"),
        ("$6$", "SHA-512 (crypt)"),
        ("$y$", "yescrypt"),
        ("$7$", "scrypt"),
        ("$scrypt", "scrypt"),
        ("pbkdf2_", "PBKDF2"),
    ];
    let known = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix));
    known.map_or("plain text or DES (crypt)", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$10$XaWB1fUpljSIMXgqcK9B8eFRHPTKzsG9HjzDZ.XmCncpOkeO6Jx/W";

    fn cheap(password: &[u8]) -> StoredHash {
        StoredHash::create(password, 64, 1, [7; 16]).unwrap()
    }

    fn cheap_bcrypt(password: &[u8]) -> StoredHash {
        StoredHash::parse(&bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().to_string()).unwrap()
    }

    #[test]
    fn argon2_fits_its_password_only() {
        let hash = cheap(b"right");
        assert_eq!(StoredHash::parse(hash.expose()).unwrap(), hash);
        assert_eq!(hash.cost(), Cost::usual(64, 1));
        assert!(hash.fits(b"right").unwrap());
        for wrong in [&b"wrong"[..], b"right ", b"right\0", b""] {
            assert!(!hash.fits(wrong).unwrap());
        }
        // Long passwords are told apart to the last byte.
        let long = cheap(&[b'x'; 1024]);
        assert!(long.fits(&[b'x'; 1024]).unwrap());
        assert!(!long.fits(&[b'x'; 1023]).unwrap());
    }

    #[test]
    fn bcrypt_of_every_accepted_version_fits() {
        let hash = StoredHash::parse(BCRYPT).unwrap();
        assert_eq!(hash.cost(), Cost::Bcrypt { log_rounds: 10 });
        assert!(hash.fits(b"rig-password-alice").unwrap());
        assert!(!hash.fits(b"rig-password-bob").unwrap());
        let (_, rest) = BCRYPT.split_at(3);
        for version in ["$2a", "$2b", "$2y"] {
            StoredHash::parse(&format!("{version}{rest}")).unwrap();
        }
        let defective = StoredHash::parse(&format!("$2x{rest}")).unwrap_err();
        assert_eq!(defective, HashFault::Unsupported { kind: "defective bcrypt (2x)" });
    }

    #[test]
    fn bcrypt_takes_no_two_passwords_for_one() {
        let longest = [b'x'; 72];
        assert!(cheap_bcrypt(&longest).fits(&longest).unwrap());
        let mut longer = longest.to_vec();
        longer.push(b'y');
        assert!(!cheap_bcrypt(&longer).fits(&longer).unwrap());
        assert!(!cheap_bcrypt(&longest).fits(&longer).unwrap());
        // The crate itself finds these equal.
        assert!(bcrypt::verify("a\0a", cheap_bcrypt(b"a").expose()).unwrap());
        assert!(!cheap_bcrypt(b"a").fits(b"a\0a").unwrap());
    }

    #[test]
    fn other_kinds_are_named_and_never_shown() {
        let cases = [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("{SSHA512}aaaa", "salted SHA"),
            ("$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb", "MD5 (apr1)"),
            ("$1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb", "MD5 (crypt)"),
            ("$6$aaaaaaaa$bbbb", "SHA-512 (crypt)"),
            ("hunter2", "plain text or DES (crypt)"),
            ("", "plain text or DES (crypt)"),
        ];
        for (text, kind) in cases {
            let fault = StoredHash::parse(text).unwrap_err();
            assert_eq!(fault, HashFault::Unsupported { kind }, "{text}");
            assert!(text.is_empty() || !format!("{fault} {fault:?}").contains(text));
        }
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let good = cheap(b"x").expose().to_owned();
        let argon2 = [
            "$argon2id$".to_owned(),
            good.replace("p=1", "p=4294967295"),
            good.replace("p=1", "p=65"),
            good.replace("m=64", "m=7"),
            good.replace("t=1", "t=0"),
            good.replace("v=19", "v=20"),
            good.replace("argon2id", "argon2xx"),
            good.rsplit_once('$').unwrap().0.to_owned(),
            format!("{good} "),
        ];
        for text in argon2 {
            assert_eq!(
                StoredHash::parse(&text).unwrap_err(),
                HashFault::Malformed { kind: "argon2" },
                "{text}"
            );
        }
        let short = BCRYPT.strip_suffix('W').unwrap();
        let odd = format!("{}é", short.strip_suffix('/').unwrap());
        let bcrypt = [
            short.to_owned(),
            format!("{BCRYPT} "),
            BCRYPT.replace("$10$", "$03$"),
            BCRYPT.replace("$10$", "$32$"),
            odd,
        ];
        for text in bcrypt {
            assert_eq!(
                StoredHash::parse(&text).unwrap_err(),
                HashFault::Malformed { kind: "bcrypt" },
                "{text}"
            );
        }
    }

    #[test]
    fn a_dummy_is_a_hash_of_its_cost() {
        let costs = [
            Cost::Bcrypt { log_rounds: 4 },
            Cost::usual(64, 2),
            Cost::Argon2 { algorithm: Algorithm::Argon2i, memory_kib: 64, passes: 1, lanes: 2 },
        ];
        for cost in costs {
            let dummy = StoredHash::dummy(cost).unwrap();
            assert_eq!(StoredHash::parse(dummy.expose()).unwrap().cost(), cost);
            assert!(!dummy.fits(b"anything").unwrap());
        }
    }

    #[test]
    fn making_up_is_bounded_by_the_reference() {
        let dear = Cost::usual(256, 2);
        Cost::usual(64, 1).make_up(dear);
        dear.make_up(Cost::usual(64, 1));
        Cost::Bcrypt { log_rounds: 4 }.make_up(Cost::Bcrypt { log_rounds: 6 });
        Cost::Bcrypt { log_rounds: 4 }.make_up(dear);
    }

    #[test]
    fn a_hash_does_not_print_itself() {
        let hash = cheap(b"right");
        let digest = hash.expose().rsplit('$').next().unwrap();
        assert!(!format!("{hash:?}").contains(digest));
    }
}
