use super::*;
use crate::rehearsal::{Field, Seen, SeenRequest};

fn config(more: &str) -> Config {
    let text = format!(
        "[upstreams.a]\ntargets = [\"http://a\"]\n[upstreams.b]\ntargets = [\"http://b\"]\nidentity = \"none\"\n\
         [[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n{more}"
    );
    parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap()
}

/// Upstreams that are told in every way.
const UPSTREAMS: &str = r#"
[tokens]
user_id_claim = "sub"
[upstreams.c]
targets = ["http://c"]
identity = { "X-Account" = "claim:account.id", "Remote-User" = "user:name", "X-Goog-Authenticated-User-Id" = "user:id" }
identity_max_bytes = "10B"
assertion = true
[upstreams.d]
targets = ["http://d"]
identity = "webauth"
identity_encoding = "rfc2047"
forward_token = true
credentials = { header = "X-Backend-Key", value = "hunter2" }
[upstreams.e]
targets = ["http://e"]
identity = "forwarded"
credentials = { basic = { username = "gateway", password = "hunter2" } }
assertion = { audience = "e", lifetime = "1m" }
"#;

#[test]
fn whatever_upstreams_are_told_is_proved() {
    let config = config(UPSTREAMS);
    let proof = prove(&config, &Arc::new(Firewall::new(&config))).unwrap();
    assert!(proof.requests > 1000, "{proof:?}");
    for name in ["x-account", "x-backend-key", "x-tollgate-assertion", "x-goog-authenticated-user-id"] {
        let ignorant = Arc::new(Firewall::ignorant_of(&config, name));
        let proof = prove(&config, &ignorant);
        assert!(
            matches!(&proof, Err(ProofError::Leak { header, .. }) if header == name),
            "{name}: {proof:?}"
        );
    }
}

const CLIENT_AUTH: &str = r#"
[tls.client_auth]
ca = "ca.pem"
mode = "optional"
headers = { "X-Certificate" = "subject" }
[[tls.certificates]]
hosts = ["a.test"]
cert = "a.pem"
key = "a.key"
"#;

#[test]
fn the_firewall_of_the_gateway_is_proved() {
    let config = config(CLIENT_AUTH);
    let firewall = Arc::new(Firewall::new(&config));
    let proof = prove(&config, &firewall).unwrap();
    assert!(proof.requests > 300 && proof.fields > 20_000, "{proof:?}");
}

#[test]
fn a_firewall_that_does_not_know_a_name_is_found_out() {
    let config = config(CLIENT_AUTH);
    for name in ["x-user-id", "x-user-groups", "x-certificate", "authorization", "x-real-ip", "te"] {
        let firewall = Arc::new(Firewall::ignorant_of(&config, name));
        match prove(&config, &firewall) {
            Err(ProofError::Leak { header, way }) => {
                assert_eq!(header, name);
                assert!(way.contains("when it is sent as "), "{way}");
            }
            // The sound request has it already.
            Err(ProofError::Altered { header, .. }) if name == "authorization" => assert_eq!(header, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// What the upstream of a rehearsal should have seen of a case's requests.
fn sound(case: &Case<'_>, probes: &[probe::Probe]) -> Vec<Seen> {
    let field = |name: &str, value: &str| Field { name: name.to_owned(), value: value.as_bytes().to_vec() };
    let request = |probe: &probe::Probe| {
        let mut fields = vec![
            field("host", "rehearsal.test"),
            field("x-harmless", "arrives"),
            field("x-forwarded-for", "192.0.2.1"),
            field("x-forwarded-proto", "http"),
            field("x-forwarded-host", "rehearsal.test"),
            field("x-request-id", "0123456789abcdef0123456789abcdef"),
            field("x-user-id", "the-id"),
            field("x-user-name", "the-name"),
            field("x-user-email", "the@e-mail"),
            field("x-user-groups", "group-1,group-2"),
        ];
        if probe.way == probe::Way::Trailer {
            fields.push(field("transfer-encoding", "chunked"));
        }
        Seen::Request(SeenRequest { target: wire::target(case, probe), fields, ..SeenRequest::default() })
    };
    probes.iter().map(request).collect()
}

#[test]
fn whatever_should_not_arrive_or_does_not_is_found_out() {
    let config = config("");
    let case = Case::all(0, &config.upstreams[0].identity).remove(0);
    let probes = probe::probes(&[("x-user-id", crate::identity::Fate::Owned)], &case);
    let judge = |change: &dyn Fn(&mut Vec<Seen>)| {
        let mut seen = sound(&case, &probes);
        change(&mut seen);
        verdict::judge(&case, &probes, "token", &seen)
    };
    let on_second = |change: &dyn Fn(&mut SeenRequest)| {
        judge(&|seen| match &mut seen[1] {
            Seen::Request(request) => change(request),
            Seen::Incomplete(_) | Seen::Malformed(_) => panic!("no request"),
        })
    };
    assert!(judge(&|_| ()).is_ok());
    assert!(matches!(judge(&Vec::clear), Err(ProofError::NotForwarded { .. })));
    assert!(matches!(judge(&|seen| drop(seen.pop())), Err(ProofError::NotForwarded { .. })));
    assert!(matches!(judge(&|seen| seen.push(seen[0].clone())), Err(ProofError::NotForwarded { .. })));
    assert!(matches!(
        judge(&|seen| seen.push(Seen::Malformed(vec![]))),
        Err(ProofError::NotForwarded { .. })
    ));
    for place in 0..10 {
        let missing = on_second(&|request| drop(request.fields.remove(place)));
        assert!(matches!(missing, Err(ProofError::Altered { .. })), "{place}: {missing:?}");
        let twice = on_second(&|request| request.fields.push(request.fields[place].clone()));
        assert!(matches!(twice, Err(ProofError::Altered { .. })), "{place}: {twice:?}");
        let other = on_second(&|request| request.fields[place].value.push(b'x'));
        assert!(matches!(other, Err(ProofError::Altered { .. })), "{place}: {other:?}");
    }
    let leak = Field { name: "anything".to_owned(), value: b"a, leak-1-0".to_vec() };
    for leaked in [
        on_second(&|request| request.fields.push(leak.clone())),
        on_second(&|request| request.trailers.push(leak.clone())),
    ] {
        assert!(matches!(leaked, Err(ProofError::Leak { header, .. }) if header == "x-user-id"));
    }
    let unasked = Field { name: "x-user-role".to_owned(), value: b"admin".to_vec() };
    for unasked in [
        on_second(&|request| request.fields.push(unasked.clone())),
        on_second(&|request| request.trailers.push(unasked.clone())),
    ] {
        assert!(matches!(unasked, Err(ProofError::Altered { header, .. }) if header == "x-user-role"));
    }
}
