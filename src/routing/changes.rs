//! What a route changes in the fields of requests and answers.

use super::Route;
use super::cors::Grant;
use crate::base::field_list::FieldList;
use crate::base::fields;
use crate::config::HeaderRules;

/// `request_headers` or `response_headers`, compiled.
#[derive(Clone, Debug)]
pub struct HeaderChanges {
    rules: HeaderRules,
    /// The letters and digits of the names that are taken away in every spelling.
    aliases: Vec<Box<str>>,
}

impl HeaderChanges {
    /// For requests. What is set or removed is removed in every spelling first, so that an upstream that maps names to
    /// variables finds only what the route says.
    pub(super) fn of_requests(rules: &HeaderRules) -> Self {
        let names = rules.set.iter().map(|(name, _)| name).chain(&rules.remove);
        let aliases = names.map(|name| fields::plain(name.as_str()).into()).collect();
        Self { rules: rules.clone(), aliases }
    }

    /// For answers.
    pub(super) fn of_answers(rules: &HeaderRules) -> Self {
        Self { rules: rules.clone(), aliases: Vec::new() }
    }

    /// Changes the fields of a request or an answer. None of them is one that the gateway owns.
    pub fn apply(&self, headers: &mut FieldList) {
        let Self { rules, aliases } = self;
        if !aliases.is_empty() {
            headers.retain(|name| !aliases.iter().any(|plain| fields::is_alias(name, plain)));
        }
        for name in &rules.remove {
            headers.remove(name);
        }
        for (name, value) in &rules.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &rules.add {
            headers.append(name, value.clone());
        }
    }
}

/// What a route says of the fields of an answer. Without a route it says nothing.
#[derive(Clone, Debug, Default)]
pub struct AnswerRules<'a> {
    changes: Option<&'a HeaderChanges>,
    cors: Option<Grant<'a>>,
}

impl<'a> AnswerRules<'a> {
    /// Those of a route, for a request with these fields.
    pub fn of(route: &'a Route, request: &FieldList) -> Self {
        let cors = route.cors.as_deref().map(|cors| Grant::of(cors, request));
        Self { changes: route.response_headers.as_deref(), cors }
    }

    /// Changes what an upstream or the route itself answers. Refusals stay as they are.
    pub fn change(&self, headers: &mut FieldList) {
        if let Some(changes) = self.changes {
            changes.apply(headers);
        }
    }

    /// Tells browsers who may read an answer, whoever made it: scripts have to be able to read refusals too.
    pub fn tell(&self, headers: &mut FieldList) {
        if let Some(grant) = &self.cors {
            grant.write(headers);
        }
    }
}
