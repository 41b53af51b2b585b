//! What is kept of a request from its beginning to its end: for the access log, for metrics and for its trace.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};

use super::access::{Ended, Record};
use super::metrics::meter::{Tally, Took};
use super::metrics::{Meter, StreamKind};
use super::trace::{Facts, Say, Span, Told, Tracer};
use crate::base::field_list::FieldList;
use crate::base::grounds::Grounds;
use crate::base::reason::Reason;

/// What else an account is for, beside what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Its times, for the answer or for a span.
    Times,
}

/// What is kept of a request. When it is dropped the request is over: its record is written, and it is counted. Every
/// request has one, and what nobody asks for is not kept.
///
/// It passes from stage to stage, so what is kept is on the heap.
#[derive(Debug, Default)]
pub struct Account(Option<Box<Kept>>);

#[derive(Debug)]
struct Kept {
    record: Option<Box<Record>>,
    tally: Option<Tally>,
    span: Option<Box<Span>>,
    began: Instant,
    upstream_began: Option<Instant>,
    upstream: Option<Duration>,
}

impl Account {
    /// Begins the account of a request; without a method, of a message that never became one. Its time is measured where
    /// somebody needs it.
    pub fn begin(
        record: Option<Box<Record>>,
        meter: Option<&Rc<Meter>>,
        method: Option<&Method>,
        needs: Needs,
    ) -> Self {
        let measured = record.is_some() || meter.is_some() || needs == Needs::Times;
        Self(measured.then(|| {
            let tally = meter.map(|meter| Tally::begin(meter, method));
            let began = Instant::now();
            Box::new(Kept { record, tally, span: None, began, upstream_began: None, upstream: None })
        }))
    }

    /// Begins its part in a trace; says what the upstream is told of it.
    pub fn trace(&mut self, tracer: &Rc<Tracer>, headers: &FieldList, say: Say, facts: Facts) -> Told {
        let (told, span) = tracer.begin(headers, say, facts);
        if let Some(kept) = &mut self.0 {
            kept.span = span;
        }
        told
    }

    /// How long it took until now, for `Server-Timing` (W3C Server Timing), in milliseconds: the gateway by itself, and
    /// the upstream to the head of its answer.
    pub fn server_timing(&self) -> Option<HeaderValue> {
        let kept = self.0.as_ref()?;
        let upstream = kept.upstream.unwrap_or_default();
        let gateway = kept.began.elapsed().saturating_sub(upstream);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let text = match kept.upstream {
            Some(_) => format!("gateway;dur={:.3}, upstream;dur={:.3}", ms(gateway), ms(upstream)),
            None => format!("gateway;dur={:.3}", ms(gateway)),
        };
        HeaderValue::try_from(text).ok()
    }

    /// Writes into its record, if there is one.
    pub fn note(&mut self, write: impl FnOnce(&mut Record)) {
        if let Some(record) = self.0.as_mut().and_then(|kept| kept.record.as_mut()) {
            write(record);
        }
    }

    fn tally(&mut self) -> Option<&mut Tally> {
        self.0.as_mut()?.tally.as_mut()
    }

    fn span(&mut self) -> Option<&mut Span> {
        self.0.as_mut()?.span.as_deref_mut()
    }

    /// Its route, by its place in the configuration and by name.
    pub fn routed(&mut self, place: usize, name: &str) {
        self.name_route(name);
        if let Some(tally) = self.tally() {
            tally.routed(place);
        }
    }

    /// It is for a token route, which stands at this place among them and has this name.
    pub fn endpoint(&mut self, place: usize, name: &str) {
        self.name_route(name);
        if let Some(tally) = self.tally() {
            tally.endpoint(place);
        }
    }

    fn name_route(&mut self, name: &str) {
        self.note(|record| record.route = Some(name.to_owned()));
        if let Some(span) = self.span() {
            span.routed(name);
        }
    }

    /// It is known who has sent it, or that nobody in particular has.
    pub fn identified(&mut self, user_id: Option<&str>) {
        self.note(|record| record.user = user_id.map(str::to_owned));
        if let Some(tally) = self.tally() {
            tally.has_user = user_id.is_some();
        }
    }

    /// It may pass.
    pub fn permitted(&mut self) {
        if let Some(tally) = self.tally() {
            tally.permitted = true;
        }
    }

    /// It passes, although its route would have refused it for this reason, because the route only reports.
    pub fn reported(&mut self, reason: Reason) {
        self.note(|record| record.would_refuse = Some(reason));
        if let Some(tally) = self.tally() {
            tally.reported(reason);
        }
    }

    /// Its upstream, by its place in the configuration and by name.
    pub fn upstream(&mut self, place: Option<usize>, name: &str) {
        self.note(|record| record.upstream = Some(name.to_owned()));
        if let Some(span) = self.span() {
            span.upstream(name);
        }
        if let Some(tally) = self.tally() {
            tally.upstream(place);
        }
    }

    /// It goes to its upstream now.
    pub fn upstream_begins(&mut self) {
        if let Some(kept) = &mut self.0 {
            kept.upstream_began = Some(Instant::now());
        }
    }

    /// The head of the upstream's answer has come.
    pub fn upstream_answered(&mut self) {
        if let Some(kept) = &mut self.0 {
            kept.upstream = kept.upstream_began.map(|began| began.elapsed());
        }
    }

    /// Why it was refused, or ended before its time.
    pub fn refused(&mut self, reason: Option<Reason>) {
        self.note(|record| record.reason = reason);
        if let Some(span) = self.span() {
            span.refused(reason);
        }
        if let Some(tally) = self.tally() {
            tally.reason = reason;
        }
    }

    /// What there is to say about the refusal, where it is remembered.
    pub fn explain(&mut self, grounds: impl FnOnce() -> Grounds) {
        self.note(|record| {
            if record.is_remembered() {
                record.grounds = Some(Box::new(grounds()));
            }
        });
    }

    /// The status that is sent.
    pub fn answered(&mut self, status: u16) {
        self.note(|record| record.status = Some(status));
        if let Some(span) = self.span() {
            span.answered(status);
        }
        if let Some(tally) = self.tally() {
            tally.status = status;
        }
    }

    /// It has become a stream, which is open until the request ends.
    pub fn streams(&mut self, kind: StreamKind) {
        if let Some(tally) = self.tally() {
            tally.streams(kind);
        }
    }

    /// Everything was sent, if nobody has said otherwise. The answer to HEAD has nothing that could be missing.
    pub fn completed(&mut self, whole: bool) {
        self.note(|record| {
            if (whole || record.method == Some(Method::HEAD)) && record.ended == Ended::Client {
                record.ended = Ended::Complete;
            }
        });
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let took = Took {
            whole: self.began.elapsed(),
            before: self.upstream_began.map(|began| began.duration_since(self.began)),
            upstream: self.upstream,
        };
        if let Some(record) = &mut self.record {
            record.finish(took.whole, took.upstream);
        }
        if let Some(span) = self.span.take() {
            span.end(took.whole, took.upstream);
        }
        if let Some(tally) = &self.tally {
            tally.end(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};
    use crate::telemetry::metrics::Metrics;

    fn meter(metrics: &Metrics) -> Rc<Meter> {
        let text = "[upstreams.a]\ntargets = [\"http://127.0.0.1:9\"]\n\
                    [[routes]]\nname = \"one\"\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n";
        let config = parse(text, "gateway.toml", ".".as_ref(), &Environment::default()).unwrap();
        Rc::new(Meter::new(metrics.thread(), &config, &["token", "token-refresh"]))
    }

    fn begin(meter: &Rc<Meter>, method: &Method) -> Account {
        Account::begin(None, Some(meter), Some(method), Needs::Nothing)
    }

    #[test]
    fn a_request_is_counted_once_at_its_end() {
        let metrics = Metrics::default();
        let meter = meter(&metrics);
        let mut account = begin(&meter, &Method::POST);
        account.routed(0, "one");
        account.identified(Some("1"));
        account.permitted();
        account.upstream(Some(0), "a");
        account.upstream_begins();
        account.upstream_answered();
        account.answered(201);
        let total = metrics.total();
        assert_eq!((total.begun.get(), total.ended.get()), (1, 0));
        drop(account);
        let total = metrics.total();
        assert_eq!((total.begun.get(), total.ended.get(), total.allowed.get()), (1, 1, 1));
        let routes = total.routes();
        assert_eq!(routes.len(), 1);
        assert_eq!(&*routes[0].0, "one");
        assert_eq!(routes[0].1.requests().collect::<Vec<_>>(), [("POST", "2xx", 1)]);
        assert_eq!(total.upstreams()[0].1.requests().collect::<Vec<_>>(), [("2xx", 1)]);
        assert_eq!(total.overhead.buckets().iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_refusal_has_its_reason_and_a_request_that_is_cut_off_has_no_status() {
        let metrics = Metrics::default();
        let meter = meter(&metrics);
        let mut account = begin(&meter, &Method::GET);
        account.routed(0, "one");
        account.refused(Some(Reason::TokenExpired));
        account.answered(401);
        drop(account);
        drop(Account::begin(None, Some(&meter), None, Needs::Nothing));
        let total = metrics.total();
        assert_eq!(total.unauthorised.iter().collect::<Vec<_>>(), [(Reason::TokenExpired, 1)]);
        let routes = total.routes();
        assert_eq!(routes.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["", "one"]);
        assert_eq!(routes[0].1.requests().collect::<Vec<_>>(), [("other", "none", 1)]);
        assert_eq!(routes[1].1.refusals.iter().collect::<Vec<_>>(), [(Reason::TokenExpired, 1)]);
    }

    #[test]
    fn token_routes_and_streams_are_counted() {
        let metrics = Metrics::default();
        let meter = meter(&metrics);
        let mut login = begin(&meter, &Method::POST);
        login.endpoint(0, "token");
        login.refused(Some(Reason::CredentialsInvalid));
        login.answered(401);
        drop(login);
        let mut stream = begin(&meter, &Method::GET);
        stream.routed(0, "one");
        stream.streams(StreamKind::Events);
        stream.streams(StreamKind::Events);
        let open = |metrics: &Metrics| metrics.total().open_streams().collect::<Vec<_>>();
        assert_eq!(open(&metrics), [("websocket", 0), ("events", 1), ("grpc", 0)]);
        drop(stream);
        assert_eq!(open(&metrics), [("websocket", 0), ("events", 0), ("grpc", 0)]);
        let total = metrics.total();
        let refused = &total.endpoint(0).unwrap().refused;
        assert_eq!(refused.iter().collect::<Vec<_>>(), [(Reason::CredentialsInvalid, 1)]);
        assert_eq!(total.unauthorised.iter().count(), 0, "a login is no decision about a token");
        let one = &total.routes().into_iter().find(|(name, _)| &**name == "one").unwrap().1;
        assert_eq!(one.duration.buckets().iter().sum::<u64>(), 0, "a stream has no duration");
    }

    #[test]
    fn nothing_is_measured_that_nobody_asks_for() {
        let account = Account::begin(None, None, Some(&Method::GET), Needs::Nothing);
        assert!(account.0.is_none() && account.server_timing().is_none());
        let mut account = Account::begin(None, None, Some(&Method::GET), Needs::Times);
        let timing = account.server_timing().unwrap();
        assert!(timing.to_str().unwrap().starts_with("gateway;dur=0.0"), "{timing:?}");
        account.upstream_begins();
        account.upstream_answered();
        let timing = account.server_timing().unwrap();
        assert!(timing.to_str().unwrap().contains(", upstream;dur=0.0"), "{timing:?}");
    }
}
