//! The header fields of a message, in the order in which they came (RFC 9110 section 5.3).
//!
//! A message has a dozen fields, and most of what is done with them goes through all of them: taking them in, cleaning,
//! writing them out. A list does that without hashing any name. A look-up goes through the list as well, so whoever has
//! many names to look up goes through the list once instead.
//!
//! What came in a head of HTTP/1.1 stays where it is: a list holds the head once, and the places of the values in it.

use std::fmt;

use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::field_value::FieldValue;

/// Header fields. A name may stand in it several times.
#[derive(Clone, Default)]
pub struct FieldList {
    /// What values stand in that are not by themselves.
    head: Bytes,
    fields: Vec<(HeaderName, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Own(HeaderValue),
    /// From its first byte in the head to the one behind its last.
    InHead(u32, u32),
}

impl Value {
    fn of<'a>(&'a self, head: &'a Bytes) -> FieldValue<'a> {
        match self {
            Self::Own(value) => FieldValue::from(value),
            Self::InHead(start, end) => FieldValue::within(head, *start as usize..*end as usize),
        }
    }
}

/// Fields that a parser finds in a head. Where their values stand is all that is known of them until they are
/// [given](Self::of) the head.
#[derive(Debug)]
pub struct ParsedFields {
    fields: Vec<(HeaderName, Value)>,
}

impl ParsedFields {
    /// None, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self { fields: Vec::with_capacity(fields) }
    }

    /// Adds a field of which the value stands in the head, where a parser has found it and nothing in it that must not stand
    /// in a value (RFC 9110 section 5.5).
    ///
    /// # Errors
    ///
    /// [`NotInHead`]
    pub fn append(&mut self, head: &[u8], name: HeaderName, value: &[u8]) -> Result<(), NotInHead> {
        let start = value.as_ptr().addr().checked_sub(head.as_ptr().addr()).ok_or(NotInHead)?;
        let end = start.checked_add(value.len()).filter(|end| *end <= head.len()).ok_or(NotInHead)?;
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else { return Err(NotInHead) };
        self.fields.push((name, Value::InHead(start, end)));
        Ok(())
    }

    /// The fields with the head that they were found in.
    pub fn of(self, head: Bytes) -> FieldList {
        FieldList { head, fields: self.fields }
    }
}

/// A value does not stand in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInHead;

/// A name as it is looked up: in lower case.
pub trait FieldName {
    /// Whether it is this one.
    fn is(&self, name: &HeaderName) -> bool;
}

impl FieldName for HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl FieldName for &HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

impl FieldName for &str {
    fn is(&self, name: &HeaderName) -> bool {
        name.as_str() == *self
    }
}

impl FieldList {
    /// None.
    pub const fn new() -> Self {
        Self { head: Bytes::new(), fields: Vec::new() }
    }

    /// None, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self { head: Bytes::new(), fields: Vec::with_capacity(fields) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value under a name.
    pub fn get(&self, name: impl FieldName) -> Option<FieldValue<'_>> {
        self.get_all(name).next()
    }

    /// All values under a name, in their order.
    pub fn get_all<N: FieldName>(
        &self,
        name: N,
    ) -> impl DoubleEndedIterator<Item = FieldValue<'_>> + use<'_, N> {
        let fields = self.fields.iter().filter(move |(other, _)| name.is(other));
        fields.map(|(_, value)| value.of(&self.head))
    }

    /// Whether a name is there.
    pub fn contains_key(&self, name: impl FieldName) -> bool {
        self.get_all(name).next().is_some()
    }

    /// Adds a field behind all others.
    pub fn append(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        self.fields.push((name.into(), Value::Own(value)));
    }

    /// Sets a field, in place of all under its name.
    pub fn insert(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let name = name.into();
        // Hardly ever is there anything to remove.
        if self.contains_key(&name) {
            self.remove(&name);
        }
        self.append(name, value);
    }

    /// Adds a field unless its name is there already.
    pub fn insert_if_absent(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        if !self.contains_key(&name) {
            self.append(name, value());
        }
    }

    /// Removes all fields under a name.
    pub fn remove(&mut self, name: impl FieldName) {
        self.fields.retain(move |(other, _)| !name.is(other));
    }

    /// Keeps the fields of these names only.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&HeaderName) -> bool) {
        self.fields.retain(|(name, _)| is_kept(name));
    }

    /// The fields.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&HeaderName, FieldValue<'_>)> {
        self.fields.iter().map(|(name, value)| (name, value.of(&self.head)))
    }

    /// The names; one that is there several times comes as often.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &HeaderName> {
        self.fields.iter().map(|(name, _)| name)
    }

    /// The values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = FieldValue<'_>> {
        self.iter().map(|(_, value)| value)
    }
}

/// The same fields in the same order, wherever the values stand.
impl PartialEq for FieldList {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for FieldList {}

impl fmt::Debug for FieldList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl Extend<(HeaderName, HeaderValue)> for FieldList {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: I) {
        self.fields.extend(fields.into_iter().map(|(name, value)| (name, Value::Own(value))));
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for FieldList {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut list = Self::new();
        list.extend(fields);
        list
    }
}

impl From<HeaderMap> for FieldList {
    fn from(map: HeaderMap) -> Self {
        let mut list = Self::with_capacity(map.len());
        let mut current = None;
        for (name, value) in map {
            // Without a name it is another value under the one before.
            current = name.or(current);
            list.extend(current.clone().map(|name| (name, value)));
        }
        list
    }
}

impl TryFrom<FieldList> for HeaderMap {
    type Error = InvalidHeaderValue;

    /// # Errors
    ///
    /// [`InvalidHeaderValue`], as [`FieldValue::to_header_value`]
    fn try_from(list: FieldList) -> Result<Self, Self::Error> {
        let FieldList { head, fields } = list;
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields {
            let value = match value {
                Value::Own(value) => value,
                Value::InHead(..) => value.of(&head).to_header_value()?,
            };
            map.append(name, value);
        }
        Ok(map)
    }
}

/// In a test a field that is not there is a failure.
#[cfg(test)]
impl FieldList {
    pub(crate) fn at(&self, name: impl FieldName) -> FieldValue<'_> {
        self.get(name).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    fn list(fields: &[(&'static str, &str)]) -> FieldList {
        fields.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn fields_keep_their_order() {
        let mut fields = list(&[("cookie", "1"), ("accept", "2"), ("cookie", "3")]);
        fields.append(HOST, value("4"));
        assert_eq!(fields.values().collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert_eq!(fields.get_all(COOKIE).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(fields.get(&COOKIE).unwrap(), "1");
        assert_eq!(fields.get("cookie"), fields.get(COOKIE));
        assert!(
            fields.contains_key(HOST)
                && !fields.contains_key("x")
                && fields.get(HeaderName::from_static("x")).is_none()
        );
    }

    /// What stands in a head is found as a value by itself would be, after other fields were added and removed.
    #[test]
    fn values_stay_in_their_head() {
        let head = Bytes::from_static(b"GET / HTTP/1.1\r\naccept: a\r\ncookie: \r\nx: b\r\n\r\n");
        let mut parsed = ParsedFields::with_capacity(3);
        parsed.append(&head, ACCEPT, &head[24..25]).unwrap();
        parsed.append(&head, COOKIE, &head[35..35]).unwrap();
        parsed.append(&head, HeaderName::from_static("x"), &head[40..41]).unwrap();
        let mut fields = parsed.of(head);
        fields.append(HOST, value("4"));
        let same = list(&[("accept", "a"), ("cookie", ""), ("x", "b"), ("host", "4")]);
        assert_eq!(fields, same);
        assert_eq!(format!("{fields:?}"), format!("{same:?}"));
        assert_eq!(HeaderMap::try_from(fields.clone()).unwrap(), HeaderMap::try_from(same.clone()).unwrap());
        let moved = fields.clone();
        fields.remove(ACCEPT);
        fields.insert(COOKIE, value("5"));
        assert_eq!(fields, list(&[("x", "b"), ("host", "4"), ("cookie", "5")]));
        assert_eq!(moved, same);
        assert_ne!(moved, fields);
    }

    #[test]
    fn what_does_not_stand_in_the_head_is_refused() {
        let memory = Bytes::from_static(b"before, head, behind");
        let head = memory.slice(8..12);
        let mut parsed = ParsedFields::with_capacity(1);
        for (start, end) in [(0, 4), (0, 10), (8, 13), (7, 8), (12, 13), (14, 20)] {
            assert_eq!(parsed.append(&head, HOST, &memory[start..end]), Err(NotInHead), "{start} to {end}");
        }
        parsed.append(&head, HOST, &memory[8..12]).unwrap();
        let fields = parsed.of(head);
        assert_eq!(fields.values().collect::<Vec<_>>(), ["head"]);
    }

    #[test]
    fn what_is_set_stands_alone() {
        let mut fields = list(&[("cookie", "1"), ("accept", "2"), ("cookie", "3")]);
        fields.insert(COOKIE, value("4"));
        assert_eq!(fields, list(&[("accept", "2"), ("cookie", "4")]));
        fields.insert_if_absent(COOKIE, || value("5"));
        fields.insert_if_absent(HOST, || value("6"));
        assert_eq!(fields, list(&[("accept", "2"), ("cookie", "4"), ("host", "6")]));
    }

    #[test]
    fn what_is_removed_is_gone_however_often_it_was_there() {
        let mut fields = list(&[("cookie", "1"), ("accept", "2"), ("cookie", "3")]);
        fields.remove(COOKIE);
        assert_eq!(fields, list(&[("accept", "2")]));
        fields.retain(|name| *name != ACCEPT);
        assert!(fields.is_empty());
    }

    proptest! {
        /// The HTTP/2 library has a map, which puts the values under one name together.
        #[test]
        fn a_map_has_the_same_fields(names in proptest::collection::vec(prop::sample::select(vec!["a", "b", "cookie", "x"]), 0..20)) {
            let fields: FieldList = names
                .iter()
                .enumerate()
                .map(|(place, name)| (HeaderName::from_static(name), HeaderValue::from(place)))
                .collect();
            let again = FieldList::from(HeaderMap::try_from(fields.clone()).unwrap());
            prop_assert_eq!(again.len(), fields.len());
            for name in names {
                prop_assert!(again.get_all(name).eq(fields.get_all(name)));
            }
        }
    }
}
