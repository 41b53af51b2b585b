use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicI64;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::super::{Counted, Rates, Sender, Told, Turn};
use super::*;
use crate::base::clock::Clock;
use crate::base::field_list::FieldList;
use crate::config::{Environment, parse};

const START_MS: i64 = 1_800_000_000_000;

/// What count.lua does, with a clock that only tests move.
struct Store {
    arrivals_us: HashMap<[u8; 16], i64>,
    clock: Arc<AtomicI64>,
}

impl Store {
    fn answer(&mut self, question: &Question, was_alone: bool) -> Answer {
        let now_us = self.clock.load(Ordering::Acquire) * 1000;
        let interval_ns = i64::try_from(question.interval_ns).unwrap();
        let capacity_us = i64::try_from(question.capacity_us).unwrap();
        let span_us = |count: u32| (i64::from(count) * interval_ns + 999) / 1000;
        let before_us = self.arrivals_us.get(&question.name).copied();
        let mut arrival_us = now_us + question.ahead_us;
        if let Some(before_us) = before_us {
            arrival_us = arrival_us.max(before_us + span_us(question.spent));
        }
        if was_alone {
            arrival_us = arrival_us.min(before_us.unwrap_or(0).max(now_us + capacity_us));
        }
        let from_us = arrival_us.max(now_us);
        let fits = (now_us + capacity_us - from_us) * 1000 / interval_ns;
        let granted = u32::try_from(fits.clamp(0, question.wanted.into())).unwrap();
        if granted > 0 {
            arrival_us = from_us + span_us(granted);
        }
        arrival_us = arrival_us.max(now_us - 1_000_000);
        self.arrivals_us.insert(question.name, arrival_us);
        Answer { ahead_us: arrival_us - now_us, granted }
    }

    /// One round trip of a gateway.
    fn exchange(&mut self, cluster: &Cluster, was_alone: bool) {
        for due in cluster.collect() {
            let answer = self.answer(&due.question().unwrap(), was_alone);
            cluster.settle(&due, answer);
        }
        cluster.note_answer();
    }
}

/// So many gateways with one limit, and their store.
fn gateways(count: u32, scope: &str, rate: &str, burst: u32) -> (Vec<Rates>, Store) {
    let text = format!(
        "[limits_store]\nurl = \"redis://a\"\n[limits.most]\nkey = \"user\"\nrate = \"{rate}\"\nburst = {burst}\n\
         scope = \"{scope}\"\n[upstreams.api]\ntargets = [\"http://a\"]\n\
         [[routes]]\npath = \"/\"\nauth = \"optional\"\nupstream = \"api\"\nlimit = \"most\"\n"
    );
    let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
    let (clock, hand) = Clock::manual(START_MS);
    let gateways = (0..count).map(|_| {
        let rates = Rates::new(&config, &clock);
        let cluster = rates.serve_cluster();
        cluster.set_gateways(count);
        cluster.set_up();
        rates
    });
    (gateways.collect(), Store { arrivals_us: HashMap::new(), clock: hand })
}

fn exchange_all(gateways: &[Rates], store: &mut Store) {
    for gateway in gateways {
        store.exchange(&gateway.cluster, false);
    }
}

fn count(rates: &Rates, user: &str, patience: Patience) -> Counted {
    static NONE: std::sync::LazyLock<FieldList> = std::sync::LazyLock::new(FieldList::new);
    let sender = Sender { client: [192, 0, 2, 1].into(), headers: &NONE, user_id: Some(user) };
    rates.try_count(rates.of_route(0).unwrap(), Turn::Only, sender, &mut Told::default(), patience)
}

/// Whether a request passes, where the store answers at once if it is asked.
fn passes(rates: &Rates, store: &mut Store, user: &str) -> bool {
    let mut patience = Patience::Untried;
    loop {
        match count(rates, user, patience) {
            Counted::Passed => return true,
            Counted::Exceeded(_) => return false,
            Counted::Unknown if patience == Patience::Waiting => store.exchange(&rates.cluster, false),
            Counted::Unknown => patience = Patience::Waiting,
        }
    }
}

proptest! {
    /// Whatever comes when, wherever, and however seldom gateways talk to the store.
    #[test]
    fn no_stretch_of_time_has_more_than_the_limit_and_what_is_unsettled(
        count in 1_u32..6, burst in 1_u32..120, per_second in 1_u32..400,
        events in prop::collection::vec((0_usize..6, 0_i64..40, 0_u8..10), 1..400), speed in 0_i64..3,
    ) {
        let (gateways, mut store) = gateways(count, "cluster", &format!("{per_second}/s"), burst);
        let most_over = u64::from(count - 1) * u64::from(most_unsettled(burst.into(), count));
        let mut passed: Vec<i64> = Vec::new();
        for (which, pause_ms, what) in events {
            let pause_ms = pause_ms * speed * speed / 4;
            let now_ms = store.clock.load(Ordering::Acquire) + pause_ms;
            store.clock.store(now_ms, Ordering::Release);
            let gateway = &gateways[which % gateways.len()];
            if what == 0 {
                store.exchange(&gateway.cluster, false);
            } else if passes(gateway, &mut store, "alice") {
                passed.push(now_ms);
                for (earlier, since) in passed.iter().enumerate() {
                    let came = (passed.len() - earlier) as u64;
                    let elapsed_ms = u64::try_from(now_ms - since).unwrap();
                    let due = elapsed_ms * u64::from(per_second) / 1000;
                    prop_assert!(came <= u64::from(burst) + due + most_over, "{came} in {elapsed_ms} ms");
                }
            }
        }
    }

    /// A gateway that is alone decides as if the limit were its own.
    #[test]
    fn of_one_gateway_a_limit_of_the_cluster_is_exact(
        burst in 1_u32..40, events in prop::collection::vec((0_i64..30, 0_u8..4), 1..300), speed in 0_i64..4,
    ) {
        let (alone, mut nothing) = gateways(1, "node", "100/s", burst);
        let (shared, mut store) = gateways(1, "cluster", "100/s", burst);
        for (pause_ms, what) in events {
            let now_ms = store.clock.load(Ordering::Acquire) + pause_ms * speed;
            store.clock.store(now_ms, Ordering::Release);
            nothing.clock.store(now_ms, Ordering::Release);
            if what == 0 {
                store.exchange(&shared[0].cluster, false);
            }
            let expected = passes(&alone[0], &mut nothing, "alice");
            prop_assert_eq!(passes(&shared[0], &mut store, "alice"), expected);
        }
    }
}

#[test]
fn three_gateways_let_pass_what_one_would_and_few_more() {
    let (gateways, mut store) = gateways(3, "cluster", "60/m", 60);
    let mut passed = 0;
    for _ in 0..100 {
        passed += gateways.iter().filter(|gateway| passes(gateway, &mut store, "alice")).count();
    }
    // Each of three may let a thirtieth of the burst pass before the others know.
    assert!((60..=64).contains(&passed), "{passed}");
    assert!(passes(&gateways[1], &mut store, "bob"), "somebody else has another count");
    exchange_all(&gateways, &mut store);
    for _ in 0..10 {
        assert!(gateways.iter().all(|gateway| !passes(gateway, &mut store, "alice")), "all know it now");
    }
    // What was too much is paid back: in the minutes after, no more pass than the rate gives.
    let mut later = 0;
    for _ in 0..240 {
        store.clock.fetch_add(500, Ordering::AcqRel);
        exchange_all(&gateways, &mut store);
        later += gateways.iter().filter(|gateway| passes(gateway, &mut store, "alice")).count();
    }
    assert!((passed + later) as u64 <= 60 + 120 + 4, "{passed} and {later}");
    assert!(later >= 110, "{later}");
}

#[test]
fn without_a_store_each_gateway_counts_for_itself_and_all_count_together_afterwards() {
    let (gateways, mut store) = gateways(3, "cluster", "10/s", 10);
    for gateway in &gateways {
        gateway.cluster.set_down();
    }
    for gateway in &gateways {
        let passed = (0..50).filter(|_| passes(gateway, &mut store, "alice")).count();
        assert_eq!(passed, 10, "the limit as it is");
        assert!(!gateway.cluster.reading().is_up);
    }
    assert!(store.arrivals_us.is_empty(), "nobody was asked");
    for gateway in &gateways {
        store.exchange(&gateway.cluster, true);
        gateway.cluster.set_up();
    }
    assert!(gateways.iter().all(|gateway| !passes(gateway, &mut store, "alice")));
    // What three gateways have let pass together is no debt of anybody's: the next second has ten, and what is unsettled.
    let mut passed = 0;
    for _ in 0..10 {
        store.clock.fetch_add(100, Ordering::AcqRel);
        exchange_all(&gateways, &mut store);
        passed += gateways.iter().filter(|gateway| passes(gateway, &mut store, "alice")).count();
    }
    assert!((10..=12).contains(&passed), "{passed}");
}

#[test]
fn what_the_store_may_have_counted_is_told_again() {
    let (gateways, mut store) = gateways(1, "cluster", "10/m", 10);
    let cluster = &gateways[0].cluster;
    for _ in 0..3 {
        assert!(passes(&gateways[0], &mut store, "alice"));
    }
    // One is unsettled; the others were granted, or settled when the next one asked.
    let due = cluster.collect();
    let spent: u32 = due.iter().map(|due| due.report.spent.count).sum();
    assert_eq!(spent, 1);
    for due in &due {
        cluster.restore(due);
    }
    let again = cluster.collect();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].question().unwrap().spent, 1);
}

#[test]
fn entries_that_make_no_difference_are_forgotten_while_the_store_is_away() {
    let (gateways, mut store) = gateways(1, "cluster", "10/s", 10);
    let rates = &gateways[0];
    rates.cluster.set_down();
    assert!(passes(rates, &mut store, "alice"));
    store.clock.fetch_add(99, Ordering::AcqRel);
    rates.cluster.set_down();
    assert_eq!(rates.cluster.collect().len(), 1);
    store.clock.fetch_add(1, Ordering::AcqRel);
    rates.cluster.set_down();
    assert_eq!(rates.cluster.collect().len(), 0);
}

#[test]
fn names_tell_nothing_and_are_the_same_at_every_gateway() {
    let (gateways, _store) = gateways(2, "cluster", "10/s", 10);
    let names: Vec<[u8; 16]> = gateways
        .iter()
        .map(|gateway| {
            assert!(matches!(count(gateway, "alice-the-user", Patience::Untried), Counted::Passed));
            gateway.cluster.collect()[0].question().unwrap().name
        })
        .collect();
    assert_eq!(names[0], names[1]);
    assert!(!String::from_utf8_lossy(&names[0]).contains("alice"));
    let (others, _store) = self::gateways(1, "cluster", "11/s", 10);
    assert!(matches!(count(&others[0], "alice-the-user", Patience::Untried), Counted::Passed));
    assert_ne!(
        others[0].cluster.collect()[0].question().unwrap().name,
        names[0],
        "another rate is another count"
    );
}

fn on_a_thread<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

async fn counted(rates: &Rates) -> bool {
    let headers = FieldList::new();
    let sender = Sender { client: [192, 0, 2, 1].into(), headers: &headers, user_id: Some("alice") };
    rates.count(rates.of_route(0).unwrap(), Turn::Only, sender, &mut Told::default()).await.is_ok()
}

#[test]
fn who_waits_passes_when_the_store_has_answered() {
    let (gateways, mut store) = gateways(1, "cluster", "10/m", 10);
    let rates = &gateways[0];
    on_a_thread(async {
        assert_eq!(counted(rates).now_or_never(), Some(true), "the first one waits for nobody");
        // 20 at once are asked for together: those that fit pass, and no more.
        let all = futures_util::future::join_all((0..20).map(|_| counted(rates)));
        let answering = async {
            loop {
                rates.cluster.due().await;
                store.exchange(&rates.cluster, false);
            }
        };
        tokio::select! {
            passed = all => assert_eq!(passed.into_iter().filter(|passed| *passed).count(), 9),
            () = answering => {}
        }
    });
    let reading = rates.cluster.reading();
    assert_eq!((reading.waits, reading.timeouts), (20, 0));
}

#[test]
fn who_waits_in_vain_passes_and_nobody_waits_after_that() {
    let (gateways, mut store) = gateways(1, "cluster", "10/m", 10);
    let rates = &gateways[0];
    on_a_thread(async {
        assert_eq!(counted(rates).now_or_never(), Some(true));
        assert!(counted(rates).await, "after some time");
        for _ in 0..8 {
            assert_eq!(counted(rates).now_or_never(), Some(true), "at once");
        }
        assert_eq!(counted(rates).now_or_never(), Some(false), "the gateway's own count holds");
    });
    assert_eq!(rates.cluster.reading().timeouts, 1);
    store.exchange(&rates.cluster, false);
    assert!(!passes(rates, &mut store, "alice"), "everything was told");
}
