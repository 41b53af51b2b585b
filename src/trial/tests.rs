use std::path::Path;

use super::*;
use crate::config::{Environment, parse};

const CONFIG: &str = r#"
[upstreams.a]
targets = ["http://127.0.0.1:9"]
[limits.l]
key = "ip"
rate = "1/d"
[[routes]]
name = "all"
path = "/"
auth = "public"
upstream = "a"
[[routes]]
name = "users"
path = "/users/{id}"
auth = "required"
upstream = "a"
limit = "l"
allow = { groups = ["staff"], match = { user_id = "{id}" } }
[[routes]]
name = "trial"
path = "/trial"
auth = "required"
enforce = "report"
upstream = "a"
"#;

fn trial() -> Trial {
    let config = parse(CONFIG, "gateway.toml", Path::new(""), &Environment::default());
    Trial::new(&config.unwrap_or_else(|failure| panic!("{failure}")), People::AsTokensSay).unwrap()
}

fn get(url: &str) -> TestRequest {
    TestRequest::parse("GET", url).unwrap()
}

fn caller(id: &str, groups: &[&str]) -> TestCaller {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    TestCaller { id: id.to_owned(), user: "zoe".to_owned(), groups, ..TestCaller::default() }
}

#[test]
fn an_account_is_that_of_the_data_path() {
    let trial = trial();
    let send = |url: &str, caller: Option<TestCaller>| {
        let token = caller.map(|caller| trial.token(&caller).unwrap());
        trial.send(&get(url), token.as_deref(), ANYBODY)
    };
    let account = send("https://a.test/users/7?q=1", Some(caller("7", &["staff"])));
    assert_eq!(
        (account.status, account.told("route"), account.told("upstream")),
        (Some(200), Some("users"), Some("a"))
    );
    let seen = account.seen.unwrap();
    assert_eq!(seen.target, "/users/7?q=1");
    assert!(seen.fields.iter().any(|field| field.name == "x-user-id" && field.value == b"7"));
    assert_eq!(account.walk.verdicts.iter().filter(|verdict| verdict.refusal.is_none()).count(), 2);
    let next = account.next_best.unwrap();
    assert_eq!((next.route.as_str(), next.why.as_str()), ("all", "its path is shorter"));

    let account = send("/users/8", Some(caller("7", &[])));
    assert_eq!((account.status, account.told("reason")), (Some(403), Some("group_missing")));
    assert_eq!(account.walk.verdicts.iter().filter(|verdict| verdict.refusal.is_some()).count(), 2);
    assert!(account.seen.is_none() && account.detail.is_some());

    let account = send("/users/7", None);
    assert_eq!((account.status, account.told("reason")), (Some(401), Some("credentials_missing")));
    let account = send("/trial", None);
    assert_eq!((account.status, account.told("would_refuse")), (Some(200), Some("credentials_missing")));
    let account = send("/a/../b", None);
    assert_eq!(
        (account.status, account.told("reason"), account.walk.path.as_deref()),
        (Some(400), Some("path_ambiguous"), None)
    );
    let account = send("/%61", None);
    assert_eq!((account.told("route"), account.walk.path.as_deref()), (Some("all"), Some("/a")));
    assert_eq!(account.seen.unwrap().target, "/a");
}
