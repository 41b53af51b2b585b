//! Who may: the one decision about a request whose sender is known.

use std::fmt;

use crate::authn::{Caller, Identified};
use crate::base::reason::Reason;
use crate::config::Auth;
use crate::limits::rates::{Exceeded, Rates, Told};
use crate::request::Exchange;
use crate::routing::Route;

/// A request that may be forwarded. Only [`permit`] makes one, and only with one can a request for an upstream be made.
///
/// ```compile_fail
/// // The fields are private: there is no way past the decision.
/// fn forge(exchange: tollgate::request::Exchange, route: &tollgate::routing::Route) -> tollgate::authz::Permitted<'_> {
///     tollgate::authz::Permitted { exchange, route, caller: tollgate::authn::Caller::Anonymous }
/// }
/// ```
#[derive(Debug)]
pub struct Permitted<'a> {
    exchange: Exchange,
    route: &'a Route,
    caller: Caller,
}

impl<'a> Permitted<'a> {
    /// Takes it apart, for the stage that seals it.
    pub fn into_pieces(self) -> (Exchange, &'a Route, Caller) {
        (self.exchange, self.route, self.caller)
    }
}

/// Why a request may not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthzError {
    /// The route is for known callers only.
    CredentialsMissing,
    /// The caller has made as many requests as it may.
    RateLimited(Exceeded),
}

impl AuthzError {
    /// The stable reason.
    pub fn reason(self) -> Reason {
        match self {
            Self::CredentialsMissing => Reason::CredentialsMissing,
            Self::RateLimited(_) => Reason::RateLimited,
        }
    }
}

impl fmt::Display for AuthzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().word())
    }
}

impl std::error::Error for AuthzError {}

/// Decides whether a request may be forwarded. Only one that may is counted by the limits that go by user, so that nobody
/// who is refused uses up what belongs to somebody else.
///
/// # Errors
///
/// [`AuthzError`] that says what is missing.
pub fn permit<'a>(
    identified: Identified<'a>,
    rates: &Rates,
    told: &mut Told<'a>,
) -> Result<Permitted<'a>, AuthzError> {
    decide(identified.route().auth, identified.caller())?;
    let user_id = identified.caller().user_id();
    identified.admitted().count_for(user_id, rates, told).map_err(AuthzError::RateLimited)?;
    let (exchange, route, caller) = identified.into_pieces();
    Ok(Permitted { exchange, route, caller })
}

/// The decision: a pure function of the route and the caller.
fn decide(auth: Auth, caller: &Caller) -> Result<(), AuthzError> {
    match (auth, caller) {
        (Auth::Public | Auth::Optional, _) | (Auth::Required, Caller::User(_)) => Ok(()),
        (Auth::Required, Caller::Anonymous) => Err(AuthzError::CredentialsMissing),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::authn::Known;
    use crate::base::principal::Principal;
    use crate::base::user::User;

    #[test]
    fn only_a_required_route_asks_for_a_user() {
        let user = User { id: "1".into(), name: "a".into(), email: None, groups: Vec::new() };
        let known = Caller::User(Known::of_test(Rc::new(Principal::new(user, Rc::default()))));
        for auth in [Auth::Required, Auth::Optional, Auth::Public] {
            assert_eq!(decide(auth, &known), Ok(()));
        }
        assert_eq!(decide(Auth::Optional, &Caller::Anonymous), Ok(()));
        assert_eq!(decide(Auth::Public, &Caller::Anonymous), Ok(()));
        assert_eq!(decide(Auth::Required, &Caller::Anonymous), Err(AuthzError::CredentialsMissing));
    }
}
