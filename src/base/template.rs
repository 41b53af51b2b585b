//! Paths that are made of another path: with segments cut off in front, or put together anew from its parameters.

use super::path;
use super::pattern::{PathEnd, PathPattern, Segment};

/// What becomes of a path on its way to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathChange {
    /// It is forwarded as it was matched.
    #[default]
    None,
    /// So many segments in front are cut off.
    Strip(usize),
    /// It is put together anew.
    Rewrite(PathTemplate),
}

/// A path with places for segments of another one: `/v2/users/{id}`. What follows a prefix is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
    /// After how many segments of the other path the rest of it begins that is appended.
    rest_after: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This text.
    Text(Box<str>),
    /// The segment of the other path at this place.
    Segment(usize),
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It does not begin with one `/`.
    NotAbsolute,
    /// It has characters, escapes, dot segments or empty segments that no path may have.
    NotNormal,
    /// A `{parameter}` is not a whole segment.
    BadParameter,
    /// The route's path has no parameter of this name.
    UnknownParameter(String),
}

impl PathChange {
    /// The path that is forwarded for a path in normal form; `None` when it is the same.
    pub fn apply(&self, path: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Strip(segments) => {
                let rest = rest_of(path, *segments);
                Some(if rest.is_empty() { "/".to_owned() } else { rest.to_owned() })
            }
            Self::Rewrite(template) => Some(template.fill(path)),
        }
    }
}

impl PathTemplate {
    /// Parses a template for paths that match a pattern. Its own text is a path in normal form.
    ///
    /// # Errors
    ///
    /// [`TemplateError`].
    pub fn parse(text: &str, pattern: &PathPattern) -> Result<Self, TemplateError> {
        let literal = |part: &str| {
            let rooted = format!("/{part}");
            let normal = path::normalise(&rooted).map_err(|_| TemplateError::NotNormal)?;
            Ok(normal.strip_prefix('/').unwrap_or_default().to_owned())
        };
        let inner = text.strip_prefix('/').ok_or(TemplateError::NotAbsolute)?;
        let last = inner.matches('/').count();
        if inner.split('/').enumerate().any(|(index, part)| part.is_empty() && index < last) {
            return Err(TemplateError::NotNormal);
        }
        Self::of(text, pattern, literal)
    }

    /// The same for the path of a URL somewhere else, of which only the parameters are looked at. It may be empty.
    ///
    /// # Errors
    ///
    /// [`TemplateError`].
    pub fn parse_foreign(text: &str, pattern: &PathPattern) -> Result<Self, TemplateError> {
        let is_sound = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`?#".contains(&byte);
        let literal = |part: &str| {
            if part.bytes().all(is_sound) { Ok(part.to_owned()) } else { Err(TemplateError::NotNormal) }
        };
        if text.starts_with("//") || !(text.is_empty() || text.starts_with('/')) {
            return Err(TemplateError::NotAbsolute);
        }
        Self::of(text, pattern, literal)
    }

    fn of(
        text: &str,
        pattern: &PathPattern,
        literal: impl Fn(&str) -> Result<String, TemplateError>,
    ) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut so_far = String::new();
        for (index, part) in text.split('/').enumerate() {
            if index > 0 {
                so_far.push('/');
            }
            if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                let wanted = Segment::Parameter(name.into());
                let place = pattern.segments.iter().position(|segment| *segment == wanted);
                let place = place.ok_or_else(|| TemplateError::UnknownParameter(name.to_owned()))?;
                parts.push(Part::Text(std::mem::take(&mut so_far).into()));
                parts.push(Part::Segment(place));
            } else if part.contains(['{', '}']) {
                return Err(TemplateError::BadParameter);
            } else {
                so_far.push_str(&literal(part)?);
            }
        }
        if !so_far.is_empty() {
            parts.push(Part::Text(so_far.into()));
        }
        let rest_after = match pattern.end {
            PathEnd::Exact => None,
            PathEnd::Prefix => Some(pattern.segments.len()),
        };
        Ok(Self { parts, rest_after })
    }

    /// The path for one in normal form that matches the pattern. Its segments are inserted as they are, with their escapes.
    pub fn fill(&self, path: &str) -> String {
        let mut text = String::with_capacity(path.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Segment(place) => text.push_str(segment_of(path, *place)),
            }
        }
        if let Some(segments) = self.rest_after {
            let rest = rest_of(path, segments);
            let joined = if text.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
            text.push_str(joined);
        }
        text
    }
}

/// What follows so many segments of a path, with its slash; `""` when nothing does.
fn rest_of(path: &str, segments: usize) -> &str {
    let mut slashes = memchr::memchr_iter(b'/', path.as_bytes());
    slashes.nth(segments).and_then(|slash| path.get(slash..)).unwrap_or_default()
}

/// The segment of a path at a place, as it stands there; `""` when there is none.
pub fn segment_of(path: &str, place: usize) -> &str {
    let rest = rest_of(path, place);
    rest.strip_prefix('/').and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(pattern: &str, template: &str, path: &str) -> String {
        let pattern = PathPattern::parse(pattern).unwrap();
        PathTemplate::parse(template, &pattern).unwrap().fill(path)
    }

    #[test]
    fn parameters_and_the_rest_of_a_prefix_are_put_in_their_places() {
        for (pattern, template, path, expected) in [
            ("/users/{id}", "/v2/users/{id}", "/users/7", "/v2/users/7"),
            ("/users/{id}", "/v2/users/{id}", "/users/7/", "/v2/users/7/"),
            ("/users/{id}", "/v2/users/{id}", "/users/7/orders/1", "/v2/users/7/orders/1"),
            ("/users/{id}", "/v2/", "/users/7", "/v2/"),
            ("/users/{id}", "/v2/", "/users/7/x", "/v2/x"),
            ("/users/{id}", "/", "/users/7/x/", "/x/"),
            ("/users/{id}", "/", "/users/7", "/"),
            ("=/{a}/{b}", "/{b}/x/{a}/{b}", "/1/%20", "/%20/x/1/%20"),
            ("=/{a}/", "/{a}", "/1/", "/1"),
            ("/", "/v2", "/", "/v2/"),
            ("/", "/v2", "/x", "/v2/x"),
            ("/", "/%7ev2", "/x", "/~v2/x"),
        ] {
            assert_eq!(filled(pattern, template, path), expected, "{pattern} {template} {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        use TemplateError as E;
        let pattern = PathPattern::parse("/users/{id}").unwrap();
        for (text, error) in [
            ("", E::NotAbsolute),
            ("v2", E::NotAbsolute),
            ("//v2", E::NotNormal),
            ("/a//b", E::NotNormal),
            ("/a/../b", E::NotNormal),
            ("/a?b", E::NotNormal),
            ("/a#b", E::NotNormal),
            ("/a;b", E::NotNormal),
            ("/%2f", E::NotNormal),
            ("/é", E::NotNormal),
            ("/x{id}", E::BadParameter),
            ("/{id}.json", E::BadParameter),
            ("/{}", E::UnknownParameter(String::new())),
            ("/{name}", E::UnknownParameter("name".to_owned())),
        ] {
            assert_eq!(PathTemplate::parse(text, &pattern).unwrap_err(), error, "{text}");
        }
        for (text, error) in [
            ("//evil", E::NotAbsolute),
            ("a", E::NotAbsolute),
            ("/a b", E::NotNormal),
            ("/a\\b", E::NotNormal),
            ("/{id}x", E::BadParameter),
        ] {
            assert_eq!(PathTemplate::parse_foreign(text, &pattern).unwrap_err(), error, "{text}");
        }
        assert_eq!(PathTemplate::parse_foreign("/a;b//c", &pattern).unwrap().fill("/users/7/x"), "/a;b//c/x");
        assert_eq!(PathTemplate::parse_foreign("", &pattern).unwrap().fill("/users/7"), "");
    }

    #[test]
    fn segments_in_front_are_cut_off() {
        for (segments, path, expected) in
            [(1, "/billing", "/"), (1, "/billing/", "/"), (1, "/billing/x/", "/x/"), (2, "/a/b/c", "/c")]
        {
            assert_eq!(PathChange::Strip(segments).apply(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(PathChange::None.apply("/x"), None);
    }

    proptest! {
        #[test]
        fn what_is_made_of_a_normal_path_is_a_normal_path(
            path in "/([a-z.!:@%~ ]|%[0-9a-fA-F]{2}|/){0,24}",
            pattern in prop::sample::select(vec!["/{a}", "/{a}/{b}", "=/{a}", "/", "=/{a}/{b}/"]),
            template in prop::sample::select(vec!["/v2", "/v2/", "/", "/{a}", "/x/{a}/", "/{a}/{a}", "/%25x/{a}"]),
            cut in 0_usize..3,
        ) {
            let Ok(normal) = path::normalise(&path) else { return Ok(()) };
            let pattern = PathPattern::parse(pattern).unwrap();
            prop_assume!(normal.matches('/').count() >= pattern.segments.len().max(cut));
            let mut changes = vec![PathChange::Strip(cut)];
            changes.extend(PathTemplate::parse(template, &pattern).ok().map(PathChange::Rewrite));
            for change in changes {
                let made = change.apply(&normal).unwrap();
                // A parameter is never empty where a route matches.
                if made.contains("//") && (0..pattern.segments.len()).any(|place| segment_of(&normal, place).is_empty()) {
                    continue;
                }
                let again = path::normalise(&made);
                prop_assert_eq!(again.as_deref(), Ok(made.as_str()));
            }
        }
    }
}
