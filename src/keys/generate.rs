//! New keys: for files that are configured, and the one that the gateway makes for itself when none is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{Key, KeyError, pem};
use crate::base::algorithm::Algorithm;
use crate::base::ids;

/// How many letters the id of a key has that is made here.
pub(super) const KID_LETTERS: usize = 16;

/// Loads the keys of the directory, in the order of their names; makes one when there is none.
pub(super) fn load_or_generate(directory: &Path) -> Result<Vec<Key>, KeyError> {
    if key_files(directory)?.is_empty() {
        generate(directory)?;
    }
    load_all(directory)
}

/// Loads the keys of the directory, in the order of their names.
pub(super) fn load_all(directory: &Path) -> Result<Vec<Key>, KeyError> {
    key_files(directory)?.iter().map(|(kid, path)| load(kid, path)).collect()
}

fn load(kid: &str, path: &Path) -> Result<Key, KeyError> {
    let loaded = pem::read_file(path).and_then(|text| pem::parse(kid, Algorithm::EdDSA, &text));
    loaded.map_err(|fault| KeyError::Key { kid: kid.to_owned(), file: Some(path.to_owned()), fault })
}

/// The files `KID.pem` of the directory, by name. Names that are no key id are not ours.
pub(super) fn key_files(directory: &Path) -> Result<Vec<(String, PathBuf)>, KeyError> {
    let failed = |source| KeyError::Directory { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let Some(kid) = name.to_str().and_then(|name| name.strip_suffix(".pem")) else { continue };
        if !kid.is_empty()
            && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            files.push((kid.to_owned(), directory.join(&name)));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Makes a key, unless another process has just made one. The file appears complete or not at all.
fn generate(directory: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::Directory { path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    // Of two processes that start at once, the second waits here and then finds the key of the first.
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(".lock"))
        .map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !key_files(directory)?.is_empty() {
        return Ok(());
    }
    let id = ids::random_id().map_err(KeyError::Randomness)?;
    let kid: String = id.chars().take(KID_LETTERS).collect();
    let text = new_key_file(Algorithm::EdDSA)?;
    write_atomically(directory, &format!("{kid}.pem"), text.as_bytes()).map_err(failed)
}

/// A new private key as text for a file: PKCS#8 in PEM, or for `HS*` a random secret. RSA keys have 3072 bits.
///
/// # Errors
///
/// [`KeyError::NotGenerated`] and [`KeyError::Randomness`].
pub fn new_key_file(algorithm: Algorithm) -> Result<Zeroizing<String>, KeyError> {
    let failed = |_| KeyError::NotGenerated;
    match algorithm {
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            Ok(pem_of(pair.to_pkcs8v1().map_err(failed)?.as_ref()))
        }
        Algorithm::ES256 => ec_key(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => ec_key(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
            Ok(pem_of(der.as_ref()))
        }
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            // As long as the longest of the three digests (RFC 7518 section 3.2).
            let bytes = Zeroizing::new(ids::random_bytes::<64>().map_err(KeyError::Randomness)?);
            Ok(Zeroizing::new(format!("{}\n", *Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))))
        }
    }
}

fn ec_key(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Zeroizing<String>, KeyError> {
    let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| KeyError::NotGenerated)?;
    Ok(pem_of(pair.to_pkcs8v1().map_err(|_| KeyError::NotGenerated)?.as_ref()))
}

/// Lines of 64 letters (RFC 7468 section 2).
fn pem_of(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 32 + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = body.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// Writes beside the file and renames, so that nobody reads half a key, not even after a power cut.
fn write_atomically(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(".new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}
