//! The URL of a database, which may hold a password: it stands in the file, in another file, or in a variable.

use super::complaint::Complaint;
use super::environment::{is_usual_name, is_variable_name};
use super::keys::{secret_of_environment, secret_of_file};
use super::reader::{Located, Table};
use crate::base::secret::Secret;

/// The keys that may give it.
pub(super) const URLS: [&str; 3] = ["url", "url_file", "url_env"];

/// When the line of the URL is shown in a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Never.
    Never,
    /// When it names a file, and so holds no password.
    OfFiles,
}

/// Reads the one source of the URL; `None` when there is none, or when it has a problem.
pub(super) fn database_url(table: &mut Table<'_>, shown: Shown) -> Option<Located<Secret>> {
    let reader = table.reader;
    for key in ["url", "url_env"] {
        let Some(value) = table.value(key) else { continue };
        let text = value.get_ref().as_str().unwrap_or_default();
        let is_harmless = match key {
            "url" => shown == Shown::OfFiles && is_of_file(text),
            _ => is_usual_name(text),
        };
        if !is_harmless {
            reader.source.hide(value.span());
        }
    }
    let given: Vec<&str> = URLS.into_iter().filter(|key| table.has(key)).collect();
    if let [first, .., last] = given.as_slice()
        && let Some(span) = table.key_span(last)
    {
        let complaint = Complaint::new(format!("the database has both \"{first}\" and \"{last}\""));
        reader.report(&span, complaint.hint("keep one of them"));
    }
    let url = table.text("url");
    let file = table.text("url_file");
    let env = table.text("url_env");
    if let Some(name) = env.as_ref().filter(|name| !is_variable_name(&name.value)) {
        let complaint = Complaint::new("\"url_env\" is not the name of an environment variable");
        reader.report(
            &name.span,
            complaint.hint("it names the variable that holds the URL; it is not the URL itself"),
        );
        return None;
    }
    match (url, file, env) {
        (Some(url), ..) => Some(Located { value: Secret::new(url.value), span: url.span }),
        (_, Some(file), _) => secret_of_file(reader, file),
        (.., Some(name)) => secret_of_environment(reader, "url_env", name),
        (None, None, None) => None,
    }
}

/// Whether a URL names a file, or nothing that could have a password.
fn is_of_file(url: &str) -> bool {
    !url.contains('@') && (url.starts_with("sqlite:") || !url.contains("://"))
}
