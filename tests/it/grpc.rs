//! gRPC with the client and the server of tonic: all four kinds of calls, their metadata, statuses and ends.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tollgate::cli::arguments::WhichSessions;
use tollgate::cli::session;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::codegen::http::uri::{PathAndQuery, Uri};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::{ClientStreamingService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::gateway::PASSWORD;
use crate::support::{DEADLINE, Gateway, Setup, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const HOST: &str = "gw.test";
/// What goes with a call in both directions.
const TEXT: &str = "x-asked";
const BINARY: &str = "x-asked-bin";
const BYTES: &[u8] = &[0, 255, 10, 13];

/// Messages are bytes, as they are.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// The server: echoes in every kind of call, and counts the calls that it saw.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicUsize>,
}

/// A status with details and metadata of its own, which travel in trailers.
fn refusal(code: Code, message: &str) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-trailer", MetadataValue::from_static("at the end"));
    metadata.insert_bin("x-trailer-bin", MetadataValue::from_bytes(BYTES));
    Status::with_details_and_metadata(code, message, Bytes::from_static(BYTES), metadata)
}

/// An answer that carries the metadata of its request, and who the gateway says is calling.
fn answer<T, A>(request: &Request<T>, message: A) -> Response<A> {
    let mut response = Response::new(message);
    let (from, to) = (request.metadata(), response.metadata_mut());
    if let Some(text) = from.get(TEXT) {
        to.insert(TEXT, text.clone());
    }
    if let Some(bytes) = from.get_bin(BINARY) {
        to.insert_bin(BINARY, bytes.clone());
    }
    if let Some(user) = from.get("x-user-name") {
        to.insert("x-caller", user.clone());
    }
    assert!(from.get("authorization").is_none() || from.get("x-request-id").is_none(), "a token went on");
    response
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Later<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let message = request.get_ref().clone();
            if message == "refuse" {
                return Err(refusal(Code::NotFound, "no such thing: ä\n"));
            }
            Ok(answer(&request, message))
        })
    }
}

impl ServerStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Result<Response<Messages>, Status>>;

    /// Sends the message 100 times, then ends well, or not when it is `refuse`.
    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let message = request.get_ref().clone();
            let last = (message == "refuse").then(|| Err(refusal(Code::Aborted, "in the middle")));
            let messages = tokio_stream::iter(std::iter::repeat_n(Ok(message), 100).chain(last));
            Ok(answer(&request, Box::pin(messages) as Messages))
        })
    }
}

impl ClientStreamingService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Later<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut response = answer(&request, Bytes::new());
            let (mut messages, mut all) = (request.into_inner(), Vec::new());
            while let Some(message) = messages.message().await? {
                all.extend_from_slice(&message);
            }
            *response.get_mut() = all.into();
            Ok(response)
        })
    }
}

impl StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Later<Result<Response<Messages>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut response = answer(&request, Box::pin(tokio_stream::empty()) as Messages);
            let messages = request.into_inner().map(|message| match message {
                Ok(message) if message == "refuse" => Err(refusal(Code::ResourceExhausted, "enough")),
                message => message,
            });
            *response.get_mut() = Box::pin(messages);
            Ok(response)
        })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain);
            Ok(match request.uri().path() {
                "/echo.Echo/Unary" => grpc.unary(echo, request).await,
                "/echo.Echo/Repeat" => grpc.server_streaming(echo, request).await,
                "/echo.Echo/Collect" => grpc.client_streaming(echo, request).await,
                "/echo.Echo/Talk" => grpc.streaming(echo, request).await,
                _ => Status::unimplemented("no such call").into_http(),
            })
        })
    }
}

/// A running server, with the runtime of the test.
struct Stage {
    runtime: Runtime,
    server: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Stage {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let server = listener.local_addr().unwrap();
        let echo = Echo::default();
        let calls = Arc::clone(&echo.calls);
        runtime.spawn(Server::builder().serve_with_incoming(echo, TcpIncoming::from(listener)));
        Self { runtime, server, calls }
    }

    /// A gateway in front of the server that asks everybody for a token.
    fn gateway(&self) -> Setup {
        Setup::new()
            .section(&format!("[upstreams.grpc]\ntargets = [\"h2c://{}\"]", self.server))
            .route("path = \"/echo.Echo\"\nauth = \"required\"\nupstream = \"grpc\"")
            .user("alice")
            .user("bob")
    }

    fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("it ends in time") })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects to one address whatever the name is, with TLS or without.
struct Dial {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = std::io::Error;
    type Future = Later<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, tls) = (self.address, self.tls.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let io: Box<dyn Io> = match tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls.connect(ServerName::try_from(HOST).unwrap(), stream).await?),
            };
            Ok(TokioIo::new(io))
        })
    }
}

/// A client, with a token or without.
struct Caller {
    grpc: Grpc<Channel>,
    token: Option<String>,
}

impl Caller {
    async fn connect(address: SocketAddr, tls: Option<TlsConnector>, token: Option<&str>) -> Self {
        let origin = format!("{}://{HOST}", if tls.is_some() { "https" } else { "http" });
        let endpoint = Endpoint::from_static("http://gw.test").origin(origin.parse().unwrap());
        let channel = endpoint.connect_with_connector(Dial { address, tls }).await.unwrap();
        Self { grpc: Grpc::new(channel), token: token.map(str::to_owned) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(TEXT, MetadataValue::from_static("a b"));
        metadata.insert_bin(BINARY, MetadataValue::from_bytes(BYTES));
        if let Some(token) = &self.token {
            metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    async fn unary_at(
        &mut self,
        path: &'static str,
        message: impl Into<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let request = self.request(message.into());
        self.grpc.ready().await.unwrap();
        self.grpc.unary(request, PathAndQuery::from_static(path), Plain).await
    }

    async fn unary(&mut self, message: impl Into<Bytes>) -> Result<Response<Bytes>, Status> {
        self.unary_at("/echo.Echo/Unary", message).await
    }

    async fn repeat(&mut self, message: impl Into<Bytes>) -> Result<Response<Streaming<Bytes>>, Status> {
        let request = self.request(message.into());
        self.grpc.ready().await.unwrap();
        self.grpc.server_streaming(request, PathAndQuery::from_static("/echo.Echo/Repeat"), Plain).await
    }

    async fn collect(&mut self, messages: Vec<Bytes>) -> Result<Response<Bytes>, Status> {
        let request = self.request(tokio_stream::iter(messages));
        self.grpc.ready().await.unwrap();
        self.grpc.client_streaming(request, PathAndQuery::from_static("/echo.Echo/Collect"), Plain).await
    }

    /// A call in both directions. What is sent goes through the channel, and dropping it ends that direction.
    async fn talk(&mut self) -> Result<(mpsc::Sender<Bytes>, Response<Streaming<Bytes>>), Status> {
        let (sender, receiver) = mpsc::channel(1);
        let request = self.request(ReceiverStream::new(receiver));
        self.grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/echo.Echo/Talk");
        Ok((sender, self.grpc.streaming(request, path, Plain).await?))
    }
}

#[track_caller]
fn carries_metadata<T>(response: &Response<T>) {
    assert_eq!(response.metadata().get(TEXT).unwrap(), "a b");
    assert_eq!(response.metadata().get_bin(BINARY).unwrap().to_bytes().unwrap(), BYTES);
}

#[track_caller]
fn is_refusal(status: &Status, code: Code, message: &str) {
    assert_eq!((status.code(), status.message(), status.details()), (code, message, BYTES), "{status:?}");
    assert_eq!(status.metadata().get("x-trailer").unwrap(), "at the end", "{status:?}");
    assert_eq!(status.metadata().get_bin("x-trailer-bin").unwrap().to_bytes().unwrap(), BYTES);
}

/// The gateway's own refusal, told as a status and not guessed from HTTP's by the client.
#[track_caller]
fn refused(status: &Status, code: Code) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(!status.message().contains("mapped from HTTP"), "{status:?}");
}

async fn unary_calls(caller: &mut Caller) {
    for size in [0, 1, 16_384, 65_536, 1_000_000] {
        let message = Bytes::from(vec![b'm'; size]);
        let response = caller.unary(message.clone()).await.unwrap();
        carries_metadata(&response);
        assert!(response.into_inner() == message, "{size} bytes");
    }
    is_refusal(&caller.unary("refuse").await.unwrap_err(), Code::NotFound, "no such thing: ä\n");
    let status = caller.unary_at("/echo.Echo/Missing", "").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no such call"));
}

async fn streams_of_the_server(caller: &mut Caller) {
    let response = caller.repeat(Bytes::from(vec![b's'; 20_000])).await.unwrap();
    carries_metadata(&response);
    let mut messages = response.into_inner();
    let mut count = 0;
    while let Some(message) = messages.message().await.unwrap() {
        assert_eq!(message.len(), 20_000);
        count += 1;
    }
    assert_eq!(count, 100);

    let mut messages = caller.repeat("refuse").await.unwrap().into_inner();
    for _ in 0..100 {
        assert_eq!(messages.message().await.unwrap().unwrap(), "refuse");
    }
    is_refusal(&messages.message().await.unwrap_err(), Code::Aborted, "in the middle");
}

async fn streams_of_the_client(caller: &mut Caller) {
    let messages: Vec<Bytes> = (0..100_u8).map(|number| Bytes::from(vec![number; 20_000])).collect();
    let all = messages.concat();
    let response = caller.collect(messages).await.unwrap();
    carries_metadata(&response);
    assert!(response.into_inner() == all);
    assert!(caller.collect(Vec::new()).await.unwrap().into_inner().is_empty());
}

async fn streams_of_both(caller: &mut Caller) {
    let (sender, response) = caller.talk().await.unwrap();
    carries_metadata(&response);
    let mut messages = response.into_inner();
    // One after the other: each arrives before the next is sent, so nothing waits for more.
    for number in 0..100 {
        let message = Bytes::from(format!("message {number}"));
        sender.send(message.clone()).await.unwrap();
        assert_eq!(messages.message().await.unwrap().unwrap(), message);
    }
    // The client's direction ends first, then the server's with its status.
    drop(sender);
    assert!(messages.message().await.unwrap().is_none());

    let (sender, response) = caller.talk().await.unwrap();
    let mut messages = response.into_inner();
    sender.send(Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(messages.message().await.unwrap().unwrap(), "one");
    sender.send(Bytes::from_static(b"refuse")).await.unwrap();
    is_refusal(&messages.message().await.unwrap_err(), Code::ResourceExhausted, "enough");
}

async fn all_kinds(caller: &mut Caller) {
    unary_calls(caller).await;
    streams_of_the_server(caller).await;
    streams_of_the_client(caller).await;
    streams_of_both(caller).await;
}

/// A certificate for the gateway beside its configuration, and a client that trusts nothing else.
fn with_tls(setup: Setup) -> (Setup, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    std::fs::write(setup.place().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(setup.place().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = "[tls]\n[[tls.certificates]]\nhosts = [\"gw.test\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"";
    (setup.section(tls), TlsConnector::from(Arc::new(config)))
}

fn revoke(gateway: &Gateway, user: &str) {
    let which = WhichSessions { sid: None, user: Some(user.to_owned()), all: false };
    gateway.change(async |store| {
        session::revoke(store, true, which, &mut std::io::sink()).await.unwrap();
    });
}

/// The control: without a gateway between them, this client and this server do all that the other tests ask of them.
#[test]
fn client_and_server_understand_each_other_directly() {
    let stage = Stage::new();
    stage.run(async { all_kinds(&mut Caller::connect(stage.server, None, None).await).await });
    assert_eq!(stage.calls(), 13);
}

#[test]
fn all_kinds_of_calls_pass_over_cleartext() {
    let stage = Stage::new();
    let gateway = stage.gateway().start();
    let (token, _) = gateway.login("alice", PASSWORD);
    stage.run(async { all_kinds(&mut Caller::connect(gateway.address, None, Some(&token)).await).await });
    assert_eq!(stage.calls(), 13);
}

#[test]
fn all_kinds_of_calls_pass_over_tls() {
    let stage = Stage::new();
    let (setup, tls) = with_tls(stage.gateway());
    // A login over TLS is another test's; here the token is made by hand.
    let gateway = setup.clock(NOW_MS).start();
    let token = mint::access("1", NOW_MS / 1000, 600);
    stage
        .run(async { all_kinds(&mut Caller::connect(gateway.address, Some(tls), Some(&token)).await).await });
    assert_eq!(stage.calls(), 13);
}

#[test]
fn the_server_is_told_who_calls_and_never_the_token() {
    let stage = Stage::new();
    let gateway = stage.gateway().start();
    let (token, _) = gateway.login("alice", PASSWORD);
    stage.run(async {
        let mut caller = Caller::connect(gateway.address, None, Some(&token)).await;
        let response = caller.unary("who").await.unwrap();
        assert_eq!(response.metadata().get("x-caller").unwrap(), "alice");
    });
}

#[test]
fn refusals_are_statuses_and_reach_no_server() {
    let stage = Stage::new();
    let gateway = stage.gateway().start();
    stage.run(async {
        for token in [None, Some("broken")] {
            let mut caller = Caller::connect(gateway.address, None, token).await;
            refused(&caller.unary("x").await.unwrap_err(), Code::Unauthenticated);
            refused(&caller.repeat("x").await.unwrap_err(), Code::Unauthenticated);
            refused(
                &caller.collect(vec![Bytes::from_static(b"x")]).await.unwrap_err(),
                Code::Unauthenticated,
            );
            refused(&caller.talk().await.unwrap_err(), Code::Unauthenticated);
        }
        let mut caller = Caller::connect(gateway.address, None, None).await;
        // What HTTP calls 404 (the mapping of gRPC's own document for HTTP statuses).
        refused(&caller.unary_at("/other.Service/Call", "x").await.unwrap_err(), Code::Unimplemented);
    });
    assert_eq!(stage.calls(), 0);
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let stage = Stage::new();
    // Bound and not listening: nobody else gets the port, and nobody answers.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = nobody.local_addr().unwrap().as_socket().unwrap();
    let gateway = Setup::new()
        .section(&format!("[upstreams.grpc]\ntargets = [\"h2c://{address}\"]"))
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"grpc\"")
        .start();
    stage.run(async {
        let mut caller = Caller::connect(gateway.address, None, None).await;
        refused(&caller.unary("x").await.unwrap_err(), Code::Unavailable);
    });
}

#[test]
fn a_stream_ends_as_unauthenticated_when_its_session_is_revoked() {
    let stage = Stage::new();
    let gateway = stage.gateway().tokens("stream_grace = \"0s\"").start();
    let ((alice, _), (bob, _)) = (gateway.login("alice", PASSWORD), gateway.login("bob", PASSWORD));
    let open = async |token: &str| {
        let mut caller = Caller::connect(gateway.address, None, Some(token)).await;
        let (sender, response) = caller.talk().await.unwrap();
        let mut messages = response.into_inner();
        sender.send(Bytes::from_static(b"before")).await.unwrap();
        assert_eq!(messages.message().await.unwrap().unwrap(), "before");
        (caller, sender, messages)
    };
    let (mut caller, _sender, mut ended) = stage.run(open(&alice));
    let (_other, other_sender, mut other) = stage.run(open(&bob));
    revoke(&gateway, "alice");
    stage.run(async {
        let status = tokio::time::timeout(Duration::from_secs(2), ended.message()).await;
        refused(&status.expect("it ends soon").unwrap_err(), Code::Unauthenticated);
        refused(&caller.unary("x").await.unwrap_err(), Code::Unauthenticated);
        // Nobody else's stream ends.
        other_sender.send(Bytes::from_static(b"after")).await.unwrap();
        assert_eq!(other.message().await.unwrap().unwrap(), "after");
    });
}

#[test]
fn a_client_may_be_silent_for_longer_than_body_timeout() {
    const BODY_TIMEOUT: Duration = Duration::from_millis(200);
    let stage = Stage::new();
    let gateway =
        stage.gateway().limits(&format!("body_timeout = \"{}ms\"", BODY_TIMEOUT.as_millis())).start();
    let (alice, _) = gateway.login("alice", PASSWORD);
    stage.run(async {
        let mut caller = Caller::connect(gateway.address, None, Some(&alice)).await;
        let (sender, response) = caller.talk().await.unwrap();
        let mut messages = response.into_inner();
        for message in ["before", "after"] {
            sender.send(Bytes::from_static(message.as_bytes())).await.unwrap();
            assert_eq!(messages.message().await.unwrap().unwrap(), message);
            // Silence is what is tested.
            tokio::time::sleep(4 * BODY_TIMEOUT).await;
        }
    });
}

#[test]
fn a_stream_ends_as_unauthenticated_when_its_token_expires() {
    let stage = Stage::new();
    let gateway = stage.gateway().tokens("stream_grace = \"0s\"").clock(NOW_MS).start();
    let now = NOW_MS / 1000;
    stage.run(async {
        let mut short = Caller::connect(gateway.address, None, Some(&mint::access("1", now, 60))).await;
        let mut long = Caller::connect(gateway.address, None, Some(&mint::access("1", now, 600))).await;
        let (_sender, response) = short.talk().await.unwrap();
        let mut ended = response.into_inner();
        let (long_sender, response) = long.talk().await.unwrap();
        let mut other = response.into_inner();
        gateway.set_clock(NOW_MS + 61_000);
        refused(&ended.message().await.unwrap_err(), Code::Unauthenticated);
        long_sender.send(Bytes::from_static(b"after")).await.unwrap();
        assert_eq!(other.message().await.unwrap().unwrap(), "after");
    });
}
