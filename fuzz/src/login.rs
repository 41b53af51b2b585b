//! Bodies of the token routes: read or refused, and no message repeats a part of one.

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderValue;
use tokio::runtime::{Builder, Runtime};
use tollgate::base::bounds;
use tollgate::endpoints::body::{BodyFault, read};
use tollgate::tokens::json::Members;

/// A password that no message may hold.
const CANARY: &str = "canary-8d1f6a0c52b9";

/// What reads multipart bodies is asynchronous, though nothing is waited for here.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().unwrap());

/// Takes the first line as the `Content-Type` and the rest as the body.
pub(crate) fn run(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (content_type, body) = (&data[..end], &data[end + 1..]);
    let Ok(content_type) = HeaderValue::from_bytes(content_type) else { return };
    let body = Bytes::copy_from_slice(&body[..body.len().min(bounds::MAX_TOKEN_REQUEST_BYTES)]);
    match RUNTIME.block_on(read(Some(&content_type), body.clone())) {
        Ok(fields) => {
            let mut errors = Members::new();
            for name in ["username", "password", "refresh", "token"] {
                match fields.text(name, &mut errors) {
                    Some(text) => {
                        assert!(!text.contains('\0') && !text.trim().is_empty());
                        assert!(!body.is_empty() && errors.get(name).is_none());
                    }
                    None => assert!(errors.get(name).is_some(), "what is not read is told"),
                }
            }
            tells_no_password(&errors.to_string());
        }
        Err(BodyFault::MediaType(named)) => {
            assert!(!named.chars().any(char::is_control) && named.len() <= 100);
        }
        Err(BodyFault::Json(told)) => tells_no_password(&told),
        Err(BodyFault::Multipart(_) | BodyFault::TooManyFields | BodyFault::NotAnObject(_)) => {}
    }
}

fn tells_no_password(message: &str) {
    assert!(!message.contains(CANARY), "{message}");
}
