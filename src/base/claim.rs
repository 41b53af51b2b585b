//! Claims of a token as policies name and compare them.

use std::fmt;

use serde_json::{Map, Value};

/// Where a claim stands: the names of the members that lead to it, from the outermost on; there is one at least.
///
/// It is written with dots between the names (`realm_access.roles`). A name that is a URL (`OpenID` Connect Core 1.0 section
/// 5.1.2 calls such names collision-resistant) is one name with all its dots, and `\.` is a dot inside of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(Vec<Box<str>>);

/// A text that names no claim: one of its names is empty, or it ends with a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPathFault;

impl ClaimPath {
    /// Reads a claim's place.
    ///
    /// # Errors
    ///
    /// [`ClaimPathFault`]
    pub fn parse(text: &str) -> Result<Self, ClaimPathFault> {
        let mut names = Vec::new();
        if text.contains("://") {
            names.push(Box::from(text));
        } else {
            let mut name = String::new();
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '.' => names.push(std::mem::take(&mut name).into_boxed_str()),
                    '\\' => name.push(letters.next().ok_or(ClaimPathFault)?),
                    _ => name.push(letter),
                }
            }
            names.push(name.into_boxed_str());
        }
        if names.iter().any(|name| name.is_empty()) { Err(ClaimPathFault) } else { Ok(Self(names)) }
    }

    /// The place of a claim inside of this one.
    #[must_use]
    pub fn join(&self, inner: &Self) -> Self {
        Self(self.0.iter().chain(&inner.0).cloned().collect())
    }

    /// The name, when the claim stands at the top of the token.
    pub fn name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// Finds the claim; a member that is `null` is not there.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, inner) = self.0.split_first()?;
        let mut value = claims.get(&**first)?;
        for name in inner {
            value = value.as_object()?.get(&**name)?;
        }
        Some(value).filter(|value| !value.is_null())
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "." })?;
            if name.contains("://") {
                f.write_str(name)?;
            } else {
                f.write_str(&name.replace('\\', "\\\\").replace('.', "\\."))?;
            }
        }
        Ok(())
    }
}

/// The value of a claim, as far as it can be compared. Whole numbers are texts: their digits, with a `-` in front of
/// negative ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string, or a whole number.
    Text(Box<str>),
    /// `true` or `false`.
    Boolean(bool),
    /// A list of such values, as texts.
    List(Box<[Box<str>]>),
    /// Anything else: an object, a fraction, a list with one of those.
    Unclear,
}

impl ClaimValue {
    /// The value of a member of a token.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Bool(value) => Self::Boolean(*value),
            Value::Array(list) => {
                let texts: Option<Box<[Box<str>]>> = list.iter().map(text).collect();
                texts.map_or(Self::Unclear, Self::List)
            }
            Value::String(_) | Value::Number(_) => text(value).map_or(Self::Unclear, Self::Text),
            Value::Null | Value::Object(_) => Self::Unclear,
        }
    }
}

fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, claims: &Value) -> Option<ClaimValue> {
        let path = ClaimPath::parse(path).unwrap();
        path.find(claims.as_object().unwrap()).map(ClaimValue::of)
    }

    #[test]
    fn a_claim_is_found_where_its_path_says() {
        let claims = json!({
            "tenant": "acme", "a.b": 1, "realm_access": {"roles": ["x", 2]}, "none": null,
            "https://example.com/roles": ["y"],
        });
        let text = |text: &str| Some(ClaimValue::Text(text.into()));
        let list =
            |items: &[&str]| Some(ClaimValue::List(items.iter().map(|item| Box::from(*item)).collect()));
        assert_eq!(found("tenant", &claims), text("acme"));
        assert_eq!(found("a\\.b", &claims), text("1"));
        assert_eq!(found("realm_access.roles", &claims), list(&["x", "2"]));
        assert_eq!(found("https://example.com/roles", &claims), list(&["y"]));
        assert_eq!(found("realm_access", &claims), Some(ClaimValue::Unclear));
        for absent in ["a.b", "tenant.x", "none", "realm_access\\.roles", "Tenant"] {
            assert_eq!(found(absent, &claims), None, "{absent}");
        }
    }

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for text in ["a", "a.b", "a\\.b.c", "https://example.com/roles", "a\\\\b"] {
            assert_eq!(ClaimPath::parse(text).unwrap().to_string(), text);
        }
        let outer = ClaimPath::parse("a").unwrap();
        assert_eq!(outer.join(&ClaimPath::parse("b.c").unwrap()), ClaimPath::parse("a.b.c").unwrap());
        for bad in ["", ".", "a.", ".a", "a..b", "a\\"] {
            assert_eq!(ClaimPath::parse(bad), Err(ClaimPathFault), "{bad}");
        }
    }

    #[test]
    fn only_plain_values_can_be_compared() {
        for (value, expected) in [
            (json!("7"), ClaimValue::Text("7".into())),
            (json!(7), ClaimValue::Text("7".into())),
            (json!(-7), ClaimValue::Text("-7".into())),
            (json!(u64::MAX), ClaimValue::Text("18446744073709551615".into())),
            (json!(true), ClaimValue::Boolean(true)),
            (json!([]), ClaimValue::List(Box::new([]))),
            (json!(7.0), ClaimValue::Unclear),
            (json!(7e2), ClaimValue::Unclear),
            (json!({"a": 1}), ClaimValue::Unclear),
            (json!([["a"]]), ClaimValue::Unclear),
            (json!([7.5]), ClaimValue::Unclear),
            (json!([null]), ClaimValue::Unclear),
        ] {
            assert_eq!(ClaimValue::of(&value), expected, "{value}");
        }
    }
}
