//! The sessions of all virtual users, as the threads that make load see them: the token of the moment, and a way to say
//! that it was refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::mpsc::UnboundedSender;

/// All sessions of a run.
#[derive(Debug)]
pub struct Sessions {
    all: Vec<Session>,
    keeper: Option<UnboundedSender<Refused>>,
    /// What happened to tokens.
    pub counts: Counts,
}

#[derive(Debug)]
struct Session {
    pass: ArcSwap<Pass>,
    /// The generation after the last one that was reported as refused.
    reported: AtomicU64,
}

/// The token of a session at a moment.
#[derive(Debug)]
pub struct Pass {
    /// The value of `Authorization`.
    pub authorization: HeaderValue,
    /// How many tokens the session had before.
    pub generation: u64,
}

/// A token was refused with 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which session's.
    pub session: usize,
    /// Which of its tokens.
    pub generation: u64,
}

/// What happened to tokens.
#[derive(Debug, Default)]
pub struct Counts {
    /// Logins that succeeded.
    pub logins: AtomicU64,
    /// Refreshes that succeeded.
    pub refreshes: AtomicU64,
    /// Of those, the ones that brought another refresh token.
    pub rotations: AtomicU64,
    /// Logins and refreshes that did not succeed, however often they were tried.
    pub failures: AtomicU64,
    /// Answers 429 and 503 of token routes, after which it was tried again.
    pub deferrals: AtomicU64,
}

impl Sessions {
    /// One session for each first token. A `keeper` is told of tokens that are refused.
    pub fn new(
        passes: impl IntoIterator<Item = HeaderValue>,
        keeper: Option<UnboundedSender<Refused>>,
    ) -> Self {
        let session = |authorization| Session {
            pass: ArcSwap::from_pointee(Pass { authorization, generation: 0 }),
            reported: AtomicU64::new(0),
        };
        Self { all: passes.into_iter().map(session).collect(), keeper, counts: Counts::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The token of a session, counted around: with three sessions, number 3 is the first one again.
    pub fn pass(&self, number: usize) -> Option<(usize, Arc<Pass>)> {
        let session = number.checked_rem(self.all.len())?;
        Some((session, self.all.get(session)?.pass.load_full()))
    }

    /// Gives a session another token.
    pub fn renew(&self, session: usize, authorization: HeaderValue) {
        if let Some(session) = self.all.get(session) {
            let generation = session.pass.load().generation + 1;
            session.pass.store(Arc::new(Pass { authorization, generation }));
        }
    }

    /// The generation of a session's token.
    pub fn generation(&self, session: usize) -> Option<u64> {
        Some(self.all.get(session)?.pass.load().generation)
    }

    /// Reports a token that was refused; only the first of many reports counts.
    pub fn refused(&self, session: usize, pass: &Pass) {
        let Some(state) = self.all.get(session) else { return };
        let reported = state.reported.fetch_max(pass.generation + 1, Ordering::Relaxed);
        if let (true, Some(keeper)) = (reported <= pass.generation, &self.keeper) {
            // Without a keeper, as at the end of a run, the token stays what it is.
            let _gone = keeper.send(Refused { session, generation: pass.generation });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_reported_once() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let passes = ["a", "b"].map(HeaderValue::from_static);
        let sessions = Sessions::new(passes, Some(sender));
        let (session, pass) = sessions.pass(3).unwrap();
        assert_eq!((session, pass.authorization.to_str().unwrap()), (1, "b"));
        for _ in 0..5 {
            sessions.refused(session, &pass);
        }
        assert_eq!(receiver.try_recv(), Ok(Refused { session: 1, generation: 0 }));
        sessions.renew(1, HeaderValue::from_static("c"));
        // An answer to the old token may still come.
        sessions.refused(session, &pass);
        assert!(receiver.try_recv().is_err());
        let (_, pass) = sessions.pass(1).unwrap();
        assert_eq!(pass.authorization, "c");
        sessions.refused(session, &pass);
        assert_eq!(receiver.try_recv(), Ok(Refused { session: 1, generation: 1 }));
        assert!(Sessions::new([], None).pass(0).is_none());
    }
}
