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

/// A table of so many routes, and paths that lead to some of them.
fn table(count: usize) -> (RouteTable, Vec<String>) {
    let mut text = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n".to_owned();
    for number in 0..count {
        let path = format!("/service-{}/{{id}}/resource-{}", number % 100, number / 100);
        writeln!(text, "[[routes]]\npath = \"{path}\"\nauth = \"public\"\nupstream = \"api\"").unwrap();
    }
    let config = config::parse(&text, "gateway.toml", Path::new(""), &Environment::default());
    let config = config.unwrap_or_else(|failure| panic!("{failure}"));
    let step = (count / 10).max(1);
    let paths = (0..count)
        .step_by(step)
        .map(|number| format!("/service-{}/7/resource-{}/more", number % 100, number / 100));
    (RouteTable::new(&config), paths.collect())
}

fn measure((table, paths): &(RouteTable, Vec<String>)) -> Duration {
    let began = Instant::now();
    for path in paths.iter().cycle().take(LOOKUPS) {
        assert!(black_box(table.find("api.example.com", black_box(path), &Method::GET)).is_ok());
    }
    began.elapsed()
}

#[test]
fn more_routes_are_not_more_work() {
    let (few, many) = (table(10), table(10_000));
    assert_eq!((few.1.len(), many.1.len()), (10, 10));
    // Interleaved, so that a busy machine slows both; the best of many runs is what the work costs.
    let mut best = (Duration::MAX, Duration::MAX);
    for run in 0..200 {
        best = (best.0.min(measure(&few)), best.1.min(measure(&many)));
        if run >= 20 && best.1 < best.0 * 3 / 2 {
            return;
        }
    }
    panic!("10 routes take {:?} and 10,000 take {:?}", best.0, best.1);
}
