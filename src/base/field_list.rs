//! The header fields of a message, in the order in which they came (RFC 9110 section 5.3).
//!
//! A message has a dozen fields, and most of what is done with them goes through all of them: taking them in, cleaning,
//! writing them out. A list does that without hashing any name. A look-up goes through the list as well, so whoever has
//! many names to look up goes through the list once instead.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields. A name may stand in it several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldList(Vec<(HeaderName, HeaderValue)>);

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
        Self(Vec::new())
    }

    /// None, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value under a name.
    pub fn get(&self, name: impl FieldName) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// All values under a name, in their order.
    pub fn get_all<N: FieldName>(
        &self,
        name: N,
    ) -> impl DoubleEndedIterator<Item = &HeaderValue> + use<'_, N> {
        self.iter().filter(move |(other, _)| name.is(other)).map(|(_, value)| value)
    }

    /// Whether a name is there.
    pub fn contains_key(&self, name: impl FieldName) -> bool {
        self.get_all(name).next().is_some()
    }

    /// Adds a field behind all others.
    pub fn append(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        self.0.push((name.into(), value));
    }

    /// Sets a field, in place of all under its name.
    pub fn insert(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let name = name.into();
        // Hardly ever is there anything to remove.
        if self.contains_key(&name) {
            self.remove(&name);
        }
        self.0.push((name, value));
    }

    /// Adds a field unless its name is there already.
    pub fn insert_if_absent(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        if !self.contains_key(&name) {
            self.0.push((name, value()));
        }
    }

    /// Removes all fields under a name.
    pub fn remove(&mut self, name: impl FieldName) {
        self.0.retain(move |(other, _)| !name.is(other));
    }

    /// Keeps the fields of these names only.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| is_kept(name));
    }

    /// The fields.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The names; one that is there several times comes as often.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &HeaderValue> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl IntoIterator for FieldList {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<(HeaderName, HeaderValue)> for FieldList {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: I) {
        self.0.extend(fields);
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for FieldList {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl From<HeaderMap> for FieldList {
    fn from(map: HeaderMap) -> Self {
        let mut list = Self::with_capacity(map.len());
        let mut current = None;
        for (name, value) in map {
            // Without a name it is another value under the one before.
            current = name.or(current);
            list.0.extend(current.clone().map(|name| (name, value)));
        }
        list
    }
}

impl From<FieldList> for HeaderMap {
    fn from(list: FieldList) -> Self {
        let mut map = Self::with_capacity(list.len());
        for (name, value) in list {
            map.append(name, value);
        }
        map
    }
}

/// In a test a field that is not there is a failure.
#[cfg(test)]
impl<N: FieldName> std::ops::Index<N> for FieldList {
    type Output = HeaderValue;

    fn index(&self, name: N) -> &HeaderValue {
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
            let again = FieldList::from(HeaderMap::from(fields.clone()));
            prop_assert_eq!(again.len(), fields.len());
            for name in names {
                prop_assert!(again.get_all(name).eq(fields.get_all(name)));
            }
        }
    }
}
