//! Whether a request may come at all, before anybody asks who sent it: limits by client network and by header.
//!
//! They stand before the authentication, so that guessing tokens is limited as well. Limits by user are
//! [`crate::authz`]'s.

use std::net::IpAddr;

use crate::base::soon::Soon;
use crate::config::Network;
use crate::limits::rates::{Exceeded, Plan, Rates, Sender, Told, Turn};
use crate::net::peer::{Peer, client_of};
use crate::routing::{Route, Routed};

/// A routed request that is within the limits that need no user. Only [`admit`] makes one.
#[derive(Debug)]
pub struct Admitted<'a> {
    routed: Routed<'a>,
    limited: Option<Limited<'a>>,
}

/// What limits a request, and whom it is counted for where no user is known.
#[derive(Clone, Copy, Debug)]
struct Limited<'a> {
    plan: &'a Plan,
    client: IpAddr,
}

impl<'a> Admitted<'a> {
    /// The request with its route.
    pub fn routed(&self) -> &Routed<'a> {
        &self.routed
    }

    /// The route.
    pub fn route(&self) -> &'a Route {
        self.routed.route()
    }

    /// Takes it apart, for the stages that follow.
    pub fn into_routed(self) -> Routed<'a> {
        self.routed
    }

    /// Counts the request by the limits that go by user, now that it is known who sent it. Where that has to wait, there is
    /// no outcome.
    pub fn count_now(
        &self,
        user_id: Option<&str>,
        rates: &Rates,
        told: &mut Told<'a>,
    ) -> Option<Result<(), Exceeded>> {
        let Some(Limited { plan, client }) = self.limited else { return Some(Ok(())) };
        rates.count_now(plan, Turn::Known, self.sender(client, user_id), told)
    }

    /// Goes on where [`Admitted::count_now`] has no outcome.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when it is one too many.
    pub async fn wait_and_count(
        &self,
        user_id: Option<&str>,
        rates: &Rates,
        told: &mut Told<'a>,
    ) -> Result<(), Exceeded> {
        let Some(Limited { plan, client }) = self.limited else { return Ok(()) };
        rates.wait_and_count(plan, Turn::Known, self.sender(client, user_id), told).await
    }

    fn sender<'b>(&'b self, client: IpAddr, user_id: Option<&'b str>) -> Sender<'b> {
        Sender { client, headers: self.routed.exchange().headers(), user_id }
    }
}

/// Counts a request by the limits of its route that need no user. A client network is that of the connection, or behind a
/// trusted proxy that of the right-most hop that is none.
///
/// # Errors
///
/// [`Exceeded`] when it is one too many.
pub fn admit<'f, 'a: 'f>(
    routed: Routed<'a>,
    peer: &Peer,
    trusted: &[Network],
    rates: &'a Rates,
    told: &'f mut Told<'a>,
) -> Soon<'f, Result<Admitted<'a>, Exceeded>> {
    let Some(plan) = routed.route().limit.and_then(|index| rates.of_route(index)) else {
        return Soon::Now(Ok(Admitted { routed, limited: None }));
    };
    let client = client_of(peer, routed.exchange().headers(), trusted);
    let admitted = Admitted { routed, limited: Some(Limited { plan, client }) };
    match rates.count_now(plan, Turn::Arrival, admitted.sender(client, None), told) {
        Some(counted) => Soon::Now(counted.map(|()| admitted)),
        None => Soon::later(async move {
            let sender = admitted.sender(client, None);
            rates.wait_and_count(plan, Turn::Arrival, sender, told).await?;
            Ok(admitted)
        }),
    }
}
