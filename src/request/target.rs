//! The path that is matched is the path that is forwarded: both are this value.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use super::IntakeError;
use crate::base::path::Oddities;
use crate::base::{bounds, path};

/// A path in normal form with its query. Matching, policies, logs and the upstream all read this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath {
    target: PathAndQuery,
    oddities: Oddities,
}

impl NormalPath {
    /// Checks a request target in origin or absolute form (RFC 9112 section 3.2).
    ///
    /// # Errors
    ///
    /// An [`IntakeError`] when it is too long, or could be read in more than one way.
    pub fn of(uri: Uri) -> Result<Self, IntakeError> {
        Self::allowing(uri, Oddities::NONE)
    }

    /// As [`NormalPath::of`], but some paths that could be read in more than one way are taken, and tell so.
    ///
    /// # Errors
    ///
    /// An [`IntakeError`] for all others.
    pub fn allowing(uri: Uri, allowed: Oddities) -> Result<Self, IntakeError> {
        let Some(target) = uri.into_parts().path_and_query else { return Err(IntakeError::TargetMalformed) };
        if target.as_str().len() > bounds::MAX_TARGET_BYTES {
            return Err(IntakeError::TargetTooLong);
        }
        if !target.query().is_none_or(is_plain_query) {
            return Err(IntakeError::TargetMalformed);
        }
        let (normal, oddities) =
            path::normalise_allowing(target.path(), allowed).map_err(IntakeError::PathAmbiguous)?;
        // An empty path is "/" here, which the text of the target does not show.
        if let (Cow::Borrowed(_), true) = (&normal, target.as_str().starts_with('/')) {
            return Ok(Self { target, oddities });
        }
        let target = joined(&normal, target.query())?;
        Ok(Self { target, oddities })
    }

    /// Another path with the same query. It has to be in normal form, and has nothing odd that this one has not.
    ///
    /// # Errors
    ///
    /// An [`IntakeError`], as for a request that asks for that path.
    pub fn with_path(&self, path: &str) -> Result<Self, IntakeError> {
        let (normal, oddities) =
            path::normalise_allowing(path, self.oddities).map_err(IntakeError::PathAmbiguous)?;
        let target = joined(&normal, self.target.query())?;
        if target.as_str().len() > bounds::MAX_TARGET_BYTES {
            return Err(IntakeError::TargetTooLong);
        }
        Ok(Self { target, oddities })
    }

    /// The path, in normal form.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// What the path has that only some routes accept.
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// The query, as it came, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// As the target of a request to an upstream.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The same, when nothing else is needed any more.
    pub fn into_target(self) -> PathAndQuery {
        self.target
    }
}

fn joined(path: &str, query: Option<&str>) -> Result<PathAndQuery, IntakeError> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| IntakeError::TargetMalformed)
}

/// A query is not read here, only passed on; but it may hold nothing that no target may hold.
fn is_plain_query(query: &str) -> bool {
    query.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(target: &str) -> Result<String, IntakeError> {
        NormalPath::of(target.parse().unwrap()).map(|path| path.into_target().as_str().to_owned())
    }

    #[test]
    fn what_is_matched_is_what_is_forwarded() {
        assert_eq!(normal("/a/b?c=%2e%2e/;//"), Ok("/a/b?c=%2e%2e/;//".to_owned()));
        assert_eq!(normal("/%61?q"), Ok("/a?q".to_owned()));
        assert_eq!(normal("http://gw.test"), Ok("/".to_owned()));
        assert_eq!(normal("http://gw.test?q=1"), Ok("/?q=1".to_owned()));
    }

    proptest! {
        #[test]
        fn what_decides_is_what_is_forwarded(target in "/([a-zA-Z./;~!:@+=?&-]|%[0-9a-fA-F]{2}){0,24}") {
            let uri: Uri = target.parse().unwrap();
            if let Ok(path) = NormalPath::of(uri) {
                let (decided, query) = (path.path().to_owned(), path.query().map(str::to_owned));
                let forwarded = path.into_target().as_str().to_owned();
                let (before, after) = forwarded.split_once('?').map_or((&*forwarded, None), |(a, b)| (a, Some(b)));
                prop_assert_eq!(before, &decided);
                prop_assert_eq!(after, query.as_deref());
                prop_assert_eq!(target.split_once('?').map(|(_, query)| query), query.as_deref());
                // Whoever reads it again, this gateway among them, finds the same.
                prop_assert_eq!(normal(&forwarded), Ok(forwarded));
            }
        }
    }

    #[test]
    fn ambiguous_and_overlong_targets_are_refused() {
        assert!(matches!(normal("/a/../b"), Err(IntakeError::PathAmbiguous(_))));
        assert!(matches!(normal("*"), Err(IntakeError::PathAmbiguous(_))));
        let long = format!("/{}", "a".repeat(bounds::MAX_TARGET_BYTES));
        assert_eq!(normal(&long), Err(IntakeError::TargetTooLong));
        assert_eq!(normal("/a?\u{e9}"), Err(IntakeError::TargetMalformed));
    }
}
