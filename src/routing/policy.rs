//! What a route asks of its callers, compiled: which claims are to be kept of a token, and where each of them is then.

use std::rc::Rc;

use serde_json::{Map, Value};

use crate::base::claim::{ClaimPath, ClaimValue};
use crate::base::pattern::{PathPattern, Segment};
use crate::base::user::UserField;
use crate::config::{self, Enforce};

/// Where scopes stand in a token; the first that is there counts (RFC 8693 section 4.2; others write a list).
const SCOPE_CLAIMS: [&str; 3] = ["scope", "scp", "scopes"];

/// What a route asks of its callers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What a caller must not have.
    pub deny: Option<Terms>,
    /// What a caller must have.
    pub allow: Option<Terms>,
}

/// What `allow` or `deny` names.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Groups.
    pub groups: Box<[Box<str>]>,
    /// Scopes.
    pub scopes: Box<[Box<str>]>,
    /// The scopes as a challenge names them (RFC 6750 section 3).
    pub scope_list: Box<str>,
    /// Claims and their values.
    pub claims: Box<[ClaimTerm]>,
    /// Claims and parameters of the path.
    pub matches: Box<[MatchTerm]>,
}

/// A claim and the values of which it has to have one.
#[derive(Clone, Debug)]
pub struct ClaimTerm {
    /// As the configuration writes it.
    pub path: ClaimPath,
    /// Where it is.
    pub place: ClaimPlace,
    /// The values.
    pub any_of: Box<[Box<str>]>,
}

/// A claim and the parameter of the path that it has to be equal to.
#[derive(Clone, Debug)]
pub struct MatchTerm {
    /// As the configuration writes it.
    pub path: ClaimPath,
    /// Where it is.
    pub place: ClaimPlace,
    /// The parameter's name.
    pub parameter: Box<str>,
    /// Which segment of the path it is, counted from 0.
    pub segment: usize,
}

/// Where a claim is when a request is decided on. Of the gateway's own users, what the record has counts, and not what the
/// token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPlace {
    /// The user's id, which stands in `tokens.user_id_claim`.
    UserId,
    /// A field of the user.
    User(UserField),
    /// One of the [`HeldClaims`].
    Held(usize),
}

/// The claims that any route, or what any upstream is told, asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedClaims {
    paths: Vec<ClaimPath>,
    scopes: bool,
}

/// What is kept of a token's claims beside its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldClaims {
    scopes: Box<[Box<str>]>,
    values: Box<[Option<ClaimValue>]>,
}

impl Policy {
    /// Compiles what a route asks for, and notes which claims that are; `None` where every caller may pass.
    pub(super) fn compile(
        policy: &config::Policy,
        path: &PathPattern,
        user_id_claim: &str,
        asked: &mut AskedClaims,
    ) -> Option<Box<Self>> {
        let mut terms = |terms: &config::Terms| Terms::compile(terms, path, user_id_claim, asked);
        let deny = policy.deny.as_ref().map(&mut terms);
        let allow = policy.allow.as_ref().map(&mut terms);
        (deny.is_some() || allow.is_some()).then(|| Box::new(Self { deny, allow }))
    }
}

impl Terms {
    fn compile(
        terms: &config::Terms,
        path: &PathPattern,
        user_id_claim: &str,
        asked: &mut AskedClaims,
    ) -> Self {
        asked.scopes |= !terms.scopes.is_empty();
        let claims = terms.claims.iter().map(|term| ClaimTerm {
            path: term.path.clone(),
            place: asked.place(&term.path, user_id_claim),
            any_of: boxed(&term.any_of),
        });
        let claims = claims.collect();
        let matches = terms.matches.iter().filter_map(|term| {
            let is_it = |segment: &Segment| *segment == Segment::Parameter(term.parameter.as_str().into());
            Some(MatchTerm {
                path: term.path.clone(),
                place: asked.place(&term.path, user_id_claim),
                parameter: term.parameter.as_str().into(),
                segment: path.segments.iter().position(is_it)?,
            })
        });
        let matches = matches.collect();
        let scope_list = terms.scopes.join(" ").into();
        Self { groups: boxed(&terms.groups), scopes: boxed(&terms.scopes), scope_list, claims, matches }
    }
}

fn boxed(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

impl AskedClaims {
    /// Asks for a claim, if nobody has yet, and tells where it is found later.
    pub(super) fn place(&mut self, path: &ClaimPath, user_id_claim: &str) -> ClaimPlace {
        self.find(path, user_id_claim).unwrap_or_else(|| {
            self.paths.push(path.clone());
            ClaimPlace::Held(self.paths.len() - 1)
        })
    }

    /// Where a claim is found; `None` when nobody has asked for it.
    pub fn find(&self, path: &ClaimPath, user_id_claim: &str) -> Option<ClaimPlace> {
        if let Some(name) = path.name() {
            if name == user_id_claim {
                return Some(ClaimPlace::UserId);
            }
            if let Some(field) = UserField::ALL.into_iter().find(|field| field.name() == name) {
                return Some(ClaimPlace::User(field));
            }
        }
        self.paths.iter().position(|known| known == path).map(ClaimPlace::Held)
    }

    /// Keeps what is asked for of a token's claims; `None` when nothing is.
    pub fn hold(&self, claims: &Map<String, Value>) -> Option<Rc<HeldClaims>> {
        if self.paths.is_empty() && !self.scopes {
            return None;
        }
        let scopes = if self.scopes { scopes(claims) } else { Box::default() };
        let values = self.paths.iter().map(|path| path.find(claims).map(ClaimValue::of)).collect();
        Some(Rc::new(HeldClaims { scopes, values }))
    }
}

impl HeldClaims {
    /// The scopes of the token.
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// A claim, when the token has it.
    pub fn value(&self, index: usize) -> Option<&ClaimValue> {
        self.values.get(index)?.as_ref()
    }
}

/// The scopes of a token: a string with blanks between them, or a list of strings. Of anything else there are none.
fn scopes(claims: &Map<String, Value>) -> Box<[Box<str>]> {
    match SCOPE_CLAIMS.into_iter().find_map(|name| claims.get(name)) {
        Some(Value::String(text)) => {
            text.split(' ').filter(|scope| !scope.is_empty()).map(Into::into).collect()
        }
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(Into::into).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Box::default(),
    }
}

/// Whether refusals of a route are enforced.
pub(super) fn is_enforced(policy: &config::Policy) -> bool {
    match policy.enforce {
        Enforce::Enforce => true,
        Enforce::Report => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_are_a_string_or_a_list() {
        for (claims, expected) in [
            (json!({"scope": "a b"}), &["a", "b"][..]),
            (json!({"scope": " a  b "}), &["a", "b"]),
            (json!({"scp": ["a", "b"]}), &["a", "b"]),
            (json!({"scopes": ["a"]}), &["a"]),
            (json!({"scope": "a", "scp": "b", "scopes": "c"}), &["a"]),
            (json!({"scope": ["a b"]}), &["a b"]),
            (json!({"scope": ["a", 7]}), &["a"]),
            (json!({"scope": ""}), &[]),
            (json!({"scope": 7, "scp": "a"}), &[]),
            (json!({"scope": {"a": true}}), &[]),
            (json!({}), &[]),
        ] {
            let found = scopes(claims.as_object().unwrap());
            assert_eq!(found.iter().map(|scope| &**scope).collect::<Vec<_>>(), expected, "{claims}");
        }
    }

    #[test]
    fn nothing_is_kept_that_nobody_asks_for() {
        let mut asked = AskedClaims::default();
        let claims = json!({"tenant": "acme", "groups": ["a"], "scope": "x", "other": 1});
        let claims = claims.as_object().unwrap();
        for path in ["user_id", "groups", "username", "email"] {
            let place = asked.place(&ClaimPath::parse(path).unwrap(), "user_id");
            assert!(!matches!(place, ClaimPlace::Held(_)), "{path}");
        }
        assert_eq!(asked.hold(claims), None);
        let tenant = ClaimPath::parse("tenant").unwrap();
        assert_eq!(asked.place(&tenant, "user_id"), ClaimPlace::Held(0));
        assert_eq!(asked.place(&ClaimPath::parse("a.b").unwrap(), "user_id"), ClaimPlace::Held(1));
        assert_eq!(asked.place(&tenant, "user_id"), ClaimPlace::Held(0), "once is enough");
        let held = asked.hold(claims).unwrap();
        assert_eq!(held.value(0), Some(&ClaimValue::Text("acme".into())));
        assert_eq!((held.value(1), held.value(2)), (None, None));
        assert!(held.scopes().is_empty(), "nobody asked for them");
    }
}
