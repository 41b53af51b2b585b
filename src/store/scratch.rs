//! A directory for one test, removed afterwards.

use std::path::{Path, PathBuf};

use super::Store;
use crate::base::ids;
use crate::base::secret::Secret;
use crate::config::{self, StorePlace};

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-{}", ids::random_id().unwrap()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().unwrap().permissions().mode() & 0o7777
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[path = "../../tests/it/support/postgres_server.rs"]
mod server;

/// Where a test has its store.
pub(crate) struct Place {
    pub(crate) scratch: Scratch,
    pub(crate) settings: config::Store,
}

impl Place {
    /// A file.
    pub(crate) fn sqlite() -> Self {
        let scratch = Scratch::new();
        let settings = config::Store::in_file(scratch.path("s.db"));
        Self { scratch, settings }
    }

    /// A schema of the PostgreSQL server of this process; `None` where there is no such server.
    pub(crate) fn postgres() -> Option<Self> {
        let (url, _) = server::shared()?.empty_schema();
        let place = Self::sqlite();
        let settings = config::Store { place: StorePlace::Postgres(Secret::new(url)), ..place.settings };
        Some(Self { scratch: place.scratch, settings })
    }

    /// Opens it as a process does.
    pub(crate) async fn open(&self) -> Store {
        Store::connect(&self.settings).await.unwrap()
    }
}

/// Runs tests that take a place with each kind of store.
macro_rules! on_both_stores {
    ($($test:ident),* $(,)?) => {
        mod in_sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::store::scratch::Place::sqlite()).await;
                }
            )*
        }

        mod in_postgresql {
            $(
                #[tokio::test]
                async fn $test() {
                    match crate::store::scratch::Place::postgres() {
                        Some(place) => super::$test(place).await,
                        None => println!("no PostgreSQL on this machine, nothing was tested"),
                    }
                }
            )*
        }
    };
}

pub(crate) use on_both_stores;
