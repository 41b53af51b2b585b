//! What routes may say of paths, header fields, other origins, and what they answer themselves.

use std::path::Path;

use crate::base::path::Oddity;
use crate::base::template::PathChange;
use crate::config::{Action, Config, Environment, Failure, Origins, parse};

/// A file with one route of these lines, behind a first one that is sound.
fn parsed(lines: &str) -> Result<Config, Failure> {
    let auth = if lines.contains("\nauth = 'required'") { "" } else { "auth = \"public\"\n" };
    let text = format!(
        "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n[[routes]]\npath = \"/first\"\nauth = \"public\"\nupstream = \"api\"\n[[routes]]\n{auth}{lines}\n"
    );
    parse(
        &text,
        "gateway.toml",
        Path::new(""),
        &Environment::from_pairs([("KEY", "hunter2-in-env"), ("BAD", "a\nb-in-env")]),
    )
}

/// The route of these lines.
fn route(lines: &str) -> crate::config::Route {
    parsed(lines).unwrap_or_else(|failure| panic!("{failure}")).routes.remove(1)
}

/// What is wrong, each with its hint.
#[track_caller]
fn told(lines: &str) -> Vec<String> {
    let Err(failure) = parsed(lines) else { panic!("nothing is wrong with {lines}") };
    let text = |problem: &crate::config::Problem| {
        format!("{}: {}", problem.message, problem.hint.clone().unwrap_or_default())
    };
    assert!(!failure.to_string().contains("in-env"), "{failure}");
    failure.problems().iter().map(text).collect()
}

/// Exactly one thing is wrong, and these words tell of it.
#[track_caller]
fn is_refused(lines: &str, words: &str) {
    let told = told(lines);
    assert!(told.len() == 1 && told[0].contains(words), "{lines}: {told:#?}");
}

const API: &str = "path = '/a/{id}'\nupstream = 'api'\n";

#[test]
fn paths_are_changed_by_what_is_a_prefix_or_a_template() {
    let change = |lines: &str| match route(&format!("{API}{lines}")).action {
        Action::Forward(forward) => forward.path,
        other @ (Action::Redirect(_) | Action::Respond(_)) => panic!("{other:?}"),
    };
    assert_eq!(change(""), PathChange::None);
    for (lines, count) in [("'/a'", 1), ("'/a/'", 1), ("'/a/{id}'", 2), ("'/%61'", 1)] {
        assert_eq!(change(&format!("strip_prefix = {lines}")), PathChange::Strip(count), "{lines}");
    }
    assert!(matches!(change("rewrite = '/v2/{id}/'"), PathChange::Rewrite(_)));
    for (lines, words) in [
        ("strip_prefix = '/'", "cuts off nothing"),
        ("strip_prefix = '/b'", "beginning of the route's \"path\""),
        ("strip_prefix = '/a/{name}'", "beginning of the route's \"path\""),
        ("strip_prefix = '/a/{id}/b'", "beginning of the route's \"path\""),
        ("strip_prefix = '/a/7'", "beginning of the route's \"path\""),
        ("strip_prefix = 'a'", "begins with \"/\""),
        ("strip_prefix = '=/a'", "begins with \"/\""),
        ("strip_prefix = '/a/..'", "no path has this prefix"),
        ("rewrite = 'v2'", "begins with \"/\""),
        ("rewrite = '/v2?a=b'", "without query"),
        ("rewrite = '/a/../b'", "dot segments"),
        ("rewrite = '/x-{id}'", "whole segment"),
        ("rewrite = '/{ids}'", "did you mean {id}?"),
        ("rewrite = '/v2'\nstrip_prefix = '/a'", "exclude each other"),
        ("rewrite = '/v2'\naccept = ['semicolon']", "exclude each other"),
        (
            "auth = 'required'\nallow = { match = { user_id = '{id}' } }\naccept = ['semicolon']",
            "exclude each other",
        ),
        ("accept = ['dots']", "unknown value"),
    ] {
        is_refused(&format!("{API}{lines}"), words);
    }
    is_refused("path = '/x'\nupstream = 'api'\nrewrite = '/{id}'", "it has no parameters");
    assert!(route(&format!("{API}accept = ['encoded_slash']")).accept.has(Oddity::EncodedSlash));
}

#[test]
fn a_route_does_one_thing() {
    let path = "path = '/a/{id}'\n";
    for lines in [
        "redirect = 'https://a.test/{id}'",
        "redirect = '/b'",
        "redirect = { to = 'http://a.test:8080?x=y#z', status = 303 }",
        "respond = {}",
        "respond = { status = 404, body = 'no', headers = { Content-Type = 'text/html' } }",
    ] {
        assert_eq!(route(&format!("{path}{lines}")).action.upstream(), None, "{lines}");
    }
    for (lines, words) in [
        ("", "has no \"upstream\""),
        ("upstream = 'api'\nredirect = '/b'", "either \"upstream\" or \"redirect\""),
        ("redirect = '/b'\nrespond = {}", "either \"redirect\" or \"respond\""),
        ("redirect = '/b'\nstrip_prefix = '/a'", "of no use without \"upstream\""),
        ("redirect = '/b'\ntimeout = '1s'", "of no use without \"upstream\""),
        ("respond = {}\naccept = ['semicolon']", "of no use without \"upstream\""),
        ("respond = {}\nrequest_headers = {}", "of no use without \"upstream\""),
        ("redirect = 'b'", "write a URL"),
        ("redirect = 'ftp://a.test'", "write a URL"),
        ("redirect = '//a.test'", "begins with \"/\""),
        ("redirect = 'https://{id}.test/'", "the host is fixed"),
        ("redirect = 'https://a.test@{id}/'", "the host is fixed"),
        ("redirect = 'https://u:p@a.test/'", "the host is fixed"),
        ("redirect = 'https:///x'", "the host is fixed"),
        ("redirect = 'https://a.test/?to={id}'", "is fixed"),
        ("redirect = 'https://a.test/{id}.html'", "whole segment"),
        ("redirect = 'https://a.test/{name}'", "no parameter"),
        ("redirect = 'https://a.test/a b'", "is no path"),
        ("redirect = { status = 308 }", "has no \"to\""),
        ("redirect = { to = '/b', status = 304 }", "301, 302, 303, 307 or 308"),
        ("redirect = { to = '/b', code = 302 }", "unknown key"),
        ("respond = { status = 302 }", "from 200 to 599"),
        ("respond = { status = 101 }", "from 200 to 599"),
        ("respond = { status = 204, body = 'x' }", "has no body"),
        ("respond = { headers = { Content-Length = '3' } }", "frames the message"),
        ("respond = { headers = { X-User-Id = '3' } }", "the gateway owns"),
        ("respond = { headers = { A = '1', a = '2' } }", "named twice"),
    ] {
        is_refused(&format!("{path}{lines}"), words);
    }
}

#[test]
fn no_rule_names_what_the_gateway_owns_or_what_frames_a_message() {
    let owned = [
        "X-User-Id",
        "x_user.id",
        "HTTP_X_USER_GROUPS",
        "Remote-User",
        "X-WEBAUTH-USER",
        "X-Forwarded-For",
        "X_Forwarded_Host",
        "X-Real-IP",
        "X-Request-Id",
        "X-HTTP-Method-Override",
        "Authorization",
        "http-authorization",
        "Host",
        "Content-Length",
        "Content_Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Authorization",
        "Sec-WebSocket-Protocol",
        "Expect",
        "--",
        "a b",
    ];
    for name in owned {
        for lines in [
            format!("request_headers = {{ set = {{ \"{name}\" = 'x' }} }}"),
            format!("request_headers = {{ add = {{ \"{name}\" = 'x' }} }}"),
            format!("request_headers = {{ remove = [\"{name}\"] }}"),
            format!("response_headers = {{ set = {{ \"{name}\" = 'x' }} }}"),
            format!("response_headers = {{ add = {{ \"{name}\" = 'x' }} }}"),
            format!("headers = {{ \"{name}\" = 'x' }}"),
        ] {
            is_refused(&format!("{API}{lines}"), "cannot stand here");
        }
    }
    for name in ["X-Request-Id", "Content-Length", "Connection", "Transfer-Encoding", "Upgrade"] {
        is_refused(&format!("{API}response_headers = {{ remove = [\"{name}\"] }}"), "cannot stand here");
    }
    for name in ["X-User-Id", "authorization", "x_forwarded_for"] {
        let cors = format!("{API}cors = {{ origins = ['https://a.test'], expose = [\"{name}\"] }}");
        is_refused(&cors, "cannot stand here");
        // What an upstream tells of its callers may be kept from them.
        assert!(parsed(&format!("{API}response_headers = {{ remove = [\"{name}\"] }}")).is_ok(), "{name}");
    }
    let certificates = "[[tls.certificates]]\nhosts = ['a.test']\ncert = 'c'\nkey = 'k'\n[tls.client_auth]\nca = 'ca'\nheaders = { X-Subject = 'subject' }\n";
    let text = format!("{API}request_headers = {{ set = {{ X_SUBJECT = 'x' }} }}\n{certificates}");
    is_refused(&text, "cannot stand here");
}

#[test]
fn header_rules_and_conditions_have_sound_values() {
    let rules = route(&format!(
        "{API}headers = {{ X-Version = '2', X-Any = '*' }}\nrequest_headers = {{ set = {{ X-Key = '${{KEY}}' }}, add = {{ X-Via = 'gw' }}, remove = ['Cookie'] }}"
    ));
    assert_eq!(
        rules.headers.iter().map(|condition| condition.value.is_some()).collect::<Vec<_>>(),
        [false, true]
    );
    let changed = rules.request_headers.clone().unwrap();
    assert_eq!((changed.set.len(), changed.add.len(), changed.remove.len()), (1, 1, 1));
    assert_eq!(changed.set[0].1, "hunter2-in-env");
    assert!(!format!("{rules:?}").contains("hunter2"), "values for upstreams are not printed");
    assert_eq!(route(&format!("{API}request_headers = {{}}")).request_headers, None);
    let shown = parsed(&format!("{API}request_headers = {{ set = {{ X-Key = 'hunter2', TE = 'x' }} }}"));
    assert!(!shown.unwrap_err().to_string().contains("hunter2"), "a key in the same line is not shown");
    for (lines, words) in [
        ("request_headers = { set = { X-Key = '${BAD}' } }", "no value of a header"),
        ("request_headers = { set = { X-Key = 'é' } }", "printable ASCII"),
        ("request_headers = { set = { X-Key = ' a' } }", "blanks"),
        ("request_headers = { set = { X-Key = 1 } }", "must be a string"),
        ("request_headers = { set = { X-Key = 'a' }, add = { x-key = 'b' } }", "in \"set\" and in \"add\""),
        ("response_headers = { set = { X-Key = 'a' }, remove = ['x-key'] }", "in \"set\" and in \"remove\""),
        ("response_headers = { replace = { X-Key = 'a' } }", "unknown key"),
        ("headers = { X-A = '1', x-a = '2' }", "named twice"),
        (
            "cors = { origins = ['*'] }\nresponse_headers = { set = { Access-Control-Allow-Origin = 'x' } }",
            "what \"cors\" sets",
        ),
    ] {
        is_refused(&format!("{API}{lines}"), words);
    }
}

#[test]
fn cors_names_whom_it_lets_in() {
    let cors = |lines: &str| route(&format!("{API}{lines}")).cors.unwrap();
    let usual = cors("cors = { origins = ['*'] }");
    assert_eq!(usual.origins, Origins::Any);
    assert_eq!(
        (usual.methods.to_str().unwrap(), usual.max_age.to_str().unwrap()),
        ("GET, HEAD, POST, PUT, PATCH, DELETE", "600")
    );
    assert_eq!(
        (usual.headers.unwrap(), usual.expose, usual.credentials),
        ("authorization, content-type".parse().unwrap(), None, false)
    );
    assert_eq!(cors("methods = ['GET']\ncors = { origins = ['*'] }").methods, "GET, HEAD");
    assert_eq!(cors("cors = { origins = ['*'], headers = ['*'], max_age = '0s' }").headers, None);
    for (lines, words) in [
        ("cors = {}", "has no \"origins\""),
        ("cors = { origins = [] }", "empty list"),
        ("cors = { origins = ['*'], credentials = true }", "exclude each other"),
        ("cors = { origins = ['*', 'https://a.test'] }", "stands beside other origins"),
        ("cors = { origins = ['null'] }", "names nobody"),
        ("cors = { origins = ['https://a.test/'] }", "did you mean \"https://a.test\"?"),
        ("cors = { origins = ['*'], expose = ['*'] }", "every field of every answer"),
        ("cors = { origins = ['*'], headers = ['*', 'X-A'] }", "stands beside other names"),
        ("cors = { origins = ['*'], methods = ['get'] }", "case matters"),
        ("cors = { origins = ['*'], max_age = '1500ms' }", "seconds"),
    ] {
        is_refused(&format!("{API}{lines}"), words);
    }
}

#[test]
fn routes_that_one_request_could_fit_alike_are_refused() {
    let ties = |one: &str, other: &str| {
        let text = format!("{API}headers = {one}\n[[routes]]\nauth = 'public'\n{API}headers = {other}");
        match parsed(&text) {
            Ok(_) => false,
            Err(failure) => {
                let [problem] = failure.problems() else { panic!("{failure}") };
                assert!(problem.message.contains("ties with"), "{failure}");
                true
            }
        }
    };
    for (one, other, expected) in [
        ("{}", "{}", true),
        ("{ A = '1' }", "{}", false),
        ("{ A = '1' }", "{ a = '1' }", true),
        ("{ A = '1' }", "{ A = '2' }", false),
        ("{ A = '1' }", "{ A = '*' }", false),
        ("{ A = '1' }", "{ B = '1' }", true),
        ("{ A = '1', B = '*' }", "{ A = '*', B = '1' }", true),
        ("{ A = '1', B = '*' }", "{ A = '2', C = '*' }", false),
        ("{ A = '1' }", "{ A = '1', B = '*' }", false),
    ] {
        assert_eq!(ties(one, other), expected, "{one} {other}");
        assert_eq!(ties(other, one), expected, "{other} {one}");
    }
}
