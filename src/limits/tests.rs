use std::num::NonZeroU32;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use super::*;
use crate::store::scratch::{Place, on_both_stores};
use crate::users::password::tests::cheap_hashing;

const HOME: Origin<'_> = Origin::Network(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

fn settings(attempts: u32, max_queue: usize) -> config::Users {
    let ten_minutes = Duration::from_mins(10);
    config::Users {
        source: config::UserSource::Store,
        hashing: config::Hashing { max_queue, ..cheap_hashing() },
        lockout: config::Lockout {
            attempts: NonZeroU32::new(attempts).unwrap(),
            window: ten_minutes,
            duration: ten_minutes,
        },
    }
}

async fn lockout(attempts: u32, store: Option<Store>) -> (Lockout, Arc<AtomicI64>) {
    let (clock, hand) = Clock::manual(1_000_000);
    (Lockout::open(&settings(attempts, 1000), store, clock).await.unwrap(), hand)
}

fn network(text: &str) -> Origin<'static> {
    Origin::Network(text.parse().unwrap())
}

async fn fail(lockout: &Lockout, name: &str, origin: Origin<'_>, times: usize) {
    for _ in 0..times {
        lockout.admit(name, origin).await.unwrap().fail().await;
    }
}

fn seconds(blocked: Result<Attempt, Blocked>) -> i64 {
    match blocked {
        Err(Blocked::Locked { retry_after_seconds }) => retry_after_seconds,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_user_is_locked_from_one_network_only() {
    let (lockout, hand) = lockout(3, None).await;
    fail(&lockout, "alice", HOME, 3).await;
    assert_eq!(seconds(lockout.admit("alice", HOME).await), 600);
    hand.store(1_000_000 + 599_001, Ordering::Release);
    assert_eq!(seconds(lockout.admit("alice", HOME).await), 1);
    for (name, origin) in [("bob", HOME), ("Alice", HOME), ("alice", network("192.0.2.2"))] {
        lockout.admit(name, origin).await.unwrap().give_back();
    }
    hand.store(1_000_000 + 600_000, Ordering::Release);
    lockout.admit("alice", HOME).await.unwrap().give_back();
}

#[tokio::test]
async fn an_ipv6_network_is_64_bits_and_a_mapped_address_is_ipv4() {
    let (lockout, _) = lockout(1, None).await;
    fail(&lockout, "alice", network("2001:db8:1:2::1"), 1).await;
    assert!(lockout.admit("alice", network("2001:db8:1:2:ffff::9")).await.is_err());
    lockout.admit("alice", network("2001:db8:1:3::1")).await.unwrap().give_back();
    fail(&lockout, "alice", network("::ffff:192.0.2.1"), 1).await;
    assert!(lockout.admit("alice", HOME).await.is_err());
}

#[tokio::test]
async fn one_password_for_many_users_is_seen_by_its_network() {
    let (lockout, _) = lockout(3, None).await;
    let mut tried = 0;
    for number in 0..1000 {
        match lockout.admit(&format!("user{number}"), HOME).await {
            Ok(attempt) => {
                tried += 1;
                attempt.fail().await;
            }
            Err(blocked) => assert_eq!(blocked, Blocked::Locked { retry_after_seconds: 600 }),
        }
        // A right password in between clears nothing for the network.
        if let Ok(attempt) = lockout.admit("own account", HOME).await {
            attempt.succeed();
        }
    }
    assert_eq!(tried, 3 * bounds::NETWORK_ATTEMPTS_FACTOR);
    lockout.admit("user1", network("192.0.2.2")).await.unwrap().give_back();
}

#[tokio::test]
async fn a_live_session_has_its_own_count() {
    let (lockout, _) = lockout(2, None).await;
    fail(&lockout, "alice", HOME, 2).await;
    assert!(lockout.admit("alice", HOME).await.is_err());
    fail(&lockout, "alice", Origin::Session("s1"), 2).await;
    // A stolen token must not be a way around.
    assert!(lockout.admit("alice", Origin::Session("s1")).await.is_err());
    lockout.admit("alice", Origin::Session("s2")).await.unwrap().succeed();
    assert!(lockout.admit("alice", HOME).await.is_err());
}

#[tokio::test]
async fn a_right_password_clears_and_an_untried_one_counts_for_nothing() {
    let (lockout, _) = lockout(3, None).await;
    for _ in 0..5 {
        fail(&lockout, "alice", HOME, 2).await;
        lockout.admit("alice", HOME).await.unwrap().succeed();
        lockout.admit("alice", HOME).await.unwrap().give_back();
    }
    fail(&lockout, "alice", HOME, 2).await;
    drop(lockout.admit("alice", HOME).await.unwrap());
    assert!(lockout.admit("alice", HOME).await.is_err(), "an attempt that nobody ended has failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_at_once_only_as_many_are_tried_as_may_fail() {
    let (lockout, _) = lockout(5, None).await;
    let tries = (0..100).map(|_| {
        let lockout = lockout.clone();
        tokio::spawn(async move {
            let Ok(attempt) = lockout.admit("alice", HOME).await else { return 0 };
            tokio::task::yield_now().await;
            attempt.fail().await;
            1
        })
    });
    let outcomes: Vec<_> = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.into_iter().map(Result::unwrap).sum::<i32>(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_right_ones_at_once_all_pass() {
    let (lockout, _) = lockout(5, None).await;
    let tries = (0..100).map(|_| {
        let lockout = lockout.clone();
        tokio::spawn(async move {
            let attempt = lockout.admit("alice", HOME).await.unwrap();
            tokio::task::yield_now().await;
            attempt.succeed();
        })
    });
    for done in futures_util::future::join_all(tries).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn those_who_wait_are_bounded_and_told_of_the_lock() {
    let clock = Clock::manual(1_000_000).0;
    let lockout = Lockout::open(&settings(1, 1), None, clock).await.unwrap();
    let first = lockout.admit("alice", HOME).await.unwrap();
    let second = tokio::spawn({
        let lockout = lockout.clone();
        async move { lockout.admit("alice", HOME).await.map(Attempt::give_back) }
    });
    while lockout.0.waiting.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lockout.admit("alice", HOME).await.unwrap_err(), Blocked::Overloaded);
    first.fail().await;
    assert_eq!(second.await.unwrap(), Err(Blocked::Locked { retry_after_seconds: 600 }));
    assert_eq!(lockout.0.waiting.load(Ordering::Relaxed), 0);
}

async fn a_lock_outlives_the_process_and_names_nobody(place: Place) {
    let store = place.open().await;
    let (one, hand) = lockout(2, Some(store.clone())).await;
    fail(&one, "alice", HOME, 2).await;
    let (two, later) = lockout(2, Some(store.clone())).await;
    assert_eq!(seconds(two.admit("alice", HOME).await), 600);
    two.admit("bob", HOME).await.unwrap().give_back();
    // What is over is neither loaded nor kept.
    for clock in [&hand, &later] {
        clock.store(1_000_000 + 600_000, Ordering::Release);
    }
    two.admit("alice", HOME).await.unwrap().give_back();
    fail(&two, "bob", HOME, 2).await;
    assert_eq!(store.number("SELECT count(*) AS value FROM lockouts").await, 1);
    assert_eq!(store.number("SELECT locked_until AS value FROM lockouts").await, 1_000_000 + 1_200_000);
}

async fn a_store_that_cannot_be_written_locks_all_the_same(place: Place) {
    let store = place.open().await;
    let (lockout, _) = lockout(1, Some(store.clone())).await;
    store.close().await;
    fail(&lockout, "alice", HOME, 1).await;
    assert!(lockout.admit("alice", HOME).await.is_err());
}

#[tokio::test]
async fn failures_at_several_gateways_are_counted_together() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open().await;
    let (one, _) = lockout(4, Some(store.clone())).await;
    let (two, _) = lockout(4, Some(place.open().await)).await;
    // Two at each: none of them has seen four.
    for gateway in [&one, &two, &one] {
        fail(gateway, "alice", HOME, 1).await;
    }
    two.admit("alice", HOME).await.unwrap().give_back();
    fail(&two, "alice", HOME, 1).await;
    for gateway in [&one, &two] {
        assert!(seconds(gateway.admit("alice", HOME).await) > 0);
        gateway.admit("bob", HOME).await.unwrap().give_back();
    }
    assert_eq!(store.number("SELECT count(*) AS value FROM lockouts").await, 1);
    // The right password at one of them makes the others forget.
    fail(&one, "bob", HOME, 3).await;
    two.admit("bob", HOME).await.unwrap().succeed();
    let bobs = "SELECT count(*) AS value FROM login_failures WHERE failures = 3";
    while store.number(bobs).await > 0 {}
    one.admit("bob", HOME).await.unwrap().give_back();
}

on_both_stores!(
    a_lock_outlives_the_process_and_names_nobody,
    a_store_that_cannot_be_written_locks_all_the_same,
);
