//! The report as JSON, for programs. Times are in milliseconds.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::figures;
use super::pace::Pace;
use super::report::{Measured, PERCENTILES, Report};
use super::tally::Times;

/// The whole report.
pub fn render(report: &Report) -> Value {
    let rate = match report.pace {
        Pace::Rate(rate) => Some(rate.per_second()),
        Pace::Closed => None,
    };
    let sides: Map<String, Value> = report
        .measured
        .iter()
        .map(|measured| (measured.name.to_owned(), side(measured, report.is_open())))
        .collect();
    json!({
        "settings": report.settings,
        "loop": if report.is_open() { "open" } else { "closed" },
        "rate": rate,
        "measured": sides,
        "gateway_adds_ms": report.main().zip(report.direct()).map(|(main, direct)| added(main, direct)),
        "tokens": report.tokens.map(|counts| json!({
            "sessions": counts.sessions, "logins": counts.logins, "refreshes": counts.refreshes,
            "rotations": counts.rotations, "failures": counts.failures, "deferrals": counts.deferrals,
        })),
        "notes": report.notes,
    })
}

fn side(measured: &Measured, is_open: bool) -> Value {
    let total = &measured.total;
    let faults: Map<String, Value> =
        total.faults.iter().map(|(fault, count)| (fault.word().to_owned(), (*count).into())).collect();
    let statuses: Map<String, Value> =
        total.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
    let stretches: Vec<Value> = measured
        .stretches
        .iter()
        .map(|stretch| {
            json!({
                "seconds": stretch.length.as_secs_f64(), "answered": stretch.answered,
                "failures": stretch.failures, "p50_ms": ms(stretch.median), "p99_ms": ms(stretch.p99),
            })
        })
        .collect();
    json!({
        "url": measured.url,
        "seconds": measured.counted().as_secs_f64(),
        "requests": total.requests(),
        "answered": total.answered(),
        "answers_per_second": measured.rate(),
        "received_bytes": total.received,
        "statuses": statuses,
        "faults": faults,
        "unsent": total.unsent,
        "unanswered": total.unanswered,
        "queued": total.queued,
        "failures": total.failures(),
        "failure_share": measured.failure_share(),
        "connections_made": total.connections,
        "response_ms": times(&total.response),
        "service_ms": is_open.then(|| times(&total.service)),
        "gateway_ms": times(&total.gateway),
        "upstream_ms": times(&total.upstream),
        "issued_late_ms": times(&total.lateness),
        "busiest_thread": measured.busiest(),
        "machine_busy": measured.machine,
        "over_time": stretches,
    })
}

/// `null` where nothing was timed.
fn times(times: &Times) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let mut members: Map<String, Value> = PERCENTILES
        .iter()
        .map(|percentile| (name(*percentile), ms(times.at(percentile / 100.0)).into()))
        .collect();
    members.insert("max".to_owned(), ms(times.longest()).into());
    members.insert("mean".to_owned(), ms(times.mean()).into());
    Value::Object(members)
}

fn added(main: &Measured, direct: &Measured) -> Value {
    let (main, direct) = (&main.total.response, &direct.total.response);
    let difference = |percentile: &f64| {
        let at = |times: &Times| ms(times.at(percentile / 100.0));
        (name(*percentile), Value::from(at(main) - at(direct)))
    };
    Value::Object(PERCENTILES.iter().map(difference).collect())
}

fn name(percentile: f64) -> String {
    format!("p{}", figures::percent(percentile).trim_end_matches(" %"))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
