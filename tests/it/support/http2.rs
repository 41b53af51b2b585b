//! An upstream that speaks HTTP/2, as cleartext or over TLS, and counts what it sees.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::upstream::ok;

/// A request that has just arrived.
pub(crate) struct Call {
    /// Which request of this upstream, counted from 0.
    pub(crate) number: usize,
    pub(crate) request: Request<RecvStream>,
    pub(crate) answer: SendResponse<Bytes>,
}

type Script = dyn Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// How an upstream behaves.
#[derive(Default)]
pub(crate) struct Manner {
    pub(crate) tls: Option<ServerConfig>,
    /// How many streams it takes at once, on a connection.
    pub(crate) max_streams: Option<u32>,
    /// After how many requests on a connection it says that it goes away.
    pub(crate) leaves_after: Option<usize>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    heads: Mutex<Vec<Request<()>>>,
    /// Certificates that the other side has shown.
    shown: AtomicUsize,
    http1: AtomicUsize,
}

/// A running upstream.
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _runtime: Runtime,
}

impl Http2Upstream {
    pub(crate) fn start<F>(manner: Manner, script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let script: Arc<Script> = Arc::new(move |call| Box::pin(script(call)));
        let tls = manner.tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let (max_streams, leaves_after) = (manner.max_streams, manner.leaves_after);
        let watched = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script, tls) = (Arc::clone(&watched), Arc::clone(&script), tls.clone());
                tokio::spawn(async move {
                    seen.connections.fetch_add(1, Ordering::AcqRel);
                    let Some(tls) = tls else {
                        return serve(stream, max_streams, leaves_after, &seen, &script).await;
                    };
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let (_, session) = stream.get_ref();
                    seen.shown.fetch_add(session.peer_certificates().map_or(0, <[_]>::len), Ordering::AcqRel);
                    if session.alpn_protocol() == Some(b"h2") {
                        serve(stream, max_streams, leaves_after, &seen, &script).await;
                    } else {
                        serve_http1(stream, &seen).await;
                    }
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    /// One that answers every request with its method and target, and then its body.
    pub(crate) fn echo(manner: Manner) -> Self {
        Self::start(manner, Call::echo)
    }

    pub(crate) fn h2c(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub(crate) fn https(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    /// Connections that were ever made to it.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// Requests over HTTP/2 that ever came.
    pub(crate) fn count(&self) -> usize {
        self.seen.requests.load(Ordering::Acquire)
    }

    /// Requests that came over HTTP/1.1.
    pub(crate) fn http1_count(&self) -> usize {
        self.seen.http1.load(Ordering::Acquire)
    }

    /// Certificates that were shown to it.
    pub(crate) fn shown(&self) -> usize {
        self.seen.shown.load(Ordering::Acquire)
    }

    /// The head of the last request.
    pub(crate) fn last(&self) -> Request<()> {
        let heads = self.seen.heads.lock().unwrap();
        let last = heads.last().expect("a request arrived");
        let mut copy = Request::new(());
        *copy.method_mut() = last.method().clone();
        *copy.uri_mut() = last.uri().clone();
        *copy.headers_mut() = last.headers().clone();
        copy
    }
}

/// Serves one connection.
pub(crate) async fn serve_with(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    script: impl Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
) {
    let script: Arc<Script> = Arc::new(script);
    serve(stream, None, None, &Arc::new(Seen::default()), &script).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    max_streams: Option<u32>,
    leaves_after: Option<usize>,
    seen: &Arc<Seen>,
    script: &Arc<Script>,
) {
    let mut builder = h2::server::Builder::new();
    if let Some(most) = max_streams {
        builder.max_concurrent_streams(most);
    }
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    let mut here = 0;
    while let Some(Ok((request, answer))) = connection.accept().await {
        let number = seen.requests.fetch_add(1, Ordering::AcqRel);
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        seen.heads.lock().unwrap().push(head);
        here += 1;
        if leaves_after == Some(here) {
            connection.graceful_shutdown();
        }
        tokio::spawn(script(Call { number, request, answer }));
    }
}

/// Answers requests without a body.
async fn serve_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            seen.http1.fetch_add(1, Ordering::AcqRel);
            if stream.write_all(ok("over HTTP/1.1").as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

impl Call {
    /// Answers 200 with the method and the target, and then what was sent.
    pub(crate) async fn echo(mut self) {
        let line = format!("{} {} ", self.request.method(), self.request.uri().path());
        let body = self.read().await;
        self.ok(&[line.as_bytes(), &body].concat()).await;
    }

    /// Reads the request's body to its end, or as far as it comes.
    pub(crate) async fn read(&mut self) -> Vec<u8> {
        let body = self.request.body_mut();
        let mut whole = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            whole.extend_from_slice(&data);
            let _ = body.flow_control().release_capacity(data.len());
        }
        whole
    }

    /// Answers 200 with a body.
    pub(crate) async fn ok(self, body: &[u8]) {
        self.ok_with(body, None).await;
    }

    /// Answers 200 with a body, and trailers.
    pub(crate) async fn ok_with(mut self, body: &[u8], trailers: Option<HeaderMap>) {
        let head = Response::builder().header("x-upstream", "1").body(()).unwrap();
        // A gateway that has gone away is seen by the test at its other end.
        let Ok(mut stream) = self.answer.send_response(head, false) else { return };
        let mut rest = Bytes::copy_from_slice(body);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(room)) => {
                    let piece = rest.split_to(room.min(rest.len()));
                    if stream.send_data(piece, false).is_err() {
                        return;
                    }
                }
                Some(Err(_)) | None => return,
            }
        }
        let _ = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
    }

    /// Does not process the request.
    pub(crate) fn refuse(mut self) {
        self.answer.send_reset(Reason::REFUSED_STREAM);
    }
}

/// Somebody who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for this name, which is over when it is `expired`.
    pub(crate) fn sign(&self, name: &str, expired: bool) -> Pair {
        self.sign_all(&[name], expired)
    }

    /// Signs a certificate for these names.
    pub(crate) fn sign_all(&self, names: &[&str], expired: bool) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// What an upstream with a certificate of this name needs; `clients` have to show one that this authority signed.
    pub(crate) fn server(&self, pair: &Pair, protocols: &[&str], clients: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(vec![cert], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// One that takes its first connection's first request back with a GOAWAY that says that nothing was processed.
pub(crate) fn leaving_at_once() -> (SocketAddr, Arc<AtomicUsize>, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let processed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&processed);
    runtime.spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        go_away_unprocessed(first).await;
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(serve_with(stream, move |call| {
                count.fetch_add(1, Ordering::AcqRel);
                Box::pin(call.echo())
            }));
        }
    });
    (address, processed, runtime)
}

/// Reads frames (RFC 9113 section 4.1) up to the first HEADERS and answers with GOAWAY, last stream 0, no error.
async fn go_away_unprocessed(mut stream: TcpStream) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 1 {
            break;
        }
    }
    stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    // Until the other side has closed.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
