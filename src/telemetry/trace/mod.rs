//! Distributed traces (W3C Trace Context): which trace a request belongs to, what its upstream is told, and the span that
//! the gateway adds when it is to be exported.

mod context;
mod encode;
pub mod export;
mod span;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;

pub use self::context::Parent;
use self::span::Data;
pub use self::span::{Facts, Span};
use crate::base::clock::Clock;
use crate::base::field_list::FieldList;
use crate::base::ids::{RandomnessUnavailable, RequestIds};

/// Names a request's place in a trace (W3C Trace Context section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What others have to say of the trace (W3C Trace Context section 3.3).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Spans that wait to be exported, beyond which they are dropped and counted. They take some 4 MiB.
pub const MAX_WAITING_SPANS: usize = 8192;

/// What waits for the exporter, and what became of what has waited.
#[derive(Debug, Default)]
pub struct Spans {
    waiting: AtomicUsize,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Spans {
    /// Spans that a collector has taken.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that were lost: too many waited, or the collector did not take them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The way to the exporter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpanSink {
    queue: mpsc::UnboundedSender<export::Message>,
    spans: Arc<Spans>,
    sample: Sample,
}

/// Which traces that begin here are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sample {
    All,
    /// Those whose number, of 64 random bits, is below this one.
    Below(u64),
}

impl Sample {
    fn new(millionths: u32) -> Self {
        if millionths >= 1_000_000 {
            Self::All
        } else {
            Self::Below(u64::from(millionths) * (u64::MAX / 1_000_000))
        }
    }

    fn takes(self, number: u64) -> bool {
        match self {
            Self::All => true,
            Self::Below(end) => number < end,
        }
    }
}

impl SpanSink {
    /// A sink, and where what it takes comes out. Of a million traces that begin here, `millionths` are
    /// recorded.
    pub fn new(millionths: u32) -> (Self, export::Queue) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let spans = Arc::new(Spans::default());
        let sink = Self { queue, spans: Arc::clone(&spans), sample: Sample::new(millionths) };
        (sink, export::Queue { waiting, spans })
    }

    /// What became of the spans.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Hands spans over. When too many wait already, these are dropped and counted.
    fn take(&self, spans: Vec<Data>) {
        let count = spans.len();
        if count == 0 {
            return;
        }
        let waiting = self.spans.waiting.fetch_add(count, Ordering::AcqRel);
        if waiting + count > MAX_WAITING_SPANS || self.queue.send(export::Message::Spans(spans)).is_err() {
            self.spans.waiting.fetch_sub(count, Ordering::AcqRel);
            self.spans.dropped.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Has everything exported that was handed over. The other end of the channel is dropped when that is done, or given up.
    pub fn flush(&self) -> std::sync::mpsc::Receiver<()> {
        let (done, ended) = std::sync::mpsc::channel();
        // Without an exporter there is nothing to wait for: the message, and with it the other end, is gone.
        let _gone = self.queue.send(export::Message::Flush(done));
        ended
    }
}

/// What one thread traces with.
#[derive(Debug)]
pub struct Tracer {
    sink: SpanSink,
    clock: Clock,
    ids: RefCell<RequestIds>,
    ended: RefCell<Vec<Data>>,
}

/// What the upstream is told of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The value of `traceparent`.
    pub traceparent: HeaderValue,
    /// Whether the client's trace goes on, and with it what it says in `tracestate`.
    pub continues: bool,
}

/// Whether a client may decide that its request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// A trusted proxy: its flag is obeyed.
    Decides,
    /// Everybody else: the trace goes on, but what is recorded is the gateway's choice.
    None,
}

impl Tracer {
    /// A tracer of one thread.
    ///
    /// # Errors
    ///
    /// When there is no randomness for ids.
    pub fn new(sink: SpanSink, clock: Clock) -> Result<Self, RandomnessUnavailable> {
        let (ids, ended) = (RefCell::new(RequestIds::new()?), RefCell::default());
        Ok(Self { sink, clock, ids, ended })
    }

    /// Begins the part of a request in its trace, which is the client's or a new one: what the upstream is told, and the
    /// span of the gateway if it is recorded.
    pub fn begin(self: &Rc<Self>, headers: &FieldList, say: Say, facts: Facts) -> (Told, Option<Box<Span>>) {
        let parent = context::parent(headers);
        let recorded = match (parent, say) {
            (Some(parent), Say::Decides) => parent.sampled,
            (Some(_) | None, _) => self.sink.sample.takes(self.number()),
        };
        let trace = parent.map_or_else(|| self.id(), |parent| parent.trace);
        // What is not recorded here has no span that could be the parent of another.
        let span_id = match parent {
            Some(parent) if !recorded => parent.span,
            Some(_) | None => u64::try_from(self.id() >> 64).unwrap_or(1).max(1),
        };
        let own = Parent { trace, span: span_id, sampled: recorded };
        let told = Told { traceparent: own.value(), continues: parent.is_some() };
        let span = recorded.then(|| Box::new(Span::new(self, parent.map(|parent| parent.span), own, facts)));
        (told, span)
    }

    /// Hands what has ended to the exporter.
    pub fn flush(&self) {
        self.sink.take(std::mem::take(&mut *self.ended.borrow_mut()));
    }

    fn id(&self) -> u128 {
        self.ids.borrow_mut().next_number().max(1)
    }

    fn number(&self) -> u64 {
        u64::try_from(self.id() >> 64).unwrap_or(0)
    }

    fn keep(&self, span: Data) {
        let mut ended = self.ended.borrow_mut();
        ended.push(span);
        let many = ended.len() >= export::BATCH_SPANS;
        drop(ended);
        if many {
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn facts() -> Facts {
        Facts {
            method: http::Method::GET,
            scheme: "http",
            host: "gw.test".to_owned(),
            path: "/a".to_owned(),
            client: IpAddr::from([127, 0, 0, 1]),
            request_id: "id".to_owned(),
        }
    }

    fn tracer(millionths: u32) -> (Rc<Tracer>, export::Queue) {
        let (sink, queue) = SpanSink::new(millionths);
        (Rc::new(Tracer::new(sink, Clock::manual(1_000).0).unwrap()), queue)
    }

    fn headers(value: &'static str) -> FieldList {
        FieldList::from_iter([(TRACEPARENT, HeaderValue::from_static(value))])
    }

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn a_trace_begins_here_when_the_client_has_none() {
        let (tracer, _queue) = tracer(1_000_000);
        for value in [None, Some("00-x"), Some("00-00000000000000000000000000000000-b7ad6b7169203331-01")] {
            let (told, span) = tracer.begin(&value.map(headers).unwrap_or_default(), Say::None, facts());
            assert!(!told.continues);
            let text = told.traceparent.to_str().unwrap();
            assert_eq!((text.len(), &text[..3], &text[52..]), (55, "00-", "-01"));
            assert!(span.is_some());
        }
        let two = headers(SAMPLED);
        let mut twice = two.clone();
        twice.append(TRACEPARENT, HeaderValue::from_static(UNSAMPLED));
        assert!(!tracer.begin(&twice, Say::Decides, facts()).0.continues);
        assert!(tracer.begin(&two, Say::Decides, facts()).0.continues);
    }

    #[test]
    fn a_trusted_proxy_decides_and_a_stranger_does_not() {
        let (never, _queue) = tracer(0);
        let (always, _other) = tracer(1_000_000);
        let flag = |tracer: &Rc<Tracer>, value, say| {
            let (told, span) = tracer.begin(&headers(value), say, facts());
            let text = told.traceparent.to_str().unwrap().to_owned();
            assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
            let keeps_parent = text.contains("b7ad6b7169203331");
            assert_eq!(
                keeps_parent,
                span.is_none(),
                "only a span of the gateway takes the place of the client's"
            );
            assert_eq!(text.ends_with("-01"), span.is_some());
            span.is_some()
        };
        assert!(flag(&never, SAMPLED, Say::Decides));
        assert!(!flag(&never, SAMPLED, Say::None));
        assert!(!flag(&always, UNSAMPLED, Say::Decides));
        assert!(flag(&always, UNSAMPLED, Say::None));
    }

    #[test]
    fn a_ratio_is_kept_to() {
        let (tracer, _queue) = tracer(250_000);
        let taken =
            (0..4000).filter(|_| tracer.begin(&FieldList::new(), Say::None, facts()).1.is_some()).count();
        assert!((800..1200).contains(&taken), "{taken}");
    }

    #[test]
    fn more_than_may_wait_is_dropped_and_counted() {
        let (tracer, mut queue) = tracer(1_000_000);
        for _ in 0..MAX_WAITING_SPANS + 600 {
            let (_, span) = tracer.begin(&FieldList::new(), Say::None, facts());
            span.unwrap().end(Duration::ZERO, None);
        }
        tracer.flush();
        let waiting = tracer.sink.spans.waiting.load(Ordering::Acquire);
        assert!(waiting <= MAX_WAITING_SPANS);
        assert_eq!(tracer.sink.spans().dropped(), (MAX_WAITING_SPANS + 600 - waiting) as u64);
        let first = queue.try_next().unwrap();
        assert_eq!(first.len(), export::BATCH_SPANS);
    }
}
