//! `tollgate run`: the gateway, until a signal ends it.

use std::io;

use super::error::{CommandError, Exit};
use crate::app::Gateway;
use crate::base::clock::Clock;
use crate::config::Config;
use crate::lifecycle::{Ending, Signals};
use crate::telemetry::events;

/// Runs a gateway that logs to standard output.
///
/// # Errors
///
/// [`CommandError::Start`] when it cannot start, [`CommandError::Ended`] when it ends by itself.
pub fn run(config: Config) -> Result<Exit, CommandError> {
    let signals = Signals::install().map_err(CommandError::System)?;
    events::tell_of_panics();
    let gateway = Gateway::start(config, Clock::System, io::stdout()).map_err(CommandError::Start)?;
    outcome(signals.attend(gateway))
}

/// What an ending means for the caller.
pub(super) fn outcome(ending: Ending) -> Result<Exit, CommandError> {
    match ending {
        Ending::Drained | Ending::CutOff => Ok(Exit::Ok),
        Ending::Failed => Err(CommandError::Ended),
    }
}
