//! Metrics as text, in the two formats that Prometheus reads: its own (version 0.0.4) and `OpenMetrics` 1.0.

use std::fmt::Write as _;

use super::count::{BUCKETS, Histogram, upper_end_seconds};
use super::families::{Family, Kind};

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus.
    Text,
    /// `OpenMetrics`.
    OpenMetrics,
}

impl Format {
    /// The better one of those that an `Accept` field asks for; the text format where it says nothing of `OpenMetrics`.
    pub fn accepted(accept: Option<&str>) -> Self {
        const OPEN_METRICS: &str = "application/openmetrics-text";
        let takes = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(OPEN_METRICS));
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "version=0.0.1"))
        };
        if accept.is_some_and(|accept| accept.split(',').any(takes)) { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page of metrics while it is written. Writing into memory cannot fail, so nobody is told of it.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

/// Names and values of labels. A label without a value is left out, which means the same.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(16 * 1024) }
    }

    /// Begins a family; its samples follow.
    pub fn family(&mut self, family: &Family) {
        let Family { name, kind, unit, help } = family;
        // OpenMetrics names the family, the text format the samples of a counter.
        let suffix = match (self.format, kind) {
            (Format::Text, Kind::Counter) => "_total",
            (Format::Text, Kind::Info) => "_info",
            (Format::Text | Format::OpenMetrics, _) => "",
        };
        let word = match (self.format, kind) {
            (_, Kind::Counter) => "counter",
            (_, Kind::Gauge) | (Format::Text, Kind::Info) => "gauge",
            (_, Kind::Histogram) => "histogram",
            (Format::OpenMetrics, Kind::Info) => "info",
        };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {word}");
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// A sample of a counter or a gauge.
    pub fn sample(&mut self, family: &Family, labels: Labels<'_>, value: u64) {
        self.name(family.name, family.suffix(), labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    /// A sample with a fraction.
    pub fn fraction(&mut self, family: &Family, labels: Labels<'_>, value: f64) {
        self.name(family.name, family.suffix(), labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    /// The samples of a histogram, with the ends of the buckets `first` to `last`. What is below falls into the first one.
    pub fn histogram(
        &mut self,
        family: &Family,
        labels: Labels<'_>,
        histogram: &Histogram,
        (first, last): (usize, usize),
    ) {
        let buckets = histogram.buckets();
        let mut below = 0;
        for (bucket, count) in buckets.iter().enumerate().take(BUCKETS) {
            below += count;
            if (first..=last).contains(&bucket) {
                let end = upper_end_seconds(bucket).to_string();
                self.name(family.name, "_bucket", labels, Some(("le", &end)));
                let _ = writeln!(self.text, " {below}");
            }
        }
        self.name(family.name, "_bucket", labels, Some(("le", "+Inf")));
        let _ = writeln!(self.text, " {below}");
        self.name(family.name, "_sum", labels, None);
        let _ = writeln!(self.text, " {}", histogram.sum_seconds());
        self.name(family.name, "_count", labels, None);
        let _ = writeln!(self.text, " {below}");
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn name(&mut self, name: &str, suffix: &str, labels: Labels<'_>, last: Option<(&str, &str)>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let given = labels.iter().copied().filter(|(_, value)| !value.is_empty()).chain(last);
        let mut separator = '{';
        for (name, value) in given {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::families;
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family(&families::REQUESTS);
        page.sample(&families::REQUESTS, &[("route", ""), ("code", "2xx")], 3);
        page.sample(&families::REQUESTS, &[("route", "a\"b\\c\nd")], 1);
        page.family(&families::OVERHEAD);
        let histogram = Histogram::default();
        for us in [1, 5, 2_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        page.histogram(&families::OVERHEAD, &[], &histogram, (2, 4));
        page.finish()
    }

    #[test]
    fn both_formats_are_written() {
        let samples = "tollgate_requests_total{code=\"2xx\"} 3\n\
             tollgate_requests_total{route=\"a\\\"b\\\\c\\nd\"} 1\n";
        let buckets = "tollgate_gateway_overhead_seconds_bucket{le=\"0.000004\"} 1\n\
             tollgate_gateway_overhead_seconds_bucket{le=\"0.000008\"} 2\n\
             tollgate_gateway_overhead_seconds_bucket{le=\"0.000016\"} 2\n\
             tollgate_gateway_overhead_seconds_bucket{le=\"+Inf\"} 3\n\
             tollgate_gateway_overhead_seconds_sum 2.000006\n\
             tollgate_gateway_overhead_seconds_count 3\n";
        let text = page(Format::Text);
        assert!(text.contains("# TYPE tollgate_requests_total counter\n"), "{text}");
        assert!(text.contains(samples) && text.ends_with(buckets), "{text}");
        let open = page(Format::OpenMetrics);
        assert!(open.contains("# TYPE tollgate_requests counter\n"), "{open}");
        assert!(open.contains("# UNIT tollgate_gateway_overhead_seconds seconds\n"), "{open}");
        assert!(open.contains(samples) && open.ends_with(&format!("{buckets}# EOF\n")), "{open}");
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics-text;q=0")] {
            assert_eq!(Format::accepted(accept), Format::Text);
        }
    }
}
