//! One stored password hash: what kind it is, what it costs, whether a password fits it.

use std::fmt;

use argon2::password_hash::{self, PasswordHash, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::base::ids::{self, RandomnessUnavailable};
use crate::config::Hasher;

mod cost;
mod foreign;
mod kind;

pub use self::cost::{Cost, Pbkdf2Digest};
pub use self::kind::Kind;

use self::foreign::Parts;
use self::kind::foreign_kind;

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
    kind: Kind,
    cost: Cost,
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
            Self::Unsupported { kind } => write!(
                f,
                "{kind} is not accepted, only argon2, bcrypt, SHA-512 (crypt), MD5 (apr1) and the hashes of Django are"
            ),
        }
    }
}

impl std::error::Error for HashFault {}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHash").field("cost", &self.cost).finish_non_exhaustive()
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

    /// Reads an argon2 hash in PHC form, a bcrypt hash (`$2a$`, `$2b$`, `$2y$`), a SHA-512-crypt or apr1 hash, or a hash
    /// of Django's but for MD5, which only a project that lists it may still use.
    ///
    /// # Errors
    ///
    /// A [`HashFault`] that names the kind as far as it can be told.
    pub fn parse(text: &str) -> Result<Self, HashFault> {
        match Kind::of(text) {
            None | Some(Kind::DjangoMd5) => Err(HashFault::Unsupported { kind: foreign_kind(text) }),
            Some(kind) => Self::of_kind(kind, text),
        }
    }

    /// Reads a value of Django's `password` column, when its kind is one of `hashers`.
    ///
    /// # Errors
    ///
    /// A [`HashFault`] that names the kind as far as it can be told.
    pub fn parse_django(text: &str, hashers: &[Hasher]) -> Result<Self, HashFault> {
        match Kind::of(text) {
            Some(kind) if kind.hasher().is_some_and(|hasher| hashers.contains(&hasher)) => {
                Self::of_kind(kind, text)
            }
            Some(kind) => Err(HashFault::Unsupported { kind: kind.name() }),
            None => Err(HashFault::Unsupported { kind: foreign_kind(text) }),
        }
    }

    fn of_kind(kind: Kind, text: &str) -> Result<Self, HashFault> {
        let cost = match kind {
            Kind::Argon2 | Kind::DjangoArgon2 => argon2_cost(kind.inner(text)),
            Kind::Bcrypt | Kind::DjangoBcrypt | Kind::DjangoBcryptSha256 => bcrypt_cost(kind.inner(text)),
            Kind::ShaCrypt
            | Kind::Apr1
            | Kind::DjangoPbkdf2Sha256
            | Kind::DjangoPbkdf2Sha1
            | Kind::DjangoScrypt
            | Kind::DjangoMd5 => Parts::of(kind, text).map(|parts| parts.cost()),
        };
        let cost = cost.ok_or(HashFault::Malformed { kind: kind.name() })?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), kind, cost })
    }

    /// A hash of this cost that no password is known to fit, for users that do not exist.
    pub(super) fn dummy(cost: Cost) -> Result<Self, RandomnessUnavailable> {
        let salt = ids::random_bytes::<16>()?;
        let output = ids::random_bytes::<32>()?;
        let (kind, text) = match cost {
            Cost::Bcrypt { log_rounds } => {
                let digest = output.first_chunk::<23>().map_or(&output[..], |digest| digest);
                let (salt, digest) = (BCRYPT_ALPHABET.encode(salt), BCRYPT_ALPHABET.encode(digest));
                (Kind::Bcrypt, format!("$2b${log_rounds:02}${salt}{digest}"))
            }
            Cost::Argon2 { algorithm, memory_kib, passes, lanes } => {
                let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
                let text = format!("${algorithm}$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}");
                (Kind::Argon2, text)
            }
            Cost::Pbkdf2 { .. } | Cost::Scrypt { .. } | Cost::ShaCrypt { .. } | Cost::Md5 => {
                let text = foreign::dummy_text(cost, salt, output).unwrap_or_default();
                (Kind::of(&text).unwrap_or(Kind::DjangoMd5), text)
            }
        };
        Ok(Self { text: Zeroizing::new(text), kind, cost })
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
        Ok(Self { text, kind: Kind::Argon2, cost: Cost::usual(memory_kib, passes) })
    }

    /// The hash itself, for the one place that keeps it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its form.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its parameters.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether the password fits. Slow: as long as the cost says, whatever the password.
    pub(super) fn fits(&self, password: &[u8]) -> Result<bool, HashFault> {
        let malformed = HashFault::Malformed { kind: self.kind.name() };
        let inner = self.kind.inner(&self.text);
        match self.kind {
            Kind::Argon2 | Kind::DjangoArgon2 => {
                let parsed = PasswordHash::new(inner).map_err(|_| malformed)?;
                match Argon2::default().verify_password(password, &parsed) {
                    Ok(()) => Ok(true),
                    Err(password_hash::Error::Password) => Ok(false),
                    Err(_) => Err(malformed),
                }
            }
            Kind::DjangoBcryptSha256 => {
                let input = Zeroizing::new(foreign::bcrypt_input(password));
                bcrypt::verify(input.as_bytes(), inner).map_err(|_| malformed)
            }
            Kind::Bcrypt | Kind::DjangoBcrypt => {
                let fits = bcrypt::verify(password, inner).map_err(|_| malformed)?;
                // bcrypt cannot tell passwords apart behind byte 72 nor, as it repeats the password with a zero behind
                // it, "a" from "a\0a". It is computed all the same, so that the time tells nothing.
                Ok(fits && password.len() <= BCRYPT_PASSWORD_BYTES && !password.contains(&0))
            }
            Kind::ShaCrypt
            | Kind::Apr1
            | Kind::DjangoPbkdf2Sha256
            | Kind::DjangoPbkdf2Sha1
            | Kind::DjangoScrypt
            | Kind::DjangoMd5 => {
                Parts::of(self.kind, &self.text).map(|parts| parts.fits(password)).ok_or(malformed)
            }
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

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

    const DJANGO: [(&str, &str); 8] = [
        (
            "pbkdf2_sha256",
            "pbkdf2_sha256$1000$seasaltseasaltseasalt2$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=",
        ),
        ("pbkdf2_sha1", "pbkdf2_sha1$1000$seasaltseasaltseasalt2$rUIRswpXLaIEgQj5ygixhxoQCNw="),
        (
            "argon2",
            "argon2$argon2id$v=19$m=512,t=2,p=2$c2Vhc2FsdHNlYXNhbHRzZWFzYWx0Mg$4hvxDcsTWcI/lWt0G8sEWmLYFaFa7ELY9u93Lv7Eydw",
        ),
        ("bcrypt_sha256", "bcrypt_sha256$$2b$04$abcdefghijklmnopqrstuuIvyWZlBcE3WoQXKqRnwrLYJ6nenE0Bq"),
        ("bcrypt", "bcrypt$$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
        (
            "scrypt",
            "scrypt$1024$seasaltseasaltseasalt2$8$1$+eordGvw0J/PIr11fE5ysIBAhUlCmzTLU3QxrKEZzpG3yu7PcqG3Lg1w5UNTUmqWjibs+Dr5I7ZaZ4TDdc4EMg==",
        ),
        ("md5", "md5$seasalt$b614725f4cc025a51ab6a354d12890ab"),
        ("md5", "md5$WfwCVHZSgYAznRicLPXlF1$5c4effb356aba8cee419cb49bf1b03e9"),
    ];

    #[test]
    fn django_s_hashes_fit_when_they_are_listed() {
        for (name, text) in DJANGO {
            let (_, hasher) = Hasher::ALL.into_iter().find(|(other, _)| *other == name).unwrap();
            let hash = StoredHash::parse_django(text, &[hasher]).unwrap();
            assert_eq!(hash.kind().name(), name);
            assert!(hash.fits(b"correct horse").unwrap(), "{name}");
            for wrong in [&b"correct horse "[..], b"Correct horse", b""] {
                assert!(!hash.fits(wrong).unwrap(), "{name}");
            }
            let others: Vec<Hasher> =
                Hasher::ALL.into_iter().map(|(_, other)| other).filter(|other| *other != hasher).collect();
            let refused = StoredHash::parse_django(text, &others).unwrap_err();
            assert_eq!(refused, HashFault::Unsupported { kind: name });
            assert_eq!(StoredHash::parse(text).is_ok(), name != "md5", "{name}");
        }
        let hashers = Hasher::USUAL;
        let beyond = "pbkdf2_sha256$1000$seasaltseasaltseasalt2$nYwWmnDPvLEVUc/I0WB1YmrFKUQIzSqatvzyBPMab5I=";
        let hash = StoredHash::parse_django(beyond, &hashers).unwrap();
        assert!(hash.fits("pässwörd".as_bytes()).unwrap());
        for text in ["$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", "!abc", "", "crypt$$x"] {
            let parsed = StoredHash::parse_django(text, &hashers);
            assert!(matches!(parsed, Err(HashFault::Unsupported { .. })), "{text}");
        }
    }

    #[test]
    fn hashes_of_crypt_fit() {
        // Made by "openssl passwd".
        let cases = [
            ("$apr1$deadbeef$qddos4J6zGDNSdBHAWnBE0", "correct horse"),
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
            (
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
                "Hello world!",
            ),
        ];
        for (text, password) in cases {
            let hash = StoredHash::parse(text).unwrap();
            assert!(hash.fits(password.as_bytes()).unwrap(), "{text}");
            assert!(!hash.fits(b"other").unwrap() && !hash.fits(b"").unwrap());
        }
        for text in [
            "$apr1$deadbeef$qddos4J6zGDNSdBHAWnBE",
            "$apr1$deadbeefx$qddos4J6zGDNSdBHAWnBE0",
            "$6$rounds=1$salt$x",
            "$6$salt$x",
            "$6$rounds=x",
            "pbkdf2_sha256$0$salt$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=",
            "pbkdf2_sha256$+1$salt$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=",
            "pbkdf2_sha256$1000$salt$AAAA",
            "pbkdf2_sha256$1000$$3eEzfEiTlx532fpLG6TKjzr5axW6cTEHcBY0vfliXQ4=",
            "scrypt$1000$salt$8$1$AAAA",
            "argon2$argon2id$v=19",
            "bcrypt_sha256$nothing",
        ] {
            assert!(matches!(StoredHash::parse(text), Err(HashFault::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn other_kinds_are_named_and_never_shown() {
        let cases = [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("{SSHA512}aaaa", "salted SHA"),
            ("md5$seasalt$b614725f4cc025a51ab6a354d12890ab", "MD5"),
            ("sha1$seasalt$aaaa", "SHA-1"),
            ("!UyQPyCjbynk8fULCyyuVHSIgrcfTWNQwZb8CsGUH", "an unusable password"),
            ("$1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb", "MD5 (crypt)"),
            ("$5$aaaaaaaa$bbbb", "SHA-256 (crypt)"),
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
            Cost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations: NonZeroU32::MIN },
            Cost::Pbkdf2 { digest: Pbkdf2Digest::Sha1, iterations: NonZeroU32::MIN },
            Cost::Scrypt { log_n: 4, r: 8, p: 2 },
            Cost::ShaCrypt { rounds: 1000 },
            Cost::Md5,
        ];
        for cost in costs {
            let dummy = StoredHash::dummy(cost).unwrap();
            if cost != Cost::Md5 {
                assert_eq!(StoredHash::parse(dummy.expose()).unwrap().cost(), cost);
            }
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
        let rounds = |iterations| Cost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations };
        rounds(NonZeroU32::MIN).make_up(rounds(NonZeroU32::new(9).unwrap()));
        Cost::ShaCrypt { rounds: 1000 }.make_up(Cost::ShaCrypt { rounds: 1001 });
        Cost::Scrypt { log_n: 4, r: 8, p: 1 }.make_up(Cost::Scrypt { log_n: 4, r: 8, p: 3 });
        Cost::Md5.make_up(dear);
    }

    #[test]
    fn a_hash_does_not_print_itself() {
        let hash = cheap(b"right");
        let digest = hash.expose().rsplit('$').next().unwrap();
        assert!(!format!("{hash:?}").contains(digest));
    }
}
