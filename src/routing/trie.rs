//! The paths of one host as a tree of segments.

use std::collections::HashMap;

use http::Method;

use crate::base::path;
use crate::base::pattern::{PathEnd, PathPattern, Segment};

/// A tree of path segments without their escapes. Its root is `/`.
#[derive(Debug, Default)]
pub(super) struct PathTrie {
    literals: HashMap<Box<str>, PathTrie, foldhash::fast::RandomState>,
    parameter: Option<Box<PathTrie>>,
    exact: Methods,
    prefix: Methods,
}

/// The routes that end at one node, by method.
#[derive(Debug, Default)]
struct Methods {
    named: Vec<(Method, usize)>,
    any: Option<usize>,
}

/// What a path has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This route.
    Route(usize),
    /// Routes for other methods than the one asked for.
    OtherMethods(Vec<Method>),
    /// No route.
    Nothing,
}

/// The best route on the way so far.
struct Search<'a> {
    method: &'a Method,
    best: Option<(usize, usize)>,
    other_methods: Vec<Method>,
}

impl PathTrie {
    /// Adds a route by its index.
    pub(super) fn insert(&mut self, pattern: &PathPattern, methods: Option<&[String]>, index: usize) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        let end = match pattern.end {
            PathEnd::Exact => &mut node.exact,
            PathEnd::Prefix => &mut node.prefix,
        };
        match methods {
            None => end.any = Some(index),
            Some(names) => {
                end.named.extend(
                    names.iter().filter_map(|name| Some((Method::from_bytes(name.as_bytes()).ok()?, index))),
                );
            }
        }
    }

    /// Finds the best route for a path in normal form.
    pub(super) fn find(&self, path: &str, method: &Method) -> Found {
        let mut search = Search { method, best: None, other_methods: Vec::new() };
        let inner = path.strip_prefix('/').unwrap_or(path);
        self.walk((!inner.is_empty()).then_some(inner), 1, &mut search);
        match search.best {
            Some((_, index)) => Found::Route(index),
            None if search.other_methods.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.other_methods),
        }
    }

    /// Goes down with what is left of the path; `None` is its end. Literals are tried before parameters and only a
    /// deeper match replaces one that was found, so among equally long paths the more literal one stays.
    fn walk(&self, rest: Option<&str>, depth: usize, search: &mut Search<'_>) {
        if let Some(rest) = rest
            && (!self.literals.is_empty() || self.parameter.is_some())
        {
            let (segment, after) = split_segment(rest);
            if !self.literals.is_empty()
                && let Some(child) = self.literals.get(&*path::decoded(segment))
            {
                child.walk(after, depth + 1, search);
            }
            if let Some(child) = &self.parameter
                && !segment.is_empty()
            {
                child.walk(after, depth + 1, search);
            }
        } else if rest.is_none() {
            search.offer(&self.exact, depth);
        }
        search.offer(&self.prefix, depth);
    }
}

/// The first segment, and what follows its slash. A search for one byte is faster than one for a character.
fn split_segment(rest: &str) -> (&str, Option<&str>) {
    let slash = memchr::memchr(b'/', rest.as_bytes());
    match slash.and_then(|slash| Some((rest.get(..slash)?, rest.get(slash + 1..)?))) {
        Some((segment, after)) => (segment, Some(after)),
        None => (rest, None),
    }
}

impl Search<'_> {
    fn offer(&mut self, methods: &Methods, depth: usize) {
        if self.best.is_some_and(|(best, _)| best >= depth) {
            return;
        }
        match methods.pick(self.method) {
            Some(index) => self.best = Some((depth, index)),
            None => self.other_methods.extend(methods.named.iter().flat_map(|(method, _)| {
                let head = (*method == Method::GET).then_some(Method::HEAD);
                std::iter::once(method.clone()).chain(head)
            })),
        }
    }
}

impl Methods {
    /// A route that names the method, then one that names GET for a HEAD (RFC 9110 section 9.3.2), then one for any.
    fn pick(&self, method: &Method) -> Option<usize> {
        let named =
            |wanted: &Method| self.named.iter().find(|(name, _)| name == wanted).map(|(_, index)| *index);
        if self.named.is_empty() {
            return self.any;
        }
        named(method)
            .or_else(|| if *method == Method::HEAD { named(&Method::GET) } else { None })
            .or(self.any)
    }
}
