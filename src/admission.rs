//! Whether a request may come at all, before anybody asks who sent it: limits by client network and by header.
//!
//! They stand before the authentication, so that guessing tokens is limited as well. Limits by user are
//! [`crate::authz`]'s.

use std::net::IpAddr;

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

    /// Counts the request by the limits that go by user, now that it is known who sent it.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when it is one too many.
    pub async fn count_for(
        &self,
        user_id: Option<&str>,
        rates: &Rates,
        told: &mut Told<'a>,
    ) -> Result<(), Exceeded> {
        let Some(Limited { plan, client }) = self.limited else { return Ok(()) };
        let sender = Sender { client, headers: self.routed.exchange().headers(), user_id };
        rates.count(plan, Turn::Known, sender, told).await
    }
}

/// Counts a request by the limits of its route that need no user. A client network is that of the connection, or behind a
/// trusted proxy that of the right-most hop that is none.
///
/// # Errors
///
/// [`Exceeded`] when it is one too many.
pub async fn admit<'a>(
    routed: Routed<'a>,
    peer: &Peer,
    trusted: &[Network],
    rates: &'a Rates,
    told: &mut Told<'a>,
) -> Result<Admitted<'a>, Exceeded> {
    let Some(plan) = routed.route().limit.and_then(|index| rates.of_route(index)) else {
        return Ok(Admitted { routed, limited: None });
    };
    let headers = routed.exchange().headers();
    let client = client_of(peer, headers, trusted);
    rates.count(plan, Turn::Arrival, Sender { client, headers, user_id: None }, told).await?;
    Ok(Admitted { routed, limited: Some(Limited { plan, client }) })
}
