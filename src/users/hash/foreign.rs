//! Hashes of other systems: those of Django's `password` column, and those of crypt(3) that htpasswd files hold.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256};
use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::{Cost, Kind, Pbkdf2Digest};

/// Where crypt(3) ends a salt: what stands behind is not looked at.
const MAX_SHA_CRYPT_SALT: usize = 16;
const MAX_APR1_SALT: usize = 8;
/// Rounds of SHA-512-crypt that names none.
const DEFAULT_SHA_CRYPT_ROUNDS: u32 = 5_000;
/// Bytes of Django's scrypt hashes.
const SCRYPT_BYTES: usize = 64;
const APR1_ROUNDS: usize = 1_000;
const CRYPT_ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The hash text taken apart, borrowed from it.
pub(super) enum Parts<'a> {
    Pbkdf2 { digest: Pbkdf2Digest, iterations: NonZeroU32, salt: &'a str, output: Vec<u8> },
    Scrypt { params: scrypt::Params, salt: &'a str, output: Vec<u8> },
    Md5 { salt: &'a str, output: &'a str },
    ShaCrypt { params: sha_crypt::Params, rounds: u32, salt: &'a str, output: &'a str },
    Apr1 { salt: &'a str, output: &'a str },
}

impl<'a> Parts<'a> {
    /// Takes a text of this kind apart; `None` when it is not well-formed, or the kind is none of these.
    pub(super) fn of(kind: Kind, text: &'a str) -> Option<Self> {
        match kind {
            Kind::DjangoPbkdf2Sha256 => pbkdf2_parts(Pbkdf2Digest::Sha256, text),
            Kind::DjangoPbkdf2Sha1 => pbkdf2_parts(Pbkdf2Digest::Sha1, text),
            Kind::DjangoScrypt => scrypt_parts(text),
            Kind::DjangoMd5 => {
                let [salt, output] = fields(text.strip_prefix("md5$")?)?;
                let sound = !salt.is_empty() && output.len() == 32 && output.bytes().all(is_lower_hex);
                sound.then_some(Self::Md5 { salt, output })
            }
            Kind::ShaCrypt => sha_crypt_parts(text),
            Kind::Apr1 => {
                let [salt, output] = fields(text.strip_prefix("$apr1$")?)?;
                let sound = salt.len() <= MAX_APR1_SALT && is_crypt_base64(output, 22);
                sound.then_some(Self::Apr1 { salt, output })
            }
            Kind::Argon2
            | Kind::Bcrypt
            | Kind::DjangoArgon2
            | Kind::DjangoBcrypt
            | Kind::DjangoBcryptSha256 => None,
        }
    }

    pub(super) fn cost(&self) -> Cost {
        match self {
            Self::Pbkdf2 { digest, iterations, .. } => {
                Cost::Pbkdf2 { digest: *digest, iterations: *iterations }
            }
            Self::Scrypt { params, .. } => {
                Cost::Scrypt { log_n: params.log_n(), r: params.r(), p: params.p() }
            }
            Self::ShaCrypt { rounds, .. } => Cost::ShaCrypt { rounds: *rounds },
            Self::Md5 { .. } | Self::Apr1 { .. } => Cost::Md5,
        }
    }

    /// Whether the password fits, found in constant time once the hash is computed.
    pub(super) fn fits(&self, password: &[u8]) -> bool {
        match self {
            Self::Pbkdf2 { digest, iterations, salt, output } => {
                let algorithm = match digest {
                    Pbkdf2Digest::Sha256 => PBKDF2_HMAC_SHA256,
                    Pbkdf2Digest::Sha1 => PBKDF2_HMAC_SHA1,
                };
                pbkdf2::verify(algorithm, *iterations, salt.as_bytes(), password, output).is_ok()
            }
            Self::Scrypt { params, salt, output } => {
                let mut computed = [0; SCRYPT_BYTES];
                let done = scrypt::scrypt(password, salt.as_bytes(), params, &mut computed);
                done.is_ok() && same(&computed, output)
            }
            Self::Md5 { salt, output } => {
                let digest = Md5::new().chain_update(salt).chain_update(password).finalize();
                same(hex(&digest).as_bytes(), output.as_bytes())
            }
            Self::ShaCrypt { params, salt, output, .. } => {
                let digest = sha_crypt::sha512_crypt(password, salt.as_bytes(), *params);
                same(sha_crypt_base64(&digest).as_bytes(), output.as_bytes())
            }
            Self::Apr1 { salt, output } => {
                same(apr1(password, salt.as_bytes()).as_bytes(), output.as_bytes())
            }
        }
    }
}

/// A well-formed hash text of this cost made of random bytes; `None` for the costs that are not of this module.
pub(super) fn dummy_text(cost: Cost, salt: [u8; 16], output: [u8; 32]) -> Option<String> {
    let salt = hex(&salt);
    match cost {
        Cost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations } => {
            Some(format!("pbkdf2_sha256${iterations}${salt}${}", STANDARD.encode(output)))
        }
        Cost::Pbkdf2 { digest: Pbkdf2Digest::Sha1, iterations } => {
            let output = STANDARD.encode(output.first_chunk::<20>()?);
            Some(format!("pbkdf2_sha1${iterations}${salt}${output}"))
        }
        Cost::Scrypt { log_n, r, p } => {
            let n = 1_u64.checked_shl(log_n.into())?;
            Some(format!("scrypt${n}${salt}${r}${p}${}", STANDARD.encode([output, output].concat())))
        }
        Cost::ShaCrypt { rounds } => {
            let digest: [u8; 64] = [output, output].concat().try_into().ok()?;
            let salt = salt.get(..MAX_SHA_CRYPT_SALT)?;
            Some(format!("$6$rounds={rounds}${salt}${}", sha_crypt_base64(&digest)))
        }
        Cost::Md5 => Some(format!("md5${salt}${}", hex(output.first_chunk::<16>()?))),
        Cost::Bcrypt { .. } | Cost::Argon2 { .. } => None,
    }
}

/// What Django gives to bcrypt in place of a password: the SHA-256 in lower-case hexadecimal digits.
pub(super) fn bcrypt_input(password: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, password).as_ref())
}

/// Spends the time of so many rounds.
pub(super) fn spend_pbkdf2(iterations: NonZeroU32) {
    let mut output = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, &[0; 16], &[0], &mut output);
    let _ = std::hint::black_box(output);
}

fn pbkdf2_parts(digest: Pbkdf2Digest, text: &str) -> Option<Parts<'_>> {
    let [_, iterations, salt, output] = fields(text)?;
    let length = match digest {
        Pbkdf2Digest::Sha256 => 32,
        Pbkdf2Digest::Sha1 => 20,
    };
    let output = STANDARD.decode(output).ok().filter(|output| output.len() == length)?;
    let sound = !salt.is_empty() && iterations.bytes().all(|byte| byte.is_ascii_digit());
    let iterations = iterations.parse().ok()?;
    sound.then_some(Parts::Pbkdf2 { digest, iterations, salt, output })
}

/// `scrypt$N$salt$r$p$output`
fn scrypt_parts(text: &str) -> Option<Parts<'_>> {
    let [_, n, salt, r, p, output] = fields(text)?;
    let n = n.parse::<u64>().ok().filter(|n| n.is_power_of_two())?;
    let log_n = u8::try_from(n.trailing_zeros()).ok()?;
    let params = scrypt::Params::new(log_n, r.parse().ok()?, p.parse().ok()?).ok()?;
    let output = STANDARD.decode(output).ok().filter(|output| output.len() == SCRYPT_BYTES)?;
    (!salt.is_empty()).then_some(Parts::Scrypt { params, salt, output })
}

/// `$6$salt$output` or `$6$rounds=N$salt$output`
fn sha_crypt_parts(text: &str) -> Option<Parts<'_>> {
    let text = text.strip_prefix("$6$")?;
    let (rounds, text) = match text.strip_prefix("rounds=") {
        Some(text) => {
            let (rounds, text) = text.split_once('$')?;
            (rounds.parse().ok()?, text)
        }
        None => (DEFAULT_SHA_CRYPT_ROUNDS, text),
    };
    let [salt, output] = fields(text)?;
    let params = sha_crypt::Params::new(rounds).ok()?;
    let sound = salt.len() <= MAX_SHA_CRYPT_SALT && is_crypt_base64(output, 86);
    sound.then_some(Parts::ShaCrypt { params, rounds, salt, output })
}

/// MD5-crypt as Apache's httpd has it. There is no maintained crate for it alone, and it is one page.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(b"$apr1$").chain_update(salt);
    for (_, byte) in password.iter().zip(inner.iter().cycle()) {
        first.update([*byte]);
    }
    let mut length = password.len();
    while length > 0 {
        // The C code means a zero byte where the bit is set, and the password's first byte where it is not.
        first.update(if length & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
        length >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..APR1_ROUNDS {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { digest.as_slice() });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { digest.as_slice() } else { password });
        digest = next.finalize();
    }
    let order = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::with_capacity(22);
    for group in order {
        crypt_digits(group.map(|at| byte_at(&digest, at)), 4, &mut text);
    }
    crypt_digits([0, 0, byte_at(&digest, 11)], 2, &mut text);
    text
}

/// The digits of crypt(3) for SHA-512, which takes the bytes in an order of its own.
fn sha_crypt_base64(digest: &[u8; 64]) -> String {
    let mut text = String::with_capacity(86);
    let mut group = [0, 21, 42];
    for _ in 0..21 {
        crypt_digits(group.map(|at| byte_at(digest, at)), 4, &mut text);
        let [first, second, third] = group;
        group = [second + 1, third + 1, first + 1];
    }
    crypt_digits([0, 0, byte_at(digest, 63)], 2, &mut text);
    text
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// Appends so many digits of a number of 24 bits, the lowest one first.
fn crypt_digits(bytes: [u8; 3], count: usize, text: &mut String) {
    let [high, middle, low] = bytes.map(u32::from);
    let number = (high << 16) | (middle << 8) | low;
    for place in 0..count {
        let digit = (number >> (6 * place)) & 0x3f;
        text.push(char::from(byte_at(CRYPT_ALPHABET, digit as usize)));
    }
}

/// Exactly so many fields between `$`.
fn fields<const COUNT: usize>(text: &str) -> Option<[&str; COUNT]> {
    // The length is checked by the conversion; one more than enough is never collected.
    text.split('$').take(COUNT + 1).collect::<Vec<_>>().try_into().ok()
}

fn is_crypt_base64(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| CRYPT_ALPHABET.contains(&byte))
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
}

fn same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}
