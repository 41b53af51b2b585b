//! `tollgate run`: the gateway, until a signal ends it.

use std::io;
use std::path::Path;

use super::error::{CommandError, Exit};
use crate::app::{Gateway, Inherited, Origin};
use crate::base::clock::Clock;
use crate::config::{Environment, Text};
use crate::handover::{self, Predecessor};
use crate::lifecycle::{Ending, Signals};
use crate::reload::Source;
use crate::service;
use crate::telemetry::events;

/// Runs a gateway of this configuration that logs to standard output. With `take_over` it takes the sockets of the one that
/// runs with the same store, which drains once this one serves.
///
/// # Errors
///
/// [`CommandError::Config`] when the configuration is wrong, [`CommandError::TakeOver`] and [`CommandError::Start`] when it cannot start, [`CommandError::Ended`] when it ends by itself.
pub fn run(path: &Path, environment: &Environment, take_over: bool) -> Result<Exit, CommandError> {
    let text = Text::read(path).map_err(CommandError::Config)?;
    let config = text.parse(environment).map_err(CommandError::Config)?;
    let source = Source { path: path.to_owned(), environment: environment.clone(), digest: text.digest() };
    // Before there are threads, because it changes the environment.
    let passed = service::sockets().map_err(CommandError::System)?;
    let signals = Signals::install().map_err(CommandError::System)?;
    events::tell_of_panics();
    // A store that is no file says nothing of this machine.
    let place = handover::place(config.store.file().unwrap_or(path));
    let taken = if take_over { handover::take(&place).map_err(CommandError::TakeOver)? } else { None };
    let (predecessor, handed_over) = taken.unzip();
    let inherited = Inherited { handed_over: handed_over.unwrap_or_default(), passed };
    let origin = Origin { source: Some(source), inherited, handover: Some(place) };
    let gateway = Gateway::start(config, origin, Clock::System, io::stdout()).map_err(CommandError::Start)?;
    service::ready();
    if let Some(Err(error)) = predecessor.map(Predecessor::relieve) {
        tracing::error!(%error, "the process before has not heard that this one serves; both do");
    }
    outcome(signals.attend(gateway))
}

/// What an ending means for the caller.
pub(super) fn outcome(ending: Ending) -> Result<Exit, CommandError> {
    match ending {
        Ending::Drained | Ending::CutOff => Ok(Exit::Ok),
        Ending::Failed => Err(CommandError::Ended),
    }
}
