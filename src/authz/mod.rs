//! Who may: the one decision about a request whose sender is known.

mod decision;

use std::fmt;

pub use self::decision::{Rule, decide, rules};
use crate::authn::{Caller, Identified};
pub use crate::base::grounds::Verdict;
use crate::base::reason::Reason;
use crate::base::soon::Soon;
use crate::limits::rates::{Exceeded, Rates, Told};
use crate::request::Exchange;
use crate::routing::Route;

/// A request that may be forwarded. Only [`permit`] makes one, and only with one can a request for an upstream be made.
///
/// ```compile_fail
/// // The fields are private: there is no way past the decision.
/// fn forge(exchange: tollgate::request::Exchange, route: &tollgate::routing::Route) -> tollgate::authz::Permitted<'_> {
///     tollgate::authz::Permitted { exchange, route, caller: tollgate::authn::Caller::Anonymous, would_refuse: None }
/// }
/// ```
#[derive(Debug)]
pub struct Permitted<'a> {
    exchange: Exchange,
    route: &'a Route,
    caller: Caller,
    would_refuse: Option<Reason>,
}

impl<'a> Permitted<'a> {
    fn of(identified: Identified<'a>, would_refuse: Option<Reason>) -> Self {
        let (exchange, route, caller) = identified.into_pieces();
        Self { exchange, route, caller, would_refuse }
    }

    /// The request.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The route.
    pub fn route(&self) -> &'a Route {
        self.route
    }

    /// What the request would have been refused for, on a route that enforces nothing.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_refuse
    }

    /// Takes it apart, for the stage that seals it.
    pub fn into_pieces(self) -> (Exchange, &'a Route, Caller) {
        (self.exchange, self.route, self.caller)
    }
}

/// What each rule of the route's policy says of a request, also behind the first that refuses it. There are none when the
/// caller is not known.
pub fn verdicts(identified: &Identified<'_>) -> Vec<Verdict> {
    let (Caller::User(known), Some(policy)) = (identified.caller(), &identified.route().policy) else {
        return Vec::new();
    };
    let path = identified.admitted().routed().exchange().path().path();
    let verdict = |rule: Rule<'_>| Verdict {
        rule: rule.to_string(),
        refusal: rule.check(known, path).err().map(Rule::reason),
    };
    rules(policy).map(verdict).collect()
}

/// Why a request may not be forwarded.
#[derive(Clone, Debug)]
pub enum AuthzError<'a> {
    /// The route is for known callers only.
    CredentialsMissing,
    /// This rule of the route's policy refuses the caller; what all of its rules say, for those who want to know why.
    Policy(Rule<'a>, Vec<Verdict>),
    /// The caller has made as many requests as it may.
    RateLimited(Exceeded),
}

impl AuthzError<'_> {
    /// The stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::CredentialsMissing => Reason::CredentialsMissing,
            Self::Policy(rule, _) => rule.reason(),
            Self::RateLimited(_) => Reason::RateLimited,
        }
    }
}

impl fmt::Display for AuthzError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().word())
    }
}

impl std::error::Error for AuthzError<'_> {}

/// Decides whether a request may be forwarded. Only one that may is counted by the limits that go by user, so that nobody
/// who is refused uses up what belongs to somebody else. On a route that enforces nothing every decision lets pass; the
/// limits are kept there as well.
///
/// # Errors
///
/// [`AuthzError`] that says what is missing.
pub fn permit<'f, 'a: 'f>(
    identified: Identified<'a>,
    rates: &'f Rates,
    told: &'f mut Told<'a>,
) -> Soon<'f, Result<Permitted<'a>, AuthzError<'a>>> {
    let would_refuse = match check(&identified) {
        Ok(would_refuse) => would_refuse,
        Err(error) => return Soon::Now(Err(error)),
    };
    let user_id = identified.caller().user_id();
    match identified.admitted().count_now(user_id, rates, told) {
        Some(Ok(())) => Soon::Now(Ok(Permitted::of(identified, would_refuse))),
        Some(Err(exceeded)) => Soon::Now(Err(AuthzError::RateLimited(exceeded))),
        None => Soon::later(async move {
            let user_id = identified.caller().user_id();
            let counted = identified.admitted().wait_and_count(user_id, rates, told).await;
            counted.map_err(AuthzError::RateLimited)?;
            Ok(Permitted::of(identified, would_refuse))
        }),
    }
}

/// What the route's policy says; on a route that enforces nothing, for what the request would be refused.
fn check<'a>(identified: &Identified<'a>) -> Result<Option<Reason>, AuthzError<'a>> {
    let route = identified.route();
    let path = identified.admitted().routed().exchange().path().path();
    let would_refuse = match decide(route, identified.caller(), path) {
        Ok(()) => None,
        Err(AuthzError::Policy(rule, _)) if route.is_enforced => {
            return Err(AuthzError::Policy(rule, verdicts(identified)));
        }
        Err(error) if route.is_enforced => return Err(error),
        Err(error) => Some(error.reason()),
    };
    // What was wrong with the token says more than that nobody is known.
    Ok(identified.would_refuse().or(would_refuse))
}

#[cfg(test)]
mod tests;
