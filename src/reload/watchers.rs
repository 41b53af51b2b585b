//! What runs on the control plane for as long as the gateway does, or as long as what it looks after is served by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use crate::config::{StalePolicy, UserSource};
use crate::limits::exchange;
use crate::snapshot::Snapshot;
use crate::upstream;

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes of users.
    Users,
    /// Revocations by others.
    Sessions,
    /// What is told of a store that others write as well.
    Store,
    /// Users of another source than the store whose sessions have to end.
    Followers,
    /// Files of certificates.
    Certificates,
    /// Names of upstreams' targets, their health, and the return of those that were ejected.
    Upstreams,
    /// What several gateways count together.
    Limits,
    /// The file of the configuration.
    File,
    /// Whoever asks for the configuration to be read again.
    Asked,
    /// Keys in the store.
    Keys,
    /// Something else; there may be several.
    Beside,
}

/// The tasks. None of them ends by itself.
pub(super) struct Watchers {
    control: Handle,
    tasks: Mutex<Vec<(Kind, JoinHandle<()>)>>,
}

impl Watchers {
    pub(super) fn of(control: Handle) -> Self {
        Self { control, tasks: Mutex::default() }
    }

    /// Looks after what a gateway begins with.
    pub(super) fn begin(&self, snapshot: &Snapshot) {
        self.follow_users(snapshot);
        self.follow_certificates(snapshot);
        self.run(Kind::Upstreams, upstream::keep(snapshot.upstreams.clone()));
        let sessions = snapshot.authentication.sessions.clone();
        let settings = &snapshot.config.store;
        let refuse_after = match settings.stale_policy {
            StalePolicy::Serve => None,
            StalePolicy::Refuse => Some(settings.stale_after),
        };
        self.run(Kind::Sessions, async move { sessions.watch(refuse_after).await });
        let store = snapshot.store.clone();
        self.run(Kind::Store, async move { store.watch().await });
        let cluster = snapshot.rates.serve_cluster();
        if let Some(settings) = snapshot.config.limits_store.clone() {
            self.run(Kind::Limits, exchange::keep(settings, cluster));
        }
    }

    /// Looks after what is served by now, and no more after what is not.
    pub(super) fn renew(&self, before: &Snapshot, after: &Snapshot) {
        if !before.authentication.directory.is_same(&after.authentication.directory) {
            self.follow_users(after);
        }
        if before.config.tls != after.config.tls {
            self.follow_certificates(after);
        }
        // Whoever talks to the limits store goes on, for these limits.
        let _same = after.rates.serve_cluster();
        let (then, now) = (&before.upstreams, &after.upstreams);
        if then.len() != now.len() || then.iter().zip(now).any(|(then, now)| !Arc::ptr_eq(then, now)) {
            self.run(Kind::Upstreams, upstream::keep(now.clone()));
        }
    }

    fn follow_users(&self, snapshot: &Snapshot) {
        let directory = snapshot.authentication.directory.clone();
        let users = directory.clone();
        self.run(Kind::Users, async move { users.watch().await });
        // Users of the store end their sessions in the store itself.
        if snapshot.config.users.source != UserSource::Store {
            let sessions = snapshot.authentication.sessions.clone();
            self.run(Kind::Followers, async move { sessions.follow(directory).await });
        }
    }

    fn follow_certificates(&self, snapshot: &Snapshot) {
        if let Some(tls) = snapshot.tls.clone() {
            self.run(Kind::Certificates, async move { tls.watch().await });
        }
    }

    /// Runs a task in the place of the one of the same kind.
    pub(super) fn run(&self, kind: Kind, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks();
        if kind != Kind::Beside {
            for (_, task) in tasks.extract_if(.., |(other, _)| *other == kind) {
                task.abort();
            }
        }
        let task = self.control.spawn(work);
        let handle = task.abort_handle();
        tasks.push((kind, task));
        handle
    }

    /// Whether one has ended, which none does unless it has panicked.
    pub(super) fn have_failed(&self) -> bool {
        self.tasks().iter().any(|(_, task)| task.is_finished())
    }

    /// Ends all of them.
    pub(super) fn stop(&self) {
        self.tasks().drain(..).for_each(|(_, task)| task.abort());
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<(Kind, JoinHandle<()>)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
