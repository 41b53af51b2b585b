//! From a file to a [`Config`], or to everything that is wrong with it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use zeroize::Zeroizing;

use super::complaint::Complaint;
use super::environment::Environment;
use super::excerpt::{Source, Span};
use super::fields::OwnedFields;
use super::hidden;
use super::problem::Failure;
use super::reader::{Reader, Table};
use super::{Config, cases, limits, limits_store, routes, server, store, tls, tokens, upstreams, users};
use crate::base::bounds;

/// Reads and checks a configuration file. Paths in it are relative to its directory.
///
/// # Errors
///
/// [`Failure`], when the file cannot be read or anything in it is wrong.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Failure> {
    Text::read(path)?.parse(environment)
}

/// The text of a configuration file as it was read.
pub struct Text {
    path: PathBuf,
    text: Zeroizing<String>,
}

impl Text {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Failure`], when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = read(path).map_err(|error| Failure::unreadable(&path.display().to_string(), error))?;
        Ok(Self { path: path.to_owned(), text: Zeroizing::new(text) })
    }

    /// Tells this text from any other: SHA-256, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.text.as_bytes());
        digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Checks it. Paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// [`Failure`], with every problem of the text.
    pub fn parse(&self, environment: &Environment) -> Result<Config, Failure> {
        let base_dir = self.path.parent().unwrap_or(Path::new(""));
        parse(&self.text, &self.path.display().to_string(), base_dir, environment)
    }
}

/// Checks the text of a configuration. `file_name` is what problems call it; paths in it are relative to `base_dir`.
///
/// # Errors
///
/// [`Failure`], with every problem of the text.
pub fn parse(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    environment: &Environment,
) -> Result<Config, Failure> {
    let source = Source::new(text);
    let invalid = |faults| Failure::invalid(file_name, &source, faults);
    if !is_small(text.len()) {
        return Err(Failure::unreadable(file_name, too_large()));
    }
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => return Err(invalid(vec![syntax_fault(&source, text, &error)])),
    };
    hidden::hide_secrets(&source, document.get_ref());
    let reader = Reader::new(&source, environment, base_dir);
    let config = sections(&reader, document.get_ref());
    let faults = reader.into_faults();
    if faults.is_empty() { Ok(config) } else { Err(invalid(faults)) }
}

/// Every key that is asked for when a text is read, whatever is wrong with it.
#[cfg(test)]
pub(super) fn keys_asked_for(text: &str) -> std::collections::BTreeSet<String> {
    let (source, environment) = (Source::new(text), Environment::default());
    let document = DeTable::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let reader = Reader::new(&source, &environment, Path::new(""));
    let _read = sections(&reader, document.get_ref());
    reader.asked.take()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bounds::MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if is_small(text.len()) { Ok(text) } else { Err(too_large()) }
}

fn is_small(length: usize) -> bool {
    u64::try_from(length).is_ok_and(|length| length <= bounds::MAX_FILE_BYTES)
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} bytes", bounds::MAX_FILE_BYTES))
}

/// Reads every section. What is faulty has its default in the result, which is then not used.
fn sections<'a>(reader: &'a Reader<'a>, document: &'a DeTable<'a>) -> Config {
    let mut root = Table::root(reader, document);
    let server = server::server(&mut root);
    let tls = tls::tls(&mut root);
    let store = store::store(&mut root);
    // One with a problem is there all the same, for the sake of the limits that need one.
    let has_limits_store = root.has("limits_store");
    let limits_store = limits_store::limits_store(&mut root);
    let mut limits = limits::limits(&mut root, has_limits_store);
    let tokens = tokens::tokens(&mut root, &store, &mut limits, server.workers);
    let users = users::users(&mut root);
    let upstreams = upstreams::upstreams(&mut root, &tokens, tls.as_ref());
    let owned = OwnedFields::new(tls.as_ref(), &upstreams);
    let surroundings = routes::Surroundings { upstreams: &upstreams, limits: &limits, owned };
    let routes = routes::routes(&mut root, &surroundings);
    let (log, otlp) = server::log(&mut root);
    let upstream_names: Vec<String> = upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let tests = cases::tests(&mut root, &routes, &upstream_names);
    let check = cases::check(&mut root);
    for (key, missing, hint) in [
        (
            "upstreams",
            "there is no upstream",
            "add [upstreams.api] with targets = [\"http://127.0.0.1:9000\"]",
        ),
        (
            "routes",
            "there is no route",
            "add [[routes]] with path = \"/\", auth = \"required\" and upstream = \"api\"",
        ),
    ] {
        if is_missing(document, key) {
            reader.report(&(0..0), Complaint::new(missing).hint(hint));
        }
    }
    root.finish();
    Config {
        server,
        tls,
        store,
        tokens,
        users,
        limits,
        limits_store,
        upstreams,
        routes,
        log,
        otlp,
        tests,
        check,
    }
}

/// Whether a key is not there or holds nothing.
fn is_missing(document: &DeTable<'_>, key: &str) -> bool {
    let value = document.get(key).map(toml::Spanned::get_ref);
    value.is_none_or(|value| {
        value.as_table().is_some_and(toml::map::Map::is_empty)
            || value.as_array().is_some_and(|array| array.is_empty())
    })
}

/// What is wrong with text that is not TOML.
fn syntax_fault(source: &Source<'_>, text: &str, error: &toml::de::Error) -> (Span, Complaint) {
    let span = error.span().unwrap_or(0..0);
    hidden::hide_unparsed(source);
    let message = error.message().trim_end().replace('\n', ", ");
    let message = message.strip_suffix(", expected nothing").unwrap_or(&message);
    (span.clone(), Complaint { message: message.to_owned(), hint: syntax_hint(source, text, &span, message) })
}

fn syntax_hint(source: &Source<'_>, text: &str, span: &Span, message: &str) -> Option<String> {
    if text.trim_start().starts_with('{') {
        return Some("this looks like JSON; the configuration is written in TOML".to_owned());
    }
    if message.starts_with("duplicate key") {
        let key = source.slice(span);
        return Some(format!(
            "{key:?} stands here a second time; only [[routes]], [[tokens.keys]] and [[tls.certificates]] may repeat"
        ));
    }
    if ["invalid basic string", "invalid literal string"].iter().any(|start| message.starts_with(start)) {
        return Some("a string ends with the quote that it begins with, on the same line".to_owned());
    }
    let (line, _) = source.position(span.start);
    let value = text.lines().nth(line - 1)?.split_once('=')?.1.trim();
    let bare = !value.starts_with(['"', '\'', '[', '{']);
    bare.then(|| "write strings in quotes: key = \"value\"".to_owned())
}
