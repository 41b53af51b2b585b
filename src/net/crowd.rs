//! How many connections one client network may have open, so that nobody takes all the places there are.
//!
//! An IPv4 address is a network of its own; of an IPv6 address the first 64 bits are, because one client usually has as
//! many. It is asked when a connection is accepted, never for a request.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often it is told of at most that clients were turned away, in milliseconds.
const TELL_MS: u64 = 1000;

/// The connections of every client network, counted for the whole process. It grows with the connections that are open.
#[derive(Debug, Default)]
pub struct Crowd {
    /// 0 is no limit.
    most: AtomicUsize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that counts for its network until it is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

/// The network has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl Crowd {
    /// Allows so many connections for each network; `None` is no limit.
    pub fn new(most: Option<NonZeroUsize>) -> Arc<Self> {
        let crowd = Arc::new(Self::default());
        crowd.set_most(most);
        crowd
    }

    /// Allows so many from here on. Who is there stays; who came while there was no limit is not counted.
    pub fn set_most(&self, most: Option<NonZeroUsize>) {
        self.most.store(most.map_or(0, NonZeroUsize::get), Ordering::Release);
    }

    /// Counts a connection from this address. Nothing is counted where there is no limit.
    ///
    /// # Errors
    ///
    /// [`Crowded`], and nothing is counted.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Option<Place>, Crowded> {
        let most = self.most.load(Ordering::Acquire);
        if most == 0 {
            return Ok(None);
        }
        let network = network_of(address);
        let mut open = self.open();
        let count = open.entry(network).or_default();
        if *count >= most {
            return Err(Crowded);
        }
        *count += 1;
        drop(open);
        Ok(Some(Place { crowd: Arc::clone(self), network }))
    }

    /// A thread that panicked has left whole numbers behind.
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.open();
        if let Some(count) = open.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// The connections that one thread has turned away and not told of yet. A flood of them becomes one line a second.
#[derive(Debug, Default)]
pub struct TurnedAway {
    count: Cell<u64>,
    /// The last of them.
    address: Cell<Option<IpAddr>>,
    told_ms: Cell<u64>,
}

impl TurnedAway {
    /// Counts one.
    pub fn note(&self, address: IpAddr) {
        self.count.set(self.count.get().saturating_add(1));
        self.address.set(Some(address));
    }

    /// How many there were since the last time, and one of them, when it is time to tell.
    pub fn due(&self, now_ms: u64) -> Option<(u64, IpAddr)> {
        let told_ms = self.told_ms.get();
        if self.count.get() == 0 || (told_ms > 0 && now_ms.saturating_sub(told_ms) < TELL_MS) {
            return None;
        }
        self.told_ms.set(now_ms);
        Some((self.count.take(), self.address.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn crowd(most: usize) -> Arc<Crowd> {
        Crowd::new(NonZeroUsize::new(most))
    }

    #[test]
    fn a_network_has_so_many_places_and_takes_none_of_another() {
        let crowd = crowd(2);
        let first = crowd.enter(address("192.0.2.1")).unwrap();
        let second = crowd.enter(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(crowd.enter(address("192.0.2.1")).unwrap_err(), Crowded);
        assert!(crowd.enter(address("192.0.2.2")).is_ok());
        drop(first);
        let third = crowd.enter(address("192.0.2.1")).unwrap();
        assert!(crowd.enter(address("192.0.2.1")).is_err());
        drop((second, third));
        assert!(crowd.open().is_empty(), "what is closed costs nothing");
    }

    #[test]
    fn of_an_ipv6_address_the_first_half_counts() {
        let crowd = crowd(1);
        let _place = crowd.enter(address("2001:db8:1:2::1")).unwrap();
        assert!(crowd.enter(address("2001:db8:1:2:ffff::9")).is_err());
        assert!(crowd.enter(address("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let crowd = crowd(0);
        let places: Vec<_> = (0..100).map(|_| crowd.enter(address("192.0.2.1")).unwrap()).collect();
        assert!(places.iter().all(Option::is_none) && crowd.open().is_empty());
    }

    #[test]
    fn a_limit_that_changes_sends_nobody_away() {
        let crowd = crowd(2);
        let places: Vec<_> = (0..2).map(|_| crowd.enter(address("192.0.2.1")).unwrap()).collect();
        crowd.set_most(NonZeroUsize::new(1));
        drop(places.into_iter().next());
        assert!(crowd.enter(address("192.0.2.1")).is_ok(), "both have left");
        crowd.set_most(None);
        assert!(crowd.enter(address("192.0.2.1")).unwrap().is_none());
    }

    #[test]
    fn a_flood_is_told_of_once_a_second() {
        let turned_away = TurnedAway::default();
        assert_eq!(turned_away.due(5), None);
        turned_away.note(address("192.0.2.1"));
        assert_eq!(turned_away.due(10), Some((1, address("192.0.2.1"))), "the first at once");
        for _ in 0..3 {
            turned_away.note(address("192.0.2.2"));
        }
        assert_eq!(turned_away.due(900), None);
        assert_eq!(turned_away.due(1010), Some((3, address("192.0.2.2"))));
        assert_eq!(turned_away.due(9000), None, "nothing is told twice");
    }
}
