//! Why a request was refused, for those who operate the gateway: more than its client is told.

use std::borrow::Cow;

use super::reason::Reason;

/// What a rule of a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule, for people.
    pub rule: String,
    /// What it refuses the request for; `None` when it lets it pass.
    pub refusal: Option<Reason>,
}

/// The grounds of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// What the client is told.
    pub detail: Cow<'static, str>,
    /// What was found, where that is more than the client is told.
    pub cause: Option<Cow<'static, str>>,
    /// What each rule of the route's policy says, where the policy has refused the request.
    pub verdicts: Vec<Verdict>,
}
