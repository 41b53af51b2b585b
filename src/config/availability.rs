//! How an upstream's targets are chosen among, watched and spared: `balance`, `health_check`, `ejection` and their like.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::HeaderName;

use super::complaint::{Complaint, choose, nearest, quoted};
use super::kind::Kind;
use super::reader::Table;
use super::server::{MAX_CONNECTIONS, non_zero};
use super::{HostHeader, Target, address, units};

/// Most of a target's weight.
const MAX_WEIGHT: u32 = 100;
/// Most checks or failures in a row that anything waits for.
const MAX_IN_A_ROW: u32 = 1000;
/// Longest path that is asked for in a health check, in bytes.
const MAX_CHECK_PATH_BYTES: usize = 2048;

/// A target and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedTarget {
    /// Where requests go.
    pub target: Target,
    /// How many requests it gets for each one that a target of weight 1 gets: 1 to 100. Each address of a name has it.
    pub weight: NonZeroU32,
}

impl fmt::Display for WeightedTarget {
    /// The target as the file would write it, and a weight that is not the usual one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, weight } = self;
        if weight.get() == 1 { target.fmt(f) } else { write!(f, "{target} (weight {weight})") }
    }
}

/// `balance`, with `hash_on`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Of two targets chosen at random, the one with fewer requests in flight for its weight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Requests with the same key go to the same target; those without one go by least request.
    Hash(HashKey),
}

/// `hash_on`: what goes to the same target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The requests of a user, by the id.
    User,
    /// Those of a client address; of IPv6 the first 64 bits count.
    Address,
    /// Those with the same first value of this field.
    Header(HeaderName),
    /// Those with the same value of this cookie.
    Cookie(String),
}

/// What keeps one target's troubles from the others and from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// How long a request may wait for a connection.
    pub queue_timeout: Duration,
    /// Requests in flight per target, of the whole process; `None` is no limit but that of the connections.
    pub max_requests: Option<NonZeroUsize>,
    /// Most retries, in hundredths of the requests.
    pub retry_budget_percent: u32,
    /// Over how long a target that has come back is given more and more requests. Zero is at once.
    pub slow_start: Duration,
    /// How often the names of targets are looked up.
    pub resolve_interval: Duration,
    /// `health_check`; `None` is none.
    pub health_check: Option<HealthCheck>,
    /// `ejection`
    pub ejection: Ejection,
}

/// `health_check`: what every target is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query of the request.
    pub path: String,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// For the whole check, connecting included.
    pub timeout: Duration,
    /// How many checks in a row have to pass before a target is used again.
    pub healthy: NonZeroU32,
    /// How many have to fail before it is used no more.
    pub unhealthy: NonZeroU32,
    /// The lowest and the highest status that passes.
    pub expect: (u16, u16),
    /// What the checks name as `Host`; `None` is the target's own authority.
    pub host: Option<String>,
    /// Whether requests are sent all the same when the checks of all targets fail.
    pub fail_open: bool,
}

/// `ejection`: what is concluded from the requests themselves (Envoy's outlier detection).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After how many failures in a row, of all threads together; `None` is never.
    pub failures: Option<NonZeroU32>,
    /// How long the first ejection lasts; the next ones last twice as long each.
    pub duration: Duration,
    /// How long an ejection lasts at most.
    pub max_duration: Duration,
    /// Most of the targets, in hundredths, that are ejected at once. One is always left.
    pub max_ejected_percent: u32,
    /// Answers with these statuses are failures too.
    pub statuses: Vec<u16>,
}

/// `balance` and `hash_on`, which may stand there for the day on which it is needed.
pub(super) fn balance(table: &mut Table<'_>) -> Balance {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Word {
        LeastRequest,
        RoundRobin,
        Hash,
    }
    let words =
        [("least_request", Word::LeastRequest), ("round_robin", Word::RoundRobin), ("hash", Word::Hash)];
    let word = table.parsed("balance", Kind::Text, |text| choose(text, &words));
    let key = table.parsed("hash_on", Kind::Text, hash_key);
    match (word, key) {
        (Some(Word::RoundRobin), _) => Balance::RoundRobin,
        (Some(Word::Hash), Some(key)) => Balance::Hash(key),
        (Some(Word::Hash), None) => {
            table.require(
                "hash_on",
                "add hash_on = \"user\", \"ip\", \"header:NAME\" or \"cookie:NAME\": whose requests go to the same target",
            );
            Balance::LeastRequest
        }
        (Some(Word::LeastRequest) | None, _) => Balance::LeastRequest,
    }
}

fn hash_key(text: &str) -> Result<HashKey, Complaint> {
    const FORMS: &str = "write \"user\", \"ip\", \"header:NAME\" or \"cookie:NAME\"";
    let unknown = || Complaint::new(format!("unknown value {}", quoted(text)));
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text.split_once(':') {
        Some(("header", name)) => HeaderName::try_from(name).map(HashKey::Header).map_err(|_| {
            Complaint::new(format!("{} is not the name of a header field", quoted(name)))
                .hint("write a name such as \"header:X-Tenant\"")
        }),
        Some(("cookie", name)) if !name.is_empty() && name.bytes().all(token) => {
            Ok(HashKey::Cookie(name.to_owned()))
        }
        Some(("cookie", name)) => {
            Err(Complaint::new(format!("{} is not the name of a cookie", quoted(name)))
                .hint("write a name such as \"cookie:sessionid\""))
        }
        Some(_) => Err(unknown().hint(FORMS)),
        None if text == "user" => Ok(HashKey::User),
        None if text == "ip" => Ok(HashKey::Address),
        None => Err(unknown().hint(match nearest(text, ["user", "ip"]) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => FORMS.to_owned(),
        })),
    }
}

/// `targets`: each one a URL, or a table with its URL and its weight.
pub(super) fn targets(table: &mut Table<'_>) -> Vec<WeightedTarget> {
    table.require("targets", "add targets = [\"http://127.0.0.1:9000\"]");
    let hint = "name at least one, such as \"http://127.0.0.1:9000\"";
    let plain =
        |text: &str| address::target(text).map(|target| WeightedTarget { target, weight: NonZeroU32::MIN });
    let weighted = |mut table: Table<'_>| {
        table.require("url", "add url = \"http://127.0.0.1:9000\"");
        let target = table.parsed("url", Kind::Text, address::target);
        let weight = table.integer("weight", 1..=MAX_WEIGHT).and_then(NonZeroU32::new);
        table.finish();
        target.map(|target| WeightedTarget { target, weight: weight.unwrap_or(NonZeroU32::MIN) })
    };
    table.filled_mixed("targets", hint, plain, weighted).unwrap_or_default()
}

/// Everything else.
pub(super) fn availability(table: &mut Table<'_>, host: Option<&HostHeader>) -> Availability {
    let queue_timeout = table.parsed("queue_timeout", Kind::Duration, units::duration);
    let max_requests = table.integer::<u32>("max_requests", 1..=MAX_CONNECTIONS);
    let retry_budget = table.parsed("retry_budget", Kind::Text, percent);
    let slow_start = table.parsed("slow_start", Kind::Duration, units::from_zero);
    let resolve_interval = table.parsed("resolve_interval", Kind::Duration, units::duration);
    Availability {
        queue_timeout: queue_timeout.unwrap_or(Duration::from_secs(5)),
        max_requests: max_requests.map(non_zero),
        retry_budget_percent: retry_budget.unwrap_or(10),
        slow_start: slow_start.unwrap_or(Duration::from_secs(10)),
        resolve_interval: resolve_interval.unwrap_or(Duration::from_secs(30)),
        health_check: health_check(table, host),
        ejection: ejection(table),
    }
}

fn health_check(upstream: &mut Table<'_>, host: Option<&HostHeader>) -> Option<HealthCheck> {
    let given = upstream.has("health_check");
    let mut table = upstream.table("health_check");
    if given {
        table.require("path", "add path = \"/health\", which the targets answer when they are well");
    }
    let path = table.parsed("path", Kind::Text, check_path);
    let mut duration = |key| table.parsed(key, Kind::Duration, units::duration);
    let (interval, timeout) = (duration("interval"), duration("timeout"));
    let mut count = |key| table.integer(key, 1..=MAX_IN_A_ROW).and_then(NonZeroU32::new);
    let (healthy, unhealthy) = (count("healthy"), count("unhealthy"));
    let expect = table.parsed("expect", Kind::Text, statuses);
    let own_host = table.parsed("host", Kind::Text, check_host);
    let fail_open = table.boolean("fail_open");
    table.finish();
    let of_requests = match host {
        Some(HostHeader::Fixed(name)) => Some(name.clone()),
        Some(HostHeader::Preserve | HostHeader::Target) | None => None,
    };
    Some(HealthCheck {
        path: path?,
        interval: interval.unwrap_or(Duration::from_secs(5)),
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        healthy: healthy.unwrap_or(NonZeroU32::MIN.saturating_add(1)),
        unhealthy: unhealthy.unwrap_or(NonZeroU32::MIN.saturating_add(2)),
        expect: expect.unwrap_or((200, 299)),
        host: own_host.or(of_requests),
        fail_open: fail_open.unwrap_or(false),
    })
}

fn check_path(text: &str) -> Result<String, Complaint> {
    let fault = |what: &str| Complaint::new(format!("{} is not a path", quoted(text))).hint(what);
    if !text.starts_with('/') {
        return Err(fault("write a path that begins with \"/\", such as \"/health\""));
    }
    if text.len() > MAX_CHECK_PATH_BYTES || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(fault("a path has at most 2048 letters that can be seen; escape others, such as %20"));
    }
    if text.contains('#') {
        return Err(fault("what follows a \"#\" is never sent; remove it"));
    }
    Ok(text.to_owned())
}

fn check_host(text: &str) -> Result<String, Complaint> {
    match address::host_header(text)? {
        HostHeader::Fixed(name) => Ok(name),
        HostHeader::Preserve | HostHeader::Target => {
            Err(Complaint::new(format!("{} is not a host name", quoted(text)))
                .hint("leave \"host\" out for the target's own name"))
        }
    }
}

/// `"200"` or `"200-399"`.
fn statuses(text: &str) -> Result<(u16, u16), Complaint> {
    let fault = || {
        Complaint::new(format!("{} is not a range of statuses", quoted(text)))
            .hint("write one status such as \"204\", or two such as \"200-399\"")
    };
    let status = |text: &str| {
        let plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| plain && (200..=599).contains(status))
    };
    let (lowest, highest) = text.split_once('-').unwrap_or((text, text));
    let (lowest, highest) = status(lowest).zip(status(highest)).ok_or_else(fault)?;
    if lowest > highest { Err(fault()) } else { Ok((lowest, highest)) }
}

fn ejection(upstream: &mut Table<'_>) -> Ejection {
    let mut table = upstream.table("ejection");
    let failures = table.integer::<u32>("failures", 0..=MAX_IN_A_ROW);
    let duration = table.parsed("duration", Kind::Duration, units::duration);
    let max_duration = table.parsed("max_duration", Kind::Duration, units::duration);
    let max_ejected = table.parsed("max_ejected", Kind::Text, percent);
    let statuses = table.integers("statuses", 400..=599);
    table.finish();
    let duration = duration.unwrap_or(Duration::from_secs(1));
    Ejection {
        failures: NonZeroU32::new(failures.unwrap_or(5)),
        duration,
        max_duration: max_duration.unwrap_or(Duration::from_mins(1)).max(duration),
        max_ejected_percent: max_ejected.unwrap_or(100),
        statuses: statuses.unwrap_or_default(),
    }
}

/// `"10%"`, from 0 to 100.
fn percent(text: &str) -> Result<u32, Complaint> {
    let fault = || Complaint::new(format!("{} is not a share", quoted(text)));
    let digits = text.strip_suffix('%').unwrap_or(text).trim_end();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|number| plain && *number <= 100);
    match number {
        Some(number) if text.len() == digits.len() + 1 => Ok(number),
        Some(number) => Err(fault().hint(format!("did you mean \"{number}%\"?"))),
        None => Err(fault().hint("a share is a whole number from 0 to 100 and a percent sign: \"10%\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_hundredths() {
        assert_eq!([percent("0%"), percent("10%"), percent("100%")], [Ok(0), Ok(10), Ok(100)]);
        for (text, hint) in [("10", "did you mean \"10%\"?"), ("10 %", "did you mean \"10%\"?")] {
            assert_eq!(percent(text).unwrap_err().hint.unwrap(), hint);
        }
        for text in ["", "%", "101%", "-1%", "+1%", "0.5%", "10%%", "1e1%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        assert_eq!((statuses("204"), statuses("200-399")), (Ok((204, 204)), Ok((200, 399))));
        for text in ["", "2xx", "20", "0200", "199", "600", "300-200", "200-", "-200", "200-299-399", "+200"]
        {
            assert!(statuses(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hash_keys_name_what_they_go_by() {
        assert_eq!(hash_key("user"), Ok(HashKey::User));
        assert_eq!(hash_key("ip"), Ok(HashKey::Address));
        let header = HashKey::Header(HeaderName::from_static("x-tenant"));
        assert_eq!(hash_key("header:X-Tenant"), Ok(header));
        assert_eq!(hash_key("cookie:sid"), Ok(HashKey::Cookie("sid".into())));
        assert_eq!(hash_key("users").unwrap_err().hint.unwrap(), "did you mean \"user\"?");
        for text in ["", "header:", "header:a b", "cookie:", "cookie:a=b", "cookie:a;b", "query:x"] {
            assert!(hash_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_checked_path_can_stand_in_a_request_line() {
        assert_eq!(check_path("/health?deep=1"), Ok("/health?deep=1".into()));
        for text in ["", "health", "http://a/", "/a b", "/a\r\nx: y", "/\u{e9}", "/a#b"] {
            assert!(check_path(text).is_err(), "{text}");
        }
        assert!(check_path(&format!("/{}", "a".repeat(MAX_CHECK_PATH_BYTES))).is_err());
    }
}
