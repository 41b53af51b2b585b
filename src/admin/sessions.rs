//! Sessions on the page: who is logged in, and ending that.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{self, Whole};
use crate::sessions::SessionError;

/// Sessions that are shown at most, those that were used last.
const MOST_SESSIONS: u32 = 200;
/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 4096;

/// Which session is to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    sid: String,
}

/// The sessions that go on.
pub(super) async fn list(admin: &Admin) -> Response<Whole> {
    let names = admin.snapshot().config.users.source == crate::config::UserSource::Store;
    let listed = match admin.snapshot().authentication.sessions.latest(MOST_SESSIONS).await {
        Ok(listed) => listed,
        Err(error) => return unavailable(&error),
    };
    let shown = listed.into_iter().map(|session| {
        json!({
            "sid": session.sid,
            "user": session.user_name.filter(|_| names).unwrap_or(session.user_id),
            "started_at_ms": session.started_at_ms,
            "last_used_at_ms": session.last_used_at_ms,
            "expires_at_ms": session.expires_at_ms,
        })
    });
    answer::json(StatusCode::OK, &json!({"sessions": shown.collect::<Vec<Value>>()}))
}

/// Ends a session. When this has answered, none of its tokens passes on any thread.
pub(super) async fn revoke(admin: &Admin, body: Incoming) -> Response<Whole> {
    let Some(body) = read(body).await else {
        return answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off\n");
    };
    let Ok(Revoke { sid }) = serde_json::from_slice(&body) else {
        return answer::text(StatusCode::BAD_REQUEST, "the body is not {\"sid\": \"…\"}\n");
    };
    match admin.snapshot().authentication.sessions.revoke(&sid).await {
        Ok(true) => {
            tracing::info!(sid, "a session was revoked on the admin page");
            answer::json(StatusCode::OK, &json!({"ended": 1}))
        }
        Ok(false) => answer::text(StatusCode::NOT_FOUND, "no session with this id goes on\n"),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &SessionError) -> Response<Whole> {
    tracing::error!(%error, "sessions cannot be read or ended");
    answer::text(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read or written\n")
}

/// The whole body, unless it is too large or breaks off.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        if whole.len() + data.len() > MAX_BODY_BYTES {
            return None;
        }
        whole.extend_from_slice(&data);
    }
    Some(whole.freeze())
}
