//! `allow`, `deny` and `enforce`: who of those who are known may use a route.

use toml::de::DeValue;
use unicode_normalization::UnicodeNormalization as _;

use super::Auth;
use super::complaint::{Complaint, alternatives, choose, nearest, quoted};
use super::kind::Kind;
use super::reader::{Located, NamedTexts, Table};
use crate::base::claim::ClaimPath;
use crate::base::pattern::{PathPattern, Segment};

/// Claims that are about the token itself, and say nothing of who is calling.
pub(super) const OF_THE_TOKEN: [&str; 6] = ["exp", "iat", "nbf", "jti", "sid", "token_type"];

/// What a route asks of its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What a caller must have.
    pub allow: Option<Terms>,
    /// What a caller must not have.
    pub deny: Option<Terms>,
    /// Whether refusals are enforced.
    pub enforce: Enforce,
}

/// `enforce`: what becomes of a request that would be refused for who sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforce {
    /// It is refused.
    #[default]
    Enforce,
    /// It passes, and is counted and logged.
    Report,
}

/// What `allow` or `deny` names. There is one term at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Groups, in normal form and as they are written.
    pub groups: Vec<String>,
    /// Scopes, which are `scope-token`s (RFC 6749 section 3.3).
    pub scopes: Vec<String>,
    /// Claims with the values of which each has to have one.
    pub claims: Vec<ClaimTerm>,
    /// Claims that are compared with parameters of the path.
    pub matches: Vec<MatchTerm>,
}

/// A claim and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTerm {
    /// The claim.
    pub path: ClaimPath,
    /// One of these texts; there is one at least. Whole numbers and booleans are texts here.
    pub any_of: Vec<String>,
}

/// A claim and a parameter of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchTerm {
    /// The claim.
    pub path: ClaimPath,
    /// The name of the parameter, which the route's path has.
    pub parameter: String,
}

/// Reads what a route asks of its callers. `path` is missing where it is faulty.
pub(super) fn policy(table: &mut Table<'_>, auth: Option<Auth>, path: Option<&PathPattern>) -> Policy {
    let allow = terms(table, "allow", auth, path);
    let deny = terms(table, "deny", auth, path);
    let enforce = table.located("enforce", Kind::Text, |text| {
        choose(text, &[("enforce", Enforce::Enforce), ("report", Enforce::Report)])
    });
    if let Some(Located { value: Enforce::Report, span }) = &enforce
        && auth == Some(Auth::Public)
    {
        let complaint = Complaint::new("nobody is ever refused for who they are on a public route");
        table.reader.report(
            span,
            complaint.hint("remove \"enforce\", or write auth = \"required\" to see what that would refuse"),
        );
    }
    let enforce = enforce.map_or(Enforce::Enforce, |enforce| enforce.value);
    Policy { allow, deny, enforce }
}

/// Reads `allow` or `deny`.
fn terms(
    route: &mut Table<'_>,
    key: &'static str,
    auth: Option<Auth>,
    path: Option<&PathPattern>,
) -> Option<Terms> {
    let place = route.key_span(key);
    let mut table = route.table(key);
    let place = place?;
    if auth == Some(Auth::Public) {
        let complaint = Complaint::new(format!("\"{key}\" on a public route could never hold"));
        let hint = "nobody is known on a public route: write auth = \"required\", or remove it";
        table.reader.report(&place, complaint.hint(hint));
    }
    let one_needed = "name one at least, or leave the key out";
    let groups = table.filled_list("groups", one_needed, group).unwrap_or_default();
    let scopes = table.filled_list("scopes", one_needed, scope).unwrap_or_default();
    let claims: Vec<_> =
        table.named_texts("claims").into_iter().filter_map(|named| claim(&table, named)).collect();
    let matches: Vec<_> =
        table.named_texts("match").into_iter().filter_map(|named| matched(&table, named, path)).collect();
    if names_nothing(route, key) {
        let complaint = Complaint::new(format!("\"{key}\" names nothing"));
        let hint = "name groups, scopes, claims or match in it, or remove it";
        table.reader.report(&place, complaint.hint(hint));
    }
    table.finish();
    let groups = groups.into_iter().flat_map(|group| group.value).collect();
    let scopes = scopes.into_iter().map(|scope| scope.value).collect();
    Some(Terms { groups, scopes, claims, matches })
}

/// Whether a table is empty, but for empty tables of claims.
fn names_nothing(route: &Table<'_>, key: &str) -> bool {
    let is_empty = |value: &DeValue<'_>| value.as_table().is_some_and(toml::map::Map::is_empty);
    let terms = route.value(key).and_then(|value| value.get_ref().as_table());
    terms.is_some_and(|terms| {
        terms.iter().all(|(name, value)| {
            matches!(name.get_ref().as_ref(), "claims" | "match") && is_empty(value.get_ref())
        })
    })
}

/// A group in both spellings that it may have: in normal form, as the gateway's own users have it, and as it is written.
fn group(text: &str) -> Result<Vec<String>, Complaint> {
    if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        let complaint = Complaint::new(format!("{} is not a group", quoted(text)));
        return Err(complaint.hint("write the name of a group as the users have it"));
    }
    let normal: String = text.nfkc().collect();
    if normal == text { Ok(vec![normal]) } else { Ok(vec![normal, text.to_owned()]) }
}

fn scope(text: &str) -> Result<String, Complaint> {
    let is_token = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Ok(text.to_owned());
    }
    let complaint = Complaint::new(format!("{} is not a scope", quoted(text)));
    Err(if text.contains(' ') {
        complaint.hint("write several scopes as a list: [\"a\", \"b\"]")
    } else {
        complaint.hint("a scope has printable ASCII characters without blanks, quotes and backslashes")
    })
}

fn claim(table: &Table<'_>, named: NamedTexts) -> Option<ClaimTerm> {
    let path = claim_path(table, &named.names)?;
    let any_of: Vec<String> = named.texts.into_iter().map(|text| text.value).collect();
    // Without any the problem is noted already.
    (!any_of.is_empty()).then_some(ClaimTerm { path, any_of })
}

fn matched(table: &Table<'_>, named: NamedTexts, path: Option<&PathPattern>) -> Option<MatchTerm> {
    let claim = claim_path(table, &named.names);
    let mut texts = named.texts.into_iter();
    let text = texts.next()?;
    if let Some(second) = texts.next() {
        let complaint = Complaint::new("a claim is compared with one parameter");
        table.reader.report(&second.span, complaint.hint("write it such as match = { user_id = \"{id}\" }"));
        return None;
    }
    let parameters = || {
        path.into_iter().flat_map(|path| &path.segments).filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    };
    let braced = text.value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(parameter) = braced else {
        let message = format!("{} is not a parameter of the path", quoted(&text.value));
        let hint = if parameters().any(|name| name == text.value) {
            format!("write \"{{{}}}\"", text.value)
        } else {
            "write a parameter such as \"{id}\"; a claim that must have a certain value stands in \"claims\""
                .to_owned()
        };
        table.reader.report(&text.span, Complaint::new(message).hint(hint));
        return None;
    };
    if path.is_some() && !parameters().any(|name| name == parameter) {
        let message = format!("the path has no parameter {}", quoted(&text.value));
        let hint = match nearest(parameter, parameters()) {
            Some(near) => format!("did you mean \"{{{near}}}\"?"),
            None if parameters().next().is_none() => {
                format!("write it into the path, such as path = \"/users/{{{parameter}}}\"")
            }
            None => {
                let braced: Vec<String> = parameters().map(|name| format!("{{{name}}}")).collect();
                format!("it has {}", alternatives(braced.iter().map(String::as_str)))
            }
        };
        table.reader.report(&text.span, Complaint::new(message).hint(hint));
    }
    Some(MatchTerm { path: claim?, parameter: parameter.to_owned() })
}

fn claim_path(table: &Table<'_>, names: &[Located<String>]) -> Option<ClaimPath> {
    let mut whole: Option<ClaimPath> = None;
    for name in names {
        let path = ClaimPath::parse(&name.value).map_err(|_| {
            Complaint::new(format!("{} is not the name of a claim", quoted(&name.value))).hint(
                "write a name such as \"tenant\", or with dots where it is nested: \"realm_access.roles\"",
            )
        });
        let path = table.reader.accept(&name.span, path)?;
        whole = Some(whole.map_or(path.clone(), |outer| outer.join(&path)));
    }
    if let (Some(token), Some(place)) = (whole.as_ref().and_then(ClaimPath::name), names.first())
        && OF_THE_TOKEN.contains(&token)
    {
        let complaint = Complaint::new(format!("the claim {} does not say who is calling", quoted(token)));
        let hint = "times, ids and kinds of tokens are checked on every request; remove it";
        table.reader.report(&place.span, complaint.hint(hint));
        return None;
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment, Failure, parse};

    fn parsed(auth: &str, lines: &str) -> Result<Config, Failure> {
        let text = format!(
            "[upstreams.a]\ntargets = [\"http://127.0.0.1:9\"]\n\
             [[routes]]\npath = \"/users/{{id}}\"\nauth = \"{auth}\"\nupstream = \"a\"\n{lines}\n"
        );
        parse(&text, "gateway.toml", Path::new(""), &Environment::from_pairs([("TENANT", "acme")]))
    }

    #[test]
    fn a_policy_is_read_in_all_its_forms() {
        let lines = r#"
            enforce = "report"
            [routes.allow]
            groups = ["cafe\u0301", "b"]
            scopes = ["read:all"]
            match = { user_id = "{id}" }
            [routes.allow.claims]
            tenant = "${TENANT}"
            level = [1, "2", true]
            realm_access = { roles = "x" }
            "https://example.com/a.b" = "y"
            "#;
        let config = parsed("required", lines).unwrap_or_else(|failure| panic!("{failure}"));
        let Policy { allow, deny, enforce } = config.routes[0].policy.clone();
        assert_eq!((deny, enforce), (None, Enforce::Report));
        let allow = allow.unwrap();
        assert_eq!(allow.groups, ["caf\u{e9}", "cafe\u{301}", "b"]);
        assert_eq!(allow.scopes, ["read:all"]);
        let claims: Vec<_> =
            allow.claims.iter().map(|term| format!("{} {}", term.path, term.any_of.join(","))).collect();
        assert_eq!(
            claims,
            ["https://example.com/a.b y", "level 1,2,true", "realm_access.roles x", "tenant acme"]
        );
        assert_eq!(
            (allow.matches[0].path.name(), allow.matches[0].parameter.as_str()),
            (Some("user_id"), "id")
        );
    }

    #[test]
    fn what_could_never_hold_is_refused() {
        for (auth, lines, message) in [
            ("public", "allow = { groups = ['a'] }", "\"allow\" on a public route could never hold"),
            ("public", "deny = { groups = ['a'] }", "\"deny\" on a public route could never hold"),
            ("public", "enforce = 'report'", "nobody is ever refused for who they are on a public route"),
            ("required", "enforce = 'off'", "unknown value \"off\""),
            ("required", "allow = {}", "\"allow\" names nothing"),
            ("required", "allow = { claims = {} }", "\"allow\" names nothing"),
            ("required", "allow = { groups = [] }", "\"groups\" is an empty list"),
            ("required", "allow = { group = ['a'] }", "unknown key \"group\" in [routes.allow]"),
            ("required", "allow = ['a']", "\"allow\" must be a table, not a list"),
            ("required", "allow = { groups = 'a' }", "\"groups\" must be a list, not a string"),
            ("required", "allow = { groups = [' a'] }", "\" a\" is not a group"),
            ("required", "allow = { scopes = ['a b'] }", "\"a b\" is not a scope"),
            ("required", "allow = { scopes = ['a\"'] }", "\"a\\\"\" is not a scope"),
            (
                "required",
                "allow = { claims = { a = 1.5 } }",
                "\"a\" must be a string, a whole number, true or false, not a float",
            ),
            ("required", "allow = { claims = { a = [] } }", "\"a\" is an empty list"),
            ("required", "allow = { claims = { 'a..b' = 1 } }", "\"a..b\" is not the name of a claim"),
            ("required", "allow = { claims = { exp = 1 } }", "the claim \"exp\" does not say who is calling"),
            ("required", "allow = { match = { user_id = '{ids}' } }", "the path has no parameter \"{ids}\""),
            ("required", "allow = { match = { user_id = 'id' } }", "\"id\" is not a parameter of the path"),
            (
                "required",
                "allow = { match = { user_id = ['{id}', '{id}'] } }",
                "a claim is compared with one parameter",
            ),
        ] {
            let failure = parsed(auth, lines).unwrap_err();
            let [problem] = failure.problems() else { panic!("{lines}: {failure}") };
            assert_eq!(problem.message, message, "{lines}");
        }
        let failure = parsed("required", "allow = { match = { user_id = '{ids}' } }").unwrap_err();
        assert_eq!(failure.problems()[0].hint.as_deref(), Some("did you mean \"{id}\"?"));
    }
}
