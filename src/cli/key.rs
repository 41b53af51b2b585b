//! `tollgate key`: makes key files, lists the keys, prints the public ones, and changes those of the store.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::arguments::{KeyVerb, NewKey};
use super::error::{CommandError, Exit};
use super::{mint, rotation, table};
use crate::base::algorithm::Algorithm;
use crate::base::clock::Clock;
use crate::base::ids;
use crate::config::{Config, KeyMaterial};
use crate::keys::{self, Key, KeyError, KeyRing, State};

/// Makes a key, or lists or exports those of the configuration. Only what can be used further goes to `out`.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(
    config: impl FnOnce() -> Result<Config, CommandError>,
    verb: KeyVerb,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let text = match verb {
        // A key is made before there is a configuration that names it.
        KeyVerb::Generate(key) => {
            let (path, lines) = generate(&key)?;
            writeln!(
                told,
                "tollgate: made {}; the lines for the configuration, where the first key signs:",
                path.display()
            )
            .map_err(CommandError::Output)?;
            lines
        }
        KeyVerb::List => {
            let config = config()?;
            list(&config, &load(&config)?)
        }
        KeyVerb::Rotate(wanted) => return rotation::rotate(&config()?, &wanted, &Clock::System, out),
        KeyVerb::Rewrap { with } => return rotation::rewrap(&config()?, &with, out),
        KeyVerb::Retire(which) => return rotation::retire(&config()?, &which, &Clock::System, out),
        KeyVerb::ExportJwks => format!("{}\n", load(&config()?)?.jwks_json()),
    };
    out.write_all(text.as_bytes()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// Loads the keys without making one: with that no token was ever signed.
pub(super) fn load(config: &Config) -> Result<KeyRing, CommandError> {
    let sealed = rotation::sealed(config)?;
    let ring = KeyRing::load_existing(&config.tokens, &sealed, &Clock::System).map_err(CommandError::Keys)?;
    ring.ok_or_else(|| match config.tokens.key_encryption_key {
        Some(_) => CommandError::Keys(KeyError::NoneInStore),
        None => CommandError::NoKeys(config.tokens.key_directory.clone()),
    })
}

pub(super) fn holds_keys(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "pem"))
}

/// Writes the file; returns it and its lines for the configuration.
fn generate(key: &NewKey) -> Result<(PathBuf, String), CommandError> {
    let algorithm = key.algorithm;
    let random = ids::random_id().map_err(|error| CommandError::Keys(KeyError::Randomness(error)))?;
    let random: String = random.chars().take(16).collect();
    let extension = if algorithm.is_symmetric() { "secret" } else { "pem" };
    let path = key.out.clone().unwrap_or_else(|| PathBuf::from(format!("{random}.{extension}")));
    let text = keys::new_key_file(algorithm).map_err(CommandError::Keys)?;
    write_new(&path, text.as_bytes()).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            CommandError::KeyExists(path.clone())
        } else {
            CommandError::Write(path.clone(), error)
        }
    })?;
    let kid = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_kid(stem)).unwrap_or(&random);
    let full = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    let member = if algorithm.is_symmetric() { "secret_file" } else { "file" };
    let full = full.display().to_string();
    let lines = format!("\n[[tokens.keys]]\nkid = \"{kid}\"\nalg = \"{algorithm}\"\n{member} = {full:?}\n");
    Ok((path, lines))
}

fn is_kid(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Never overwrites: a key that is lost makes every token worthless.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn list(config: &Config, ring: &KeyRing) -> String {
    let mut rows = vec![["KID", "ALG", "USE", "UNTIL", "PUBLISHED", "FILE"].map(str::to_owned)];
    let time = |unix_ms: i64| mint::shown_time(unix_ms.div_euclid(1000));
    rows.extend(ring.keys().map(|key| {
        let state = ring.state(key);
        let usage = match (state, key.schedule()) {
            (State::Retired, _) => "retired".to_owned(),
            (State::Signing, _) => "signs, verifies".to_owned(),
            (State::Pending, Some(schedule)) => format!("signs from {}", time(schedule.signs_at_ms)),
            (State::Pending, None) | (State::Verifying, _) => "verifies".to_owned(),
        };
        let until = key.retires_at_ms();
        let until = if until == i64::MAX { "-".to_owned() } else { time(until) };
        let published = !key.algorithm().is_symmetric() && state != State::Retired;
        let published = if published { "yes" } else { "no" };
        let algorithm = key.algorithm().to_string();
        [key.kid().to_owned(), algorithm, usage, until, published.to_owned(), place_of(config, key)]
    }));
    table::of(&rows)
}

fn place_of(config: &Config, key: &Key) -> String {
    if key.schedule().is_some() {
        return "in the store".to_owned();
    }
    let configured = config.tokens.keys.iter().find(|configured| configured.kid == key.kid());
    let path = match configured.map(|configured| &configured.material) {
        Some(KeyMaterial::PemFile(path)) => path.clone(),
        Some(KeyMaterial::Secret(_)) => return "a shared secret".to_owned(),
        None => config.tokens.key_directory.join(format!("{}.pem", key.kid())),
    };
    path.display().to_string()
}

/// `--alg`.
///
/// # Errors
///
/// What is wrong, in words.
pub fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("write one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::store::scratch::Scratch;

    fn config(scratch: &Scratch, keys: &str) -> Config {
        let text = format!("{keys}\n{}", config::starter("http://127.0.0.1:1"));
        config::parse(&text, "g.toml", &scratch.path(""), &Environment::default()).unwrap()
    }

    fn make(path: &Path, algorithm: Algorithm) -> Result<(String, String), CommandError> {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let verb = KeyVerb::Generate(NewKey { algorithm, out: Some(path.to_owned()) });
        perform(|| Err(CommandError::Ended), verb, &mut out, &mut told)?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap()))
    }

    #[test]
    fn a_key_of_every_algorithm_is_private_and_works_as_it_is_printed() {
        let scratch = Scratch::new();
        for algorithm in Algorithm::ALL {
            let path = scratch.path(&format!("2026-11.{algorithm}"));
            let (lines, told) = make(&path, algorithm).unwrap();
            assert_eq!(Scratch::mode(&path), 0o600);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.lines().all(|line| line.len() <= 86), "{text}");
            let secret = text.lines().nth(1).unwrap_or(&text);
            assert!(!lines.contains(secret) && !told.contains(secret), "no key is printed");
            assert!(told.contains(&path.display().to_string()));
            let ring = load(&config(&scratch, &lines)).unwrap();
            assert_eq!((ring.signer().kid(), ring.signer().algorithm()), ("2026-11", algorithm));
        }
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let scratch = Scratch::new();
        let path = scratch.write("k.pem", "precious");
        let error = make(&path, Algorithm::EdDSA).unwrap_err();
        assert!(matches!(error, CommandError::KeyExists(_)) && error.exit() == Exit::Findings);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(make(&scratch.path("no/k.pem"), Algorithm::EdDSA), Err(CommandError::Write(..))));
    }

    #[test]
    fn keys_are_listed_with_their_use() {
        let scratch = Scratch::new();
        for name in ["new", "old", "older"] {
            make(&scratch.path(&format!("{name}.pem")), Algorithm::EdDSA).unwrap();
        }
        let key = |kid: &str, more: &str| {
            format!("[[tokens.keys]]\nkid = \"{kid}\"\nalg = \"EdDSA\"\nfile = \"{kid}.pem\"\n{more}\n")
        };
        let secret =
            "[[tokens.keys]]\nkid = \"s\"\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
        let keys = [
            key("new", ""),
            key("old", "verify_until = 2099-01-01T00:00:00Z"),
            key("older", "verify_until = 2001-01-01T00:00:00Z"),
            secret.to_owned(),
        ];
        let config = config(&scratch, &keys.concat());
        let ring = load(&config).unwrap();
        let text = list(&config, &ring);
        let directory = scratch.path("").display().to_string();
        let expected = "\
KID    ALG    USE              UNTIL                 PUBLISHED  FILE
new    EdDSA  signs, verifies  -                     yes        DIR/new.pem
old    EdDSA  verifies         2099-01-01T00:00:00Z  yes        DIR/old.pem
older  EdDSA  retired          2001-01-01T00:00:00Z  no         DIR/older.pem
s      HS256  verifies         -                     no         a shared secret
";
        assert_eq!(text.replace(directory.trim_end_matches('/'), "DIR"), expected);
        let mut out = Vec::new();
        perform(|| Ok(config), KeyVerb::ExportJwks, &mut out, &mut io::sink()).unwrap();
        let set: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn listing_makes_no_key() {
        let scratch = Scratch::new();
        let config = config(&scratch, "");
        assert!(matches!(load(&config), Err(CommandError::NoKeys(_))));
        assert!(!config.tokens.key_directory.exists());
    }
}
