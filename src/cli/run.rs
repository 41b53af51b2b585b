//! `tollgate run`: the gateway, until a signal ends it.

use std::io;
use std::path::Path;

use super::error::{CommandError, Exit};
use crate::app::Gateway;
use crate::base::clock::Clock;
use crate::config::{Environment, Text};
use crate::lifecycle::{Ending, Signals};
use crate::reload::Source;
use crate::telemetry::events;

/// Runs a gateway of this configuration that logs to standard output.
///
/// # Errors
///
/// [`CommandError::Config`] when the configuration is wrong, [`CommandError::Start`] when it cannot start, [`CommandError::Ended`] when it ends by itself.
pub fn run(path: &Path, environment: &Environment) -> Result<Exit, CommandError> {
    let text = Text::read(path).map_err(CommandError::Config)?;
    let config = text.parse(environment).map_err(CommandError::Config)?;
    let source = Source { path: path.to_owned(), environment: environment.clone(), digest: text.digest() };
    let signals = Signals::install().map_err(CommandError::System)?;
    events::tell_of_panics();
    let gateway =
        Gateway::start(config, Some(source), Clock::System, io::stdout()).map_err(CommandError::Start)?;
    outcome(signals.attend(gateway))
}

/// What an ending means for the caller.
pub(super) fn outcome(ending: Ending) -> Result<Exit, CommandError> {
    match ending {
        Ending::Drained | Ending::CutOff => Ok(Exit::Ok),
        Ending::Failed => Err(CommandError::Ended),
    }
}
