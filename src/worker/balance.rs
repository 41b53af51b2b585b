//! Which thread serves a client. The kernel deals connections out by a hash of their addresses, which is even for thousands
//! and far from it for a few that live long: of eight on two threads, six or more are on one of them in every third case. So
//! a thread that has more than another one hands it on what it accepts. A connection is handed on before anything is read of
//! it, and stays where it comes to.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::accept::Client;

/// A thread keeps what it accepts while it has no more connections than the thread with fewest, and this share of them. So
/// a few are dealt out exactly, and thousands, which the kernel spreads well enough, are not moved.
const TOLERATED_SHARE: usize = 8;

/// A connection on its way to the thread that serves it.
pub(super) struct Arrived {
    pub(super) stream: TcpStream,
    pub(super) client: Client,
}

/// The client connections of each thread.
struct Threads(Vec<Thread>);

struct Thread {
    connections: AtomicUsize,
    handed: mpsc::UnboundedSender<Arrived>,
}

impl Thread {
    /// One without connections, and what others hand it.
    fn new() -> (Self, mpsc::UnboundedReceiver<Arrived>) {
        let (handed, arriving) = mpsc::unbounded_channel();
        (Self { connections: AtomicUsize::new(0), handed }, arriving)
    }
}

/// A connection that counts for a thread until it is dropped.
pub(super) struct Seated {
    threads: Arc<Threads>,
    number: usize,
}

/// The place of one thread among all.
pub struct Seat {
    threads: Arc<Threads>,
    number: usize,
    /// What others hand this one.
    arriving: Option<mpsc::UnboundedReceiver<Arrived>>,
}

/// The places of so many threads.
pub fn seats(count: usize) -> Vec<Seat> {
    let (threads, arriving): (Vec<_>, Vec<_>) = (0..count).map(|_| Thread::new()).unzip();
    let threads = Arc::new(Threads(threads));
    let seat = |(number, arriving)| Seat { threads: Arc::clone(&threads), number, arriving: Some(arriving) };
    arriving.into_iter().enumerate().map(seat).collect()
}

impl Seat {
    /// That of the only thread there is.
    pub fn alone() -> Self {
        let (thread, arriving) = Thread::new();
        Self { threads: Arc::new(Threads(vec![thread])), number: 0, arriving: Some(arriving) }
    }

    /// What other threads hand this one, for whoever asks first.
    pub(super) fn arriving(&mut self) -> Option<mpsc::UnboundedReceiver<Arrived>> {
        self.arriving.take()
    }

    /// How many connections this thread has, with those that are on their way to it.
    pub(super) fn connections(&self) -> usize {
        self.threads.connections(self.number)
    }

    /// A place with the thread that is to serve the next connection.
    pub(super) fn next(&self) -> Seated {
        self.threads.seat(self.threads.choose(self.number))
    }

    /// A place with this thread.
    pub(super) fn own(&self) -> Seated {
        self.threads.seat(self.number)
    }

    /// Whether a place is with this thread.
    pub(super) fn is_own(&self, seated: &Seated) -> bool {
        self.number == seated.number
    }
}

impl Threads {
    /// The thread that serves what this one has accepted.
    fn choose(&self, accepted_by: usize) -> usize {
        let own = self.connections(accepted_by);
        let others = self.0.iter().enumerate();
        let fewest = others.map(|(number, _)| (self.connections(number), number)).min();
        match fewest {
            Some((fewest, number)) if own > fewest + fewest / TOLERATED_SHARE => number,
            Some(_) | None => accepted_by,
        }
    }

    fn connections(&self, number: usize) -> usize {
        self.0.get(number).map_or(0, |thread| thread.connections.load(Ordering::SeqCst))
    }

    fn seat(self: &Arc<Self>, number: usize) -> Seated {
        if let Some(thread) = self.0.get(number) {
            thread.connections.fetch_add(1, Ordering::SeqCst);
        }
        Seated { threads: Arc::clone(self), number }
    }
}

impl Arrived {
    /// Hands it to the thread that it counts for.
    ///
    /// # Errors
    ///
    /// Itself, when that thread has ended.
    pub(super) fn hand_on(self) -> Result<(), Self> {
        let Seated { threads, number } = &self.client.seated;
        let Some(thread) = threads.0.get(*number) else { return Err(self) };
        let handed = thread.handed.clone();
        handed.send(self).map_err(|refused| refused.0)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(thread) = self.threads.0.get(self.number) {
            thread.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_are_dealt_out_exactly_whoever_accepts_them() {
        let seats = seats(3);
        let mut seated = Vec::new();
        for count in 1..=30 {
            seated.push(seats[0].next());
            let each: Vec<_> = seats.iter().map(Seat::connections).collect();
            assert_eq!(each.iter().sum::<usize>(), count);
            assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 2, "{each:?}");
        }
        drop(seated);
        assert!(seats.iter().all(|seat| seat.connections() == 0));
    }

    #[test]
    fn a_thread_with_no_more_than_the_others_keeps_what_it_accepts() {
        let seats = seats(2);
        let first = seats[1].next();
        assert!(seats[1].is_own(&first));
        let second = seats[1].next();
        assert!(seats[0].is_own(&second));
        let third = seats[1].next();
        assert!(seats[1].is_own(&third));
    }

    #[test]
    fn thousands_are_not_moved_for_a_small_difference() {
        let seats = seats(2);
        let _many: Vec<_> = (0..1000).map(|_| seats[0].own()).collect();
        let _more: Vec<_> = (0..1100).map(|_| seats[1].own()).collect();
        assert!(seats[1].is_own(&seats[1].next()));
        let _too_many: Vec<_> = (0..100).map(|_| seats[1].own()).collect();
        assert!(seats[0].is_own(&seats[1].next()));
    }

    #[test]
    fn one_thread_alone_serves_everybody() {
        let seats = seats(1);
        let _many: Vec<_> = (0..100).map(|_| seats[0].next()).collect();
        assert_eq!(seats[0].connections(), 100);
    }
}
