//! Which routes come, go and change.

use super::{Changes, Weight, counted, listed};
use crate::base::pattern::HostPattern;
use crate::config::{Auth, Config, Enforce, Route};

/// A route by itself: with names where the configuration has indices.
#[derive(Clone, PartialEq, Eq)]
struct Told {
    /// What people know it by.
    label: String,
    upstream: String,
    limits: Vec<String>,
    /// Without name and indices.
    route: Route,
    /// When it has one of its own.
    name: Option<String>,
}

impl Told {
    fn new(config: &Config, number: usize, route: &Route) -> Self {
        let upstream = route.action.upstream().and_then(|upstream| config.upstreams.get(upstream));
        let limits = route.limits.iter().filter_map(|index| config.limits.get(*index));
        let is_own = route.name != format!("route-{}", number + 1);
        Self {
            label: label(route),
            upstream: upstream.map_or_else(|| "none".to_owned(), |upstream| upstream.name.clone()),
            limits: limits.map(|limit| limit.name.clone()).collect(),
            route: Route {
                name: String::new(),
                action: route.action.clone().with_upstream(0),
                limits: Vec::new(),
                ..route.clone()
            },
            name: is_own.then(|| route.name.clone()),
        }
    }

    /// Whether it takes the same requests.
    fn matches_as(&self, other: &Self) -> bool {
        let (one, other) = (&self.route, &other.route);
        let same_place = (&one.host, &one.path) == (&other.host, &other.path);
        same_place && (&one.methods, &one.headers) == (&other.methods, &other.headers)
    }

    /// As it would be if nothing that has words of its own had changed.
    fn with_words_of(&self, other: &Self) -> Self {
        let route = Route {
            auth: other.route.auth,
            policy: other.route.policy.clone(),
            host: other.route.host.clone(),
            path: other.route.path.clone(),
            methods: other.route.methods.clone(),
            headers: other.route.headers.clone(),
            ..self.route.clone()
        };
        let (label, name) = (other.label.clone(), other.name.clone());
        Self { label, name, upstream: other.upstream.clone(), limits: other.limits.clone(), route }
    }
}

/// `GET,POST api.example.com/billing`: what a route takes, as the file writes it.
pub(super) fn label(route: &Route) -> String {
    let methods = route.methods.as_ref().map_or_else(String::new, |methods| methods.join(",") + " ");
    let host = match &route.host {
        HostPattern::Any => String::new(),
        HostPattern::Exact(_) | HostPattern::Suffix(_) => route.host.to_string(),
    };
    let mut label = format!("{methods}{host}{}", route.path);
    for condition in &route.headers {
        label.extend([" with ", condition.name.as_str()]);
    }
    label
}

/// Compares the routes of two configurations.
pub(super) fn compare(before: &Config, after: &Config, changes: &mut Changes) {
    let told = |config: &Config| -> Vec<Told> {
        config.routes.iter().enumerate().map(|(number, route)| Told::new(config, number, route)).collect()
    };
    let (mut gone, mut come) = (told(before), told(after));
    // The same ones are not told of; then those are found that take the same requests, and last those of the same name.
    take_pairs(&mut gone, &mut come, PartialEq::eq, |_, _| {});
    take_pairs(
        &mut gone,
        &mut come,
        |one, other| one.route == other.route && one.matches_as(other),
        |then, now| {
            tell(then, now, changes);
        },
    );
    take_pairs(&mut gone, &mut come, Told::matches_as, |then, now| tell(then, now, changes));
    let same_name = |one: &Told, other: &Told| one.name.is_some() && one.name == other.name;
    take_pairs(&mut gone, &mut come, same_name, |then, now| tell(then, now, changes));
    for (auth, weight, words) in [
        (Auth::Public, Weight::Exposure, ("becomes PUBLIC", "become PUBLIC")),
        (Auth::Optional, Weight::Exposure, ("asks for no token", "ask for no token")),
        (Auth::Required, Weight::Other, ("needs a token", "need a token")),
    ] {
        let of = |routes: &[Told]| -> Vec<String> {
            routes.iter().filter(|told| told.route.auth == auth).map(|told| told.label.clone()).collect()
        };
        let added = of(&come);
        if !added.is_empty() {
            let words = if added.len() == 1 { words.0 } else { words.1 };
            let count = counted(added.len(), "route");
            changes.add(weight, format!("{count} added: {} {words}", listed(&added)));
        }
    }
    let removed: Vec<&str> = gone.iter().map(|told| told.label.as_str()).collect();
    if !removed.is_empty() {
        // What it took falls to another route, or to none.
        let count = counted(removed.len(), "route");
        changes.add(Weight::Exposure, format!("{count} removed: {}", listed(&removed)));
    }
}

/// Takes those out of both lists that belong together.
fn take_pairs(
    before: &mut Vec<Told>,
    after: &mut Vec<Told>,
    belong: impl Fn(&Told, &Told) -> bool,
    mut tell: impl FnMut(&Told, &Told),
) {
    after.retain(|now| {
        let Some(place) = before.iter().position(|then| belong(then, now)) else { return true };
        tell(&before.remove(place), now);
        false
    });
}

fn tell(before: &Told, after: &Told, changes: &mut Changes) {
    let (then, now) = (&before.route, &after.route);
    let label = &after.label;
    if !before.matches_as(after) {
        changes.add(Weight::Exposure, format!("route {label} takes other requests (was {})", before.label));
    }
    if then.auth != now.auth {
        let was = match then.auth {
            Auth::Required => "a token was required",
            Auth::Optional => "it was optional",
            Auth::Public => "it was PUBLIC",
        };
        let becomes = match now.auth {
            Auth::Required => "needs a token",
            Auth::Optional => "becomes optional: requests without a token pass",
            Auth::Public => "becomes PUBLIC",
        };
        changes.add(Weight::Exposure, format!("route {label} {becomes} ({was})"));
    }
    if (&then.policy.allow, &then.policy.deny) != (&now.policy.allow, &now.policy.deny) {
        changes.add(Weight::Exposure, format!("route {label}: who may use it changes"));
    }
    if then.policy.enforce != now.policy.enforce {
        let text = match now.policy.enforce {
            Enforce::Report => format!("route {label} REPORTS what it would refuse, and lets it pass"),
            Enforce::Enforce => format!("route {label} refuses what it only reported"),
        };
        changes.add(Weight::Exposure, text);
    }
    if before.upstream != after.upstream {
        let text = format!("route {label} goes to upstream {} (was {})", after.upstream, before.upstream);
        changes.add(Weight::Other, text);
    }
    if before.limits != after.limits {
        let shown = |limits: &[String]| if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
        let text =
            format!("route {label} has the limits {} (was {})", shown(&after.limits), shown(&before.limits));
        changes.add(Weight::Other, text);
    }
    if before.with_words_of(after) != *after {
        // Which of them decide about access is for the reader to say.
        changes.add(Weight::Exposure, format!("route {label}: other settings change"));
    }
}
