//! Identity headers: removed from every request first, in every spelling, then set for those who are known.

mod firewall;
mod plan;
mod values;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use tokio::runtime::Handle;

pub use self::firewall::{Fate, Firewall, owned_names};
use self::plan::Plan;
pub use self::plan::Plans;
use crate::authn::{Caller, Known};
use crate::authz::Permitted;
use crate::base::clock::Clock;
use crate::base::field_list::FieldList;
use crate::base::ids::X_REQUEST_ID;
use crate::base::principal::Introduction;
use crate::base::reason::Reason;
use crate::base::soon::Soon;
use crate::config::{Assertion, Auth};
use crate::http::hop::{self, Listed};
use crate::http::incoming::Incoming;
use crate::net::peer::{Peer, Trust};
use crate::net::tls::{ClientCertificate, UnfitPart};
use crate::request::{Exchange, Host, IntakeError, Pieces};
use crate::routing::Route;
use crate::telemetry::trace::{self, TRACEPARENT, TRACESTATE};
use crate::tokens::{Asserter, IssueError, Statement};
use crate::upgrade::Offer;

/// The header of a signed statement about who is calling.
pub static X_TOLLGATE_ASSERTION: HeaderName = HeaderName::from_static("x-tollgate-assertion");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that an upstream may see: permitted, cleaned and signed with who sent it. Only [`Sealer::seal`] makes one.
#[derive(Debug)]
pub struct UpstreamRequest(Box<Pieces>);

impl UpstreamRequest {
    /// Takes out what asks for a WebSocket, and what the client's side of it is read from in HTTP/2.
    pub fn take_opening(&mut self) -> Option<(Box<Offer>, Incoming)> {
        let opening = self.0.opening.take()?;
        Some((opening, std::mem::replace(&mut self.0.body, Incoming::Empty)))
    }

    /// The fields that the upstream gets.
    pub fn headers(&self) -> &FieldList {
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
#[derive(Debug)]
pub enum SealError {
    /// This of the user cannot stand in a header unchanged.
    Unfit(&'static str),
    /// A claim of the token cannot.
    ClaimUnfit,
    /// All together is more than the upstream takes.
    TooLarge,
    /// A part of the client's certificate cannot stand in a header.
    CertificateUnfit(UnfitPart),
    /// The statement about the caller could not be signed.
    NotSigned(IssueError),
    /// Nothing is known of the upstream, or nobody signs any more, which happens in no sound process.
    Broken,
    /// No path in normal form comes of what the route makes of the client's.
    Path(IntakeError),
}

impl SealError {
    /// The stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unfit(_) | Self::ClaimUnfit | Self::CertificateUnfit(_) => Reason::IdentityUnfit,
            Self::TooLarge | Self::NotSigned(IssueError::TooLong) => Reason::IdentityTooLarge,
            Self::NotSigned(IssueError::Clock(_) | IssueError::Randomness(_) | IssueError::Signing(_))
            | Self::Broken => Reason::InternalError,
            Self::Path(error) => error.reason(),
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(field) => write!(f, "The user's {field} does not fit a header."),
            Self::ClaimUnfit => f.write_str("A claim of the token does not fit a header."),
            Self::TooLarge | Self::NotSigned(IssueError::TooLong) => {
                f.write_str("What is known of the user is too large for the upstream.")
            }
            Self::CertificateUnfit(_) => f.write_str("The client certificate does not fit a header."),
            Self::NotSigned(_) | Self::Broken => f.write_str("The gateway failed."),
            Self::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SealError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CertificateUnfit(part) => Some(part),
            Self::NotSigned(error) => Some(error),
            Self::Unfit(_) | Self::ClaimUnfit | Self::TooLarge | Self::Broken | Self::Path(_) => None,
        }
    }
}

/// Makes requests for upstreams on one thread.
pub struct Sealer {
    /// What is removed.
    pub firewall: Arc<Firewall>,
    /// What is set.
    pub plans: Arc<Plans>,
    /// Who signs.
    pub asserter: Arc<Asserter>,
    /// Where it is signed.
    pub control: Handle,
    /// The time.
    pub clock: Clock,
}

impl Sealer {
    /// Makes the request for the upstream: what the gateway owns is removed from every request first, unconditionally; only
    /// then it is set. Says also who is calling, for what goes on after the answer has begun.
    ///
    /// # Errors
    ///
    /// [`SealError`] when the identity does not fit; it is never cut.
    pub fn seal<'f>(
        &'f self,
        permitted: Permitted<'f>,
        origin: &'f Origin<'f>,
    ) -> Soon<'f, Result<(UpstreamRequest, Caller), SealError>> {
        let (exchange, route, caller) = permitted.into_pieces();
        let Some(plan) = route.action.upstream().and_then(|upstream| self.plans.of(upstream)) else {
            return Soon::Now(Err(SealError::Broken));
        };
        let seal = Seal { firewall: &self.firewall, plan, route, origin };
        let introduction = match &caller {
            Caller::User(known) if !plan.is_silent() => match self.introduction_now(plan, known) {
                Some(introduction) => introduction.map(Some),
                None => return Soon::later(self.sign_and_seal(seal, exchange, caller)),
            },
            Caller::User(_) | Caller::Anonymous => Ok(None),
        };
        let sealed =
            introduction.and_then(|introduction| seal.apply(exchange, &caller, introduction.as_deref()));
        Soon::Now(sealed.map(|request| (request, caller)))
    }

    async fn sign_and_seal(
        &self,
        seal: Seal<'_>,
        exchange: Exchange,
        caller: Caller,
    ) -> Result<(UpstreamRequest, Caller), SealError> {
        let introduction = match (&caller, &seal.plan.assertion) {
            (Caller::User(known), Some(assertion)) => Some(self.sign(seal.plan, assertion, known).await?),
            (Caller::User(_) | Caller::Anonymous, _) => None,
        };
        let request = seal.apply(exchange, &caller, introduction.as_deref())?;
        Ok((request, caller))
    }

    /// What upstreams of this sort are told of somebody. It is made once and kept beside the token. Where somebody has to
    /// sign it, there is none yet.
    fn introduction_now(&self, plan: &Plan, known: &Known) -> Option<Result<Rc<Introduction>, SealError>> {
        if let Some(kept) = known.principal.introduction(plan.sort)
            && (plan.assertion.is_none() || self.clock.now_unix_ms() < kept.renewed_at_ms)
        {
            return Some(Ok(kept));
        }
        if plan.assertion.is_some() {
            return None;
        }
        Some(plan.fields(known).and_then(|fields| Self::introduce(plan, known, fields, i64::MAX)))
    }

    /// The same with a signed statement.
    async fn sign(
        &self,
        plan: &Plan,
        assertion: &Assertion,
        known: &Known,
    ) -> Result<Rc<Introduction>, SealError> {
        let mut fields = plan.fields(known)?;
        let (signed, until_ms) = self.assertion(assertion, known).await?;
        fields.push((X_TOLLGATE_ASSERTION.clone(), signed));
        Self::introduce(plan, known, fields, until_ms)
    }

    fn introduce(
        plan: &Plan,
        known: &Known,
        fields: Vec<(HeaderName, HeaderValue)>,
        renewed_at_ms: i64,
    ) -> Result<Rc<Introduction>, SealError> {
        plan.check_size(&fields)?;
        let introduction = Rc::new(Introduction::new(plan.sort, fields, renewed_at_ms));
        known.principal.keep(&introduction);
        Ok(introduction)
    }

    /// A signed statement, and when half of its life is over. It is signed on the control plane, and ends with the token at
    /// the latest.
    async fn assertion(&self, assertion: &Assertion, known: &Known) -> Result<(HeaderValue, i64), SealError> {
        let now_ms = self.clock.now_unix_ms();
        let lifetime_ms = i64::try_from(assertion.lifetime.as_millis()).unwrap_or(i64::MAX);
        let issued_at = now_ms.div_euclid(1000);
        let ends_ms = issued_at.saturating_mul(1000).saturating_add(lifetime_ms);
        let expires_at = ends_ms.min(known.token.valid_until_ms()).div_euclid(1000);
        let statement = Statement {
            audience: assertion.audience.clone(),
            user: known.principal.user().clone(),
            issued_at,
            expires_at,
        };
        let asserter = Arc::clone(&self.asserter);
        let signed = self.control.spawn(async move { asserter.sign(&statement) }).await;
        let signed = signed.map_err(|_| SealError::Broken)?.map_err(SealError::NotSigned)?;
        let mut value = HeaderValue::try_from(signed).map_err(|_| SealError::Broken)?;
        value.set_sensitive(true);
        let left_ms = expires_at.saturating_mul(1000).saturating_sub(now_ms);
        Ok((value, now_ms.saturating_add(left_ms / 2)))
    }
}

/// What a request becomes one for an upstream with.
struct Seal<'a> {
    firewall: &'a Firewall,
    plan: &'a Plan,
    route: &'a Route,
    origin: &'a Origin<'a>,
}

impl Seal<'_> {
    fn apply(
        &self,
        exchange: Exchange,
        caller: &Caller,
        introduction: Option<&Introduction>,
    ) -> Result<UpstreamRequest, SealError> {
        let Self { firewall, plan, route, origin } = *self;
        let mut pieces = exchange.into_pieces();
        let headers = &mut pieces.headers;
        let trailers = hop::takes_trailers(headers);
        let trust = origin.peer.trust();
        // One that did not pass is not passed on; where nobody is asked for one, the upstream may judge.
        let is_known = matches!(caller, Caller::User(_));
        let forwards = plan.forward_token && (is_known || route.auth == Auth::Public);
        let forwarded = if forwards { forwarded_token(headers) } else { None };
        firewall.clean(headers, trust);
        headers.extend(trailers.map(|trailers| (header::TE, trailers)));
        set_origin(headers, &pieces.host, trust, origin);
        if let Some(told) = origin.trace {
            set_trace(headers, told);
        }
        if let Some(certificate) = origin.certificate {
            for (name, value) in certificate.headers().map_err(SealError::CertificateUnfit)? {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in introduction.iter().flat_map(|introduction| introduction.fields()) {
            headers.insert(name, value.clone());
        }
        if let Some(token) = forwarded {
            headers.insert(header::AUTHORIZATION, token);
        }
        if let Some(rules) = &route.request_headers {
            rules.apply(headers);
        }
        if let Some(credentials) = &plan.credentials {
            headers.insert(&credentials.name, credentials.value.clone());
        }
        if let Some(path) = route.forwarded(&pieces.path).map_err(SealError::Path)? {
            pieces.path = path;
        }
        Ok(UpstreamRequest(pieces))
    }
}

/// The client's `Authorization`, for an upstream that is to see it: one alone, that is not meant for this connection only.
fn forwarded_token(headers: &FieldList) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let (Some(token), None) = (values.next(), values.next()) else { return None };
    let listed = Listed::of(headers).contains(&header::AUTHORIZATION);
    if listed { None } else { token.to_header_value().ok() }
}

/// Says where the request came from. A trusted proxy has said it already; it only becomes one more hop.
fn set_origin(headers: &mut FieldList, host: &Host, trust: Trust, origin: &Origin<'_>) {
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
            headers.insert_if_absent(X_FORWARDED_PROTO, || HeaderValue::from_static(origin.scheme));
            headers.insert_if_absent(X_FORWARDED_HOST, || host.value().clone());
        }
    }
}

/// Says where the request stands in its trace. What others have to say of it holds only for the client's own trace (W3C
/// Trace Context section 3.4).
fn set_trace(headers: &mut FieldList, told: &trace::Told) {
    headers.insert(TRACEPARENT, told.traceparent.clone());
    if !told.continues {
        headers.remove(TRACESTATE);
    }
}
