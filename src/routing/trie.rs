//! The paths of one host as a tree of segments.

use std::collections::HashMap;

use http::Method;

use crate::base::field_list::FieldList;
use crate::base::path;
use crate::base::pattern::{PathEnd, PathPattern, Segment};
use crate::config::Condition;

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
    named: Vec<(Method, Choices)>,
    any: Choices,
}

/// The routes that end at one node and take one method, or any.
#[derive(Debug, Default)]
struct Choices {
    /// Those with conditions, the most specific first.
    conditional: Vec<(Vec<Condition>, usize)>,
    plain: Option<usize>,
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

/// What besides the path decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a FieldList,
}

/// The best route on the way so far.
struct Search<'a> {
    asked: Asked<'a>,
    best: Option<(usize, usize)>,
    other_methods: Vec<Method>,
}

impl PathTrie {
    /// Adds a route by its index.
    pub(super) fn insert(
        &mut self,
        pattern: &PathPattern,
        methods: Option<&[String]>,
        conditions: &[Condition],
        index: usize,
    ) {
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
        let Some(names) = methods else { return end.any.insert(conditions, index) };
        for method in names.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok()) {
            end.named_mut(method).insert(conditions, index);
        }
    }

    /// Finds the best route for a path in normal form.
    pub(super) fn find(&self, path: &str, asked: Asked<'_>) -> Found {
        let mut search = Search { asked, best: None, other_methods: Vec::new() };
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
        match methods.pick(self.asked) {
            Some(index) => self.best = Some((depth, index)),
            None => self.other_methods.extend(methods.others(self.asked)),
        }
    }
}

impl Methods {
    fn named_mut(&mut self, method: Method) -> &mut Choices {
        let place = self.named.iter().position(|(name, _)| *name == method);
        let place = place.unwrap_or(self.named.len());
        if place == self.named.len() {
            self.named.push((method, Choices::default()));
        }
        // It is there.
        self.named.get_mut(place).map_or(&mut self.any, |(_, choices)| choices)
    }

    /// A route that names the method, then one that names GET for a HEAD (RFC 9110 section 9.3.2), then one for any.
    fn pick(&self, asked: Asked<'_>) -> Option<usize> {
        if self.named.is_empty() {
            return self.any.pick(asked.headers);
        }
        let named = |wanted: &Method| {
            let (_, choices) = self.named.iter().find(|(name, _)| name == wanted)?;
            choices.pick(asked.headers)
        };
        named(asked.method)
            .or_else(|| if *asked.method == Method::HEAD { named(&Method::GET) } else { None })
            .or_else(|| self.any.pick(asked.headers))
    }

    /// The methods with which there would be a route.
    fn others(&self, asked: Asked<'_>) -> impl Iterator<Item = Method> {
        let open = self.named.iter().filter(move |(_, choices)| choices.pick(asked.headers).is_some());
        open.flat_map(|(method, _)| {
            let head = (*method == Method::GET).then_some(Method::HEAD);
            std::iter::once(method.clone()).chain(head)
        })
    }
}

impl Choices {
    fn insert(&mut self, conditions: &[Condition], index: usize) {
        if conditions.is_empty() {
            self.plain = Some(index);
            return;
        }
        self.conditional.push((conditions.to_vec(), index));
        self.conditional.sort_by_key(|(conditions, _)| std::cmp::Reverse(Condition::rank(conditions)));
    }

    fn pick(&self, headers: &FieldList) -> Option<usize> {
        let fits = |conditions: &[Condition]| conditions.iter().all(|condition| is_met(condition, headers));
        let conditional = self.conditional.iter().find(|(conditions, _)| fits(conditions));
        conditional.map(|(_, index)| *index).or(self.plain)
    }
}

/// Whether a request has what a route asks for. A value that comes more than once is no exact one.
fn is_met(condition: &Condition, headers: &FieldList) -> bool {
    let mut values = headers.get_all(&condition.name);
    match (&condition.value, values.next(), values.next()) {
        (Some(wanted), Some(value), None) => wanted.as_bytes() == value.as_bytes(),
        (None, Some(_), _) => true,
        (Some(_), _, _) | (None, None, _) => false,
    }
}
