//! A request on its way to the decision, step by step, for those who want to know why.

use std::net::SocketAddr;

use http::Request;
use tracing::subscriber::NoSubscriber;

use super::Rehearsal;
use crate::admission;
use crate::authn::Caller;
use crate::authz::{self, Verdict};
use crate::base::soon::outcome;
use crate::http::incoming::Incoming;
use crate::http::message::RequestHead;
use crate::limits::rates::Told;
use crate::net::peer::Peer;
use crate::request;

/// How far a request has come, and what was said of it. The stages are those of every request.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Its path in normal form, when it has one.
    pub path: Option<String>,
    /// Its route's name, when it has one.
    pub route: Option<String>,
    /// The user's id and name, when somebody is known.
    pub user: Option<(String, String)>,
    /// The user's groups.
    pub groups: Vec<String>,
    /// What each rule of the route's policy says.
    pub verdicts: Vec<Verdict>,
}

impl Rehearsal {
    /// Takes a request without a body from stage to stage until one refuses it, or all of its policy was looked at. Where it
    /// ends is told by [`Rehearsal::send`].
    pub fn walk(&self, client: SocketAddr, request: Request<Incoming>) -> Walk {
        tracing::subscriber::with_default(NoSubscriber::default(), || {
            let mut walk = Walk::default();
            // Where it ends is no matter here.
            let _ended = self.runtime.block_on(self.steps(client, request, &mut walk));
            walk
        })
    }

    async fn steps(&self, client: SocketAddr, request: Request<Incoming>, walk: &mut Walk) -> Option<()> {
        let generation = self.worker.generation();
        let (most, accepted) = (generation.server.limits.max_headers, generation.routes.accepted());
        let (head, body) = RequestHead::split(request);
        let exchange = request::intake_allowing(head, body, most, accepted).ok()?;
        walk.path = Some(exchange.path().path().to_owned());
        if generation.token_routes.matches(exchange.path().path()).is_some() {
            return None;
        }
        let routed = generation.routes.route(exchange).ok()?;
        walk.route = Some(routed.route().name.to_string());
        let trusted = &generation.server.trusted_proxies;
        let peer = Peer::new(client, trusted);
        let mut told = Told::default();
        let admitted =
            outcome!(admission::admit(routed, &peer, trusted, &generation.rates, &mut told)).ok()?;
        let identified = outcome!(generation.authenticator.identify(admitted, None)).ok()?;
        if let Caller::User(known) = identified.caller() {
            let user = known.principal.user();
            walk.user = Some((user.id.clone(), user.name.clone()));
            walk.groups.clone_from(&user.groups);
        }
        walk.verdicts = authz::verdicts(&identified);
        Some(())
    }
}
