//! Clients that speak TLS: the handshake and the records are dealt with here, and the test reads and writes in the clear.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::client::Client;
use super::gateway::{Gateway, Setup};
use super::http2::{Authority, Pair};
use super::http2_client::Http2Client;

/// The usual host.
pub(crate) const HOST: &str = "gw.test";

/// The configuration of one certificate, in the files that [`Tls::prepare`] writes.
const SECTION: &str =
    "[tls]\n[[tls.certificates]]\nhosts = [\"gw.test\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";

/// An authority, with a certificate of it for the gateway.
pub(crate) struct Tls {
    pub(crate) authority: Authority,
}

/// How a client begins a connection.
pub(crate) struct Hello<'a> {
    /// The host that it asks for.
    pub(crate) name: &'a str,
    /// The protocols that it offers.
    pub(crate) protocols: &'a [&'a str],
    /// The certificate that it shows.
    pub(crate) own: Option<&'a Pair>,
    /// What it sends before TLS begins.
    pub(crate) introduction: &'a [u8],
}

impl Default for Hello<'_> {
    fn default() -> Self {
        Self { name: HOST, protocols: &[], own: None, introduction: b"" }
    }
}

/// A connection after its handshake.
pub(crate) struct Dialed {
    /// What is read and written here is in the clear.
    pub(crate) stream: TcpStream,
    /// The protocol that the gateway chose.
    pub(crate) protocol: Option<Vec<u8>>,
    /// The certificate that the gateway showed.
    pub(crate) shown: CertificateDer<'static>,
}

impl Tls {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::new() }
    }

    /// Puts a certificate beside the configuration and names it there. `lines` follow.
    pub(crate) fn prepare(&self, setup: Setup, lines: &str) -> Setup {
        // Its names are more than the gateway is told, so that a client finds no fault with a host that the gateway has
        // no certificate for.
        let pair = self.authority.sign_all(&[HOST, "other.test"], false);
        for (name, content) in
            [("cert.pem", &pair.cert), ("key.pem", &pair.key), ("clients.pem", &self.authority.pem())]
        {
            std::fs::write(setup.place().join(name), content).unwrap();
        }
        setup.section(SECTION).section(lines)
    }

    /// Performs a handshake.
    pub(crate) fn dial(&self, address: SocketAddr, hello: &Hello<'_>) -> io::Result<Dialed> {
        let connector = TlsConnector::from(Arc::new(self.config(hello)));
        let name = ServerName::try_from(hello.name.to_owned()).unwrap();
        let relay = relay();
        let stream = relay.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(hello.introduction).await?;
            connector.connect(name, stream).await
        })?;
        let (_, session) = stream.get_ref();
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        let shown = session.peer_certificates().unwrap()[0].clone();
        let (near, far) = pair();
        relay.spawn(async move {
            let (mut stream, mut far) = (stream, tokio::net::TcpStream::from_std(far).unwrap());
            // A gateway that breaks the connection is seen at the near end, which ends as well.
            let _ended = tokio::io::copy_bidirectional(&mut stream, &mut far).await.is_err();
        });
        Ok(Dialed { stream: near, protocol, shown })
    }

    /// A client that speaks HTTP/1.1.
    pub(crate) fn client(&self, gateway: &Gateway) -> Client {
        self.client_with(gateway, &Hello::default())
    }

    /// A client that speaks HTTP/1.1 and begins in this way.
    pub(crate) fn client_with(&self, gateway: &Gateway, hello: &Hello<'_>) -> Client {
        Client::over(self.dial(gateway.address, hello).unwrap().stream, gateway)
    }

    /// A client that speaks HTTP/2.
    pub(crate) fn http2_client(&self, gateway: &Gateway, hello: &Hello<'_>) -> Http2Client {
        let hello = Hello { protocols: &["h2"], ..*hello };
        let dialed = self.dial(gateway.address, &hello).unwrap();
        assert_eq!(dialed.protocol.as_deref(), Some(&b"h2"[..]));
        Http2Client::over(dialed.stream, gateway, "https")
    }

    fn config(&self, hello: &Hello<'_>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = match hello.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = hello.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// Where the records of all clients are made and read.
fn relay() -> &'static Runtime {
    static RELAY: OnceLock<Runtime> = OnceLock::new();
    RELAY.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// Two ends of a connection; the second one does not block.
fn pair() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_nonblocking(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}
