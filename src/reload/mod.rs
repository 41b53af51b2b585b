//! Reading the configuration again while the gateway serves: all of it is applied, or nothing.
//!
//! What follows the running configuration is read, opened and proved first, beside what runs. Only when nothing is missing
//! is it handed to the threads, each of which takes it in between two requests. Whatever did not change goes on: what is
//! connected, counted, locked, revoked and remembered.

mod asked;
pub mod difference;
mod error;
mod file;
mod fixed;
mod keys;
mod prepare;
mod watchers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use self::difference::{Change, Side};
pub use self::error::ReloadError;
use self::prepare::Prepared;
use self::watchers::{Kind, Watchers};
use crate::admin::Asks;
use crate::config::Environment;
use crate::keys::KeyError;
use crate::net::crowd::Crowd;
use crate::service;
use crate::snapshot::{Renewed, Snapshot};
use crate::telemetry::events::Events;
use crate::telemetry::reloads::Reloads;
use crate::users::Directory;
use crate::worker::{Handed, Stopping};

/// How long is waited for the threads to take in a configuration. It takes one that is busy with a request as long as that
/// step of the request does.
const TAKING_IN: Duration = Duration::from_secs(10);

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The environment that it is read in.
    pub environment: Environment,
    /// The digest of the text that the gateway begins with, by [`crate::config::Text::digest`].
    pub digest: String,
}

/// What is to be done with a configuration that could be served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serve by it.
    Apply,
    /// Only say what would change.
    DryRun,
}

/// What came of a configuration that can be served by.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it changes, what matters most first.
    pub changes: Vec<Change>,
    /// The digest of its text.
    pub digest: String,
}

/// What a reloader is made of.
pub struct Parts {
    /// Where the configuration comes from, when that is a file.
    pub source: Option<Source>,
    /// What is served by.
    pub snapshot: Arc<Snapshot>,
    /// The way to the threads.
    pub handed: watch::Sender<Handed>,
    /// How many threads there are.
    pub threads: usize,
    /// Tells whether the gateway stops.
    pub stopping: watch::Receiver<Stopping>,
    /// Client connections of each network.
    pub crowd: Arc<Crowd>,
    /// What is logged of the gateway's own doings.
    pub events: Events,
    /// Where what looks for changes runs.
    pub control: Handle,
}

/// Reads the configuration again. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    source: Option<Source>,
    current: ArcSwap<Snapshot>,
    handed: watch::Sender<Handed>,
    threads: usize,
    stopping: watch::Receiver<Stopping>,
    crowd: Arc<Crowd>,
    events: Events,
    watchers: Watchers,
    reloads: Arc<Reloads>,
    /// The digest of the text that was looked at last, whatever came of it.
    looked_at: Mutex<String>,
    asked: Notify,
    /// Held while a configuration is read and applied.
    alone: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Looks for changes of what is served by, and for those of the configuration, from here on.
    pub fn start(parts: Parts) -> Self {
        let Parts { source, snapshot, handed, threads, stopping, crowd, events, control } = parts;
        let reloads = Arc::new(Reloads::default());
        let digest = source.as_ref().map(|source| source.digest.clone()).unwrap_or_default();
        reloads.begin(snapshot.clock.now_unix_ms(), &digest);
        let watchers = Watchers::of(control);
        watchers.begin(&snapshot);
        let reloader = Self(Arc::new(Inner {
            source,
            current: ArcSwap::new(snapshot),
            handed,
            threads,
            stopping,
            crowd,
            events,
            watchers,
            reloads,
            looked_at: Mutex::new(digest),
            asked: Notify::new(),
            alone: tokio::sync::Mutex::default(),
        }));
        reloader.watch(Kind::Asked, |reloader| async move { reloader.reload_when_asked().await });
        reloader.watch(Kind::Keys, |reloader| async move { keys::watch(&reloader).await });
        if reloader.0.source.is_some() {
            reloader.watch(Kind::File, |reloader| async move { file::watch(&reloader).await });
        }
        reloader
    }

    /// Runs something for as long as the gateway does. It must not keep the reloader alive, which holds it.
    fn watch<F>(&self, kind: Kind, work: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.watchers.run(kind, work(self.clone()));
    }

    /// What is served by.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// How often the configuration was read again, and what came of it.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.0.reloads)
    }

    /// Reads the configuration again soon. Whoever asks while that goes on asks for one more time, however many they are.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// Whether something that looks for changes has ended.
    pub fn has_failed(&self) -> bool {
        self.0.watchers.have_failed()
    }

    /// Runs something beside what looks for changes, whose end is a failure as well.
    pub fn run_beside(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.0.watchers.run(Kind::Beside, work)
    }

    /// Looks for no changes from here on.
    pub fn stop(&self) {
        self.0.watchers.stop();
    }

    /// The way to ask for the configuration to be read again, and to be told what came of it.
    pub fn asks(&self) -> Asks {
        let (asks, asked) = mpsc::channel(1);
        let reloader = self.clone();
        self.run_beside(async move { asked::answer(&reloader, asked).await });
        asks
    }

    async fn reload_when_asked(&self) {
        loop {
            self.0.asked.notified().await;
            // What came of it is in the log.
            let _told = self.reload(Mode::Apply, None).await.is_ok();
        }
    }

    /// Reads the configuration and applies it, or says what it would change. Where it is `expected` to have some digest, no
    /// other one will do.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]; everything is as it was then.
    pub async fn reload(&self, mode: Mode, expected: Option<String>) -> Result<Report, ReloadError> {
        let _alone = self.0.alone.lock().await;
        if mode == Mode::Apply {
            service::reloading();
        }
        let outcome = self.attempt(mode, expected).await;
        if mode == Mode::Apply {
            match &outcome {
                // Who cannot read the file has asked for nothing.
                Err(ReloadError::OtherFile(_)) => service::reloaded("serving"),
                Ok(report) => {
                    self.0.reloads.apply(self.current().clock.now_unix_ms(), &report.digest);
                    report.log();
                    service::reloaded("serving");
                }
                Err(error) => {
                    self.0.reloads.refuse();
                    error.log();
                    service::reloaded("serving; the last reload was refused");
                }
            }
        }
        outcome
    }

    async fn attempt(&self, mode: Mode, expected: Option<String>) -> Result<Report, ReloadError> {
        if *self.0.stopping.borrow() != Stopping::No {
            return Err(ReloadError::Stopping);
        }
        let source = self.0.source.clone().ok_or(ReloadError::NoFile)?;
        let before = self.current();
        let known = Arc::clone(&before);
        let looked_at = Arc::clone(&self.0);
        let sealed = before.store.sealed_keys().await.map_err(KeyError::Store);
        let prepared = tokio::task::spawn_blocking(move || {
            prepare::prepare(&known, sealed, &source, mode, expected.as_deref(), |digest| {
                digest.clone_into(&mut looked_at.looked_at.lock().unwrap_or_else(PoisonError::into_inner));
            })
        });
        let prepared = prepared.await.map_err(|_| ReloadError::Failed)??;
        let Prepared { config, digest, upstreams, firewall, tls, ring } = prepared;
        let (then, now) = (&before.config.users, &config.users);
        let directory = if (&then.source, then.hashing) == (&now.source, now.hashing) {
            before.authentication.directory.clone()
        } else {
            let opened = Directory::open(now, Some(&before.store), before.clock.clone()).await;
            opened.map_err(ReloadError::Users)?
        };
        let side = Side { config: &before.config, ring: Some(&before.ring) };
        let changes = difference::between(side, Side { config: &config, ring: ring.as_deref() });
        let report = Report { changes, digest };
        match (mode, ring) {
            (Mode::Apply, Some(ring)) => {
                let renewed = Renewed { config, upstreams, firewall, tls, ring, directory };
                self.commit(&before, Arc::new(before.followed_by(renewed))).await;
            }
            // Without a key nothing was to be applied.
            (Mode::DryRun, _) | (Mode::Apply, None) => {}
        }
        Ok(report)
    }

    /// Hands a snapshot to all threads, and waits until they serve by it.
    async fn commit(&self, before: &Snapshot, snapshot: Arc<Snapshot>) {
        let (taken, mut takers) = mpsc::unbounded_channel();
        self.0.handed.send_replace(Handed { snapshot: Arc::clone(&snapshot), taken });
        let all = async {
            for _ in 0..self.0.threads {
                takers.recv().await;
            }
        };
        if tokio::time::timeout(TAKING_IN, all).await.is_err() {
            tracing::error!("a data-plane thread has not taken in the configuration yet");
        }
        let config = &snapshot.config;
        snapshot.lockout.set_rules(&config.users);
        self.0.crowd.set_most(config.server.limits.max_connections_per_network);
        if before.config.log != config.log {
            self.0.events.set(config.log);
        }
        self.0.watchers.renew(before, &snapshot);
        self.0.current.store(snapshot);
    }
}

impl Report {
    /// Writes the changes to the log, one line each.
    fn log(&self) {
        for change in &self.changes {
            tracing::info!(%change, "the configuration changes");
        }
        tracing::info!(changes = self.changes.len(), digest = self.digest, "the configuration was reloaded");
    }
}
