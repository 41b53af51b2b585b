//! What a token costs: its verification, which only the first request with it pays on a thread, and finding it again.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use divan::{Bencher, black_box};
use tollgate::authn::cache::TokenCache;
use tollgate::base::algorithm::Algorithm;
use tollgate::base::bounds::TOKEN_CACHE_ENTRIES;
use tollgate::base::clock::Clock;
use tollgate::base::user::User;
use tollgate::config::{self, Environment};
use tollgate::keys::{KeyRing, new_key_file};
use tollgate::tokens::{Expected, Issuer, Verifier};

/// What a configuration has to have besides.
const ROUTES: &str = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n\
    [[routes]]\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"\n";

fn main() {
    divan::main();
}

/// Ends the program: a benchmark that measures nothing must not look like one that is fast.
fn fail(error: &dyn std::fmt::Display) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
}

/// A token as a login gives it, and who verifies it.
fn signed(algorithm: Algorithm) -> Result<(Verifier, String), Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("tollgate-bench-{}-{algorithm}", std::process::id()));
    std::fs::write(&file, new_key_file(algorithm)?)?;
    let place = if algorithm.name().starts_with("HS") { "secret_file" } else { "file" };
    let key = format!("[[tokens.keys]]\nalg = \"{algorithm}\"\n{place} = {:?}\n", file.display().to_string());
    let text = format!("{key}{ROUTES}");
    let clock = Clock::System;
    let loaded = config::parse(&text, "gateway.toml", Path::new(""), &Environment::default())
        .map_err(Box::<dyn std::error::Error>::from)
        .and_then(|config| Ok((Arc::new(KeyRing::load(&config.tokens, &clock)?), config)));
    std::fs::remove_file(&file)?;
    let (ring, config) = loaded?;
    let now = clock.now_unix_seconds();
    let times = (now, now + 3600);
    let user = User { id: "1".to_owned(), name: "alice".to_owned(), email: None, groups: Vec::new() };
    let token =
        Issuer::new(Arc::clone(&ring), &config.tokens).mint(Expected::Access, &user, times, Vec::new())?;
    let verifier = Verifier::new(ring, &config.tokens, clock);
    verifier.verify(token.text.as_bytes(), Expected::Access)?;
    Ok((verifier, token.text))
}

#[divan::bench(args = [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256])]
fn verify(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (verifier, token) = signed(algorithm).unwrap_or_else(|error| fail(&error));
    bencher.bench_local(|| verifier.verify(black_box(token.as_bytes()), Expected::Access).is_ok());
}

/// Texts as long as tokens, and different only where signatures are.
fn tokens(count: usize) -> Vec<String> {
    let head = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.".repeat(8);
    (0..count).map(|number| format!("{head}{number:043}")).collect()
}

fn filled(tokens: &[String]) -> TokenCache<u64> {
    let mut cache = TokenCache::new(TOKEN_CACHE_ENTRIES).unwrap_or_else(|error| fail(&error));
    for (number, token) in (0..).zip(tokens) {
        cache.insert(token.as_bytes(), number);
    }
    cache
}

/// One token after the other, all of which are remembered.
#[divan::bench(args = [1, 1_000, TOKEN_CACHE_ENTRIES])]
fn find(bencher: Bencher<'_, '_>, count: usize) {
    let tokens = tokens(count);
    let mut cache = filled(&tokens);
    let mut turn = tokens.iter().cycle();
    bencher
        .bench_local(|| turn.next().is_some_and(|token| cache.find(black_box(token.as_bytes())).is_some()));
}

/// One token after the other, each of which takes the place of another one.
#[divan::bench]
fn replace(bencher: Bencher<'_, '_>) {
    let tokens = tokens(4 * TOKEN_CACHE_ENTRIES);
    let mut cache = filled(&tokens);
    let mut turn = tokens.iter().cycle();
    bencher.bench_local(|| turn.next().map(|token| cache.insert(black_box(token.as_bytes()), 0)));
}

/// The worst that taking in one token can cost: every other one was used since the last time, and all are passed by once.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn replace_after_all_were_used(bencher: Bencher<'_, '_>) {
    let tokens = tokens(2 * TOKEN_CACHE_ENTRIES);
    let (known, new) = tokens.split_at(TOKEN_CACHE_ENTRIES);
    let cache = RefCell::new(filled(known));
    let mut count = 0;
    let next = || {
        for token in known.iter().chain(new.iter().take(count)) {
            cache.borrow_mut().find(token.as_bytes());
        }
        count += 1;
        new.get(count - 1).map(String::as_bytes).unwrap_or_default()
    };
    bencher.with_inputs(next).bench_local_values(|token| cache.borrow_mut().insert(black_box(token), 0));
}
