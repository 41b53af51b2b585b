//! Which routes there are, who can reach each of them, and through which upstream.

use serde_json::{Value, json};

use crate::base::pattern::HostPattern;
use crate::cli::table;
use crate::config::{Action, Auth, Config, Enforce, Route, Terms};

/// The table for people.
pub(super) fn table(config: &Config) -> String {
    let head = ["ROUTE", "HOST", "PATH", "METHODS", "WHO MAY", "UPSTREAM"].map(str::to_owned);
    let rows = config.routes.iter().map(|route| row(config, route));
    table::of(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// The same for programs.
pub(super) fn json(config: &Config) -> Value {
    let routes = config.routes.iter().map(|route| {
        let [name, host, path, methods, who, _] = row(config, route);
        let upstream = route.action.upstream().and_then(|index| config.upstreams.get(index));
        let targets = upstream.into_iter().flat_map(|upstream| &upstream.targets).map(|one| one.target.to_string());
        json!({
            "name": name, "host": host, "path": path, "methods": methods, "who_may": who,
            "auth": auth(route), "enforced": route.policy.enforce == Enforce::Enforce,
            "upstream": upstream.map(|upstream| upstream.name.as_str()), "targets": targets.collect::<Vec<_>>(),
        })
    });
    Value::Array(routes.collect())
}

fn row(config: &Config, route: &Route) -> [String; 6] {
    let host = match &route.host {
        HostPattern::Exact(_) | HostPattern::Suffix(_) => route.host.to_string(),
        HostPattern::Any => "any".to_owned(),
    };
    let methods = route.methods.as_ref().map_or_else(|| "any".to_owned(), |methods| methods.join(","));
    [route.name.clone(), host, route.path.to_string(), methods, who(route), goes_to(config, &route.action)]
}

fn goes_to(config: &Config, action: &Action) -> String {
    match action {
        Action::Forward(forward) => {
            config.upstreams.get(forward.upstream).map_or_else(String::new, |upstream| {
                let targets: Vec<String> =
                    upstream.targets.iter().map(|one| one.target.to_string()).collect();
                format!("{} ({})", upstream.name, targets.join(", "))
            })
        }
        Action::Redirect(redirect) => format!("none: redirect {}", redirect.status.as_u16()),
        Action::Respond(respond) => format!("none: answer {}", respond.status.as_u16()),
    }
}

fn auth(route: &Route) -> &'static str {
    match route.auth {
        Auth::Required => "required",
        Auth::Optional => "optional",
        Auth::Public => "public",
    }
}

/// Who may use a route: `PUBLIC`, `any token`, or what is asked for.
fn who(route: &Route) -> String {
    let policy = &route.policy;
    let allow = policy.allow.as_ref().map(|terms| shown(terms, " and "));
    let mut who = match (route.auth, allow) {
        (Auth::Public, _) => "PUBLIC".to_owned(),
        (Auth::Required | Auth::Optional, Some(allow)) => allow,
        (Auth::Required, None) => "any token".to_owned(),
        (Auth::Optional, None) => "EVERYBODY, also without a token".to_owned(),
    };
    if let Some(deny) = &policy.deny {
        who.extend([", but not ", &shown(deny, " or ")]);
    }
    match policy.enforce {
        Enforce::Enforce => who,
        Enforce::Report => format!("EVERYBODY (reports only: {who})"),
    }
}

fn shown(terms: &Terms, between: &str) -> String {
    let several = |what: &str, items: &[String], separator: &str| {
        let plural = if items.len() == 1 { "" } else { "s" };
        (!items.is_empty()).then(|| format!("{what}{plural} {}", items.join(separator)))
    };
    let groups = several("group", &terms.groups, "|");
    let scopes = several("scope", &terms.scopes, "+");
    let claims = terms.claims.iter().map(|term| format!("{}={}", term.path, term.any_of.join("|")));
    let matches = terms.matches.iter().map(|term| format!("{}={{{}}}", term.path, term.parameter));
    let all = groups.into_iter().chain(scopes).chain(claims).chain(matches);
    all.collect::<Vec<_>>().join(between)
}
