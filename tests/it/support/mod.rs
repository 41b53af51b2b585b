//! What the tests stand on: a gateway in this process, a client and an upstream that speak raw bytes, and one checker.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod http2;
pub(crate) mod http2_client;
pub(crate) mod mint;
pub(crate) mod postgres_server;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod websocket;
pub(crate) mod wire;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use tollgate::config::StorePlace;

pub(crate) use client::{Client, Response};
pub(crate) use gateway::{Gateway, Setup};
pub(crate) use upstream::{Then, Upstream};

thread_local! {
    /// Whether the gateways of this test have their store in PostgreSQL.
    static IN_POSTGRESQL: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test whose gateways have their store in PostgreSQL. Where there is none on this machine, nothing is tested.
pub(crate) fn in_postgresql(test: fn()) {
    if postgres_server::shared().is_none() {
        println!("no PostgreSQL on this machine, nothing was tested");
        return;
    }
    IN_POSTGRESQL.set(true);
    test();
}

/// The URL of a new store for a gateway.
fn store_url() -> String {
    match postgres_server::shared() {
        Some(server) if IN_POSTGRESQL.get() => server.empty_schema().0,
        _ => "sqlite://data/tollgate.db".to_owned(),
    }
}

/// Where the gateway has its tables.
pub(crate) fn schema_of(gateway: &Gateway) -> String {
    let StorePlace::Postgres(url) = &gateway.config.store.place else { panic!("no PostgreSQL") };
    let url = String::from_utf8(url.expose().to_vec()).unwrap();
    url.rsplit("%3D").next().unwrap().to_owned()
}

/// Tests that are run with a store in PostgreSQL as well.
macro_rules! also_in_postgresql {
    ($($test:ident),* $(,)?) => {
        mod in_postgresql {
            $(
                #[test]
                fn $test() {
                    crate::support::in_postgresql(super::$test);
                }
            )*
        }
    };
}

pub(crate) use also_in_postgresql;

/// How long anything may take before a test gives up. Nothing waits for it that goes well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until something holds.
pub(crate) fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A gate that opens once, for threads that must not run ahead.
#[derive(Default)]
pub(crate) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    /// Opens it for everybody, for ever.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until it is open.
    pub(crate) fn wait(&self) {
        let open = self.open.lock().unwrap();
        let (_open, timeout) = self.opened.wait_timeout_while(open, DEADLINE, |open| !*open).unwrap();
        assert!(!timeout.timed_out(), "a latch was never opened");
    }
}

/// A directory for one test, removed afterwards.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tollgate-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
