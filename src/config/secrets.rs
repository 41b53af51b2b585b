//! Secrets that stand in a file of their own or in the environment, never in the configuration.

use super::complaint::Complaint;
use super::environment::is_usual_name;
use super::keys::{secret_of_file, secret_of_variable};
use super::reader::{Located, Table};
use crate::base::secret::Secret;

/// The secret that one of two keys names: a file, or a variable of the environment. `None` when there is neither, or its
/// fault was noted.
pub(super) fn file_or_variable(
    table: &mut Table<'_>,
    file_key: &'static str,
    variable_key: &'static str,
) -> Option<Located<Secret>> {
    let reader = table.reader;
    let file = table.text(file_key);
    let variable = table.text(variable_key);
    if let Some(value) = table.value(variable_key)
        && variable.as_ref().is_none_or(|name| !is_usual_name(&name.value))
    {
        // What is no usual name of a variable is perhaps the secret itself.
        reader.source.hide(value.span());
    }
    match (file, variable) {
        (Some(_), Some(variable)) => {
            let complaint = Complaint::new(format!("there is both \"{file_key}\" and \"{variable_key}\""));
            reader.report(&variable.span, complaint.hint("keep one of them"));
            None
        }
        (Some(file), None) => secret_of_file(reader, file),
        (None, Some(variable)) => secret_of_variable(reader, variable_key, variable),
        (None, None) => None,
    }
}
