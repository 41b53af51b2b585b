//! `POST /reload`: for `tollgate reload`, and for nobody who cannot read the configuration.
//!
//! Who asks shows the digest of the file, so that a page in some browser, or another user of the machine, can neither ask nor
//! learn from the answer what the file says. The gateway compares it with the very text that it reads.

use std::net::IpAddr;

use http::{HeaderMap, Method, Request, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

/// The header with the digest of the configuration file: SHA-256 in hexadecimal digits.
pub const CONFIG_DIGEST: &str = "x-tollgate-config";

/// Somebody asks for the configuration to be read again.
#[derive(Debug)]
pub struct Ask {
    /// Only what would change is asked for.
    pub is_dry_run: bool,
    /// The digest of the file that is meant.
    pub digest: String,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Told>,
}

/// What came of it, for people.
#[derive(Debug)]
pub enum Told {
    /// It was done; the changes, a line each.
    Done(String),
    /// The configuration is refused; why.
    Refused(String),
    /// Another file was meant, or another state of it; which file is read.
    OtherFile(String),
}

/// The way to whoever reads the configuration.
pub type Asks = mpsc::Sender<Ask>;

/// Answers a request for `/reload`.
pub(super) async fn answer<B>(request: &Request<B>, asks: &Asks) -> (StatusCode, String) {
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "only POST\n".to_owned());
    }
    let Some(digest) = permitted(request.headers()) else {
        let text = "only \"tollgate reload\" may ask for this, on this machine\n";
        return (StatusCode::FORBIDDEN, text.to_owned());
    };
    let is_dry_run = request.uri().query() == Some("dry_run=true");
    let (answer, told) = oneshot::channel();
    let ask = Ask { is_dry_run, digest: digest.to_owned(), answer };
    let sent = asks.send(ask).await.is_ok();
    match told.await {
        Ok(Told::Done(text)) if sent => (StatusCode::OK, text),
        Ok(Told::Refused(text)) => (StatusCode::CONFLICT, text),
        Ok(Told::OtherFile(text)) => (StatusCode::FORBIDDEN, text),
        Ok(Told::Done(_)) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping\n".to_owned())
        }
    }
}

/// The digest that was shown, unless a browser may have sent the request: from a page of another origin, or to a name that
/// somebody has turned to this machine.
fn permitted(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_local = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok();
    if !is_local || headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return None;
    }
    headers.get(CONFIG_DIGEST)?.to_str().ok().filter(|digest| !digest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_may_have_sent_is_not_permitted() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let (host, digest) = (("host", "127.0.0.1:9911"), (CONFIG_DIGEST, "abc"));
        for host in ["127.0.0.1:9911", "localhost:9911", "[::1]:9911", "10.1.2.3", "LOCALHOST"] {
            let sent: HeaderMap = headers(&[("host", host), digest]);
            assert_eq!(permitted(&sent), Some("abc"), "{host}");
        }
        for sent in [
            vec![host],
            vec![digest],
            vec![host, (CONFIG_DIGEST, "")],
            vec![("host", "evil.example:9911"), digest],
            vec![("host", "127.0.0.1.evil.example"), digest],
            vec![host, digest, ("origin", "http://127.0.0.1:9911")],
            vec![host, digest, ("origin", "null")],
            vec![host, digest, ("sec-fetch-site", "same-origin")],
        ] {
            let sent: HeaderMap = headers(&sent);
            assert_eq!(permitted(&sent), None, "{sent:?}");
        }
    }
}
