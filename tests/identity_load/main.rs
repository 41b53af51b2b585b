//! Whether anybody ever gets what is somebody else's, under load: 500 users, four upstreams that are killed all the time
//! and say which request they saw and as whose, sessions that are refreshed and end, clients that break off.
//!
//! Usage: `cargo test --test identity_load -- [--program PATH] ANSWERS`. Without a number, as among all other tests,
//! nothing is done.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a load that panics has failed, and says where"
)]

mod gateway;
mod http1;
mod http2;
mod ledger;
mod people;
mod upstream;
mod websocket;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use gateway::Gateway;
use ledger::{Count, Counts, Ledger, WAYS, Way};
use people::People;
use upstream::{Fault, Upstreams};

/// Right answers of a load in which something goes wrong on purpose.
const TRIAL_ANSWERS: u64 = 3_000;
/// The slowest load that is waited for, in answers a second.
const SLOWEST: u64 = 400;
/// The clients of a gateway.
const CLIENTS: [(Way, usize); 4] =
    [(Way::KeepAlive, 8), (Way::Pipelined, 4), (Way::Http2, 3), (Way::WebSocket, 2)];
/// Who refreshes and logs out, for each gateway.
const KEEPERS: usize = 2;

/// A gateway with its users.
struct World {
    gateway: Arc<Gateway>,
    people: Arc<People>,
}

/// What held and what did not.
#[derive(Default)]
struct Checks {
    passed: u64,
    failed: u64,
}

impl Checks {
    fn hold(&mut self, holds: bool, what: &str) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("FAILED: {what}");
        }
    }
}

fn main() -> ExitCode {
    let (program, Some(answers)) = arguments() else {
        println!(
            "a load runs with the number of answers to wait for: cargo test --test identity_load -- 200000"
        );
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut checks = Checks::default();
    let place = std::env::temp_dir().join(format!("tollgate-identity-{}", std::process::id()));
    runtime.block_on(trial(&program, answers, &place, &mut checks));
    if checks.failed == 0 {
        let _left = std::fs::remove_dir_all(&place).is_err();
    } else {
        println!("what the gateways said is in {}", place.display());
    }
    println!("{} passed, {} failed", checks.passed, checks.failed);
    ExitCode::from(u8::from(checks.failed > 0))
}

fn arguments() -> (PathBuf, Option<u64>) {
    let mut program = PathBuf::from(env!("CARGO_BIN_EXE_tollgate"));
    let mut answers = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--program" {
            program = words.next().expect("--program has a path").into();
        } else if let Ok(number) = word.parse() {
            // What else there is chooses among the tests of others.
            answers = Some(number);
        }
    }
    (program, answers)
}

async fn trial(program: &Path, answers: u64, place: &Path, checks: &mut Checks) {
    let ledger = Arc::new(Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (upstreams, mut lives) = Upstreams::start(&ledger, &stop).await;
    let mut worlds = Vec::new();
    for (name, tls) in [("clear", false), ("tls", true)] {
        let started = Gateway::start(program, &place.join(name), &upstreams.targets(), tls);
        let gateway = Arc::new(started.expect("the gateway starts"));
        let people = Arc::new(People::log_in(&gateway).await);
        worlds.push(World { gateway, people });
    }
    see_that_faults_are_found(&worlds, &upstreams, &ledger, checks).await;

    let began = Instant::now();
    let before = ledger.counts();
    load(&worlds, &ledger, answers).await;
    let seconds = began.elapsed().as_secs_f64();
    let counts = ledger.counts().since(&before);
    judge(&counts, &ledger, answers, checks);
    report(&counts, seconds);
    println!("refused: {:?}", ledger.take_refusals());

    stop.store(true, Ordering::Relaxed);
    lives.shutdown().await;
    for World { gateway, people } in worlds {
        drop(people);
        let place = gateway.place().to_owned();
        let mut gateway = Arc::into_inner(gateway).expect("all clients have ended");
        checks.hold(gateway.runs(), "the gateway still runs");
        let ended = gateway.stop();
        checks.hold(
            ended.as_ref().is_ok_and(std::process::ExitStatus::success),
            &format!("it stops: {ended:?}"),
        );
        let complaints = Gateway::complaints(&place);
        checks.hold(complaints.is_empty(), &format!("it has nothing to complain of: {complaints:?}"));
    }
}

/// Lets things go wrong on purpose: a load that finds nothing then proves nothing.
async fn see_that_faults_are_found(
    worlds: &[World],
    upstreams: &Upstreams,
    ledger: &Arc<Ledger>,
    checks: &mut Checks,
) {
    let faults = [
        (Fault::Identity, Count::Wrong),
        (Fault::Nonce, Count::Wrong),
        (Fault::Answer, Count::Wrong),
        (Fault::Body, Count::Wrong),
        (Fault::Twice, Count::Twice),
        (Fault::None, Count::Revived),
    ];
    for (fault, count) in faults {
        let before = ledger.counts();
        upstreams.make(fault);
        let forget = |forget| {
            for world in worlds {
                world.people.forget_logouts.store(forget, Ordering::SeqCst);
            }
        };
        forget(fault == Fault::None);
        load(worlds, ledger, TRIAL_ANSWERS).await;
        forget(false);
        upstreams.make(Fault::None);
        for world in worlds {
            world.people.forget_ended();
        }
        let found = ledger.counts().since(&before);
        println!("on purpose, {fault:?}: {} of {count:?}", found.of(count));
        checks.hold(found.of(count) > 0, &format!("{fault:?} is found as {count:?}"));
        let others = [Count::Wrong, Count::Twice, Count::Revived]
            .map(|other| if other == count { 0 } else { found.of(other) });
        checks.hold(others == [0; 3], &format!("{fault:?} is found as nothing else: {others:?}"));
        ledger.take_told();
        ledger.take_refusals();
    }
}

/// Runs all clients until so many more answers were right, and waits for their end.
async fn load(worlds: &[World], ledger: &Arc<Ledger>, answers: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for world in worlds {
        for (way, clients) in CLIENTS {
            for _ in 0..clients {
                let (gateway, people) = (Arc::clone(&world.gateway), Arc::clone(&world.people));
                let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
                match way {
                    Way::KeepAlive | Way::Pipelined => {
                        tasks.spawn(http1::run(gateway, people, ledger, way, stop));
                    }
                    Way::Http2 => {
                        tasks.spawn(http2::run(gateway, people, ledger, stop));
                    }
                    Way::WebSocket => {
                        tasks.spawn(websocket::run(gateway, people, ledger, stop));
                    }
                }
            }
        }
        for place in 0..KEEPERS {
            let (gateway, people) = (Arc::clone(&world.gateway), Arc::clone(&world.people));
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            tasks.spawn(async move { people.keep(&gateway, &ledger, place, KEEPERS, &stop).await });
        }
    }
    let goal = ledger.counts().of(Count::Right) + answers;
    let patience = Duration::from_secs(60 + answers / SLOWEST);
    let began = Instant::now();
    while ledger.counts().of(Count::Right) < goal && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a client does not panic");
    }
}

fn judge(counts: &Counts, ledger: &Ledger, answers: u64, checks: &mut Checks) {
    for words in ledger.take_told() {
        println!("{words}");
    }
    let right = counts.of(Count::Right);
    checks.hold(right >= answers, &format!("{answers} right answers come in time: {right} did"));
    for count in [Count::Wrong, Count::Revived, Count::Twice, Count::Unexpected, Count::Stuck] {
        checks.hold(counts.of(count) == 0, &format!("{count:?} never happens: {} times", counts.of(count)));
    }
    for count in [
        Count::Killed,
        Count::Refreshed,
        Count::Revoked,
        Count::Refused,
        Count::Cut,
        Count::Posts,
        Count::Messages,
    ] {
        checks.hold(counts.of(count) >= 10, &format!("{count:?} happens: {} times", counts.of(count)));
    }
    let cut = counts.of(Count::Cut) * 100;
    checks.hold(
        cut > counts.of(Count::Sent),
        &format!("clients break off: {} of {}", counts.of(Count::Cut), counts.of(Count::Sent)),
    );
    let failed = counts.of(Count::Unavailable) + counts.of(Count::Broken);
    checks.hold(failed * 10 < right, &format!("most requests succeed: {right}, and {failed} do not"));
    checks.hold(failed > 0, "requests fail where upstreams are killed");
    for tls in [false, true] {
        for way in WAYS {
            let by = ledger.right_by(tls, way);
            checks.hold(by * 2000 >= right, &format!("{way:?} takes part (TLS: {tls}): {by} answers"));
        }
    }
}

fn report(counts: &Counts, seconds: f64) {
    let of = |count| counts.of(count);
    #[expect(clippy::cast_precision_loss, reason = "it is shown to a person")]
    let rate = of(Count::Right) as f64 / seconds;
    println!(
        "{} right answers in {seconds:.1} s ({rate:.0} a second), {} sent, {} wrong, {} revived",
        of(Count::Right),
        of(Count::Sent),
        of(Count::Wrong),
        of(Count::Revived),
    );
    println!(
        "{} kills, {} cuts, {} refreshes, {} logouts, {} ended tokens refused, {} POSTs (twice: {}), {} messages",
        of(Count::Killed),
        of(Count::Cut),
        of(Count::Refreshed),
        of(Count::Revoked),
        of(Count::Refused),
        of(Count::Posts),
        of(Count::Twice),
        of(Count::Messages),
    );
    println!(
        "{} unavailable, {} broken off by the gateway, {} unexpected, {} stuck",
        of(Count::Unavailable),
        of(Count::Broken),
        of(Count::Unexpected),
        of(Count::Stuck),
    );
}
