//! The report as one page of HTML with its plots, which needs nothing but itself.

use std::fmt::Write as _;

use super::plot::{Axis, Plot, Series, escaped};
use super::report::{Measured, Report};
use super::rows::{self, Table};

/// Also for whoever opens the file years later and elsewhere: nothing is fetched, nothing is run.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>Load test</title>
<style>
:root { color-scheme: light dark; --text: rgb(27 31 36); --soft: rgb(90 100 110); --grid: rgb(217 222 227); --back: rgb(255 255 255); --first: rgb(11 98 196); --second: rgb(180 83 10); }
@media (prefers-color-scheme: dark) { :root { --text: rgb(230 233 236); --soft: rgb(154 165 176); --grid: rgb(54 61 69); --back: rgb(21 25 29); --first: rgb(108 176 255); --second: rgb(255 166 87); } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 820px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15em 1em 0.15em 0; text-align: right; border-bottom: 1px solid var(--grid); font-weight: normal; }
th:first-child { text-align: left; } thead th { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.line-0, .line-1 { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line-0 { stroke: var(--first); } .line-1 { stroke: var(--second); stroke-dasharray: 6 3; }
.dot-0 { fill: var(--first); } .dot-1 { fill: var(--second); }
.name-0 { color: var(--first); } .name-1 { color: var(--second); }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
"#;

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = HEAD.to_owned();
    add(&mut page, "<h1>Load test</h1>\n<p>");
    for (number, measured) in report.measured.iter().enumerate() {
        let (name, url) = (escaped(measured.name), escaped(&measured.url));
        add(&mut page, &format!("<span class=\"name-{number}\">{name}</span> <code>{url}</code><br/>\n"));
    }
    add(&mut page, &format!("{}</p>\n", escaped(&report.settings)));
    for plot in [percentiles(report), throughput(report), slowest(report)] {
        add(&mut page, &format!("<h2>{}</h2>\n{}", escaped(&plot.title), plot.svg()));
    }
    for table in rows::tables(report) {
        add_table(&mut page, &table);
    }
    if let Some(untold) = rows::untold(report) {
        add(&mut page, &format!("<p>{}</p>\n", escaped(untold)));
    }
    if let Some(tokens) = rows::tokens(report) {
        add(&mut page, &format!("<h2>Tokens</h2>\n<p>{}</p>\n", escaped(&tokens)));
    }
    if !report.notes.is_empty() {
        add(&mut page, "<h2>To know of these figures</h2>\n<ul>\n");
        for note in &report.notes {
            add(&mut page, &format!("<li>{}</li>\n", escaped(note)));
        }
        add(&mut page, "</ul>\n");
    }
    add(&mut page, "</body>\n</html>\n");
    page
}

fn add(page: &mut String, text: &str) {
    page.push_str(text);
}

fn add_table(page: &mut String, table: &Table) {
    let title = if table.title.is_empty() { "Requests" } else { &table.title };
    // Writing to a string cannot fail.
    let _written = write!(page, "<h2>{}</h2>\n<table>\n<thead><tr><th></th>", escaped(title));
    for column in &table.columns {
        let _written = write!(page, "<th>{}</th>", escaped(column));
    }
    add(page, "</tr></thead>\n<tbody>\n");
    for (name, cells) in &table.rows {
        let _written = write!(page, "<tr><th>{}</th>", escaped(name));
        for cell in cells {
            let _written = write!(page, "<td>{}</td>", escaped(cell));
        }
        add(page, "</tr>\n");
    }
    add(page, "</tbody>\n</table>\n");
}

/// Times by percentile, in nines: each 9 more is a step of the same length.
fn percentiles(report: &Report) -> Plot {
    let series: Vec<Series> = report.measured.iter().map(percentiles_of).collect();
    let values = || series.iter().flat_map(|series| series.points.iter());
    let nines = values().map(|(nines, _)| *nines).fold(1.0, f64::max);
    let smallest = values().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let largest = values().map(|(_, ms)| *ms).fold(0.0, f64::max);
    let all = [
        (0.0, "0"),
        (0.301, "50"),
        (1.0, "90"),
        (2.0, "99"),
        (3.0, "99.9"),
        (4.0, "99.99"),
        (5.0, "99.999"),
        (6.0, "99.9999"),
    ];
    let ticks = all
        .into_iter()
        .filter(|(place, _)| *place <= nines)
        .map(|(place, name)| (place, format!("{name} %")));
    Plot {
        title: "Time by percentile".to_owned(),
        across: Axis::with_ticks("percentile", 0.0, nines, ticks.collect()),
        up: Axis::logarithmic("milliseconds", smallest, largest),
        series,
    }
}

fn percentiles_of(measured: &Measured) -> Series {
    const STEPS: u32 = 20;
    let times = &measured.total.response;
    #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
    let most = (times.count().max(1) as f64).log10().min(6.0);
    let steps = (0..=6 * STEPS).map(|step| f64::from(step) / f64::from(STEPS)).filter(|nines| *nines <= most);
    // A time of less than a microsecond has no place on the axis.
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 1000.0).max(0.001);
    let mut points: Vec<(f64, f64)> =
        steps.map(|nines| (nines, ms(times.at(1.0 - 10.0_f64.powf(-nines))))).collect();
    points.push((most, ms(times.longest())));
    Series { name: measured.name.to_owned(), points }
}

fn throughput(report: &Report) -> Plot {
    over_time(report, "Answers a second over time", "answers a second", |stretch| {
        let seconds = stretch.length.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of one second is far below 2^52")]
        let answered = stretch.answered as f64;
        if seconds > 0.0 { answered / seconds } else { 0.0 }
    })
}

fn slowest(report: &Report) -> Plot {
    over_time(report, "99th percentile over time", "milliseconds", |stretch| {
        stretch.p99.as_secs_f64() * 1000.0
    })
}

fn over_time(
    report: &Report,
    title: &str,
    label: &str,
    value: impl Fn(&super::report::Stretch) -> f64,
) -> Plot {
    let series: Vec<Series> = report
        .measured
        .iter()
        .map(|measured| {
            let mut passed = 0.0;
            let points = measured.stretches.iter().map(|stretch| {
                passed += stretch.length.as_secs_f64();
                (passed, value(stretch))
            });
            Series { name: measured.name.to_owned(), points: points.collect() }
        })
        .collect();
    let largest = |of: fn(&(f64, f64)) -> f64| {
        series.iter().flat_map(|series| series.points.iter().map(of)).fold(0.0, f64::max)
    };
    let (across, up) = (largest(|point| point.0), largest(|point| point.1));
    Plot {
        title: title.to_owned(),
        across: Axis::linear("seconds", across),
        up: Axis::linear(label, up),
        series,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::pace::{Pace, Rate};
    use crate::bench::report::{Stretch, TokenCounts};
    use crate::bench::tally::Outcome;
    use crate::bench::timing::ServerTiming;
    use crate::bench::{document, text};

    /// The names of the elements that are open at each step have to match, and nothing may be quoted wrongly.
    fn check_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>') || open.last() == Some(&"style"), "{:?}", &rest[..at]);
            let end = at + rest[at..].find('>').unwrap();
            let tag = &rest[at + 1..end];
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?}");
    }

    pub(crate) fn report(compared: bool) -> Report {
        let side = |name, factor: u64| {
            let mut total = crate::bench::tally::Tally::default();
            for number in 1..=1000 {
                let timing = ServerTiming {
                    gateway: Some(Duration::from_micros(40)),
                    upstream: Some(Duration::from_micros(200)),
                };
                let response = Duration::from_micros(number * factor);
                total.count(&Outcome { response, service: Some(response / 2), end: Ok((200, timing)) });
            }
            let stretch = Stretch { length: Duration::from_secs(1), answered: 500, ..Stretch::default() };
            Measured {
                name,
                url: "http://a/?x=<y>&z=\"'".to_owned(),
                total,
                stretches: vec![stretch, stretch],
                ..Measured::default()
            }
        };
        let mut measured = vec![side("gateway", 2)];
        measured.extend(compared.then(|| side("direct", 1)));
        let mut report = Report {
            settings: "HTTP/1.1 & more".to_owned(),
            pace: Pace::Rate(Rate::parse("500").unwrap()),
            measured,
            tokens: Some(TokenCounts { sessions: 3, logins: 3, refreshes: 1, ..TokenCounts::default() }),
            notes: Vec::new(),
        };
        report.judge(true);
        report
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        for compared in [false, true] {
            let page = render(&report(compared));
            check_well_formed(&page);
            assert_eq!(page.matches("<svg ").count(), 3);
            assert_eq!(page.matches("<polyline ").count(), if compared { 6 } else { 3 });
            assert!(page.contains("http://a/?x=&lt;y&gt;&amp;z=&quot;&#39;"), "{page}");
            for foreign in ["<script", "<img", "<link", "src=", "href=", "url(", "@import"] {
                assert!(!page.contains(foreign), "{foreign}");
            }
        }
        let empty = Report { measured: vec![Measured::default()], ..report(false) };
        check_well_formed(&render(&empty));
    }

    #[test]
    fn the_three_forms_tell_the_same() {
        let report = report(true);
        let (document, text) = (document::render(&report), text::render(&report));
        let ms = |name: &str| document["measured"][name]["response_ms"]["p99"].as_f64().unwrap();
        assert!((ms("gateway") - 1.98).abs() < 0.01 && (ms("direct") - 0.99).abs() < 0.01, "{document}");
        assert!((document["gateway_adds_ms"]["p99"].as_f64().unwrap() - 0.99).abs() < 0.01);
        assert_eq!(document["measured"]["gateway"]["statuses"]["200"], 1000);
        let line = text.lines().find(|line| line.trim_start().starts_with("99 %")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["99", "%", "1.98", "ms", "0.990", "ms", "+0.990", "ms"]);
        assert!(
            text.contains("in the gateway") && text.contains("3 sessions, 3 logins, 1 refresh"),
            "{text}"
        );
        assert!(render(&report).contains("<td>+0.990 ms</td>"));
    }
}
