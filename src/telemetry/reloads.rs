//! How often the configuration was read again, and what came of it: for the log, metrics and tests.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of the whole process. A dry run is none of them.
#[derive(Debug, Default)]
pub struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    applied_unix_ms: AtomicI64,
    digest: Mutex<String>,
}

impl Reloads {
    /// Counts a configuration that is served by from this time on, with the digest of its text.
    pub fn apply(&self, unix_ms: i64, digest: &str) {
        self.applied.fetch_add(1, Ordering::Relaxed);
        self.begin(unix_ms, digest);
    }

    /// Notes the configuration that the process begins with.
    pub fn begin(&self, unix_ms: i64, digest: &str) {
        self.applied_unix_ms.store(unix_ms, Ordering::Relaxed);
        digest.clone_into(&mut self.digest.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts one that was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were applied since the start.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// How many were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// When the configuration began that is served by, in milliseconds since 1970.
    pub fn applied_unix_ms(&self) -> i64 {
        self.applied_unix_ms.load(Ordering::Relaxed)
    }

    /// SHA-256 of the text of the configuration that is served by, in hexadecimal digits; empty when it is in no file.
    pub fn digest(&self) -> String {
        self.digest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
