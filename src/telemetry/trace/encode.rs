//! Spans as a request of the OpenTelemetry protocol (OTLP 1.0), in JSON.

use serde_json::{Value, json};

use super::span::Data;

/// Methods that spans name (OpenTelemetry semantic conventions, HTTP spans).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// A batch of spans of this service.
pub(super) fn batch(service_name: &str, spans: &[Data]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let request = json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", service_name), text("service.version", version)]},
        "scopeSpans": [{"scope": {"name": env!("CARGO_PKG_NAME"), "version": version}, "spans": spans}],
    }]});
    request.to_string().into_bytes()
}

fn span(span: &Data) -> Value {
    let end_ns = span.start_ns.saturating_add(u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX));
    let method = METHODS.into_iter().find(|method| span.facts.method.as_str() == *method);
    let name = [method.or(Some("HTTP")), span.route.as_deref()];
    let mut object = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": name.into_iter().flatten().collect::<Vec<_>>().join(" "),
        // A server's.
        "kind": 2,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": end_ns.to_string(),
        "attributes": attributes(span, method.unwrap_or("_OTHER")),
    });
    if let (Some(parent), Some(members)) = (span.parent, object.as_object_mut()) {
        members.insert("parentSpanId".to_owned(), format!("{parent:016x}").into());
    }
    // Faults of a client are none of the server's (the same conventions).
    if let (500.., Some(members)) = (span.status, object.as_object_mut()) {
        members.insert("status".to_owned(), json!({"code": 2}));
    }
    object
}

fn attributes(span: &Data, method: &str) -> Vec<Value> {
    let facts = &span.facts;
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.scheme", facts.scheme),
        text("url.path", &facts.path),
        text("server.address", &facts.host),
        text("client.address", &facts.client.to_string()),
        text("tollgate.request_id", &facts.request_id),
    ];
    for (name, value) in [
        ("tollgate.route", span.route.as_deref()),
        ("tollgate.upstream", span.upstream.as_deref()),
        ("tollgate.reason", span.reason.map(crate::base::reason::Reason::word)),
    ] {
        attributes.extend(value.map(|value| text(name, value)));
    }
    let status = Some(span.status).filter(|status| *status != 0).map(u128::from);
    let upstream = span.upstream_duration.map(|time| time.as_micros());
    for (name, value) in [("http.response.status_code", status), ("tollgate.upstream_us", upstream)] {
        attributes.extend(value.map(|value| number(name, value)));
    }
    attributes
}

fn text(name: &str, value: &str) -> Value {
    json!({"key": name, "value": {"stringValue": value}})
}

/// A number of 64 bits is a string in the JSON of protocol buffers.
fn number(name: &str, value: u128) -> Value {
    json!({"key": name, "value": {"intValue": value.to_string()}})
}
