//! Outcomes that are nearly always there at once.

use futures_util::future::LocalBoxFuture;

/// An outcome that is there, or one that is waited for. What waits is on the heap, so that the many requests that never
/// wait need no room for it: a future is as large as the largest thing that it may ever wait for.
pub enum Soon<'a, T> {
    /// It is there.
    Now(T),
    /// It is waited for.
    Later(LocalBoxFuture<'a, T>),
}

impl<'a, T> Soon<'a, T> {
    /// One that is waited for.
    pub fn later(outcome: impl Future<Output = T> + 'a) -> Self {
        Self::Later(Box::pin(outcome))
    }
}

/// The outcome of a [`Soon`]. What is there does not pass through the state of the one who would wait.
macro_rules! outcome {
    ($soon:expr) => {
        match $soon {
            $crate::base::soon::Soon::Now(outcome) => outcome,
            $crate::base::soon::Soon::Later(later) => later.await,
        }
    };
}

pub(crate) use outcome;
