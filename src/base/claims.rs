//! Claims of tokens that the configuration asks for: which ones, and what a token says of them.
//!
//! All that is asked for, by whomever, is one list. The values of a token are taken once, when it is verified, and stand at
//! the same places as what was asked. So a request costs an index, and what nobody asks for costs nothing.

use std::fmt;

use serde_json::{Map, Value};

/// The name of a claim, or the way to a member of an object in it: `tenant`, `account.id`, `"https://example.com/roles"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<Box<str>>);

/// Text that is no way to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAClaimPath;

impl ClaimPath {
    /// Reads names with dots between them. A name with a dot in it stands in double quotes, and has none itself.
    ///
    /// # Errors
    ///
    /// [`NotAClaimPath`] for an empty name, a control character, or a quote that is not closed.
    pub fn parse(text: &str) -> Result<Self, NotAClaimPath> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or(NotAClaimPath)?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            if name.is_empty() || name.contains(['"']) || name.contains(char::is_control) {
                return Err(NotAClaimPath);
            }
            names.push(name.into());
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Self(names)),
                None => return Err(NotAClaimPath),
            }
        }
    }

    /// What stands there in the claims of a token; `None` when nothing does.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, inner) = self.0.split_first()?;
        let claim = claims.get(&**first)?;
        inner.iter().try_fold(claim, |value, name| value.as_object()?.get(&**name))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.iter().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            if name.contains('.') { write!(f, "{dot}\"{name}\"")? } else { write!(f, "{dot}{name}")? }
        }
        Ok(())
    }
}

/// All claims that are asked for, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedClaims(Vec<ClaimPath>);

/// The place of a claim among those that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedClaim(usize);

impl AskedClaims {
    /// Asks for a claim, if nobody has yet.
    pub fn ask(&mut self, path: &ClaimPath) -> AskedClaim {
        let place = self.0.iter().position(|other| other == path).unwrap_or_else(|| {
            self.0.push(path.clone());
            self.0.len() - 1
        });
        AskedClaim(place)
    }

    /// What a token says of them.
    pub fn of(&self, claims: &Map<String, Value>) -> ClaimValues {
        ClaimValues(self.0.iter().map(|path| path.find(claims).cloned()).collect())
    }
}

/// What one token says of the claims that are asked for. Somebody without a token says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimValues(Box<[Option<Value>]>);

impl ClaimValues {
    /// The value of one of them; `None` when the token does not have it.
    pub fn get(&self, claim: AskedClaim) -> Option<&Value> {
        self.0.get(claim.0)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str) -> Option<Value> {
        let claims = json!({
            "tenant": "acme",
            "account": { "id": 7, "tags": ["a", "b"], "in.ner": true },
            "https://example.com/roles": ["admin"],
            "nothing": null,
        });
        ClaimPath::parse(path).unwrap().find(claims.as_object().unwrap()).cloned()
    }

    #[test]
    fn a_path_leads_to_a_claim_or_a_member_of_one() {
        assert_eq!(found("tenant"), Some(json!("acme")));
        assert_eq!(found("account.id"), Some(json!(7)));
        assert_eq!(found("account.tags"), Some(json!(["a", "b"])));
        assert_eq!(found("account.\"in.ner\""), Some(json!(true)));
        assert_eq!(found("\"https://example.com/roles\""), Some(json!(["admin"])));
        assert_eq!(found("nothing"), Some(Value::Null));
        for missing in ["Tenant", "tenant.id", "account.tags.0", "account.in.ner", "nothing.at.all", "other"]
        {
            assert_eq!(found(missing), None, "{missing}");
        }
    }

    #[test]
    fn text_that_is_no_path_is_none() {
        for text in ["", ".", "a.", ".a", "a..b", "\"a", "a\"b", "\"a\"b", "\"\"", "a\nb"] {
            assert_eq!(ClaimPath::parse(text), Err(NotAClaimPath), "{text:?}");
        }
        for text in ["a", "a.b.c", "a.\"b.c\".d", "https://example/x"] {
            assert_eq!(ClaimPath::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_asked_for_twice_has_one_place() {
        let path = |text| ClaimPath::parse(text).unwrap();
        let mut asked = AskedClaims::default();
        let tenant = asked.ask(&path("tenant"));
        let id = asked.ask(&path("account.id"));
        assert_eq!(asked.ask(&path("tenant")), tenant);
        let values = asked.of(json!({ "tenant": "acme", "other": 1 }).as_object().unwrap());
        assert_eq!((values.get(tenant), values.get(id)), (Some(&json!("acme")), None));
        assert_eq!(ClaimValues::default().get(tenant), None);
    }
}
