//! The decision: a pure function of the route, the caller and the path. That a token holds at this time is part of who the
//! caller is. What `tollgate explain` tells is made of the same rules, one by one.

use std::fmt;

use super::AuthzError;
use crate::authn::{Caller, Known};
use crate::base::claim::ClaimValue;
use crate::base::path;
use crate::base::reason::Reason;
use crate::base::user::UserField;
use crate::config::Auth;
use crate::routing::{ClaimPlace, ClaimTerm, MatchTerm, Policy, Route, Terms};

/// One thing that a route asks of its callers, in the order in which they are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    effect: Effect,
    term: Term<'a>,
}

/// What it means that a term holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The caller is refused.
    Deny,
    /// The caller may pass, as far as this term goes.
    Allow,
}

#[derive(Clone, Copy, Debug)]
enum Term<'a> {
    Groups(&'a [Box<str>]),
    Scopes(&'a [Box<str>], &'a str),
    Claim(&'a ClaimTerm),
    Match(&'a MatchTerm),
}

/// Whether a term holds. What cannot be told is in nobody's favour: it neither allows nor keeps `deny` from refusing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    /// The claim is there, and its value cannot be compared.
    Unclear,
}

/// Decides whether a caller may send a request with this path, which is in normal form, to a route.
///
/// # Errors
///
/// The first thing that is missing, or that must not be there. What the other rules say is for the caller to ask.
pub fn decide<'a>(route: &'a Route, caller: &Caller, path: &str) -> Result<(), AuthzError<'a>> {
    let known = match (caller, route.auth) {
        (Caller::User(known), Auth::Required | Auth::Optional) => known,
        (Caller::Anonymous | Caller::User(_), Auth::Public) => return Ok(()),
        (Caller::Anonymous, Auth::Optional) if !needs_somebody(route) => return Ok(()),
        (Caller::Anonymous, Auth::Required | Auth::Optional) => return Err(AuthzError::CredentialsMissing),
    };
    let Some(policy) = &route.policy else { return Ok(()) };
    rules(policy)
        .try_for_each(|rule| rule.check(known, path))
        .map_err(|rule| AuthzError::Policy(rule, Vec::new()))
}

/// Whether a route is only for those who have something, whom nobody can be without being known.
fn needs_somebody(route: &Route) -> bool {
    route.policy.as_ref().is_some_and(|policy| policy.allow.is_some())
}

/// Everything that a route asks of those who are known, in order: first what they must not have, then what they must.
pub fn rules(policy: &Policy) -> impl Iterator<Item = Rule<'_>> {
    let deny = policy.deny.as_ref().map(|terms| (Effect::Deny, terms));
    let allow = policy.allow.as_ref().map(|terms| (Effect::Allow, terms));
    deny.into_iter().chain(allow).flat_map(|(effect, terms)| {
        let Terms { groups, scopes, scope_list, claims, matches } = terms;
        let groups = (!groups.is_empty()).then_some(Term::Groups(groups));
        let scopes = (!scopes.is_empty()).then_some(Term::Scopes(scopes, scope_list));
        let terms = groups.into_iter().chain(scopes);
        let terms = terms.chain(claims.iter().map(Term::Claim)).chain(matches.iter().map(Term::Match));
        terms.map(move |term| Rule { effect, term })
    })
}

impl<'a> Rule<'a> {
    /// Whether the caller passes this rule.
    ///
    /// # Errors
    ///
    /// The rule, when it refuses the caller.
    pub fn check(self, known: &Known, path: &str) -> Result<(), Self> {
        match (self.effect, self.holds(known, path)) {
            (Effect::Deny, Holds::No) | (Effect::Allow, Holds::Yes) => Ok(()),
            (Effect::Deny, Holds::Yes | Holds::Unclear) | (Effect::Allow, Holds::No | Holds::Unclear) => {
                Err(self)
            }
        }
    }

    /// What a caller is refused for whom it refuses.
    pub fn reason(self) -> Reason {
        match (self.effect, self.term) {
            (Effect::Deny, _) => Reason::PolicyDenied,
            (Effect::Allow, Term::Groups(_)) => Reason::GroupMissing,
            (Effect::Allow, Term::Scopes(..)) => Reason::ScopeMissing,
            (Effect::Allow, Term::Claim(_) | Term::Match(_)) => Reason::ClaimMismatch,
        }
    }

    /// The scopes that it asks for, with blanks between them.
    pub fn needed_scopes(self) -> Option<&'a str> {
        match (self.effect, self.term) {
            (Effect::Allow, Term::Scopes(_, list)) => Some(list),
            (Effect::Allow | Effect::Deny, _) => None,
        }
    }

    fn holds(self, known: &Known, path: &str) -> Holds {
        match self.term {
            Term::Groups(groups) => {
                let theirs = &known.principal.user().groups;
                Holds::from(groups.iter().any(|group| theirs.iter().any(|their| **their == **group)))
            }
            Term::Scopes(scopes, _) => {
                let theirs = known.claims.as_ref().map(|claims| claims.scopes()).unwrap_or_default();
                let has = |scope| theirs.contains(scope);
                Holds::from(match self.effect {
                    Effect::Allow => scopes.iter().all(has),
                    Effect::Deny => scopes.iter().any(has),
                })
            }
            Term::Claim(term) => {
                let wanted = |text: &str| term.any_of.iter().any(|value| **value == *text);
                match claim(known, term.place) {
                    Found::Text(text) => Holds::from(wanted(text)),
                    Found::Boolean(value) => Holds::from(wanted(if value { "true" } else { "false" })),
                    Found::Groups(groups) => Holds::from(groups.iter().any(|group| wanted(group))),
                    Found::List(list) => Holds::from(list.iter().any(|text| wanted(text))),
                    Found::Nothing => Holds::No,
                    Found::Unclear => Holds::Unclear,
                }
            }
            Term::Match(term) => match (claim(known, term.place), segment(path, term.segment)) {
                (Found::Nothing, _) => Holds::No,
                (Found::Text(text), Some(segment)) => Holds::from(*text == *path::decoded(segment)),
                (Found::Boolean(_) | Found::Groups(_) | Found::List(_) | Found::Unclear, _)
                | (Found::Text(_), None) => Holds::Unclear,
            },
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// A claim, or what stands in its place.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    Boolean(bool),
    Groups(&'a [String]),
    List(&'a [Box<str>]),
    Unclear,
}

/// Of the gateway's own users the record counts, for the others the user is made of the claims.
fn claim(known: &Known, place: ClaimPlace) -> Found<'_> {
    let user = known.principal.user();
    match place {
        ClaimPlace::UserId => Found::Text(&user.id),
        ClaimPlace::User(UserField::Username) if user.name.is_empty() => Found::Nothing,
        ClaimPlace::User(UserField::Username) => Found::Text(&user.name),
        ClaimPlace::User(UserField::Email) => user.email.as_deref().map_or(Found::Nothing, Found::Text),
        ClaimPlace::User(UserField::Groups) => Found::Groups(&user.groups),
        ClaimPlace::Held(index) => match known.claims.as_ref().and_then(|claims| claims.value(index)) {
            None => Found::Nothing,
            Some(ClaimValue::Text(text)) => Found::Text(text),
            Some(ClaimValue::Boolean(value)) => Found::Boolean(*value),
            Some(ClaimValue::List(list)) => Found::List(list),
            Some(ClaimValue::Unclear) => Found::Unclear,
        },
    }
}

/// A segment of a path in normal form, counted from 0.
fn segment(path: &str, index: usize) -> Option<&str> {
    path.strip_prefix('/')?.split('/').nth(index)
}

impl fmt::Display for Rule<'_> {
    /// As `tollgate explain` tells of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (effect, all) = match self.effect {
            Effect::Deny => ("deny", "any"),
            Effect::Allow => ("allow", "all"),
        };
        match self.term {
            Term::Groups(groups) => write!(f, "{effect}: groups, any of {}", groups.join(", ")),
            Term::Scopes(scopes, _) if scopes.len() > 1 => {
                write!(f, "{effect}: scopes, {all} of {}", scopes.join(", "))
            }
            Term::Scopes(_, list) => write!(f, "{effect}: scope {list}"),
            Term::Claim(ClaimTerm { path, any_of, .. }) if any_of.len() > 1 => {
                write!(f, "{effect}: claim {path}, any of {}", any_of.join(", "))
            }
            Term::Claim(ClaimTerm { path, any_of, .. }) => {
                write!(f, "{effect}: claim {path} = {}", any_of.join(""))
            }
            Term::Match(MatchTerm { path, parameter, .. }) => {
                write!(f, "{effect}: claim {path} = {{{parameter}}} of the path")
            }
        }
    }
}
