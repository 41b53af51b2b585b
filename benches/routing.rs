//! What it costs to find a route, among ten and among ten thousand.

use std::fmt::Write as _;
use std::path::Path;

use divan::{Bencher, black_box};
use http::Method;
use tollgate::config::{self, Environment};
use tollgate::routing::RouteTable;

fn main() {
    divan::main();
}

/// A table of so many routes, spread over services, resources and, if there are some, hosts.
fn table(count: usize, hosts: usize) -> RouteTable {
    compiled(&text(count, hosts))
}

fn text(count: usize, hosts: usize) -> String {
    let mut text = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n".to_owned();
    for number in 0..count {
        let path = format!("/service-{}/{{id}}/resource-{}", number % 100, number / 100);
        let _ = writeln!(text, "[[routes]]\npath = \"{path}\"\nauth = \"public\"\nupstream = \"api\"");
        if hosts > 0 {
            let _ = writeln!(text, "host = \"h-{}.example.com\"", number % hosts);
        }
    }
    text
}

fn compiled(text: &str) -> RouteTable {
    match config::parse(text, "gateway.toml", Path::new(""), &Environment::default()) {
        Ok(config) => RouteTable::new(&config),
        Err(failure) => {
            // A benchmark that measures nothing must not look like one that is fast.
            eprintln!("{failure}");
            std::process::exit(1)
        }
    }
}

#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn find(bencher: Bencher<'_, '_>, count: usize) {
    let table = table(count, 0);
    let path = format!("/service-{}/7/resource-{}/more", (count - 1) % 100, (count - 1) / 100);
    bencher.bench_local(|| table.find(black_box("api.example.com"), black_box(&path), &Method::GET).is_ok());
}

#[divan::bench(args = [10, 10_000])]
fn find_nothing(bencher: Bencher<'_, '_>, count: usize) {
    let table = table(count, 0);
    bencher.bench_local(|| {
        table.find(black_box("api.example.com"), black_box("/other/7/x"), &Method::GET).is_err()
    });
}

#[divan::bench(args = [10, 1_000])]
fn find_among_hosts(bencher: Bencher<'_, '_>, hosts: usize) {
    let table = table(10_000, hosts);
    let host = format!("h-{}.example.com", 9_999 % hosts);
    bencher.bench_local(|| {
        table.find(black_box(&host), black_box("/service-99/7/resource-99/more"), &Method::GET).is_ok()
    });
}

#[divan::bench(args = [10, 1_000, 10_000], sample_count = 10)]
fn load(bencher: Bencher<'_, '_>, count: usize) {
    let text = text(count, 1_000);
    bencher.bench_local(|| compiled(black_box(&text)));
}
