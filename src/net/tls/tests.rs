//! Handshakes over a pipe in memory with the library's own client.

use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SignatureAlgorithm,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{CipherSuite, ClientConfig, NamedGroup, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{CertificateFiles, CertificatePart, ClientAuth, ClientAuthMode};
use crate::store::scratch::Scratch;

const NOW_MS: i64 = 1_800_000_000_000;

/// An authority that signs for servers and for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key.serialize_pem())
    }

    fn server(&self, names: &[&str]) -> (String, String) {
        self.server_with(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    fn server_with(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(&CertificateParams::new(names).unwrap(), algorithm)
    }

    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }
}

/// A server with its files, and what its clients trust.
struct Place {
    scratch: Scratch,
    authority: Authority,
    tls: Tls,
}

impl Place {
    fn new() -> Self {
        let tls = Tls { min_version: TlsVersion::Tls12, certificates: Vec::new(), client_auth: None };
        Self { scratch: Scratch::new(), authority: Authority::new("servers"), tls }
    }

    fn with(mut self, hosts: &[&str]) -> Self {
        let pair = self.authority.server(hosts);
        self.add(hosts, &pair);
        self
    }

    fn add(&mut self, hosts: &[&str], (cert, key): &(String, String)) {
        let number = self.tls.certificates.len();
        let cert = self.scratch.write(&format!("{number}.crt"), cert);
        let key = self.scratch.write(&format!("{number}.key"), key);
        let hosts = hosts.iter().map(|host| CertificateHost::parse(host).unwrap()).collect();
        self.tls.certificates.push(CertificateFiles { hosts, cert, key });
    }

    fn with_clients(mut self, mode: ClientAuthMode, authority: &Authority) -> Self {
        let ca = self.scratch.write("ca.pem", &authority.pem);
        let header =
            |name: &'static str, part| CertificateHeader { name: http::HeaderName::from_static(name), part };
        let headers = vec![
            header("x-client-subject", CertificatePart::Subject),
            header("x-client-names", CertificatePart::SanDns),
        ];
        self.tls.client_auth = Some(ClientAuth { ca, mode, headers, user: None });
        self
    }

    fn load(&self) -> Result<TlsServer, TlsError> {
        TlsServer::load(&self.tls, Clock::manual(NOW_MS).0)
    }

    fn server(&self) -> TlsServer {
        self.load().unwrap()
    }

    fn client(&self) -> Client {
        Client {
            roots: self.authority.pem.clone(),
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            alpn: vec!["h2", "http/1.1"],
            pair: None,
            name: "a.test",
            suites: None,
        }
    }
}

/// What a client can do and shows.
struct Client {
    roots: String,
    versions: Vec<TlsVersion>,
    alpn: Vec<&'static str>,
    pair: Option<(String, String)>,
    name: &'static str,
    suites: Option<Vec<CipherSuite>>,
}

impl Client {
    fn config(&self) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(suites) = &self.suites {
            provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
        }
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|version| match version {
                TlsVersion::Tls12 => &rustls::version::TLS12,
                TlsVersion::Tls13 => &rustls::version::TLS13,
            })
            .collect();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.roots.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.pair {
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }

    async fn connect(&self, server: &TlsServer) -> (Outcome, Result<(), String>) {
        connect(server, self.config(), self.name).await
    }
}

type Outcome = Result<Handshaken<tokio::io::DuplexStream>, HandshakeError>;

/// Both sides of a handshake, and a byte each way, with which tickets and late alerts arrive.
async fn connect(server: &TlsServer, client: Arc<ClientConfig>, name: &str) -> (Outcome, Result<(), String>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serve = async {
        let mut handshaken = server.accept(far).await?;
        let greeted = handshaken.stream.write_all(b"x").await;
        greeted.and(handshaken.stream.flush().await).map_err(|_| HandshakeError::Io)?;
        Ok(handshaken)
    };
    let ask = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await.map_err(|e| e.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        Ok(())
    };
    tokio::join!(serve, ask)
}

async fn succeed(server: &TlsServer, client: &Client) -> Handshaken<tokio::io::DuplexStream> {
    let (outcome, asked) = client.connect(server).await;
    asked.unwrap();
    outcome.unwrap()
}

fn shown(handshaken: &Handshaken<tokio::io::DuplexStream>) -> String {
    listed(&handshaken.session.certificate().hosts)
}

#[tokio::test]
async fn both_versions_and_both_protocols_are_spoken() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        for (alpn, protocol) in [
            (vec!["h2", "http/1.1"], Protocol::Http2),
            (vec!["http/1.1", "h2"], Protocol::Http2),
            (vec!["http/1.1"], Protocol::Http1),
            (vec![], Protocol::Http1),
        ] {
            let client = Client { versions: vec![version], alpn, ..place.client() };
            let handshaken = succeed(&server, &client).await;
            assert_eq!((handshaken.protocol, handshaken.session.version()), (protocol, version));
            assert_eq!(handshaken.session.sni(), Some("a.test"));
            assert!(handshaken.session.client().is_none() && !handshaken.session.is_resumed());
        }
    }
    let client = Client { alpn: vec!["spdy/3"], ..place.client() };
    assert_eq!(client.connect(&server).await.0.unwrap_err(), HandshakeError::NoSharedProtocol);
}

/// Counts how often something is written.
struct Counted(tokio::io::DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_ticket_goes_with_the_first_answer() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    for (version, writes) in [(TlsVersion::Tls13, 2), (TlsVersion::Tls12, 3)] {
        let config = Client { versions: vec![version], ..place.client() }.config();
        for resumed in [false, true] {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let counted = Arc::new(AtomicUsize::new(0));
            let far = Counted(far, Arc::clone(&counted));
            let serve = async {
                let mut handshaken = server.accept(far).await.unwrap();
                let mut asked = [0; 3];
                handshaken.stream.read_exact(&mut asked).await.unwrap();
                handshaken.stream.flush().await.unwrap();
                handshaken.stream.write_all(b"answer").await.unwrap();
                handshaken.session.is_resumed()
            };
            let name = ServerName::try_from("a.test").unwrap();
            let ask = async {
                let mut stream = TlsConnector::from(Arc::clone(&config)).connect(name, near).await.unwrap();
                stream.write_all(b"ask").await.unwrap();
                let mut answer = [0; 6];
                stream.read_exact(&mut answer).await.unwrap();
                answer
            };
            let (was_resumed, answer) = tokio::join!(serve, ask);
            assert_eq!((was_resumed, &answer), (resumed, b"answer"), "{version:?}");
            // In TLS 1.2 a resumed session begins with the ticket, and the client ends the handshake.
            let fewer = usize::from(resumed && version == TlsVersion::Tls12);
            assert_eq!(counted.load(Ordering::Relaxed), writes - fewer, "{version:?}, resumed: {resumed}");
        }
    }
}

#[tokio::test]
async fn an_end_that_is_not_announced_is_an_error() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    for announced in [true, false] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("a.test").unwrap();
        let ask = async {
            let mut stream = TlsConnector::from(place.client().config()).connect(name, near).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            if announced {
                stream.shutdown().await.unwrap();
            }
        };
        let (handshaken, ()) = tokio::join!(server.accept(far), ask);
        let mut read = Vec::new();
        let ended = handshaken.unwrap().stream.read_to_end(&mut read).await;
        assert_eq!(
            ended.map_err(|error| error.kind()),
            if announced { Ok(1) } else { Err(io::ErrorKind::UnexpectedEof) }
        );
        assert_eq!(read, b"x");
    }
}

#[tokio::test]
async fn the_key_exchange_withstands_quantum_computers() {
    let place = Place::new().with(&["a.test"]);
    let handshaken = succeed(&place.server(), &place.client()).await;
    let group = handshaken.stream.session().negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn an_older_version_than_the_oldest_is_refused() {
    let mut place = Place::new().with(&["a.test"]);
    place.tls.min_version = TlsVersion::Tls13;
    let server = place.server();
    let client = Client { versions: vec![TlsVersion::Tls12], ..place.client() };
    assert_eq!(client.connect(&server).await.0.unwrap_err(), HandshakeError::NoSharedVersion);
    succeed(&server, &place.client()).await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_apart() {
    let server = Place::new().with(&["a.test"]).server();
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..], HandshakeError::NotTls),
        (b"", HandshakeError::Closed),
        (b"\x16\x03\x01", HandshakeError::Closed),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", HandshakeError::Malformed),
    ] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(server.accept(far).await.unwrap_err(), expected, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_told_apart() {
    let place = Place::new().with(&["a.test"]);
    let client = Client { roots: Authority::new("others").pem, ..place.client() };
    assert_eq!(
        client.connect(&place.server()).await.0.unwrap_err(),
        HandshakeError::ServerCertificateRefused
    );
}

#[tokio::test]
async fn sessions_are_resumed() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let config = Client { versions: vec![version], ..place.client() }.config();
        for resumed in [false, true, true] {
            let (outcome, asked) = connect(&server, Arc::clone(&config), "a.test").await;
            asked.unwrap();
            assert_eq!(outcome.unwrap().session.is_resumed(), resumed, "{version:?}");
        }
    }
}

#[tokio::test]
async fn the_certificate_goes_by_the_name_that_is_asked_for() {
    let place = Place::new()
        .with(&["first.test", "192.0.2.1"])
        .with(&["*.wild.test"])
        .with(&["exact.wild.test", "two.test"]);
    let server = place.server();
    let unverified = |name| {
        let server = server.clone();
        let client = Client { name, ..place.client() };
        async move { client.connect(&server).await }
    };
    for (name, hosts, known) in [
        ("first.test", "first.test, 192.0.2.1", true),
        ("FIRST.test", "first.test, 192.0.2.1", true),
        ("x.wild.test", "*.wild.test", true),
        ("exact.wild.test", "exact.wild.test, two.test", true),
        ("two.test", "exact.wild.test, two.test", true),
        // An address is not asked for (RFC 6066 section 3).
        ("192.0.2.1", "first.test, 192.0.2.1", false),
    ] {
        let (outcome, asked) = unverified(name).await;
        asked.unwrap();
        let handshaken = outcome.unwrap();
        assert_eq!(shown(&handshaken), hosts, "{name}");
        let sni = known.then(|| name.to_ascii_lowercase());
        assert_eq!(handshaken.session.sni().map(str::to_owned), sni, "{name}");
        assert!(handshaken.session.serves(&name.to_ascii_lowercase(), true), "{name}");
    }
    // The client refuses the first certificate, since it is for another host.
    let (outcome, asked) = unverified("x.y.wild.test").await;
    assert!(asked.unwrap_err().contains("not valid for name"));
    assert_eq!(outcome.unwrap_err(), HandshakeError::ServerCertificateRefused);
}

fn abilities<'a>(schemes: &'a [SignatureScheme], suites: &'a [CipherSuite]) -> Abilities<'a> {
    Abilities { schemes, suites }
}

#[test]
fn the_choice_goes_by_host_and_then_by_what_the_client_can_verify() {
    let rsa = &rcgen::PKCS_RSA_SHA256;
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let mut place = Place::new();
    for (hosts, algorithm) in [
        (&["a.test"][..], rsa),
        (&["a.test"], ecdsa),
        (&["*.a.test"], ecdsa),
        (&["x.a.test"], rsa),
        (&["only.test"], ecdsa),
    ] {
        let pair = place.authority.server_with(hosts, algorithm);
        place.add(hosts, &pair);
    }
    let server = place.server();
    let current = server.shared.served.load();
    let both = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256];
    let (only_ecdsa, only_rsa) = (&both[..1], &both[1..]);
    let new = &[CipherSuite::TLS13_AES_128_GCM_SHA256][..];
    let old_rsa = &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256][..];
    let old_ecdsa = &[CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256][..];
    let known = |name: &str| Asked::Known(name.into());
    for (name, schemes, suites, place, asked) in [
        (Some("a.test"), &both[..], new, 1, known("a.test")),
        (Some("a.test"), only_rsa, new, 0, known("a.test")),
        (Some("a.test"), only_ecdsa, new, 1, known("a.test")),
        (Some("a.test"), &both, old_rsa, 0, known("a.test")),
        (Some("a.test"), &both, old_ecdsa, 1, known("a.test")),
        (Some("x.a.test"), &both, new, 3, known("x.a.test")),
        // One that can be verified is better than one that names the host.
        (Some("x.a.test"), only_ecdsa, new, 2, known("x.a.test")),
        (Some("y.a.test"), &both, new, 2, known("y.a.test")),
        (Some("only.test"), only_rsa, new, 4, known("only.test")),
        (Some("z.y.a.test"), &both, new, 1, Asked::Unknown("z.y.a.test".into())),
        (Some("b.test"), only_rsa, new, 0, Asked::Unknown("b.test".into())),
        (None, &both, new, 1, Asked::Nothing),
        (None, only_rsa, new, 0, Asked::Nothing),
        (None, &[], new, 0, Asked::Nothing),
    ] {
        let (entry, found) = choice::choose(&current.entries, name, &abilities(schemes, suites)).unwrap();
        let expected = &current.entries[place].pair;
        assert!(
            entry.pair.is_same(expected),
            "{name:?} {schemes:?} {suites:?}: {:?}",
            entry.pair.certificate
        );
        assert_eq!(found, asked);
    }
    assert!(choice::choose(&[], None, &abilities(&both, new)).is_none());
}

#[tokio::test]
async fn a_client_of_tls_1_2_gets_the_kind_of_certificate_that_its_suites_are_for() {
    let mut place = Place::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let pair = place.authority.server_with(&["a.test"], algorithm);
        place.add(&["a.test"], &pair);
    }
    let server = place.server();
    for (suite, path) in [
        (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "1.crt"),
        (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "0.crt"),
    ] {
        let suites = Some(vec![suite]);
        let client = Client { versions: vec![TlsVersion::Tls12], suites, ..place.client() };
        let handshaken = succeed(&server, &client).await;
        assert_eq!(handshaken.session.certificate().path, place.scratch.path(path));
    }
}

fn named(params: &mut CertificateParams) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    params.distinguished_name.push(DnType::CommonName, "ann");
    params.subject_alt_names = vec![
        SanType::DnsName("one.test".try_into().unwrap()),
        SanType::DnsName("two.test".try_into().unwrap()),
    ];
}

#[tokio::test]
async fn a_client_shows_a_certificate_where_it_must_and_where_it_may() {
    let clients = Authority::new("clients");
    for mode in [ClientAuthMode::Optional, ClientAuthMode::Required] {
        let place = Place::new().with(&["a.test"]).with_clients(mode, &clients);
        let server = place.server();
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let client = |pair| Client { versions: vec![version], pair, ..place.client() };
            let handshaken = succeed(&server, &client(Some(clients.client(named)))).await;
            let certificate = handshaken.session.client().unwrap();
            let headers: Vec<_> =
                certificate.headers().unwrap().iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(headers, ["CN=ann,O=Example\\, Inc.", "one.test,two.test"]);
            let none =
                client(None).connect(&server).await.0.map(|handshaken| handshaken.session.client().is_none());
            match mode {
                ClientAuthMode::Optional => assert!(none.unwrap()),
                ClientAuthMode::Required => {
                    assert_eq!(none.unwrap_err(), HandshakeError::ClientCertificateMissing);
                }
            }
            // Of another authority, expired, and made for servers.
            let expired =
                |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            for pair in [
                Authority::new("clients").client(named),
                clients.client(expired),
                clients
                    .client(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ] {
                let outcome = client(Some(pair)).connect(&server).await.0;
                assert_eq!(outcome.unwrap_err(), HandshakeError::ClientCertificateInvalid);
            }
        }
    }
}

#[tokio::test]
async fn a_resumed_session_has_the_clients_certificate_until_it_expires() {
    let clients = Authority::new("clients");
    let place = Place::new().with(&["a.test"]).with_clients(ClientAuthMode::Required, &clients);
    let (clock, hand) = Clock::manual(NOW_MS);
    let server = TlsServer::load(&place.tls, clock).unwrap();
    // A minute later than now.
    let until = time::OffsetDateTime::from_unix_timestamp(NOW_MS / 1000 + 60).unwrap();
    let pair = clients.client(|params| params.not_after = until);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        hand.store(NOW_MS, std::sync::atomic::Ordering::Release);
        let config = Client { pair: Some(pair.clone()), versions: vec![version], ..place.client() }.config();
        for resumed in [false, true] {
            let session = connect(&server, Arc::clone(&config), "a.test").await.0.unwrap().session;
            assert_eq!((session.is_resumed(), session.client().is_some()), (resumed, true));
        }
        hand.store(NOW_MS + 61_000, std::sync::atomic::Ordering::Release);
        let outcome = connect(&server, config, "a.test").await.0;
        assert_eq!(outcome.unwrap_err(), HandshakeError::ClientCertificateInvalid);
    }
}

/// As many looks as settle every change.
fn settle(watcher: &mut watch::Watcher) {
    (0..12).for_each(|_| watcher.look());
}

fn leaf(server: &TlsServer) -> Vec<u8> {
    server.shared.served.load().entries[0].pair.key.cert[0].to_vec()
}

#[tokio::test]
async fn a_changed_pair_is_swapped_and_a_handshake_under_way_goes_on() {
    let place = Place::new().with(&["a.test"]).with(&["b.test"]);
    let server = place.server();
    let mut watcher = watch::Watcher::new(server.clone());
    settle(&mut watcher);
    let (before, settings) = {
        let current = server.shared.served.load();
        (leaf(&server), Arc::clone(&current.entries[1].settings))
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("a.test").unwrap();
    let config = place.client().config();
    let serving = server.clone();
    let waiting =
        tokio::spawn(async move { serving.accept(far).await.map(|done| done.session.is_resumed()) });
    let connector = TlsConnector::from(config);
    let mut connecting = Box::pin(connector.connect(name, near));
    // The client says its first words, and the server answers with the certificate that it has now.
    std::future::poll_fn(|cx| {
        assert!(connecting.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    let (cert, key) = place.authority.server(&["a.test"]);
    place.scratch.write("0.crt", cert);
    place.scratch.write("0.key", key);
    settle(&mut watcher);
    assert_ne!(leaf(&server), before);
    assert!(
        Arc::ptr_eq(&server.shared.served.load().entries[1].settings, &settings),
        "the other is as it was"
    );
    let stream = connecting.await.unwrap();
    assert!(!waiting.await.unwrap().unwrap());
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec(), before);
    succeed(&server, &place.client()).await;
}

#[tokio::test]
async fn a_swap_leaves_tickets_good() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    let mut watcher = watch::Watcher::new(server.clone());
    let config = place.client().config();
    connect(&server, Arc::clone(&config), "a.test").await.0.unwrap();
    let (cert, key) = place.authority.server(&["a.test"]);
    place.scratch.write("0.crt", cert);
    place.scratch.write("0.key", key);
    let before = leaf(&server);
    settle(&mut watcher);
    assert_ne!(leaf(&server), before);
    assert!(connect(&server, config, "a.test").await.0.unwrap().session.is_resumed());
}

#[test]
fn a_bad_pair_keeps_the_old_one_and_a_good_one_ends_that() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    let mut watcher = watch::Watcher::new(server.clone());
    let before = leaf(&server);
    let (cert, key) = place.authority.server(&["a.test"]);
    let old_key = std::fs::read_to_string(place.scratch.path("0.key")).unwrap();
    // The certificate alone, no certificate, an empty file, none at all: nothing changes.
    for bad in [cert.as_str(), "no certificate", ""] {
        place.scratch.write("0.crt", bad);
        settle(&mut watcher);
        assert_eq!(leaf(&server), before, "{bad}");
    }
    std::fs::remove_file(place.scratch.path("0.crt")).unwrap();
    settle(&mut watcher);
    assert_eq!(leaf(&server), before);
    place.scratch.write("0.crt", &cert);
    settle(&mut watcher);
    assert_eq!(leaf(&server), before, "the key is still the old one");
    assert_eq!(std::fs::read_to_string(place.scratch.path("0.key")).unwrap(), old_key);
    // As certbot does it: a new file is renamed over the old one.
    let new_key = place.scratch.write("new.key", key);
    std::fs::rename(new_key, place.scratch.path("0.key")).unwrap();
    settle(&mut watcher);
    assert_ne!(leaf(&server), before);
}

#[tokio::test]
async fn other_authorities_hold_for_the_next_handshake_also_for_resumed_sessions() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let place = Place::new().with(&["a.test"]).with_clients(ClientAuthMode::Optional, &old);
    let server = place.server();
    let mut watcher = watch::Watcher::new(server.clone());
    let old_pair = Some(old.client(named));
    let config = Client { pair: old_pair.clone(), ..place.client() }.config();
    for resumed in [false, true] {
        let session = connect(&server, Arc::clone(&config), "a.test").await.0.unwrap().session;
        assert_eq!(session.is_resumed(), resumed);
    }
    // What cannot be used changes nothing, and lets nobody else in.
    place.scratch.write("ca.pem", "no authority");
    settle(&mut watcher);
    let foreign = Client { pair: Some(new.client(named)), ..place.client() };
    assert_eq!(foreign.connect(&server).await.0.unwrap_err(), HandshakeError::ClientCertificateInvalid);
    assert!(connect(&server, Arc::clone(&config), "a.test").await.0.is_ok());
    place.scratch.write("ca.pem", &new.pem);
    settle(&mut watcher);
    succeed(&server, &foreign).await;
    let outcome = connect(&server, config, "a.test").await.0;
    assert_eq!(outcome.unwrap_err(), HandshakeError::ClientCertificateInvalid);
}

#[tokio::test]
async fn the_watch_swaps_by_itself() {
    let place = Place::new().with(&["a.test"]);
    let server = place.server();
    let before = leaf(&server);
    let watching = tokio::spawn(server.clone().watch());
    let (cert, key) = place.authority.server(&["a.test"]);
    place.scratch.write("0.crt", cert);
    place.scratch.write("0.key", key);
    while leaf(&server) == before {
        tokio::time::sleep(Duration::from_millis(bounds::WATCH_INTERVAL_MS)).await;
    }
    watching.abort();
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let place = Place::new().with(&["a.test"]).with_clients(ClientAuthMode::Optional, &Authority::new("c"));
    place.load().unwrap();
    let (other_cert, other_key) = place.authority.server(&["a.test"]);
    let told = |file: &str, content: Option<&str>| {
        let path = place.scratch.path(file);
        let good = std::fs::read(&path).unwrap();
        match content {
            Some(content) => drop(place.scratch.write(file, content)),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = place.load().unwrap_err().to_string();
        std::fs::write(&path, good).unwrap();
        error.replace(place.scratch.path("").to_str().unwrap(), "")
    };
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n";
    assert!(told("0.crt", None).starts_with("0.crt cannot be read: "));
    assert_eq!(told("0.crt", Some("")), "0.crt holds no certificate (-----BEGIN CERTIFICATE-----)");
    assert_eq!(told("0.crt", Some(damaged)), "a certificate in 0.crt is damaged");
    let mismatch = "the private key in 0.key is not that of the first certificate in 0.crt";
    assert_eq!(told("0.crt", Some(&other_cert)), mismatch);
    assert_eq!(told("0.key", Some(&other_key)), mismatch);
    assert_eq!(told("0.key", Some(cut)), "0.key is damaged: it is no PEM file");
    assert!(told("0.key", Some(&other_cert)).starts_with("0.key holds no private key"));
    // Without authorities everybody could come in.
    assert!(told("ca.pem", None).starts_with("ca.pem cannot be read: "));
    assert_eq!(told("ca.pem", Some("")), "ca.pem holds no certificate (-----BEGIN CERTIFICATE-----)");
    assert_eq!(told("ca.pem", Some(damaged)), "a certificate in ca.pem is damaged");
}

#[test]
fn certificates_are_described() {
    let mut place = Place::new();
    let pair = place.authority.server(&["a.test", "192.0.2.1", "*.wild.test"]);
    place.add(&["a.test", "x.wild.test", "192.0.2.1", "b.test"], &pair);
    let certificates = place.server().certificates();
    let [certificate] = certificates.as_slice() else { panic!("{certificates:?}") };
    assert_eq!(listed(&certificate.names), "a.test, 192.0.2.1, *.wild.test");
    let unnamed: Vec<String> = certificate.unnamed_hosts().map(ToString::to_string).collect();
    assert_eq!(unnamed, ["b.test"]);
    assert!(certificate.not_before < certificate.not_after);
    // The files of this test are written as the process usually writes them.
    let mode = Scratch::mode(&place.scratch.path("0.key"));
    assert_eq!(certificate.exposed_key.is_some(), mode & 0o004 != 0);
    assert_eq!(certificate.path, Path::new(&place.scratch.path("0.crt")));
}

/// The parts of a client certificate.
fn client(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let (cert, _) = Authority::new("clients").client(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(params);
    });
    ClientCertificate::parse(&CertificateDer::from_pem_slice(cert.as_bytes()).unwrap(), &[]).unwrap()
}

#[test]
fn a_client_certificate_is_text() {
    let certificate = client(|params| {
        named(params);
        params.distinguished_name.push(DnType::from_oid(&[1, 2, 3, 4]), "x");
        params.subject_alt_names.push(SanType::Rfc822Name("ann@one.test".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("spiffe://one.test/ann".try_into().unwrap()));
        params.serial_number = Some(vec![0xab, 1].into());
    });
    let part = |part| certificate.part(part).unwrap().unwrap();
    assert_eq!(part(CertificatePart::Subject), "1.2.3.4=#0c0178,CN=ann,O=Example\\, Inc.");
    assert_eq!(part(CertificatePart::SubjectCn), "ann");
    assert_eq!(part(CertificatePart::SanDns), "one.test,two.test");
    assert_eq!(part(CertificatePart::SanEmail), "ann@one.test");
    assert_eq!(part(CertificatePart::SanUri), "spiffe://one.test/ann");
    assert_eq!(part(CertificatePart::Serial), "ab01");
    let fingerprint = part(CertificatePart::Fingerprint);
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let bare = client(|_| {});
    for part in [CertificatePart::Subject, CertificatePart::SubjectCn, CertificatePart::SanDns] {
        assert_eq!(bare.part(part), Ok(None), "{part:?}");
    }
}

#[test]
fn a_subject_is_escaped_so_that_it_can_be_read_in_one_way() {
    for (value, expected) in [
        ("a,b+c\"d\\e<f>g;h=i", "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i"),
        ("#a#", "CN=\\#a#"),
        (" a b ", "CN=\\20a b\\20"),
        ("é", "CN=é"),
    ] {
        let certificate = client(|params| params.distinguished_name.push(DnType::CommonName, value));
        assert_eq!(certificate.part(CertificatePart::Subject), Ok(Some(expected)), "{value}");
    }
}

#[test]
fn what_does_not_fit_a_header_is_reported_and_never_cut() {
    let cn = |value: &'static str| {
        move |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, value)
    };
    let dns = |value: &'static str| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName(value.try_into().unwrap())];
        }
    };
    let unfit = |certificate: ClientCertificate, part| certificate.part(part).unwrap_err().unfit;
    for value in ["ann\0.evil", "ann\r\nX-Admin: 1", "ann\u{85}"] {
        for part in [CertificatePart::SubjectCn, CertificatePart::Subject] {
            assert_eq!(unfit(client(cn(value)), part), Unfit::ControlCharacter, "{value:?}");
        }
    }
    assert_eq!(unfit(client(cn(" ann")), CertificatePart::SubjectCn), Unfit::Blank);
    for (value, expected) in
        [("a.test,b.test", Unfit::Separator), ("a.test\0", Unfit::ControlCharacter), ("a test", Unfit::Blank)]
    {
        assert_eq!(unfit(client(dns(value)), CertificatePart::SanDns), expected, "{value:?}");
    }
    let two = client(|params| {
        let other = DnType::CustomDnType(vec![2, 5, 4, 3]);
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.distinguished_name.push(other, "bob");
    });
    assert_eq!(unfit(two, CertificatePart::SubjectCn), Unfit::Several);
}

#[test]
fn one_unfit_part_spoils_all_headers() {
    let (cert, _) = Authority::new("clients").client(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ann\n");
    });
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let header = |name, part| CertificateHeader { name: http::HeaderName::from_static(name), part };
    let headers = [header("x-serial", CertificatePart::Serial), header("x-cn", CertificatePart::SubjectCn)];
    let certificate = ClientCertificate::parse(&der, &headers).unwrap();
    let error = certificate.headers().unwrap_err();
    assert_eq!(error.to_string(), "subject_cn of the client certificate holds a control character");
    let fine = ClientCertificate::parse(&der, &headers[..1]).unwrap();
    assert_eq!(fine.headers().unwrap().len(), 1);
}
