//! Numbers about what the gateway does. Every data-plane thread counts for itself, and whoever asks adds them up.

pub mod count;
pub mod counts;
pub mod exposition;
pub mod families;
pub mod meter;

use std::sync::{Arc, Mutex, PoisonError};

pub use self::counts::Counts;
pub use self::meter::{Meter, StreamKind};

/// The counts of all data-plane threads. They outlive every configuration.
#[derive(Debug, Default)]
pub struct Metrics {
    threads: Mutex<Vec<Arc<Counts>>>,
}

impl Metrics {
    /// Counts for one more thread, which alone may add to them.
    pub fn thread(&self) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counts));
        counts
    }

    /// What all threads have counted together. It disturbs none of them.
    pub fn total(&self) -> Counts {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let total = Counts::default();
        for counts in &threads {
            total.absorb(counts);
        }
        total
    }
}
