use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt as _;
use http::HeaderName;

use super::*;
use crate::base::bounds;
use crate::base::field_list::FieldList;
use crate::config::{Environment, parse};

const START_MS: i64 = 1_800_000_000_000;

/// Limits as the file writes them, used by one route each list.
fn rates(limits: &str, uses: &[&str]) -> (Rates, Arc<AtomicI64>) {
    let routes: Vec<String> = uses
        .iter()
        .enumerate()
        .map(|(number, limit)| {
            format!(
                "[[routes]]\npath = \"/{number}\"\nauth = \"optional\"\nupstream = \"api\"\nlimit = {limit}"
            )
        })
        .collect();
    let text = format!("{limits}\n[upstreams.api]\ntargets = [\"http://a\"]\n{}", routes.join("\n"));
    let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default());
    let (clock, hand) = Clock::manual(START_MS);
    (Rates::new(&config.unwrap_or_else(|failure| panic!("{failure}")), &clock), hand)
}

fn from(client: &str) -> Sender<'static> {
    static NONE: std::sync::LazyLock<FieldList> = std::sync::LazyLock::new(FieldList::new);
    Sender { client: client.parse().unwrap(), headers: &NONE, user_id: None }
}

fn user(user_id: &str) -> Sender<'_> {
    Sender { user_id: Some(user_id), ..from("192.0.2.1") }
}

/// What a request to a route learns: whether it passes, or when to come again, and the field.
fn count(rates: &Rates, route: usize, turn: Turn, sender: Sender<'_>) -> (Result<(), u64>, String) {
    let mut told = Told::default();
    let counting = rates.count(rates.of_route(route).unwrap(), turn, sender, &mut told);
    let outcome = counting.now_or_never().expect("nobody waits");
    let mut headers = FieldList::new();
    told.write(&mut headers);
    let field = headers.get("ratelimit").map(|value| value.to_str().unwrap().to_owned());
    (outcome.map_err(|exceeded| exceeded.retry_after_seconds), field.unwrap_or_default())
}

fn passes(rates: &Rates, sender: Sender<'_>) -> bool {
    count(rates, 0, Turn::Only, sender).0.is_ok()
}

const PER_IP: &str = "[limits.per-ip]\nkey = \"ip\"\nrate = \"2/m\"";

#[test]
fn a_network_is_an_ipv4_address_or_64_bits_of_ipv6() {
    let (rates, _) = rates(PER_IP, &["\"per-ip\""]);
    for alike in [
        ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"],
        ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff:ffff:ffff:ffff"],
    ] {
        assert_eq!(alike.map(|client| passes(&rates, from(client))), [true, true, false], "{alike:?}");
    }
    for other in ["192.0.2.2", "2001:db8:1:3::1", "::192.0.2.1"] {
        assert!(passes(&rates, from(other)), "{other}");
    }
}

#[test]
fn a_limit_by_user_goes_by_network_for_whoever_is_none() {
    let limits = "[limits.per-user]\nkey = \"user\"\nrate = \"1/m\"";
    let (rates, _) = rates(limits, &["\"per-user\""]);
    assert!(passes(&rates, user("1")) && passes(&rates, user("2")));
    assert!(!passes(&rates, user("1")) && !passes(&rates, user("2")));
    assert!(passes(&rates, from("192.0.2.1")), "nobody has counted for the network");
    assert!(!passes(&rates, from("192.0.2.1")));
    assert!(passes(&rates, from("192.0.2.2")));
    // A user who is named like a network is not one.
    assert!(passes(&rates, user("192.0.2.1")));
}

#[test]
fn a_limit_by_header_goes_by_its_value_or_by_network() {
    let limits = "[limits.per-key]\nkey = \"header:X-Api-Key\"\nrate = \"1/m\"";
    let (rates, _) = rates(limits, &["\"per-key\""]);
    let keyed = |value: &'static str| {
        FieldList::from_iter([(HeaderName::from_static("x-api-key"), HeaderValue::from_static(value))])
    };
    for value in ["a", "b", "", "192.0.2.1"] {
        let headers = keyed(value);
        let sender = Sender { headers: &headers, ..from("192.0.2.1") };
        assert!(passes(&rates, sender), "{value}");
        assert!(!passes(&rates, Sender { client: "192.0.2.9".parse().unwrap(), ..sender }), "{value}");
    }
    assert!(passes(&rates, from("192.0.2.1")));
    assert!(!passes(&rates, from("192.0.2.1")));
    assert!(passes(&rates, from("192.0.2.2")));
}

#[test]
fn what_is_counted_goes_on_where_the_limit_did_not_change() {
    let parsed = |text: &str| {
        let rest = "[upstreams.api]\ntargets = [\"http://a\"]\n[[routes]]\npath = \"/\"\nauth = \"optional\"\nupstream = \"api\"\nlimit = [\"kept\", \"other\"]\n";
        parse(&format!("{text}\n{rest}"), "gateway.toml", Path::new(""), &Environment::default()).unwrap()
    };
    let kept = "[limits.kept]\nkey = \"ip\"\nrate = \"2/h\"";
    let (clock, _hand) = Clock::manual(START_MS);
    let passes = |rates: &Rates| count(rates, 0, Turn::Only, from("192.0.2.1")).0.is_ok();
    let before =
        Rates::new(&parsed(&format!("{kept}\n[limits.other]\nkey = \"ip\"\nrate = \"9/h\"")), &clock);
    assert!(passes(&before) && passes(&before) && !passes(&before));
    // Another limit has come, and its place is in front of the one that stays.
    let more = "[limits.a]\nkey = \"ip\"\nrate = \"1/h\"\n[limits.other]\nkey = \"ip\"\nrate = \"8/h\"";
    let after = before.renewed(&parsed(&format!("{kept}\n{more}")));
    assert!(!passes(&after), "what was counted is not forgotten");
    let slower = before.renewed(&parsed(&format!("{}\n{more}", kept.replace("2/h", "3/h"))));
    assert!(passes(&slower), "a limit with another rate begins anew");
}

#[test]
fn who_waits_as_long_as_is_said_passes() {
    let limits = "[limits.slow]\nkey = \"ip\"\nrate = \"7/m\"\nburst = 2";
    let (rates, hand) = rates(limits, &["\"slow\""]);
    let ask = || count(&rates, 0, Turn::Only, from("192.0.2.1"));
    assert_eq!(ask(), (Ok(()), "\"slow\";r=1;t=9".to_owned()));
    // Nothing is left: from here on `t` is the time until one passes.
    assert_eq!(ask(), (Ok(()), "\"slow\";r=0;t=9".to_owned()));
    assert_eq!(ask(), (Err(9), "\"slow\";r=0;t=9".to_owned()));
    hand.store(START_MS + 8_000, Ordering::Release);
    assert_eq!(ask(), (Err(1), "\"slow\";r=0;t=1".to_owned()));
    hand.store(START_MS + 9_000, Ordering::Release);
    assert_eq!(ask().0, Ok(()));
    assert_eq!(ask().0, Err(9));
    // A clock that is set back makes nobody pass.
    hand.store(START_MS - 3_600_000, Ordering::Release);
    assert_eq!(ask().0, Err(9));
}

#[test]
fn of_several_rates_a_refusal_takes_from_none() {
    let limits = "[limits.both]\nkey = \"user\"\nrate = [\"5/h\", \"2/s\"]";
    let (rates, hand) = rates(limits, &["\"both\""]);
    let ask = || count(&rates, 0, Turn::Known, user("1"));
    assert_eq!(ask(), (Ok(()), "\"both/s\";r=1;t=1, \"both/h\";r=4;t=720".to_owned()));
    assert_eq!(ask().0, Ok(()));
    for _ in 0..10 {
        let refused = (Err(1), "\"both/s\";r=0;t=1, \"both/h\";r=3;t=1440".to_owned());
        assert_eq!(ask(), refused, "the longer rate has lost nothing");
    }
    for second in 1..=2_i64 {
        hand.store(START_MS + second * 1000, Ordering::Release);
        assert_eq!(ask().0, Ok(()));
    }
    assert_eq!(ask(), (Ok(()), "\"both/s\";r=0;t=1, \"both/h\";r=0;t=718".to_owned()));
    hand.store(START_MS + 10_000, Ordering::Release);
    for _ in 0..10 {
        assert_eq!(ask(), (Err(710), "\"both/s\";r=2;t=0, \"both/h\";r=0;t=710".to_owned()));
    }
    hand.store(START_MS + 720_000, Ordering::Release);
    assert_eq!(ask().0, Ok(()));
}

#[test]
fn a_list_of_limits_is_counted_at_its_turns() {
    let limits = format!("{PER_IP}\n[limits.per-user]\nkey = \"user\"\nrate = \"1/m\"");
    let (rates, _) = rates(&limits, &["[\"per-user\", \"per-ip\"]", "\"per-ip\""]);
    let policy = rates.of_route(0).unwrap().policy.to_str().unwrap();
    assert_eq!(policy, "\"per-user\";q=1;w=60, \"per-ip\";q=2;w=60");
    assert_eq!(count(&rates, 0, Turn::Arrival, from("192.0.2.1")).1, "\"per-ip\";r=1;t=30");
    assert_eq!(count(&rates, 0, Turn::Known, user("1")).1, "\"per-user\";r=0;t=60");
    // Routes that name one limit share its counts.
    assert!(count(&rates, 1, Turn::Arrival, from("192.0.2.1")).0.is_ok());
    assert_eq!(count(&rates, 0, Turn::Arrival, from("192.0.2.1")).0, Err(30));
    // By itself, a turn that no limit has lets everybody pass.
    assert_eq!(count(&rates, 1, Turn::Known, user("1")), (Ok(()), String::new()));
}

#[test]
fn limits_that_are_not_used_take_no_memory_and_routes_without_one_have_no_plan() {
    let (rates, _) = rates(&format!("tokens.limit = \"\"\n{PER_IP}"), &["[\"per-ip\"]"]);
    assert!(rates.of_route(1).is_none() && rates.of_token_routes().is_none());
    let text = format!(
        "{PER_IP}\n[upstreams.api]\ntargets = [\"http://a\"]\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"api\""
    );
    let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
    let rates = Rates::new(&config, &Clock::System);
    assert!(rates.of_route(0).is_none() && rates.of_token_routes().is_some());
    assert_eq!(rates.limits.iter().map(|limit| limit.rates.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn many_threads_let_exactly_as_many_pass_as_are_allowed() {
    let limits = "[limits.both]\nkey = \"user\"\nrate = [\"100/m\", \"150/h\"]";
    let (rates, hand) = rates(limits, &["\"both\""]);
    let users: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let everybody = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let turns = (0..60).flat_map(|_| &users);
                        turns.filter(|id| passes(&rates, user(id))).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        })
    };
    assert_eq!(everybody(), 100 * users.len());
    hand.store(START_MS + 60_000, Ordering::Release);
    // 50 are left of the hour, and two have come back in a minute.
    assert_eq!(everybody(), 52 * users.len());
    assert!(!passes(&rates, user("0")));
}

#[test]
fn however_many_values_a_client_makes_up_the_memory_stays_and_nobody_used_up_is_forgotten() {
    let limits = "[limits.per-key]\nkey = \"header:X-Api-Key\"\nrate = \"3/m\"";
    let (rates, _) = rates(limits, &["\"per-key\""]);
    for _ in 0..3 {
        assert!(passes(&rates, from("192.0.2.1")));
    }
    for number in 0..4 * bounds::RATE_KEYS {
        let value = HeaderValue::try_from(number.to_string()).unwrap();
        let headers = FieldList::from_iter([(HeaderName::from_static("x-api-key"), value)]);
        assert!(passes(&rates, Sender { headers: &headers, ..from("192.0.2.9") }));
    }
    assert!(!passes(&rates, from("192.0.2.1")));
}
