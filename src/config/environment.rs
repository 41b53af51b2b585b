//! Environment variables, as a value that is passed in, and their expansion in strings of the configuration.

use std::collections::BTreeMap;
use std::fmt;

use super::complaint::Complaint;

/// The environment variables that the configuration may name.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process, as it is now. Variables that are not UTF-8 count as not set.
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(utf8).collect() }
    }

    /// An environment of exactly these variables, for tests.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// The value of a variable, `None` when it is not set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// Shows how many variables there are, never their values, since some of them are secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

/// Whether a text can be the name of a variable: letters, digits and `_`, no digit in front.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|letter: char| letter.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a name is written as those of variables usually are, in capitals. Any other may be a secret that stands in the
/// name's place, and is not shown.
pub(super) fn is_usual_name(name: &str) -> bool {
    is_variable_name(name) && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// What is said of a variable that is not there.
pub(super) fn not_set(name: &str) -> Complaint {
    if is_usual_name(name) {
        return Complaint::new(format!("environment variable \"{name}\" is not set"));
    }
    Complaint::new("the environment variable that is named here is not set")
}

/// Replaces `${VAR}` and `${VAR:-default}`; `$${` stands for `${`. As in a shell, the default also replaces an
/// empty variable. No complaint ever holds a part of the text other than the name of a variable, since the text may
/// be a secret.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, Complaint> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let inside = from.strip_prefix("${").unwrap_or(from);
        if let Some(kept) = before.strip_suffix('$') {
            expanded.push_str(kept);
            expanded.push_str("${");
            rest = inside;
            continue;
        }
        expanded.push_str(before);
        let Some((reference, after)) = inside.split_once('}') else {
            return Err(Complaint::new("\"${\" without a closing \"}\"").hint(LITERAL));
        };
        expanded.push_str(value_of(reference, environment)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The names of the variables that a text may name.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split(['}', ':']).next())
}

const LITERAL: &str = "write \"$${\" for a \"${\" that is not the start of a variable";

/// The value of what stands between the braces.
fn value_of<'a>(reference: &'a str, environment: &'a Environment) -> Result<&'a str, Complaint> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable_name(name) {
        return Err(Complaint::new("\"${…}\" does not hold the name of an environment variable")
            .hint("a name has letters, digits and \"_\"; write \"${NAME}\", \"${NAME:-default}\", or \"$${\" for a literal \"${\""));
    }
    if default.is_some_and(|default| default.contains("${")) {
        let name = if is_usual_name(name) { name } else { "…" };
        return Err(Complaint::new(format!("the default of \"${{{name}:-…}}\" holds another variable"))
            .hint("a default is plain text"));
    }
    match (environment.variable(name), default) {
        (Some("") | None, Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) if !is_usual_name(name) => {
            Err(not_set(name).hint("set it, or give a default: \"${NAME:-default}\""))
        }
        (None, None) => {
            Err(not_set(name).hint(format!("set it, or give a default: \"${{{name}:-default}}\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment =
            Environment::from_pairs([("HOST", "10.0.0.5"), ("EMPTY", ""), ("NESTED", "${HOST}")]);
        expand(text, &environment).map_err(|complaint| complaint.message)
    }

    #[test]
    fn variables_and_defaults_are_expanded() {
        for (text, expected) in [
            ("", ""),
            ("plain $HOST $ {} }", "plain $HOST $ {} }"),
            ("http://${HOST}:9000", "http://10.0.0.5:9000"),
            ("${HOST}${HOST}", "10.0.0.510.0.0.5"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NOT_SET:-}", ""),
            ("${NOT_SET:-a:-b}", "a:-b"),
            ("${HOST:-x}", "10.0.0.5"),
            ("$${HOST}", "${HOST}"),
            ("a$${b}${HOST}", "a${b}10.0.0.5"),
            // What a variable holds is not expanded again.
            ("${NESTED}", "${HOST}"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused() {
        assert_eq!(expanded("x${NOT_SET}").unwrap_err(), "environment variable \"NOT_SET\" is not set");
        assert_eq!(expanded("${HOST").unwrap_err(), "\"${\" without a closing \"}\"");
        for text in ["${}", "${1A}", "${A-B}", "${ HOST }", "${:-x}"] {
            let message = expanded(text).unwrap_err();
            assert_eq!(message, "\"${…}\" does not hold the name of an environment variable", "{text}");
        }
        assert_eq!(
            expanded("${A:-${HOST}}").unwrap_err(),
            "the default of \"${A:-…}\" holds another variable"
        );
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = Environment::from_pairs([("KEY", "hunter2")]);
        assert_eq!(format!("{environment:?}"), "Environment(1 variables)");
        assert_eq!(environment.variable("KEY"), Some("hunter2"));
        assert_eq!(environment.variable("key"), None);
    }
}
