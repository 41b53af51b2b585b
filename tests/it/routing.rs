//! Finding a route costs the same among ten and among ten thousand.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use tollgate::config::{self, Environment};
use tollgate::routing::RouteTable;

/// So many look-ups are measured together.
const LOOKUPS: usize = 2_000;

/// The text of a configuration with so many routes for so many hosts, and hosts and paths that lead to some of them.
fn text(count: usize, hosts: usize) -> (String, Vec<(String, String)>) {
    let mut text = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n".to_owned();
    let host = |number: usize| format!("h-{}.example.com", number % hosts);
    for number in 0..count {
        let path = format!("/service-{}/{{id}}/resource-{}", number % 100, number / 100);
        writeln!(text, "[[routes]]\npath = \"{path}\"\nauth = \"public\"\nupstream = \"api\"").unwrap();
        if hosts > 0 {
            writeln!(text, "host = \"{}\"", host(number)).unwrap();
        }
    }
    let asked = (0..count).step_by((count / 10).max(1)).map(|number| {
        let path = format!("/service-{}/7/resource-{}/more", number % 100, number / 100);
        (if hosts > 0 { host(number) } else { "api.example.com".to_owned() }, path)
    });
    let asked = asked.collect();
    (text, asked)
}

fn table(count: usize, hosts: usize) -> (RouteTable, Vec<(String, String)>) {
    let (text, asked) = text(count, hosts);
    let config = config::parse(&text, "gateway.toml", Path::new(""), &Environment::default());
    (RouteTable::new(&config.unwrap_or_else(|failure| panic!("{failure}"))), asked)
}

fn measure((table, asked): &(RouteTable, Vec<(String, String)>)) -> Duration {
    let began = Instant::now();
    for (host, path) in asked.iter().cycle().take(LOOKUPS) {
        assert!(black_box(table.find(black_box(host), black_box(path), &Method::GET)).is_ok());
    }
    began.elapsed()
}

/// Whether finding a route among many takes about as long as among few.
fn costs_the_same(few: &(RouteTable, Vec<(String, String)>), many: &(RouteTable, Vec<(String, String)>)) {
    assert_eq!((few.1.len(), many.1.len()), (10, 10));
    // Interleaved, so that a busy machine slows both; the best of many runs is what the work costs.
    let mut best = (Duration::MAX, Duration::MAX);
    for run in 0..200 {
        best = (best.0.min(measure(few)), best.1.min(measure(many)));
        if run >= 20 && best.1 < best.0 * 3 / 2 {
            return;
        }
    }
    panic!("few routes take {:?} and many take {:?}", best.0, best.1);
}

#[test]
fn more_routes_are_not_more_work() {
    costs_the_same(&table(10, 0), &table(10_000, 0));
}

#[test]
fn more_hosts_are_not_more_work() {
    costs_the_same(&table(10, 10), &table(10_000, 1_000));
}

#[test]
fn ten_thousand_routes_are_loaded_without_a_wait() {
    // The time for each route is what must not grow: a file of ten times as many takes about ten times as long.
    let (few, many) = (text(1_000, 1_000).0, text(10_000, 1_000).0);
    let load = |text: &str| {
        let began = Instant::now();
        let config = config::parse(text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
        black_box(RouteTable::new(&config));
        began.elapsed()
    };
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..10 {
        best = (best.0.min(load(&few)), best.1.min(load(&many)));
        if best.1 < best.0 * 20 && best.1 < Duration::from_secs(2) {
            return;
        }
    }
    panic!("1,000 routes are loaded in {:?} and 10,000 in {:?}", best.0, best.1);
}
