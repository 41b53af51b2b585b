//! What it costs to make a request's fields into those that an upstream gets: what the gateway owns is removed, and what
//! belongs to one connection only.

use std::path::Path;

use divan::{Bencher, black_box};
use http::header::{HeaderName, HeaderValue};
use tollgate::base::field_list::FieldList;
use tollgate::config::{self, Environment};
use tollgate::identity::Firewall;
use tollgate::net::peer::Trust;

fn main() {
    divan::main();
}

/// The least that a gateway can be configured with.
const CONFIG: &str = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n\
    [[routes]]\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"\n";

/// What a load generator sends.
const FEW: &[(&str, &str)] =
    &[("host", "api.example.com"), ("authorization", "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9")];

/// What a browser sends.
const USUAL: &[(&str, &str)] = &[
    ("host", "api.example.com"),
    ("connection", "keep-alive"),
    ("sec-ch-ua", "\"Chromium\";v=\"120\""),
    ("accept", "application/json, text/plain, */*"),
    ("authorization", "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"),
    ("sec-ch-ua-mobile", "?0"),
    ("origin", "https://app.example.com"),
    ("sec-fetch-site", "same-site"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
    ("referer", "https://app.example.com/"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cookie", "theme=dark; session=5a1f3c"),
];

/// What somebody sends who would be somebody else.
const FORGED: &[(&str, &str)] = &[
    ("host", "api.example.com"),
    ("connection", "x-user-name, close"),
    ("authorization", "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
    ("x-user-id", "1"),
    ("x_user_id", "1"),
    ("x-user-name", "admin"),
    ("http-x-user-groups", "staff"),
    ("x-forwarded-for", "127.0.0.1"),
];

#[derive(Clone, Copy, Debug)]
enum Sent {
    Few,
    Usual,
    Forged,
}

fn fields(sent: Sent) -> FieldList {
    let fields = match sent {
        Sent::Few => FEW,
        Sent::Usual => USUAL,
        Sent::Forged => FORGED,
    };
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[divan::bench(args = [Sent::Few, Sent::Usual, Sent::Forged])]
fn clean(bencher: Bencher<'_, '_>, sent: Sent) {
    let parsed = config::parse(CONFIG, "gateway.toml", Path::new(""), &Environment::default());
    let firewall = Firewall::new(&parsed.unwrap_or_else(|failure| {
        // A benchmark that measures nothing must not look like one that is fast.
        eprintln!("{failure}");
        std::process::exit(1)
    }));
    let sent = fields(sent);
    bencher
        .with_inputs(|| sent.clone())
        .bench_local_refs(|fields| firewall.clean(black_box(fields), Trust::Untrusted));
}
