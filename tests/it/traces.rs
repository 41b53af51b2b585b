//! Traces and times: what passes, what an upstream is told, what a collector gets, and what an answer says of its time.

use serde_json::Value;

use crate::support::{DEADLINE, Gateway, Setup, Then, Upstream, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{SPAN}-{flags}\r\ntracestate: vendor=1\r\n")
}

/// A collector, which keeps what it takes.
struct Collector(Upstream);

impl Collector {
    fn new() -> Self {
        Self(Upstream::says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::Close))
    }

    fn section(&self, lines: &str) -> String {
        let url = self.0.url();
        format!("[log.otlp]\nendpoint = \"{url}\"\nservice_name = \"my-gateway\"\n{lines}")
    }

    /// Stops the gateway, which exports the rest, and returns all spans.
    fn spans_of(&self, gateway: Gateway) -> Vec<Value> {
        gateway.stop();
        self.spans()
    }

    fn spans(&self) -> Vec<Value> {
        let batches = self.0.requests().into_iter().map(|request| {
            let batch: Value = serde_json::from_slice(&request.body).unwrap();
            let resource = &batch["resourceSpans"][0];
            assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "my-gateway");
            resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        });
        batches.flatten().collect()
    }
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a str {
    let attributes = span["attributes"].as_array().unwrap();
    let value = attributes.iter().find(|attribute| attribute["key"] == name).map(|found| &found["value"]);
    let text = value.and_then(|value| value.as_object()?.values().next()?.as_str());
    text.unwrap_or_default()
}

#[test]
fn a_trace_passes_unchanged_where_nobody_records_it() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    gateway.client().get("/", &traceparent("01")).expect(200);
    let seen = upstream.last();
    assert_eq!(seen.field("traceparent"), format!("00-{TRACE}-{SPAN}-01"));
    assert_eq!(seen.field("tracestate"), "vendor=1");
    gateway.client().get("/", "").expect(200);
    assert!(!upstream.last().head.fields.has("traceparent"));
}

#[test]
fn a_span_is_exported_and_is_the_parent_of_what_the_upstream_does() {
    let (upstream, collector) = (Upstream::echo(), Collector::new());
    let gateway = Setup::public(&upstream)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .section(&collector.section(""))
        .start();
    let answer = gateway.client().get("/a?secret=1", &traceparent("01")).expect(200);
    let id = answer.request_id().to_owned();
    let told = upstream.last().field("traceparent").to_owned();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-01"), "{told}");
    assert!(!told.contains(SPAN), "the gateway's own span takes its place");
    assert_eq!(upstream.last().field("tracestate"), "vendor=1");
    let spans = collector.spans_of(gateway);
    assert_eq!(spans.len(), 1);
    let span = &spans[0];
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&Value::from(TRACE), &Value::from(SPAN)));
    assert_eq!(span["spanId"], told.split('-').nth(2).unwrap());
    assert_eq!(span["name"], "GET route-1");
    assert_eq!(attribute(span, "url.path"), "/a");
    assert_eq!(attribute(span, "http.response.status_code"), "200");
    assert_eq!(attribute(span, "tollgate.upstream"), "api");
    assert_eq!(attribute(span, "tollgate.request_id"), id);
    let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("endTimeUnixNano") > time("startTimeUnixNano"));
    assert!(!span.to_string().contains("secret"), "queries are not recorded");
    assert_eq!(collector.0.last().target(), "/v1/traces");
}

#[test]
fn a_stranger_does_not_decide_what_is_recorded() {
    let (upstream, collector) = (Upstream::echo(), Collector::new());
    let gateway = Setup::public(&upstream).section(&collector.section("sample = 0")).start();
    gateway.client().get("/", &traceparent("01")).expect(200);
    let seen = upstream.last();
    assert_eq!(seen.field("traceparent"), format!("00-{TRACE}-{SPAN}-00"));
    gateway.client().get("/", "tracestate: vendor=1\r\n").expect(200);
    let seen = upstream.last();
    assert!(seen.field("traceparent").ends_with("-00"));
    assert!(!seen.head.fields.has("tracestate"), "it belongs to no trace");
    assert!(collector.spans_of(gateway).is_empty());
}

#[test]
fn refusals_are_recorded_with_their_reasons() {
    let (upstream, collector) = (Upstream::echo(), Collector::new());
    let gateway = Setup::guarded(&upstream).section(&collector.section("")).start();
    gateway.client().get("/x", "").refused(401, "credentials_missing");
    gateway.client().call("PROPFIND", "/public", "", b"").expect(200);
    let spans = collector.spans_of(gateway);
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    assert_eq!(attribute(named("GET route-1"), "tollgate.reason"), "credentials_missing");
    assert_eq!(attribute(named("HTTP route-2"), "http.request.method"), "_OTHER");
    assert!(named("GET route-1").get("parentSpanId").is_none());
}

#[test]
fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).section("[log.otlp]\nendpoint = \"http://127.0.0.1:1\"\n").start();
    for _ in 0..20 {
        gateway.client().get("/", "").expect(200);
    }
    assert!(upstream.last().field("traceparent").ends_with("-01"));
    assert_eq!(gateway.stop().len(), 20);
}

#[test]
fn spans_that_were_taken_are_counted() {
    let (upstream, collector) = (Upstream::echo(), Collector::new());
    let gateway = Setup::public(&upstream).section(&collector.section("")).start();
    gateway.client().get("/", "").expect(200);
    eventually("the span is exported", DEADLINE, || gateway.metric("tollgate_spans_exported_total") > 0.0);
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn an_answer_says_how_long_it_took_only_where_that_is_wanted() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\nserver-timing: db;dur=5\r\ncontent-length: 0\r\n\r\n",
        Then::Next,
    );
    let silent = Setup::public(&upstream).start();
    assert_eq!(silent.client().get("/", "").expect(200).field("server-timing"), "db;dur=5");
    let gateway = Setup::guarded(&upstream).section("[log]\nserver_timing = true").start();
    let answer = gateway.client().get("/public", "").expect(200);
    let values = answer.head.fields.all("server-timing");
    assert_eq!(values.len(), 2);
    assert_eq!(values[0], "db;dur=5");
    let duration = |part: &str, name: &str| {
        part.trim().strip_prefix(name).unwrap().strip_prefix(";dur=").unwrap().parse::<f64>().unwrap()
    };
    let (own, theirs) = values[1].split_once(',').unwrap();
    assert!(duration(own, "gateway") > 0.0 && duration(theirs, "upstream") > 0.0, "{values:?}");
    let refused = gateway.client().get("/", "").refused(401, "credentials_missing");
    assert!(duration(refused.field("server-timing"), "gateway") >= 0.0);
}
