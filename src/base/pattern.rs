//! Patterns of hosts and paths, as a route states them: parsed once, compared and compiled later.

use std::fmt;

use super::path;

/// Which hosts a route is for. The order is that of precedence: exact, then wildcard, then any.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host name, in lower case, without port.
    Exact(Box<str>),
    /// `*.example.com`: every name that ends with this text, which begins with a dot (`.example.com`).
    Suffix(Box<str>),
    /// Every host.
    Any,
}

/// A path pattern that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It does not begin with `/` (or `=/`).
    NotAbsolute,
    /// It has dot segments, empty segments, bad escapes or characters that no path may have.
    NotNormal,
    /// A `{parameter}` is not a whole segment, has no name, or one that is not letters, digits and `_`.
    BadParameter,
    /// Two parameters have one name.
    RepeatedParameter,
    /// The host is no host name, or a wildcard is not `*.` in front of one.
    BadHost,
}

impl PatternError {
    /// What is wrong, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "a path begins with \"/\", or with \"=/\" when it is meant exactly",
            Self::NotNormal => {
                "no request could ever have this path: it has dot segments, empty segments, bad escapes or other characters that are refused"
            }
            Self::BadParameter => {
                "a parameter is a whole segment such as {id}: letters, digits and \"_\" in braces"
            }
            Self::RepeatedParameter => "two parameters have the same name",
            Self::BadHost => {
                "a host is a name such as \"api.example.com\" or \"*.example.com\", without scheme, port or path"
            }
        }
    }
}

/// One segment of a path pattern. The order is that of precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// This text, without escapes.
    Literal(Box<str>),
    /// Any one segment; the name is for policies and does not count in comparisons of routes.
    Parameter(Box<str>),
}

/// Where a path pattern ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathEnd {
    /// `=/x`: the path ends here too.
    Exact,
    /// `/x`: whole segments may follow.
    Prefix,
}

/// A path as a route states it: segments, and whether more may follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    /// The segments; none for `/`.
    pub segments: Vec<Segment>,
    /// Whether a longer path matches.
    pub end: PathEnd,
}

impl fmt::Display for HostPattern {
    /// As the file would write it; any host is `*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for PathPattern {
    /// As the file would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            PathEnd::Exact => f.write_str("=")?,
            PathEnd::Prefix => {}
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{}", path::escaped(literal))?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.segments.is_empty() { f.write_str("/") } else { Ok(()) }
    }
}

impl HostPattern {
    /// Parses `api.example.com` or `*.example.com`; upper case is folded.
    ///
    /// # Errors
    ///
    /// [`PatternError::BadHost`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix("*.") {
            return if is_host_name(rest) {
                Ok(Self::Suffix(format!(".{rest}").into()))
            } else {
                Err(PatternError::BadHost)
            };
        }
        if is_host_name(&lower) { Ok(Self::Exact(lower.into())) } else { Err(PatternError::BadHost) }
    }
}

impl PathPattern {
    /// Parses `/prefix`, `=/exact` and `/users/{id}`. Literal segments are compared without their escapes.
    ///
    /// # Errors
    ///
    /// A [`PatternError`] that says what no request could match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (end, rest) = match text.strip_prefix('=') {
            Some(rest) => (PathEnd::Exact, rest),
            None => (PathEnd::Prefix, text),
        };
        let Some(inner) = rest.strip_prefix('/') else { return Err(PatternError::NotAbsolute) };
        // "/x/" as a prefix means the same as "/x"; as an exact path it keeps its empty last segment.
        let inner = if end == PathEnd::Prefix { inner.strip_suffix('/').unwrap_or(inner) } else { inner };
        if inner.is_empty() {
            return Ok(Self { segments: Vec::new(), end });
        }
        let mut segments = Vec::new();
        for part in inner.split('/') {
            let segment = parse_segment(part)?;
            if let Segment::Parameter(_) = segment
                && segments.contains(&segment)
            {
                return Err(PatternError::RepeatedParameter);
            }
            segments.push(segment);
        }
        // An empty segment is data only at the very end of an exact path ("=/x/").
        let empty = Segment::Literal("".into());
        let inside = segments.len() - 1;
        if segments.iter().take(inside).any(|segment| *segment == empty) {
            return Err(PatternError::NotNormal);
        }
        Ok(Self { segments, end })
    }
}

fn parse_segment(part: &str) -> Result<Segment, PatternError> {
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let sound = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if sound { Ok(Segment::Parameter(name.into())) } else { Err(PatternError::BadParameter) };
    }
    if part.contains(['{', '}']) {
        return Err(PatternError::BadParameter);
    }
    if part.is_empty() {
        return Ok(Segment::Literal("".into()));
    }
    let rooted = format!("/{part}");
    let normal = path::normalise(&rooted).map_err(|_| PatternError::NotNormal)?;
    let literal = normal.strip_prefix('/').ok_or(PatternError::NotNormal)?;
    if literal.contains(['/', '?', '#']) {
        return Err(PatternError::NotNormal);
    }
    Ok(Segment::Literal(path::decoded(literal).into()))
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.len() <= 253 && name.split('.').all(label),
    }
}
