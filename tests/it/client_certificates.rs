//! Certificates that stand for a token.

use std::io;
use std::time::Duration;

use tollgate::cli::user;

use crate::support::tls::{Hello, Tls};
use crate::support::{Setup, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
/// How soon a change is effective, at the latest.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn a_certificate_stands_for_a_token_where_it_names_a_user() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let lines = "[tls.client_auth]\nca = \"clients.pem\"\nmode = \"optional\"\nuser = \"san_dns\"";
    let setup = Setup::guarded(&upstream).user("alice").user("bob").clock(NOW_MS);
    let gateway = tls.prepare(setup, lines).start();
    let (alice, nobody) = (tls.authority.sign("alice", false), tls.authority.sign("nobody", false));
    let mut client = tls.client_with(&gateway, &Hello { own: Some(&alice), ..Hello::default() });
    client.get("/", "x-user-name: mallory\r\n").expect(200);
    assert_eq!((upstream.last().field("x-user-id"), upstream.last().field("x-user-name")), ("1", "alice"));
    let mut other = tls.http2_client(&gateway, &Hello { own: Some(&alice), ..Hello::default() });
    other.get("/", &[]).expect(200);
    assert_eq!(upstream.last().field("x-user-name"), "alice");
    // A token says more, and one that does not pass is refused whoever shows it.
    client.get_as("/", &mint::access("2", NOW_MS / 1000, 600)).expect(200);
    assert_eq!(upstream.last().field("x-user-name"), "bob");
    client.get_as("/", "no.token.this").refused(401, "token_invalid");
    let seen = upstream.count();
    tls.client_with(&gateway, &Hello { own: Some(&nobody), ..Hello::default() })
        .get("/", "")
        .refused(401, "user_not_found");
    tls.client(&gateway).get("/", "").refused(401, "credentials_missing");
    // The user is looked at again as soon as something has changed, on connections that are open as well.
    gateway.change(async |store| user::disable(store, "alice", &mut io::sink()).await.unwrap());
    eventually("alice is refused", AT_ONCE, || client.get("/", "").status == 401);
    client.get("/", "").refused(401, "user_inactive");
    other.get("/", &[]).refused(401, "user_inactive");
    gateway.change(async |store| user::enable(store, "alice", &mut io::sink()).await.unwrap());
    eventually("alice may come back", AT_ONCE, || client.get("/", "").status == 200);
    assert!(upstream.count() > seen);
}
