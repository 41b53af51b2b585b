//! A secret that is a value, the path of a file or the name of a variable, never two of them.

use super::complaint::Complaint;
use super::environment::is_usual_name;
use super::keys::{secret_of_environment, secret_of_file};
use super::reader::{Located, Table};
use crate::base::secret::Secret;

/// The three keys under which one secret may stand.
pub(super) struct SecretKeys {
    /// The secret itself.
    pub(super) value: &'static str,
    /// The path of a file that holds it.
    pub(super) file: &'static str,
    /// The name of a variable that holds it.
    pub(super) env: &'static str,
}

impl SecretKeys {
    /// Whether a table has one of them.
    pub(super) fn given(&self, table: &Table<'_>) -> bool {
        [self.value, self.file, self.env].into_iter().any(|key| table.has(key))
    }
}

/// Reads the secret. `None` when there is none, which is no fault, or once its fault is noted.
pub(super) fn secret(table: &mut Table<'_>, keys: &SecretKeys) -> Option<Located<Secret>> {
    let reader = table.reader;
    let given: Vec<&str> =
        [keys.value, keys.file, keys.env].into_iter().filter(|key| table.has(key)).collect();
    if let [first, .., last] = given.as_slice()
        && let Some(span) = table.key_span(last)
    {
        let complaint = Complaint::new(format!("there is both \"{first}\" and \"{last}\""));
        reader.report(&span, complaint.hint("keep one of them"));
    }
    let value = table.text(keys.value);
    let file = table.text(keys.file);
    let env = variable_name(table, keys.env);
    if let Some(value) = table.value(keys.value) {
        reader.source.hide(value.span());
    }
    match (value, file, env) {
        (Some(value), ..) => Some(Located { value: Secret::new(value.value), span: value.span }),
        (_, Some(file), _) => secret_of_file(reader, file),
        (.., Some(name)) => secret_of_environment(reader, keys.env, name),
        (None, None, None) => None,
    }
}

/// The secret that one of two keys names: a file, or a variable of the environment. `None` when there is neither, or its
/// fault was noted.
pub(super) fn file_or_variable(
    table: &mut Table<'_>,
    file_key: &'static str,
    variable_key: &'static str,
) -> Option<Located<Secret>> {
    let reader = table.reader;
    let file = table.text(file_key);
    let variable = variable_name(table, variable_key);
    match (file, variable) {
        (Some(_), Some(variable)) => {
            let complaint = Complaint::new(format!("there is both \"{file_key}\" and \"{variable_key}\""));
            reader.report(&variable.span, complaint.hint("keep one of them"));
            None
        }
        (Some(file), None) => secret_of_file(reader, file),
        (None, Some(variable)) => secret_of_environment(reader, variable_key, variable),
        (None, None) => None,
    }
}

/// The name of a variable, as a key gives it. What is no usual name of one is perhaps the secret itself, and is hidden.
fn variable_name(table: &mut Table<'_>, key: &'static str) -> Option<Located<String>> {
    let name = table.text(key);
    if let Some(value) = table.value(key)
        && name.as_ref().is_none_or(|name| !is_usual_name(&name.value))
    {
        table.reader.source.hide(value.span());
    }
    name
}
