//! `tollgate store`: brings the schema up to date, and moves a store from one database to another.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::arguments::StoreVerb;
use super::error::{CommandError, Exit};
use crate::config::Config;
use crate::store::{Store, StoreError, TransferError};

/// An export holds password hashes.
const FILE_MODE: u32 = 0o600;

/// Performs what is asked for on the store of the configuration.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(config: &Config, verb: &StoreVerb, out: &mut dyn Write) -> Result<Exit, CommandError> {
    // An export of a store that is not there would be made of nothing.
    if let (StoreVerb::Export { .. }, Some(path)) = (verb, config.store.file())
        && !path.exists()
    {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound).into();
        return Err(CommandError::Store(StoreError::CannotOpen { path: path.to_owned(), source }));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = runtime.map_err(CommandError::System)?.block_on(async {
        let store = Store::connect(&config.store).await.map_err(CommandError::Store)?;
        let done = match verb {
            StoreVerb::Migrate => Ok("the schema of the store is up to date".to_owned()),
            StoreVerb::Export { file } => {
                export(&store, file).await.map(|rows| format!("exported {rows} rows"))
            }
            StoreVerb::Import { file } => {
                import(&store, file).await.map(|rows| format!("imported {rows} rows"))
            }
        };
        store.close().await;
        done.map_err(CommandError::Transfer)
    })?;
    writeln!(out, "{told}").map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

async fn export(store: &Store, path: &Path) -> Result<usize, TransferError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    let mut text = BufWriter::new(file);
    let rows = store.export(&mut text).await?;
    text.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(rows)
}

async fn import(store: &Store, path: &Path) -> Result<usize, TransferError> {
    store.import(&mut BufReader::new(File::open(path)?)).await
}
