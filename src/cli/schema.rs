//! `tollgate schema`: what editors need to complete and check the configuration while it is written.

use std::io::Write;

use super::error::{CommandError, Exit};
use crate::config;

/// Prints the JSON Schema of `gateway.toml`.
///
/// # Errors
///
/// [`CommandError::Output`].
pub fn print(out: &mut dyn Write) -> Result<Exit, CommandError> {
    writeln!(out, "{:#}", config::schema()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}
