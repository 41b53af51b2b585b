//! Identity headers: removed from every request first, in every spelling, then set for those who are known.

mod firewall;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::firewall::{Fate, Firewall, owned_names};
use crate::authn::Caller;
use crate::authz::Permitted;
use crate::base::ids::X_REQUEST_ID;
use crate::base::principal::{FieldValue, Principal};
use crate::base::reason::Reason;
use crate::config::IdentityPreset;
use crate::http::hop;
use crate::http::incoming::Incoming;
use crate::net::peer::{Peer, Trust};
use crate::net::tls::{ClientCertificate, UnfitPart};
use crate::request::{Host, IntakeError, Pieces};
use crate::routing::Route;
use crate::telemetry::trace::{self, TRACEPARENT, TRACESTATE};
use crate::upgrade::Offer;

const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_USER_NAME: HeaderName = HeaderName::from_static("x-user-name");
const X_USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
const X_USER_GROUPS: HeaderName = HeaderName::from_static("x-user-groups");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How many fields the gateway adds at most.
const ADDED_FIELDS: usize = 11;

/// A request that an upstream may see: permitted, cleaned and signed with who sent it. Only [`seal`] makes one.
#[derive(Debug)]
pub struct UpstreamRequest(Box<Pieces>);

impl UpstreamRequest {
    /// Takes out what asks for a WebSocket, and what the client's side of it is read from in HTTP/2.
    pub fn take_opening(&mut self) -> Option<(Box<Offer>, Incoming)> {
        let opening = self.0.opening.take()?;
        Some((opening, std::mem::replace(&mut self.0.body, Incoming::Empty)))
    }

    /// The fields that the upstream gets.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Takes it apart, to be sent.
    pub fn into_pieces(self) -> Box<Pieces> {
        self.0
    }
}

/// Where a request came from and under which id it is known.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The other side of the connection.
    pub peer: &'a Peer,
    /// The id that the gateway gave the request.
    pub request_id: &'a HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The certificate that the client showed.
    pub certificate: Option<&'a ClientCertificate>,
    /// What the upstream is told of the trace, where the gateway takes part in it; otherwise what the client says passes.
    pub trace: Option<&'a trace::Told>,
}

/// Why no request can be made for the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// This field of the user cannot stand in a header unchanged.
    Unfit(&'static str),
    /// A part of the client's certificate cannot.
    CertificateUnfit(UnfitPart),
    /// No path in normal form comes of what the route makes of the client's.
    Path(IntakeError),
}

impl SealError {
    /// The stable reason.
    pub fn reason(self) -> Reason {
        match self {
            Self::Unfit(_) | Self::CertificateUnfit(_) => Reason::IdentityUnfit,
            Self::Path(error) => error.reason(),
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(field) => write!(f, "The user's {field} does not fit a header."),
            Self::CertificateUnfit(_) => f.write_str("The client certificate does not fit a header."),
            Self::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SealError {}

/// Makes the request for the upstream: what the gateway owns is removed from every request first, unconditionally; only
/// then it is set. Says also who is calling, for what goes on after the answer has begun.
///
/// # Errors
///
/// [`SealError`] when the identity does not fit; it is never cut.
pub fn seal(
    permitted: Permitted<'_>,
    firewall: &Firewall,
    preset: IdentityPreset,
    origin: &Origin<'_>,
) -> Result<(UpstreamRequest, Caller), SealError> {
    let (exchange, route, caller): (_, &Route, _) = permitted.into_pieces();
    let mut pieces = exchange.into_pieces();
    let headers = &mut pieces.headers;
    let trailers = hop::takes_trailers(headers);
    let trust = origin.peer.trust();
    headers.reserve(ADDED_FIELDS);
    firewall.clean(headers, trust);
    headers.extend(trailers.map(|trailers| (http::header::TE, trailers)));
    set_origin(headers, &pieces.host, trust, origin);
    if let Some(told) = origin.trace {
        set_trace(headers, told);
    }
    if let Some(certificate) = origin.certificate {
        for (name, value) in certificate.headers().map_err(SealError::CertificateUnfit)? {
            headers.insert(name, value.clone());
        }
    }
    match (preset, &caller) {
        (IdentityPreset::Default, Caller::User(known)) => set_identity(headers, &known.principal)?,
        (IdentityPreset::Default, Caller::Anonymous) | (IdentityPreset::None, _) => {}
    }
    if let Some(rules) = &route.request_headers {
        rules.apply(headers);
    }
    if let Some(path) = route.forwarded(&pieces.path).map_err(SealError::Path)? {
        pieces.path = path;
    }
    Ok((UpstreamRequest(pieces), caller))
}

/// Says where the request came from. A trusted proxy has said it already; it only becomes one more hop.
fn set_origin(headers: &mut HeaderMap, host: &Host, trust: Trust, origin: &Origin<'_>) {
    // A trusted proxy's id has become this one already, if it can be one.
    headers.insert(X_REQUEST_ID, origin.request_id.clone());
    match trust {
        Trust::Untrusted => {
            headers.insert(X_FORWARDED_FOR, origin.peer.text().clone());
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
            headers.insert(X_FORWARDED_HOST, host.value().clone());
        }
        Trust::Trusted => {
            headers.append(X_FORWARDED_FOR, origin.peer.text().clone());
            headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(origin.scheme));
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.value().clone());
        }
    }
}

/// Says where the request stands in its trace. What others have to say of it holds only for the client's own trace (W3C
/// Trace Context section 3.4).
fn set_trace(headers: &mut HeaderMap, told: &trace::Told) {
    headers.insert(TRACEPARENT, told.traceparent.clone());
    if !told.continues {
        headers.remove(TRACESTATE);
    }
}

fn set_identity(headers: &mut HeaderMap, principal: &Principal) -> Result<(), SealError> {
    for (name, value, field) in [
        (X_USER_ID, principal.id(), "id"),
        (X_USER_NAME, principal.name(), "name"),
        (X_USER_EMAIL, principal.email(), "e-mail address"),
        (X_USER_GROUPS, principal.groups(), "list of groups"),
    ] {
        match value {
            FieldValue::Absent => {}
            FieldValue::Fits(value) => {
                headers.insert(name, value.clone());
            }
            FieldValue::Unfit => return Err(SealError::Unfit(field)),
        }
    }
    Ok(())
}
