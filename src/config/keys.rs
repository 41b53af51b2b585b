//! `[[tokens.keys]]`: which key, and where its bytes come from.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::complaint::{Complaint, choose, quoted};
use super::environment::{is_usual_name, is_variable_name, not_set};
use super::excerpt::Span;
use super::kind::Kind;
use super::reader::{Located, Reader, Table};
use super::secrets::{self, SecretKeys};
use super::{Key, KeyMaterial};
use crate::base::algorithm::Algorithm;
use crate::base::bounds;
use crate::base::secret::Secret;

/// The shortest secret of an HMAC key, in bytes (RFC 7518 section 3.2 for HS256).
const MIN_SECRET_BYTES: usize = 32;
/// What keys in the store are encrypted with.
pub(super) const ENCRYPTION_KEY: SecretKeys = SecretKeys {
    value: "key_encryption_key",
    file: "key_encryption_key_file",
    env: "key_encryption_key_env",
};
const SOURCES: [&str; 4] = ["file", "secret", "secret_file", "secret_env"];

/// Reads every key. One with a problem is left out.
pub(super) fn keys(tokens: &mut Table<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut names: Vec<(String, usize)> = Vec::new();
    let tables = tokens.tables("keys");
    let alone = tables.len() == 1;
    let store_signs = ENCRYPTION_KEY.given(tokens);
    for (index, mut table) in tables.into_iter().enumerate() {
        let kid = kid(&mut table, alone, &mut names);
        let algorithm = algorithm(&mut table);
        let material = material(&mut table, algorithm);
        let verify_until = table.time("verify_until");
        if let Some(until) = verify_until.as_ref().filter(|_| index == 0 && !store_signs) {
            let complaint = Complaint::new("the first key signs and cannot be retiring");
            table.reader.report(
                &until.span,
                complaint.hint("put the key that signs in front, or remove \"verify_until\""),
            );
        }
        table.hide_unknown();
        table.finish();
        if let (Some(kid), Some(algorithm), Some(material)) = (kid, algorithm, material) {
            keys.push(Key { kid, algorithm, material, verify_until: verify_until.map(|until| until.value) });
        }
    }
    keys
}

/// The key that keys in the store are encrypted with; `None` where there is none.
pub(super) fn encryption_key(tokens: &mut Table<'_>) -> Option<Secret> {
    let secret = secrets::secret(tokens, &ENCRYPTION_KEY)?;
    long_enough(tokens.reader, secret)
}

/// A key-encryption key in a file that no configuration names yet.
///
/// # Errors
///
/// When the file cannot be read, or what is in it is too short.
pub fn read_key_encryption_key(path: &Path) -> io::Result<Secret> {
    let bytes = read_bounded(path)?;
    let secret = Secret::new(without_line_end(&bytes));
    if secret.len() < MIN_SECRET_BYTES {
        return Err(io::Error::other(too_short(secret.len())));
    }
    Ok(secret)
}

/// The key id. One key alone may do without.
fn kid(table: &mut Table<'_>, alone: bool, names: &mut Vec<(String, usize)>) -> Option<String> {
    if alone && !table.has("kid") {
        table.text("kid");
        return Some("default".to_owned());
    }
    table.require(
        "kid",
        "each of several keys needs an id, such as kid = \"2026-11\"; tokens name their key by it",
    );
    let kid = table.located("kid", Kind::Text, |text| {
        let sound = !text.is_empty()
            && text.len() <= bounds::MAX_IDENTIFIER_BYTES
            && !text.contains(char::is_control);
        if sound {
            return Ok(text.to_owned());
        }
        Err(Complaint::new(format!("{} is not a key id", quoted(text))).hint(format!(
            "a key id has from 1 to {} bytes and no control characters",
            bounds::MAX_IDENTIFIER_BYTES
        )))
    })?;
    let (line, _) = table.reader.source.position(kid.span.start);
    if let Some((_, earlier)) = names.iter().find(|(name, _)| *name == kid.value) {
        let complaint = Complaint::new(format!("two keys have the id {}", quoted(&kid.value)));
        table.reader.report(&kid.span, complaint.hint(format!("the other one is in line {earlier}")));
    }
    names.push((kid.value.clone(), line));
    Some(kid.value)
}

fn algorithm(table: &mut Table<'_>) -> Option<Algorithm> {
    table.require("alg", "add alg = \"EdDSA\", or the algorithm that the key was made for");
    table.parsed("alg", Kind::Text, |text| {
        let choices = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
        choose(text, &choices).map_err(|complaint| {
            let complaint = Complaint { message: format!("unknown algorithm {}", quoted(text)), ..complaint };
            let none = text.eq_ignore_ascii_case("none");
            if none { complaint.hint("a token without a signature is never accepted") } else { complaint }
        })
    })
}

/// Reads the one source of the key's bytes that fits its algorithm.
fn material(table: &mut Table<'_>, algorithm: Option<Algorithm>) -> Option<KeyMaterial> {
    let reader = table.reader;
    let given: Vec<(&str, Span)> =
        SOURCES.iter().filter_map(|source| Some((*source, table.key_span(source)?))).collect();
    let file = table.text("file");
    let secret = table.text("secret");
    let secret_file = table.text("secret_file");
    let secret_env = table.text("secret_env");
    if let Some(env) = table.value("secret_env")
        && secret_env.as_ref().is_none_or(|name| !is_usual_name(&name.value))
    {
        // What is no usual name of a variable is perhaps the secret itself.
        reader.source.hide(env.span());
    }
    let symmetric = algorithm.map(Algorithm::is_symmetric);
    let (source, span) = match given.as_slice() {
        [one] => one,
        [] => {
            reader.report(&table.span, no_source(algorithm));
            return None;
        }
        [(first, _), .., (last, span)] => {
            let complaint = Complaint::new(format!("a key has both \"{first}\" and \"{last}\""));
            reader.report(span, complaint.hint("keep one of them"));
            return None;
        }
    };
    if symmetric.is_some_and(|symmetric| symmetric == (*source == "file")) {
        reader.report(span, wrong_source(source, algorithm));
        return None;
    }
    let secret = match (file, secret, secret_file, secret_env) {
        (Some(file), ..) => return pem_file(reader, &file),
        (_, Some(secret), ..) => Located { value: Secret::new(secret.value), span: secret.span },
        (_, _, Some(file), _) => secret_of_file(reader, file)?,
        (.., Some(name)) => secret_of_environment(reader, "secret_env", name)?,
        (None, None, None, None) => return None,
    };
    long_enough(reader, secret).map(KeyMaterial::Secret)
}

fn no_source(algorithm: Option<Algorithm>) -> Complaint {
    let complaint = Complaint::new("[[tokens.keys]] has no key");
    match algorithm {
        Some(algorithm) if algorithm.is_symmetric() => {
            complaint.hint(format!("{algorithm} needs \"secret_file\", \"secret_env\" or \"secret\""))
        }
        Some(algorithm) => complaint.hint(format!("{algorithm} needs \"file\", the path of a PEM file")),
        None => complaint.hint("add \"file\" with the path of a PEM file, or for HS256, HS384 and HS512 \"secret_file\", \"secret_env\" or \"secret\""),
    }
}

fn wrong_source(source: &str, algorithm: Option<Algorithm>) -> Complaint {
    let name = algorithm.map_or("", Algorithm::name);
    let complaint = Complaint::new(format!("\"{source}\" does not fit {name}"));
    if source == "file" {
        complaint.hint(format!("\"file\" is for PEM files; {name} has one shared secret: use \"secret_file\", \"secret_env\" or \"secret\""))
    } else {
        complaint
            .hint(format!("{name} has a private and a public key: use \"file\" with the path of a PEM file"))
    }
}

/// A PEM file that can be read. What is in it is looked at when the keys are loaded.
fn pem_file(reader: &Reader<'_>, file: &Located<String>) -> Option<KeyMaterial> {
    let path = reader.resolve(&file.value);
    let readable =
        read_bounded(&path).map(drop).map_err(|error| cannot_read(reader, "key file", file, &error));
    reader.accept(&file.span, readable)?;
    Some(KeyMaterial::PemFile(path))
}

/// The secret in a file of its own, without one line end.
pub(super) fn secret_of_file(reader: &Reader<'_>, file: Located<String>) -> Option<Located<Secret>> {
    let path = reader.resolve(&file.value);
    let bytes = read_bounded(&path).map_err(|error| cannot_read(reader, "secret file", &file, &error));
    let bytes = reader.accept(&file.span, bytes)?;
    Some(Located { value: Secret::new(without_line_end(&bytes)), span: file.span })
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    line.unwrap_or(bytes)
}

/// The secret in the variable of this name.
pub(super) fn secret_of_environment(
    reader: &Reader<'_>,
    key: &str,
    name: Located<String>,
) -> Option<Located<Secret>> {
    let value = match reader.environment.variable(&name.value) {
        _ if !is_variable_name(&name.value) => {
            let hint =
                format!("\"{key}\" names the variable that holds the secret; it is not the secret itself");
            Err(Complaint::new(format!("\"{key}\" is not the name of an environment variable")).hint(hint))
        }
        Some(value) => Ok(Secret::new(value)),
        None => Err(not_set(&name.value).hint("set it before the gateway starts")),
    };
    Some(Located { value: reader.accept(&name.span, value)?, span: name.span })
}

fn long_enough(reader: &Reader<'_>, secret: Located<Secret>) -> Option<Secret> {
    let length = secret.value.len();
    if length >= MIN_SECRET_BYTES {
        return Some(secret.value);
    }
    let hint = "a shorter one can be guessed; \"openssl rand -base64 48\" makes a good one";
    reader.report(&secret.span, Complaint::new(too_short(length)).hint(hint));
    None
}

fn too_short(length: usize) -> String {
    format!("the secret has {length} bytes, it needs at least {MIN_SECRET_BYTES}")
}

/// The whole file, or why not. It is wiped when dropped, since it may be a key.
fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bounds::MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bounds::MAX_FILE_BYTES) {
        return Ok(bytes);
    }
    Err(io::Error::other(format!("it is larger than {} bytes", bounds::MAX_FILE_BYTES)))
}

fn cannot_read(reader: &Reader<'_>, what: &str, file: &Located<String>, error: &io::Error) -> Complaint {
    let complaint = Complaint::new(format!("the {what} cannot be read: {error}"));
    let path = reader.resolve(&file.value);
    if !path.exists() && !looks_like_path(&file.value) {
        // Perhaps the secret itself.
        reader.source.hide(file.span.clone());
        return complaint.hint("it is the path of a file, not what is in it");
    }
    let place = std::path::absolute(&path).unwrap_or(path);
    complaint.hint(format!(
        "it would be {}; paths are relative to the configuration file",
        quoted(&place.to_string_lossy())
    ))
}

/// Whether a text is more likely the path of a file than what should be in the file.
fn looks_like_path(text: &str) -> bool {
    let usual = |letter: char| letter.is_alphanumeric() || "/._- ~".contains(letter);
    text.contains(['/', '.']) && text.chars().all(usual) && !text.contains("-----")
}
