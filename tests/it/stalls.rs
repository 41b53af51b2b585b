//! A data-plane thread that stands still is found out, though it has not ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tollgate::app::Seen;
use tollgate::base::bounds;

use crate::support::gateway::has_event;
use crate::support::{DEADLINE, Latch, Setup, Upstream, eventually};

const NOW_MS: i64 = 1_800_000_000_000;
/// From one look to the next.
const STEP: Duration = Duration::from_millis(500);

#[test]
fn a_thread_that_stands_still_is_named_while_the_others_go_round() {
    let upstream = Upstream::echo();
    let (armed, stands, latch) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::<Latch>::default());
    // The thread asks for the time and gets no answer, as if something that it calls never came back.
    let clock = {
        let (armed, stands, latch) = (Arc::clone(&armed), Arc::clone(&stands), Arc::clone(&latch));
        move || {
            if armed.load(Ordering::Acquire) && std::thread::current().name() == Some("worker-0") {
                stands.store(true, Ordering::Release);
                latch.wait();
            }
            NOW_MS
        }
    };
    let gateway = Setup::public(&upstream).workers(2).script(clock).start();
    let mut stalls = gateway.running().stalls();
    let now = Mutex::new(Instant::now());
    // A look at a time of its own, once the thread that must not stand still has shown that it does not.
    let look = |stalls: &mut tollgate::app::Stalls| {
        let before = stalls.beats("worker-1").unwrap();
        eventually("the other thread goes round", DEADLINE, || stalls.beats("worker-1").unwrap() > before);
        let mut now = now.lock().unwrap();
        *now += STEP;
        stalls.look(*now)
    };
    assert_eq!(look(&mut stalls), Seen::AllGoRound);
    armed.store(true, Ordering::Release);
    let mut clients = Vec::new();
    eventually("a request has come to the thread", DEADLINE, || {
        let mut client = gateway.client();
        client.send(crate::support::client::request("GET", "/", "", b""));
        clients.push(client);
        stands.load(Ordering::Acquire)
    });
    let looks = bounds::STALL_MS / 500;
    let seen: Vec<Seen> = (0..=looks).map(|_| look(&mut stalls)).collect();
    assert_eq!(seen.last(), Some(&Seen::OneStandsStill), "{seen:?}");
    assert_eq!(seen.first(), Some(&Seen::AllGoRound), "not at once: {seen:?}");
    assert_eq!(stalls.still().collect::<Vec<_>>(), ["worker-0"]);
    assert!(has_event(&["a data-plane thread stands still", "worker-0"]));
    latch.open();
    for mut client in clients {
        client.answer().expect(200);
    }
    eventually("it goes on", DEADLINE, || look(&mut stalls) == Seen::AllGoRound);
    assert!(has_event(&["a data-plane thread goes on that stood still", "worker-0"]));
}
