//! Exporting spans to a collector, over the OpenTelemetry protocol (OTLP/HTTP with JSON).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::span::Data;
use super::{Spans, encode};
use crate::config::{Otlp, Target};

/// Most spans in one request.
pub(super) const BATCH_SPANS: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(2);
/// For connecting, sending and the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is sent at most, before it is lost.
const ATTEMPTS: u32 = 5;
/// How long is waited before it is sent a second time; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is told to the exporter.
#[derive(Debug)]
pub(super) enum Message {
    /// Spans that have ended.
    Spans(Vec<Data>),
    /// Everything before this is to be exported at once; dropped when that is done.
    Flush(std::sync::mpsc::Sender<()>),
}

/// What waits to be exported.
#[derive(Debug)]
pub struct Queue {
    pub(super) waiting: mpsc::UnboundedReceiver<Message>,
    pub(super) spans: Arc<Spans>,
}

#[cfg(test)]
impl Queue {
    /// The spans that were handed over next, if there are any.
    pub(super) fn try_next(&mut self) -> Option<Vec<Data>> {
        match self.waiting.try_recv() {
            Ok(Message::Spans(spans)) => Some(spans),
            Ok(Message::Flush(_)) | Err(_) => None,
        }
    }
}

/// Why a collector did not take spans.
#[derive(Debug)]
enum ExportError {
    /// It cannot be reached, or broke off.
    Io(io::Error),
    /// It does not speak HTTP.
    Http(hyper::Error),
    /// It took too long.
    TimedOut,
    /// It has refused them.
    Refused(StatusCode),
}

impl ExportError {
    /// Whether the same batch may be taken later (OTLP section "Failures").
    fn is_passing(&self) -> bool {
        match self {
            Self::Io(_) | Self::Http(_) | Self::TimedOut => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502..=504),
        }
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::TimedOut => f.write_str("it did not answer in time"),
            Self::Refused(status) => write!(f, "it answered {status}"),
        }
    }
}

/// Exports what waits, until nobody can send any more.
pub async fn run(mut queue: Queue, settings: Otlp) {
    let exporter = Exporter::new(settings);
    let mut failing = false;
    loop {
        let Some(first) = queue.waiting.recv().await else { return };
        let (batch, flushes) = gather(&mut queue.waiting, first).await;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        // Who waits for a flush does not wait for a second attempt.
        let attempts = if flushes.is_empty() { ATTEMPTS } else { 1 };
        let outcome = if batch.is_empty() { Ok(()) } else { exporter.send(&batch, attempts).await };
        queue.spans.waiting.fetch_sub(batch.len(), Ordering::AcqRel);
        match outcome {
            Ok(()) => {
                queue.spans.exported.fetch_add(count, Ordering::Relaxed);
                if failing {
                    tracing::info!("the collector takes spans again");
                }
                failing = false;
            }
            Err(error) => {
                queue.spans.dropped.fetch_add(count, Ordering::Relaxed);
                if !failing {
                    tracing::warn!(%error, spans = count, "spans were lost: the collector did not take them");
                }
                failing = true;
            }
        }
        drop(flushes);
    }
}

/// What has come and what comes within a while, but not much more than [`BATCH_SPANS`].
async fn gather(
    waiting: &mut mpsc::UnboundedReceiver<Message>,
    first: Message,
) -> (Vec<Data>, Vec<std::sync::mpsc::Sender<()>>) {
    let until = tokio::time::Instant::now() + GATHER;
    let (mut batch, mut flushes) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Spans(spans) => batch.extend(spans),
            Message::Flush(done) => flushes.push(done),
        }
        if batch.len() >= BATCH_SPANS || !flushes.is_empty() {
            break;
        }
        next = tokio::time::timeout_at(until, waiting.recv()).await.ok().flatten();
    }
    (batch, flushes)
}

struct Exporter {
    settings: Otlp,
    tls: Option<TlsConnector>,
}

impl Exporter {
    fn new(settings: Otlp) -> Self {
        let believed = || connector(system_roots()?);
        let tls = settings.target.is_tls().then(believed).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, "no span can be exported over TLS");
            None
        });
        Self { settings, tls }
    }

    async fn send(&self, batch: &[Data], attempts: u32) -> Result<(), ExportError> {
        let body = Bytes::from(encode::batch(&self.settings.service_name, batch));
        let mut pause = FIRST_PAUSE;
        for _ in 1..attempts {
            match self.attempt(body.clone()).await {
                Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.attempt(body).await
    }

    async fn attempt(&self, body: Bytes) -> Result<(), ExportError> {
        tokio::time::timeout(TIMEOUT, self.post(body)).await.map_err(|_| ExportError::TimedOut)?
    }

    async fn post(&self, body: Bytes) -> Result<(), ExportError> {
        let (Target::Http(at) | Target::Https(at)) = &self.settings.target else {
            return Err(ExportError::Io(io::ErrorKind::Unsupported.into()));
        };
        let stream = TcpStream::connect((at.host.as_str(), at.port)).await.map_err(ExportError::Io)?;
        if !self.settings.target.is_tls() {
            return self.post_over(stream, body).await;
        }
        let connector =
            self.tls.as_ref().ok_or_else(|| ExportError::Io(io::ErrorKind::Unsupported.into()))?;
        let name = ServerName::try_from(at.host.clone())
            .map_err(|error| ExportError::Io(io::Error::other(error)))?;
        let stream = connector.connect(name, stream).await.map_err(ExportError::Io)?;
        self.post_over(stream, body).await
    }

    async fn post_over<S>(&self, stream: S, body: Bytes) -> Result<(), ExportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(ExportError::Http)?;
        let mut request = Request::new(Whole(Some(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.path.clone();
        let headers = request.headers_mut();
        headers.extend(self.settings.headers.iter().cloned());
        headers.insert(header::HOST, self.settings.authority.clone());
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        // It ends with the sender, at the end of this function.
        tokio::spawn(connection);
        // What the collector says beside its status is not read.
        let answer = sender.send_request(request).await.map_err(ExportError::Http)?;
        if answer.status().is_success() { Ok(()) } else { Err(ExportError::Refused(answer.status())) }
    }
}

/// Whom the system believes.
fn system_roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(io::Error::other("this system trusts no certificate")) } else { Ok(roots) }
}

/// TLS that believes these.
fn connector(roots: RootCertStore) -> io::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::{Environment, parse};

    /// A collector over TLS with a certificate for `localhost`.
    struct Collector {
        listener: TcpListener,
        acceptor: TlsAcceptor,
        certificate: CertificateDer<'static>,
    }

    impl Collector {
        async fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().der().clone();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], private)
                .unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), certificate }
        }

        /// The head of the request that comes, which is answered; or that no handshake came to an end.
        async fn serve(&self, status: &str) -> io::Result<String> {
            let (stream, _) = self.listener.accept().await?;
            let mut stream = self.acceptor.accept(stream).await?;
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await?;
                request.extend_from_slice(&bytes[..count]);
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
            Ok(String::from_utf8(request).unwrap())
        }

        /// An exporter to it, under this name, that believes whom it is told to.
        fn exporter(&self, host: &str, roots: RootCertStore) -> Exporter {
            let port = self.listener.local_addr().unwrap().port();
            let text = format!(
                "[upstreams.a]\ntargets = [\"http://127.0.0.1:9\"]\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n\
                 [log.otlp]\nendpoint = \"https://{host}:{port}\"\nheaders_env = \"KEY\"\n"
            );
            let environment = Environment::from_pairs([("KEY", "api-key=secret-of-the-collector")]);
            let config = parse(&text, "gateway.toml", ".".as_ref(), &environment).unwrap();
            Exporter { settings: config.otlp.unwrap(), tls: Some(connector(roots).unwrap()) }
        }

        fn believed(&self) -> RootCertStore {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            roots
        }
    }

    #[tokio::test]
    async fn spans_go_over_tls_to_a_collector_that_is_believed() {
        let collector = Collector::new().await;
        let exporter = collector.exporter("localhost", collector.believed());
        let (sent, served) = tokio::join!(exporter.send(&[], 1), collector.serve("200 OK"));
        sent.unwrap();
        let request = served.unwrap();
        assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\napi-key: secret-of-the-collector\r\n"), "{request}");
        assert!(request.contains(&format!(
            "\r\nhost: localhost:{}\r\n",
            collector.listener.local_addr().unwrap().port()
        )));
        let (sent, _) = tokio::join!(exporter.send(&[], 1), collector.serve("401 Unauthorized"));
        assert!(matches!(sent, Err(ExportError::Refused(StatusCode::UNAUTHORIZED))));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_collector_that_is_not_who_it_should_be() {
        let (collector, other) = (Collector::new().await, Collector::new().await);
        for exporter in [
            collector.exporter("localhost", other.believed()),
            // The certificate is for another name.
            collector.exporter("127.0.0.1", collector.believed()),
        ] {
            let (sent, served) = tokio::join!(exporter.send(&[], 1), collector.serve("200 OK"));
            assert!(
                matches!(&sent, Err(ExportError::Io(error)) if error.to_string().contains("certificate")),
                "{sent:?}"
            );
            served.unwrap_err();
        }
    }
}
