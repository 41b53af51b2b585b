//! What `tollgate check` says of limits of rates.

use crate::cli::table;
use crate::config::{Config, LimitKey, LimitScope, RateLimit};

/// Every limit and what it limits, under an empty line; nothing where there is none.
pub(super) fn table(config: &Config) -> String {
    if config.limits.is_empty() {
        return String::new();
    }
    let rows = std::iter::once(["LIMIT", "COUNTED BY", "RATE", "BURST", "ROUTES"].map(str::to_owned))
        .chain(config.limits.iter().enumerate().map(|(index, limit)| row(config, index, limit)));
    format!("\n{}", table::of(&rows.collect::<Vec<_>>()))
}

fn row(config: &Config, index: usize, limit: &RateLimit) -> [String; 5] {
    let key = match &limit.key {
        LimitKey::User => "user".to_owned(),
        LimitKey::Network => "client network".to_owned(),
        LimitKey::Header(name) => format!("header {name}"),
    };
    let key = match limit.scope {
        LimitScope::Node => key,
        LimitScope::Cluster => format!("{key}, at all gateways"),
    };
    let rates: Vec<String> =
        limit.rates.iter().map(|rate| format!("{}/{}", rate.count, rate.unit.letter())).collect();
    let burst = limit.rates.first().map_or_else(String::new, |rate| rate.burst.to_string());
    let routes = config.routes.iter().filter(|route| route.limits.contains(&index));
    let tokens = config.tokens.limits.contains(&index).then_some("the token routes");
    let used: Vec<&str> = routes.map(|route| route.name.as_str()).chain(tokens).collect();
    let used = if used.is_empty() { "none, so it limits nothing".to_owned() } else { used.join(", ") };
    [limit.name.clone(), key, rates.join(", "), burst, used]
}
