use super::*;

fn config(more: &str) -> Config {
    let text = format!(
        "[upstreams.a]\ntargets = [\"http://a\"]\n[upstreams.b]\ntargets = [\"http://b\"]\nidentity = \"none\"\n\
         [[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n{more}"
    );
    parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap()
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
    let firewall = Arc::new(Firewall::new(config.tls.as_ref()));
    let began = std::time::Instant::now();
    let proof = prove(&config, &firewall).unwrap();
    println!("{proof:?} in {:?}", began.elapsed());
    assert!(proof.requests > 300 && proof.fields > 20_000, "{proof:?}");
}

#[test]
fn a_firewall_that_does_not_know_a_name_is_found_out() {
    let config = config(CLIENT_AUTH);
    for name in ["x-user-id", "x-user-groups", "x-certificate", "authorization", "x-real-ip", "te"] {
        let firewall = Arc::new(Firewall::ignorant_of(config.tls.as_ref(), name));
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
