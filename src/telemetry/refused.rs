//! The last requests that were refused, so that somebody who has the id of one can ask why.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use crate::base::bounds;
use crate::base::grounds::Grounds;
use crate::base::reason::Reason;

/// A request that was refused, or ended before its time, and why. It has no query, no header field and no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The id that the client and the upstream know it by.
    pub request_id: Box<str>,
    /// When it had ended, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The method; empty for a message that never became a request.
    pub method: Box<str>,
    /// The host, as far as it is sound.
    pub host: Box<str>,
    /// The path without the query, in normal form if it has come so far.
    pub path: Box<str>,
    /// The route's name.
    pub route: Option<Box<str>>,
    /// The name of the upstream that was to get it.
    pub upstream: Option<Box<str>>,
    /// The user's id, if it was known who sent it.
    pub user: Option<Box<str>>,
    /// The status that was sent; `None` when none was.
    pub status: Option<u16>,
    /// Why.
    pub reason: Reason,
    /// What there is to say about it, where somebody has said something.
    pub grounds: Option<Box<Grounds>>,
}

/// A text that is remembered: its beginning, when it is longer than [`bounds::REMEMBERED_TEXT_BYTES`].
pub(super) fn shortened(text: &str) -> Box<str> {
    let end = text.floor_char_boundary(bounds::REMEMBERED_TEXT_BYTES);
    match text.split_at_checked(end) {
        Some((start, rest)) if !rest.is_empty() => format!("{start}…").into(),
        Some(_) | None => text.into(),
    }
}

/// The last refusals of one data-plane thread, which alone may add to them. Adding one is an exchange of a pointer; whoever
/// reads them holds up nobody.
#[derive(Debug)]
pub struct Ring {
    places: Box<[ArcSwapOption<Refused>]>,
    next: AtomicUsize,
}

impl Default for Ring {
    fn default() -> Self {
        let places = (0..bounds::REMEMBERED_REFUSALS).map(|_| ArcSwapOption::empty());
        Self { places: places.collect(), next: AtomicUsize::new(0) }
    }
}

impl Ring {
    /// Remembers one, in the place of the oldest.
    pub fn add(&self, refused: Refused) {
        let next = self.next.load(Ordering::Relaxed);
        if let Some(place) = self.places.get(next % self.places.len().max(1)) {
            place.store(Some(Arc::new(refused)));
        }
        self.next.store(next.wrapping_add(1), Ordering::Relaxed);
    }

    fn all(&self) -> impl Iterator<Item = Arc<Refused>> {
        self.places.iter().filter_map(ArcSwapOption::load_full)
    }
}

/// The last refusals of all data-plane threads. They outlive every configuration.
#[derive(Debug, Default)]
pub struct Refusals {
    threads: Mutex<Vec<Arc<Ring>>>,
}

impl Refusals {
    /// A place for those of one more thread.
    pub fn thread(&self) -> Arc<Ring> {
        let ring = Arc::new(Ring::default());
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&ring));
        ring
    }

    /// The last ones, at most so many, the latest first.
    pub fn latest(&self, most: usize) -> Vec<Arc<Refused>> {
        let mut found = self.found(|_| true);
        found.truncate(most);
        found
    }

    /// Those with this id, the latest first. There is more than one only when a trusted proxy gives an id twice.
    pub fn with_id(&self, request_id: &str) -> Vec<Arc<Refused>> {
        self.found(|refused| *refused.request_id == *request_id)
    }

    fn found(&self, wanted: impl Fn(&Refused) -> bool) -> Vec<Arc<Refused>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = threads.iter().flat_map(|ring| ring.all());
        let mut found: Vec<_> = all.filter(|refused| wanted(refused)).collect();
        found.sort_by_key(|refused| std::cmp::Reverse(refused.at_unix_ms));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(id: &str, at_unix_ms: i64) -> Refused {
        Refused {
            request_id: id.into(),
            at_unix_ms,
            client: None,
            method: "GET".into(),
            host: "a.test".into(),
            path: "/".into(),
            route: None,
            upstream: None,
            user: None,
            status: Some(404),
            reason: Reason::RouteNotFound,
            grounds: None,
        }
    }

    fn ids(found: &[Arc<Refused>]) -> Vec<&str> {
        found.iter().map(|refused| &*refused.request_id).collect()
    }

    #[test]
    fn those_of_all_threads_are_told_the_latest_first() {
        let refusals = Refusals::default();
        let (one, other) = (refusals.thread(), refusals.thread());
        assert!(refusals.latest(9).is_empty());
        one.add(refused("a", 1));
        other.add(refused("b", 3));
        one.add(refused("c", 2));
        other.add(refused("a", 4));
        assert_eq!(ids(&refusals.latest(9)), ["a", "b", "c", "a"]);
        assert_eq!(ids(&refusals.latest(2)), ["a", "b"]);
        let times: Vec<i64> = refusals.with_id("a").iter().map(|refused| refused.at_unix_ms).collect();
        assert_eq!(times, [4, 1]);
        assert!(refusals.with_id("d").is_empty());
    }

    #[test]
    fn a_thread_remembers_so_many_and_forgets_the_oldest() {
        let refusals = Refusals::default();
        let ring = refusals.thread();
        for number in 0..bounds::REMEMBERED_REFUSALS + 3 {
            ring.add(refused(&number.to_string(), i64::try_from(number).unwrap()));
        }
        let all = refusals.latest(usize::MAX);
        assert_eq!(all.len(), bounds::REMEMBERED_REFUSALS);
        assert_eq!(all.last().unwrap().at_unix_ms, 3, "the first three are forgotten");
        assert!(refusals.with_id("2").is_empty() && refusals.with_id("3").len() == 1);
    }

    #[test]
    fn a_long_text_is_cut_between_two_letters() {
        assert_eq!(&*shortened("/short"), "/short");
        let whole = "x".repeat(bounds::REMEMBERED_TEXT_BYTES);
        assert_eq!(*shortened(&whole), whole);
        let cut = shortened(&format!("{}ä more", "x".repeat(bounds::REMEMBERED_TEXT_BYTES - 1)));
        assert_eq!(*cut, format!("{}…", "x".repeat(bounds::REMEMBERED_TEXT_BYTES - 1)));
    }
}
