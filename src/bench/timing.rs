//! The `Server-Timing` field of an answer: how long the gateway took by itself, and how long its upstream.

use std::time::Duration;

use http::HeaderMap;

const FIELD: &str = "server-timing";

/// What an answer tells of the time it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTiming {
    /// The gateway by itself.
    pub gateway: Option<Duration>,
    /// From the request to the upstream to its answer.
    pub upstream: Option<Duration>,
}

impl ServerTiming {
    /// Reads `gateway;dur=0.12, upstream;dur=3.4`, in milliseconds. Of several metrics with one name the first counts.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut timing = Self::default();
        for value in fields.get_all(FIELD) {
            let Ok(value) = value.to_str() else { continue };
            for metric in value.split(',') {
                let mut parts = metric.split(';').map(str::trim);
                let place = match parts.next() {
                    Some("gateway") => &mut timing.gateway,
                    Some("upstream") => &mut timing.upstream,
                    Some(_) | None => continue,
                };
                let duration = parts.find_map(|part| part.strip_prefix("dur=")).and_then(milliseconds);
                *place = place.or(duration);
            }
        }
        timing
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    let text = text.trim().trim_matches('"');
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)?;
    Duration::try_from_secs_f64(number / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&'static str]) -> (Option<u128>, Option<u128>) {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(FIELD, HeaderValue::from_static(value));
        }
        let timing = ServerTiming::of(&fields);
        (timing.gateway.map(|time| time.as_micros()), timing.upstream.map(|time| time.as_micros()))
    }

    #[test]
    fn the_two_times_are_found_among_others() {
        assert_eq!(of(&["gateway;dur=0.12, upstream;dur=3.4"]), (Some(120), Some(3400)));
        assert_eq!(of(&["db;dur=5, upstream;desc=x;dur=1", "gateway;dur=2"]), (Some(2000), Some(1000)));
        assert_eq!(of(&["upstream;dur=1, upstream;dur=9"]), (None, Some(1000)));
        for nothing in
            ["", "gateway", "gateway;dur=", "gateway;dur=x", "gateway;dur=-1", "gateway;dur=inf", "cdn;dur=1"]
        {
            assert_eq!(of(&[nothing]), (None, None), "{nothing}");
        }
    }
}
