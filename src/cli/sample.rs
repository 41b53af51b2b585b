//! The sample API behind `tollgate demo`: it answers with what it was told about the caller.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// What the gateway tells an upstream about a request.
const SHOWN: [&str; 7] = [
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-request-id",
    "x-forwarded-for",
    "authorization",
];

/// Listens on a free port of this machine. Only the gateway is to call it.
///
/// # Errors
///
/// When there is no port.
pub async fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves for ever.
pub async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // A connection that breaks is the gateway's to notice.
            let _ended = serving.await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (head, mut body) = request.into_parts();
    // Read to its end, so that the connection can be used again.
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
    let mut response = Response::new(format!("{}\n", told(&head)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `/api/user/` answers as a usual API does that has only just learnt who calls; everything else shows the request.
fn told(head: &http::request::Parts) -> Value {
    let field = |name: &str| {
        let value = head.headers.get(name).map(HeaderValue::as_bytes);
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    if matches!(head.uri.path(), "/api/user" | "/api/user/") {
        let id = field("x-user-id").and_then(|id| id.parse::<i64>().ok());
        return json!({ "id": id, "username": field("x-user-name") });
    }
    let headers: Map<String, Value> =
        SHOWN.iter().filter_map(|name| Some(((*name).to_owned(), field(name)?.into()))).collect();
    json!({ "method": head.method.as_str(), "path": head.uri.path(), "headers": headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> http::request::Parts {
        let request =
            Request::get(path).header("x-user-id", "7").header("x-user-name", "Zoë").header("x-other", "1");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_caller_is_shown() {
        assert_eq!(told(&parts("/api/user/")), json!({ "id": 7, "username": "Zoë" }));
        let shown =
            json!({ "method": "GET", "path": "/a", "headers": { "x-user-id": "7", "x-user-name": "Zoë" } });
        assert_eq!(told(&parts("/a?b")), shown);
    }
}
