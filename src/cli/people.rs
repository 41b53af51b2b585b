//! The configured users as a command sees them, without making anything.

use std::future::Future;

use super::error::CommandError;
use crate::base::clock::Clock;
use crate::config::{Config, UserSource};
use crate::store::Store;
use crate::users::{Directory, Lookup, UsersError};

/// Looks a user up with `find`. A store that is not there yet has never held a user, and stays where it is: nowhere.
pub(super) fn look_up<F>(
    config: &Config,
    find: impl FnOnce(Directory) -> F,
) -> Result<Result<Lookup, UsersError>, CommandError>
where
    F: Future<Output = Result<Lookup, UsersError>>,
{
    let in_store = config.users.source == UserSource::Store;
    if in_store && config.store.is_missing() {
        return Ok(Ok(Lookup::Unmanaged));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(async {
        let store = if in_store {
            Some(Store::connect(&config.store).await.map_err(CommandError::Store)?)
        } else {
            None
        };
        let directory = Directory::open(&config.users, store.as_ref(), Clock::System).await;
        let found = match directory {
            Ok(directory) => Ok(find(directory).await),
            Err(error) => Err(CommandError::Users(error)),
        };
        if let Some(store) = store {
            store.close().await;
        }
        found
    })
}
