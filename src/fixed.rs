//! What routes answer that have no upstream: redirects and fixed responses. Who may not pass learns nothing of them.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::authz::Permitted;
use crate::base::field_list::FieldList;
use crate::base::reason::Reason;
use crate::config::{Action, Redirect, Respond};
use crate::http::problem::Refusal;

/// A status, fields and a body.
type Fixed = (StatusCode, FieldList, Bytes);

/// The answer to a request that may pass; `None` when its route forwards it.
///
/// # Errors
///
/// A refusal, where the route answers what the request cannot be answered with.
pub fn answer(permitted: &Permitted<'_>) -> Result<Option<Fixed>, Refusal> {
    let route = permitted.route();
    let (status, mut headers, body) = match &route.action {
        Action::Forward(_) => return Ok(None),
        Action::Redirect(redirect) => redirected(redirect, permitted)?,
        Action::Respond(respond) => responded(respond, permitted)?,
    };
    if let Some(changes) = &route.response_headers {
        changes.apply(&mut headers);
    }
    Ok(Some((status, headers, body)))
}

fn redirected(redirect: &Redirect, permitted: &Permitted<'_>) -> Result<Fixed, Refusal> {
    let path = permitted.exchange().path();
    let location = HeaderValue::try_from(redirect.location(path.path(), path.query()));
    let location =
        location.map_err(|_| Refusal::new(Reason::RequestMalformed, "The request target is not a path."))?;
    Ok((redirect.status, FieldList::from_iter([(header::LOCATION, location)]), Bytes::new()))
}

fn responded(respond: &Respond, permitted: &Permitted<'_>) -> Result<Fixed, Refusal> {
    // Over HTTP/2 a success would open the WebSocket (RFC 8441 section 4), and nobody is behind it.
    if permitted.exchange().opens_websocket() {
        return Err(Refusal::new(Reason::RouteNotFound, "No WebSocket is opened here."));
    }
    Ok((respond.status, respond.headers.iter().cloned().collect(), respond.body.clone()))
}
