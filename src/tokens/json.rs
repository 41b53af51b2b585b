//! JSON objects in tokens: read so that they have one meaning only, written in the order in which members were added.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::base::bounds;

/// Reads bytes that are exactly one JSON object. No object in it may have a member twice, also not by way of escapes.
///
/// # Errors
///
/// Every deviation, more than [`bounds::MAX_TOKEN_MEMBERS`] members, and nesting beyond 128 levels.
pub fn read_object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // Asking for a map refuses an array, which serde would otherwise read into a struct.
    let object = deserializer.deserialize_map(ObjectVisitor)?;
    deserializer.end()?;
    Ok(object)
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if object.len() >= bounds::MAX_TOKEN_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(object)
    }
}

/// Any JSON value, with the same rules for the objects inside.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = elements.next_element_seed(Self)? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        ObjectVisitor.visit_map(members).map(Value::Object)
    }
}

/// The members of a JSON object in the order in which they are written. `Display` writes the object without spaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(Vec<(Cow<'static, str>, Value)>);

impl Members {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member at the end. Its name must not be there yet.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// The same, in a chain.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.push(name, value);
        self
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:{value}", Value::from(name.as_ref()))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_object_with_one_meaning_is_read() {
        for sound in [r#"{"a":1}"#, " {\n\"a\" : [1,{\"b\":null}] }\t", "{}", r#"{"a":{"x":1},"b":{"x":1}}"#]
        {
            assert!(read_object(sound.as_bytes()).is_ok(), "{sound}");
        }
        for bad in [
            "",
            "[]",
            "null",
            "1",
            "\"a\"",
            r#"[["alg","HS256"]]"#,
            r#"{"a":1}x"#,
            r#"{"a":1}{}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            r#"{"a":0x1}"#,
            r#"{"a":"\ud800"}"#,
            "{'a':1}",
            "{\"a\":1",
            "\u{feff}{\"a\":1}",
            "{\"a\":\"\n\"}",
            "{/**/\"a\":1}",
        ] {
            assert!(read_object(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read_object(b"{\"a\":\"\xff\"}").is_err());
        assert!(
            read_object(&"{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).is_err()
        );
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
        assert!(read_object(deep.as_bytes()).is_err());
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|index| format!("\"m{index}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(read_object(many(bounds::MAX_TOKEN_MEMBERS).as_bytes()).is_ok());
        assert!(read_object(many(bounds::MAX_TOKEN_MEMBERS + 1).as_bytes()).is_err());
    }

    #[test]
    fn members_keep_their_order() {
        let members = Members::new().with("z", "a\"b").with("a", 1).with("m", vec!["x"]);
        assert_eq!(members.to_string(), r#"{"z":"a\"b","a":1,"m":["x"]}"#);
        assert_eq!(Members::new().to_string(), "{}");
        assert_eq!(members.get("a"), Some(&Value::from(1)));
    }
}
