//! Outcomes that are nearly always there at once.

use futures_util::future::{Either, LocalBoxFuture, Ready, ready};

/// An outcome that is there, or one that is waited for. What waits is on the heap, so that the many requests that never
/// wait need no room for it: a future is as large as the largest thing that it may ever wait for.
pub type Soon<'a, T> = Either<Ready<T>, LocalBoxFuture<'a, T>>;

/// One that is there.
pub fn now<'a, T>(outcome: T) -> Soon<'a, T> {
    Either::Left(ready(outcome))
}

/// One that is waited for.
pub fn later<'a, T>(outcome: impl Future<Output = T> + 'a) -> Soon<'a, T> {
    Either::Right(Box::pin(outcome))
}
