//! `[limits.*]`, and the names of limits where routes use them.

use std::num::NonZeroU32;

use http::HeaderName;

use super::complaint::{Complaint, alternatives, choose, nearest, quoted};
use super::kind::Kind;
use super::reader::{Located, Table};
use super::units;
use super::upstreams::check_name;
use crate::base::bounds;

/// The longest time in which a burst may come back, in seconds: 366 days.
const MAX_RECOVERY_SECONDS: u64 = 366 * 24 * 60 * 60;
/// The limit of the token routes when nothing else is said.
const TOKEN_ROUTES: &str = "token-routes";

/// Fields that name a client's address, which whoever sends them chooses.
const ADDRESS_FIELDS: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// `[limits.NAME]`: how many requests may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The name: letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Which gateways count together.
    pub scope: LimitScope,
    /// What all of them have to keep, the shortest unit first, each unit once. There is one at least.
    pub rates: Vec<Rate>,
    /// Whether clients are told how much is left before they have used it up. Of what nobody has configured they are not.
    pub is_told: bool,
}

/// `key`: whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// Those of a user; of whoever has not shown to be one, those of the client's network.
    User,
    /// Those of a client's network.
    Network,
    /// Those with the same value of this field; without the field, those of the client's network.
    Header(HeaderName),
}

/// `scope`: which gateways count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// Each counts for itself.
    Node,
    /// All that use the same limits store.
    Cluster,
}

/// So many requests in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many requests in each unit, evenly spread.
    pub count: NonZeroU32,
    /// The unit.
    pub unit: RateUnit,
    /// How many may come at once after a pause. They come back at the speed of the rate, within 366 days.
    pub burst: NonZeroU32,
}

/// The unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RateUnit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Reads every limit, in the order of the names. One with a problem is in the list all the same, for the sake of the
/// routes that name it.
pub(super) fn limits(root: &mut Table<'_>, has_store: bool) -> Vec<RateLimit> {
    root.named_tables("limits").into_iter().map(|(name, table)| limit(name, table, has_store)).collect()
}

/// Reads `limit`, the name of a limit or a list of them: which limits a request of the route has to pass.
pub(super) fn of_route(table: &mut Table<'_>, limits: &[RateLimit]) -> Vec<usize> {
    names(table).map(|names| indices(table, &names, limits)).unwrap_or_default()
}

/// As [`of_route`] for the token routes: `""` is none, and without the key there is a limit for each client network that
/// grows with the number of data-plane threads.
pub(super) fn of_token_routes(
    table: &mut Table<'_>,
    limits: &mut Vec<RateLimit>,
    workers: NonZeroU32,
) -> Vec<usize> {
    let given = names(table);
    let faulty = given.is_none() && table.has("limit");
    let names = given.unwrap_or_else(|| vec![Located { value: TOKEN_ROUTES.to_owned(), span: 0..0 }]);
    if faulty || matches!(names.as_slice(), [Located { value, .. }] if value.is_empty()) {
        return Vec::new();
    }
    let is_missing = |name: &str| limits.iter().all(|limit| limit.name != name);
    if names.iter().any(|name| name.value == TOKEN_ROUTES) && is_missing(TOKEN_ROUTES) {
        limits.push(token_routes(workers));
    }
    indices(table, &names, limits)
}

fn token_routes(workers: NonZeroU32) -> RateLimit {
    let count = workers.saturating_mul(bounds::TOKEN_ROUTES_RATE);
    let rate = Rate { count, unit: RateUnit::Second, burst: count };
    RateLimit {
        name: TOKEN_ROUTES.to_owned(),
        key: LimitKey::Network,
        scope: LimitScope::Node,
        rates: vec![rate],
        is_told: false,
    }
}

fn limit(name: Located<String>, mut table: Table<'_>, has_store: bool) -> RateLimit {
    table.reader.accept(&name.span, check_name(&name.value));
    table
        .require("key", "add key = \"user\", \"ip\" or \"header:NAME\": whose requests are counted together");
    let key = table.parsed("key", Kind::Text, key);
    table.require("rate", "add rate = \"100/s\", or several such as [\"100/s\", \"10000/h\"]");
    let rates = rates(&mut table);
    let burst = table.integer("burst", 1..=units::MAX_REQUESTS).and_then(NonZeroU32::new);
    let rates = with_burst(&table, rates, burst);
    let scope = table.parsed("scope", Kind::Text, |text| scope(text, has_store)).unwrap_or(LimitScope::Node);
    table.finish();
    RateLimit { name: name.value, key: key.unwrap_or(LimitKey::Network), scope, rates, is_told: true }
}

fn scope(text: &str, has_store: bool) -> Result<LimitScope, Complaint> {
    let scope = choose(text, &[("node", LimitScope::Node), ("cluster", LimitScope::Cluster)])?;
    if scope == LimitScope::Cluster && !has_store {
        return Err(Complaint::new("there is no [limits_store] to count through")
            .hint("add [limits_store] with url = \"redis://HOST\", or write \"node\""));
    }
    Ok(scope)
}

fn key(text: &str) -> Result<LimitKey, Complaint> {
    const FORMS: &str = "write \"user\", \"ip\" or \"header:NAME\"";
    let name = match text.split_once(':') {
        Some(("header", name)) => name,
        Some(("cookie", _)) => return Err(Complaint::not_supported("cookie:").hint(FORMS)),
        Some(_) => return Err(Complaint::new(format!("unknown value {}", quoted(text))).hint(FORMS)),
        None if text == "user" => return Ok(LimitKey::User),
        None if text == "ip" => return Ok(LimitKey::Network),
        None => {
            let hint = match nearest(text, ["user", "ip"]) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => FORMS.to_owned(),
            };
            return Err(Complaint::new(format!("unknown value {}", quoted(text))).hint(hint));
        }
    };
    let header = HeaderName::try_from(name).map_err(|_| {
        Complaint::new(format!("{} is not the name of a header field", quoted(name)))
            .hint("write a name such as \"header:X-Api-Key\"")
    })?;
    if ADDRESS_FIELDS.contains(&header.as_str()) {
        return Err(Complaint::new(format!("{} says what its sender wants it to", quoted(name)))
            .hint("write \"ip\": the field is read there when it comes from a trusted proxy"));
    }
    Ok(LimitKey::Header(header))
}

/// The rates with their places, the shortest unit first. Their bursts are still to be set.
fn rates(table: &mut Table<'_>) -> Vec<Located<Rate>> {
    let is_list = table.value("rate").is_some_and(|value| value.get_ref().is_array());
    let mut rates = if is_list {
        table.filled_list("rate", "write a rate such as \"100/s\"", units::requests).unwrap_or_default()
    } else {
        table.located("rate", Kind::Text, units::requests).into_iter().collect()
    };
    for (index, rate) in rates.iter().enumerate() {
        let unit = rate.value.unit;
        if rates.iter().take(index).any(|earlier| earlier.value.unit == unit) {
            let message = format!("two rates for each {}", unit.word());
            let complaint = Complaint::new(message).hint("keep the lower one, which is the one that counts");
            table.reader.report(&rate.span, complaint);
        }
    }
    rates.sort_by_key(|rate| rate.value.unit);
    rates
}

/// `burst` is for the shortest rate. Of the others the whole number may come at once: they bound how much, not how fast.
fn with_burst(table: &Table<'_>, rates: Vec<Located<Rate>>, burst: Option<NonZeroU32>) -> Vec<Rate> {
    let mut values: Vec<Rate> = rates.into_iter().map(|rate| rate.value).collect();
    if let Some((first, burst)) = values.first_mut().zip(burst) {
        first.burst = burst;
        let seconds =
            u64::from(burst.get()).saturating_mul(first.unit.seconds()) / u64::from(first.count.get());
        if seconds > MAX_RECOVERY_SECONDS
            && let Some(value) = table.value("burst")
        {
            let complaint = Complaint::new("this burst takes longer than \"366d\" to come back");
            let hint = "a burst comes back at the speed of the rate: write a smaller burst or a higher rate";
            table.reader.report(&value.span(), complaint.hint(hint));
        }
    }
    values
}

/// The names that `limit` holds; nothing when it is not there or faulty.
fn names(table: &mut Table<'_>) -> Option<Vec<Located<String>>> {
    let name = |text: &str| Ok(text.to_owned());
    if table.value("limit").is_some_and(|value| value.get_ref().is_array()) {
        table.filled_list("limit", "name a limit such as \"per-user\", or leave \"limit\" out", name)
    } else {
        table.located("limit", Kind::Text, name).map(|located| vec![located])
    }
}

fn indices(table: &Table<'_>, names: &[Located<String>], limits: &[RateLimit]) -> Vec<usize> {
    let known = || limits.iter().map(|limit| limit.name.as_str()).filter(|name| *name != TOKEN_ROUTES);
    let mut indices = Vec::with_capacity(names.len());
    for Located { value: name, span } in names {
        match limits.iter().position(|limit| limit.name == *name) {
            Some(index) if indices.contains(&index) => {
                let complaint = Complaint::new(format!("{} is listed twice", quoted(name)));
                table.reader.report(span, complaint.hint("remove one of the two"));
            }
            Some(index) => indices.push(index),
            None => {
                let hint = match nearest(name, known()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if known().next().is_none() => {
                        "add [limits.NAME] with key = \"user\" and rate = \"100/s\"".to_owned()
                    }
                    None => format!("write {}, or add a limit of that name", alternatives(known())),
                };
                table
                    .reader
                    .report(span, Complaint::new(format!("no limit is named {}", quoted(name))).hint(hint));
            }
        }
    }
    let rates: usize =
        indices.iter().filter_map(|index| limits.get(*index)).map(|limit| limit.rates.len()).sum();
    if rates > bounds::MAX_RATES_OF_ROUTE
        && let Some(value) = table.value("limit")
    {
        let complaint = Complaint::new(format!("these limits have {rates} rates together"));
        let hint = format!("a route has at most {}: name fewer limits", bounds::MAX_RATES_OF_ROUTE);
        table.reader.report(&value.span(), complaint.hint(hint));
    }
    indices
}

impl RateUnit {
    /// Its length.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        }
    }

    /// As the configuration writes it.
    pub fn letter(self) -> char {
        match self {
            Self::Second => 's',
            Self::Minute => 'm',
            Self::Hour => 'h',
            Self::Day => 'd',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}
