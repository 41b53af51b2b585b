//! What is revoked, in memory: read by data-plane threads without a lock, and only after something was revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Binding;

/// Revocations that are copied when one more comes. Beyond that they move to the part that is shared.
const MAX_RECENT: usize = 256;

/// One row of the store's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Revocation {
    /// A session.
    Session {
        /// Its id.
        sid: Arc<str>,
        /// When all of its tokens have expired, in milliseconds since 1970.
        until_ms: i64,
    },
    /// What was issued up to a time and belongs to no session that is known.
    Issued {
        /// To whom; `None` is everybody.
        user_id: Option<Arc<str>>,
        /// Up to when, in milliseconds since 1970.
        issued_until_ms: i64,
        /// When all of it has expired, in milliseconds since 1970.
        until_ms: i64,
    },
}

/// What is revoked now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    epoch: Arc<AtomicU64>,
    is_stale: AtomicBool,
    set: ArcSwap<Set>,
    writing: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Set {
    older: Arc<Layer>,
    recent: Layer,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    /// Sessions, and when they may be forgotten.
    sessions: HashMap<Arc<str>, i64>,
    users: HashMap<Arc<str>, Cutoff>,
    everybody: Option<Cutoff>,
}

#[derive(Clone, Copy, Debug)]
struct Cutoff {
    issued_until_ms: i64,
    until_ms: i64,
}

impl Revocations {
    /// Rises after something was revoked. What passed at an older epoch has to be looked up again.
    pub fn epoch(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.epoch)
    }

    /// Whether so little is known of what others have revoked that nothing may pass.
    pub fn is_stale(&self) -> bool {
        self.0.is_stale.load(Ordering::Acquire)
    }

    /// Says whether enough is known of what others have revoked. When it is not, everybody who looks at the epoch looks
    /// again, which costs nobody anything before.
    pub(super) fn set_stale(&self, is_stale: bool) {
        if self.0.is_stale.swap(is_stale, Ordering::AcqRel) != is_stale {
            self.0.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a token is revoked.
    pub fn has(&self, binding: &Binding) -> bool {
        let set = self.0.set.load();
        let layers = [set.older.as_ref(), &set.recent];
        layers.into_iter().any(|layer| layer.has(binding))
    }

    /// Whether a session is revoked.
    pub(super) fn has_session(&self, sid: &str) -> bool {
        let set = self.0.set.load();
        set.older.sessions.contains_key(sid) || set.recent.sessions.contains_key(sid)
    }

    /// Adds revocations. They hold for everybody who looks at the epoch after this has returned.
    pub(super) fn add(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let mut revocations = revocations.into_iter().peekable();
        if revocations.peek().is_none() {
            return;
        }
        let _alone = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = Set::clone(&self.0.set.load());
        for revocation in revocations {
            set.recent.add(revocation);
            if set.recent.len() > MAX_RECENT {
                let mut older = Arc::unwrap_or_clone(std::mem::take(&mut set.older));
                older.absorb(std::mem::take(&mut set.recent));
                set.older = Arc::new(older);
            }
        }
        self.0.set.store(Arc::new(set));
        // The set comes first, so nobody can note the new epoch with the old set.
        self.0.epoch.fetch_add(1, Ordering::Release);
    }

    /// Forgets what is about nothing but expired tokens.
    pub(super) fn forget(&self, now_ms: i64) {
        let _alone = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = Set::clone(&self.0.set.load());
        if set.older.expired(now_ms) + set.recent.expired(now_ms) == 0 {
            return;
        }
        let mut older = Arc::unwrap_or_clone(set.older);
        older.absorb(std::mem::take(&mut set.recent));
        older.retain(now_ms);
        self.0.set.store(Arc::new(Set { older: Arc::new(older), recent: Layer::default() }));
    }

    /// How many revocations are held.
    pub fn len(&self) -> usize {
        let set = self.0.set.load();
        set.older.len() + set.recent.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Layer {
    fn has(&self, binding: &Binding) -> bool {
        if binding.session.as_deref().is_some_and(|sid| self.sessions.contains_key(sid)) {
            return true;
        }
        if binding.recorded {
            return false;
        }
        // What does not say when it was issued may always have been issued before.
        let before = |cutoff: &Cutoff| binding.issued_at_ms.is_none_or(|at| at <= cutoff.issued_until_ms);
        self.everybody.as_ref().is_some_and(before) || self.users.get(&*binding.user_id).is_some_and(before)
    }

    fn add(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Session { sid, until_ms } => {
                let until = self.sessions.entry(sid).or_insert(until_ms);
                *until = until_ms.max(*until);
            }
            Revocation::Issued { user_id, issued_until_ms, until_ms } => {
                let cutoff = Cutoff { issued_until_ms, until_ms };
                match user_id {
                    Some(user_id) => {
                        let known = self.users.entry(user_id).or_insert(cutoff);
                        *known = known.later(cutoff);
                    }
                    None => {
                        self.everybody = Some(self.everybody.map_or(cutoff, |known| known.later(cutoff)));
                    }
                }
            }
        }
    }

    fn absorb(&mut self, other: Self) {
        for (sid, until_ms) in other.sessions {
            self.add(Revocation::Session { sid, until_ms });
        }
        let users = other.users.into_iter().map(|(user_id, cutoff)| (Some(user_id), cutoff));
        for (user_id, cutoff) in users.chain(other.everybody.map(|cutoff| (None, cutoff))) {
            let Cutoff { issued_until_ms, until_ms } = cutoff;
            self.add(Revocation::Issued { user_id, issued_until_ms, until_ms });
        }
    }

    fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + usize::from(self.everybody.is_some())
    }

    fn expired(&self, now_ms: i64) -> usize {
        let sessions = self.sessions.values().copied();
        let cutoffs = self.users.values().chain(&self.everybody).map(|cutoff| cutoff.until_ms);
        sessions.chain(cutoffs).filter(|until_ms| *until_ms <= now_ms).count()
    }

    fn retain(&mut self, now_ms: i64) {
        self.sessions.retain(|_, until_ms| *until_ms > now_ms);
        self.users.retain(|_, cutoff| cutoff.until_ms > now_ms);
        self.everybody = self.everybody.filter(|cutoff| cutoff.until_ms > now_ms);
        self.sessions.shrink_to_fit();
        self.users.shrink_to_fit();
    }
}

impl Cutoff {
    fn later(self, other: Self) -> Self {
        Self {
            issued_until_ms: self.issued_until_ms.max(other.issued_until_ms),
            until_ms: self.until_ms.max(other.until_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(sid: &str, until_ms: i64) -> Revocation {
        Revocation::Session { sid: sid.into(), until_ms }
    }

    fn issued(user_id: Option<&str>, issued_until_ms: i64) -> Revocation {
        Revocation::Issued { user_id: user_id.map(Arc::from), issued_until_ms, until_ms: 100 }
    }

    fn binding(sid: Option<&str>, issued_at_ms: Option<i64>, recorded: bool) -> Binding {
        Binding {
            session: sid.map(Box::from),
            user_id: "u".into(),
            issued_at_ms,
            recorded,
            verified_by: None,
        }
    }

    #[test]
    fn a_revocation_is_about_its_session_only() {
        let revocations = Revocations::default();
        let epoch = revocations.epoch();
        revocations.add([]);
        assert_eq!(epoch.load(Ordering::Acquire), 0);
        revocations.add([session("a", 10)]);
        assert_eq!(epoch.load(Ordering::Acquire), 1);
        assert!(revocations.has(&binding(Some("a"), None, true)));
        assert!(!revocations.has(&binding(Some("b"), None, true)));
        assert!(!revocations.has(&binding(None, None, false)));
    }

    #[test]
    fn what_was_issued_before_is_revoked_unless_its_session_is_known() {
        let revocations = Revocations::default();
        revocations.add([issued(Some("u"), 50), issued(Some("other"), 90)]);
        assert!(revocations.has(&binding(None, Some(50), false)));
        assert!(revocations.has(&binding(Some("x"), None, false)));
        assert!(!revocations.has(&binding(None, Some(51), false)));
        assert!(!revocations.has(&binding(Some("x"), Some(50), true)));
        revocations.add([issued(None, 60)]);
        assert!(revocations.has(&binding(None, Some(60), false)));
    }

    #[test]
    fn many_are_kept_and_forgotten() {
        let revocations = Revocations::default();
        for number in 0..1000 {
            revocations.add([session(&format!("s{number}"), number)]);
        }
        assert_eq!(revocations.len(), 1000);
        let held = |number: i64| revocations.has(&binding(Some(&format!("s{number}")), None, true));
        assert!((0..1000).all(held));
        revocations.forget(499);
        assert_eq!(revocations.len(), 500);
        assert!(!held(499) && held(500) && held(999));
        revocations.forget(i64::MAX);
        assert!(revocations.is_empty());
    }
}
