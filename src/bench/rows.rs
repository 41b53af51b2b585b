//! The figures of a report as rows of text, for the terminal and for the page.

use std::fmt::Write as _;

use super::fault::Fault;
use super::figures;
use super::report::{Measured, PERCENTILES, Report};
use super::tally::Times;

/// A part of a report.
#[derive(Debug)]
pub struct Table {
    /// What it is about; empty for the first one.
    pub title: String,
    /// The names of its columns, behind that of the rows.
    pub columns: Vec<String>,
    /// Name and cells of each row, of which there are as many as columns.
    pub rows: Vec<(String, Vec<String>)>,
}

/// All tables of a report.
pub fn tables(report: &Report) -> Vec<Table> {
    let mut tables =
        vec![counts(report), times(report, report.time_name(), |measured| &measured.total.response)];
    if report.is_open() {
        tables.push(times(report, "service time, from when a request was sent", |measured| {
            &measured.total.service
        }));
    }
    tables.extend(shares(report));
    tables
}

fn names(report: &Report) -> Vec<String> {
    report.measured.iter().map(|measured| measured.name.to_owned()).collect()
}

fn counts(report: &Report) -> Table {
    let mut rows = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(&Measured) -> String| {
        rows.push((name.to_owned(), report.measured.iter().map(cell).collect::<Vec<_>>()));
    };
    row("requests", &|measured| figures::count(measured.total.requests()));
    row("answers a second", &|measured| figures::decimal(measured.rate()));
    row("received", &|measured| figures::bytes(measured.total.received));
    let mut statuses: Vec<u16> =
        report.measured.iter().flat_map(|measured| measured.total.statuses.keys().copied()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        row(&format!("status {status}"), &|measured| {
            figures::count(measured.total.statuses.get(&status).copied().unwrap_or(0))
        });
    }
    let any = |count: fn(&Measured) -> u64| report.measured.iter().any(|measured| count(measured) > 0);
    for fault in Fault::ALL {
        let count = |measured: &Measured| measured.total.faults.get(&fault).copied().unwrap_or(0);
        if report.measured.iter().any(|measured| count(measured) > 0) {
            row(&fault.to_string(), &|measured| figures::count(count(measured)));
        }
    }
    if any(|measured| measured.total.unsent) {
        row("due and never sent", &|measured| figures::count(measured.total.unsent));
    }
    if any(|measured| measured.total.unanswered) {
        row("unanswered at the end", &|measured| figures::count(measured.total.unanswered));
    }
    row("failures", &|measured| {
        format!(
            "{} ({} %)",
            figures::count(measured.total.failures()),
            figures::decimal(measured.failure_share() * 100.0)
        )
    });
    row("busiest thread of the load", &|measured| format!("{:.0} %", measured.busiest() * 100.0));
    Table { title: String::new(), columns: names(report), rows }
}

/// Percentiles, and what the gateway adds where there are two.
fn times(report: &Report, title: &str, of: impl Fn(&Measured) -> &Times) -> Table {
    let compared = report.main().zip(report.direct());
    let mut columns = names(report);
    if compared.is_some() {
        columns.push("gateway adds".to_owned());
    }
    let cells = |at: &dyn Fn(&Times) -> std::time::Duration| {
        let cell = |times: &Times| {
            if times.is_empty() { "-".to_owned() } else { figures::time(at(times)) }
        };
        let mut cells: Vec<String> = report.measured.iter().map(|measured| cell(of(measured))).collect();
        if let Some((main, direct)) = compared {
            cells.push(figures::difference(at(of(main)), at(of(direct))));
        }
        cells
    };
    let mut rows: Vec<(String, Vec<String>)> = PERCENTILES
        .iter()
        .map(|percentile| (figures::percent(*percentile), cells(&|times| times.at(percentile / 100.0))))
        .collect();
    rows.push(("longest".to_owned(), cells(&Times::longest)));
    rows.push(("mean".to_owned(), cells(&Times::mean)));
    Table { title: title.to_owned(), columns, rows }
}

/// How the time is shared between gateway and upstream, if answers tell.
fn shares(report: &Report) -> Option<Table> {
    let total = &report
        .main()
        .filter(|main| !main.total.gateway.is_empty() || !main.total.upstream.is_empty())?
        .total;
    let cells = |at: &dyn Fn(&Times) -> std::time::Duration| {
        [&total.gateway, &total.upstream]
            .map(|times| if times.is_empty() { "-".to_owned() } else { figures::time(at(times)) })
            .to_vec()
    };
    let mut rows: Vec<(String, Vec<String>)> = PERCENTILES
        .iter()
        .map(|percentile| (figures::percent(*percentile), cells(&|times| times.at(percentile / 100.0))))
        .collect();
    rows.push(("longest".to_owned(), cells(&Times::longest)));
    rows.push(("mean".to_owned(), cells(&Times::mean)));
    Some(Table {
        title: "of it, by the Server-Timing of the answers".to_owned(),
        columns: vec!["in the gateway".to_owned(), "upstream".to_owned()],
        rows,
    })
}

/// What happened to tokens, in a sentence.
pub fn tokens(report: &Report) -> Option<String> {
    let counts = report.tokens?;
    let refused: u64 =
        report.main().and_then(|main| main.total.statuses.get(&401).copied()).unwrap_or_default();
    let mut text = [(counts.sessions, "session"), (counts.logins, "login"), (counts.refreshes, "refresh")]
        .map(|(count, what)| figures::counted(count, what))
        .join(", ");
    for (count, what) in [
        (counts.rotations, "of them with another refresh token"),
        (counts.failures, "failed"),
        (counts.deferrals, "put off by 429 or 503"),
        (refused, "answers 401"),
    ] {
        if count > 0 {
            // Writing to a string cannot fail.
            let _written = write!(text, ", {} {what}", figures::count(count));
        }
    }
    Some(text)
}

/// That answers do not tell how their time is shared, where they do not.
pub fn untold(report: &Report) -> Option<&'static str> {
    let main = report.main()?;
    (main.total.gateway.is_empty() && main.total.upstream.is_empty()).then_some(
        "time in the gateway and upstream: not available, the answers have no Server-Timing field with both",
    )
}
