//! The access log: exactly one record for every request, also for one that was cut off.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::escape::json_string;
use super::members::{address, number, text};
use super::refused::{Refused, Ring, shortened};
use super::sink::Sink;
use crate::base::clock::Clock;
use crate::base::grounds::Grounds;
use crate::base::reason::Reason;
use crate::config::LogFormat;

/// Lines are handed to the sink when so many bytes have gathered, or at the next tick.
const BATCH_BYTES: usize = 32 * 1024;

/// Room for the first lines that gather, in bytes.
const FIRST_BYTES: usize = 4096;

/// The access log of one thread.
#[derive(Debug)]
pub struct AccessLog {
    sink: Sink,
    clock: Clock,
    format: Cell<LogFormat>,
    lines: RefCell<Vec<u8>>,
    /// The second of the last line, since 1970, and how it is written.
    second: RefCell<(i64, String)>,
    stopping: Cell<bool>,
    /// Where refusals are remembered; `None` where nobody can ask for them.
    refusals: Option<Arc<Ring>>,
}

/// What the record of a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A line of the log.
    Line,
    /// To be remembered if it is refused.
    Memory,
    /// Both.
    LineAndMemory,
}

impl Purpose {
    /// The purpose where requests are logged or not, and refusals remembered or not.
    pub fn of(logs: bool, remembers: bool) -> Option<Self> {
        match (logs, remembers) {
            (true, true) => Some(Self::LineAndMemory),
            (true, false) => Some(Self::Line),
            (false, true) => Some(Self::Memory),
            (false, false) => None,
        }
    }
}

/// Who ended an exchange before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody: it is complete.
    Complete,
    /// The client went away, or was too slow.
    Client,
    /// The upstream broke off.
    Upstream,
    /// The gateway stopped.
    Gateway,
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

/// What is known of a request. It is written when the [`Account`](super::account::Account) of the request ends.
#[derive(Debug)]
pub struct Record {
    log: Rc<AccessLog>,
    purpose: Purpose,
    /// From the head of the request to the end of its answer.
    duration: Duration,
    /// From sending the request to the head of the answer.
    upstream_duration: Option<Duration>,
    /// The id that the client and the upstream know it by.
    pub request_id: Text,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The method; `None` for a message that never became a request.
    pub method: Option<Method>,
    /// The host, as far as it is sound.
    pub host: Text,
    /// What was asked for. Its query is neither logged nor remembered.
    pub target: Option<PathAndQuery>,
    /// The route's name.
    pub route: Option<String>,
    /// The upstream's name.
    pub upstream: Option<String>,
    /// The user's id.
    pub user: Option<String>,
    /// The status that was sent; `None` when none was.
    pub status: Option<u16>,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// What there is to say about that.
    pub grounds: Option<Box<Grounds>>,
    /// Why it would have been refused, on a route that enforces nothing.
    pub would_refuse: Option<Reason>,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// Bytes of the request's body, as far as its head says.
    pub received_bytes: u64,
    /// Who ended it.
    pub ended: Ended,
}

/// A text of a request that its record shares with it, so that nothing is copied: a value of a header, or the beginning of one.
#[derive(Clone, Debug)]
pub struct Text {
    value: HeaderValue,
    length: usize,
}

impl Text {
    /// The whole value.
    pub fn of(value: &HeaderValue) -> Self {
        Self::beginning(value, value.len())
    }

    /// The first bytes of the value.
    pub fn beginning(value: &HeaderValue, length: usize) -> Self {
        Self { value: value.clone(), length }
    }

    /// The text; empty if it is none.
    pub fn as_str(&self) -> &str {
        let bytes = self.value.as_bytes().get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self { value: HeaderValue::from_static(""), length: 0 }
    }
}

impl AccessLog {
    /// An access log that writes to the sink, and remembers refusals where they can be asked for.
    pub fn new(sink: Sink, clock: Clock, format: LogFormat, refusals: Option<Arc<Ring>>) -> Self {
        let second = RefCell::new((i64::MIN, String::new()));
        let (format, lines, stopping) = (Cell::new(format), RefCell::default(), Cell::new(false));
        Self { sink, clock, format, lines, second, stopping, refusals }
    }

    /// Whether there is room to remember refusals.
    pub fn can_remember(&self) -> bool {
        self.refusals.is_some()
    }

    /// Begins the record of a request. As long as nobody says otherwise, it was the client who ended it.
    pub fn begin(self: &Rc<Self>, purpose: Purpose) -> Box<Record> {
        Box::new(Record {
            log: Rc::clone(self),
            purpose,
            duration: Duration::ZERO,
            upstream_duration: None,
            request_id: Text::default(),
            client: None,
            method: None,
            host: Text::default(),
            target: None,
            route: None,
            upstream: None,
            user: None,
            status: None,
            reason: None,
            grounds: None,
            would_refuse: None,
            sent_bytes: 0,
            received_bytes: 0,
            ended: Ended::Client,
        })
    }

    /// Writes the present time. Nearly all of it is the same for a whole second, and is made once.
    fn write_time(&self, line: &mut Vec<u8>) {
        let now_ms = self.clock.now_unix_ms();
        let (second, millisecond) = (now_ms.div_euclid(1000), now_ms.rem_euclid(1000));
        let mut made = self.second.borrow_mut();
        if made.0 != second {
            *made = (second, rfc3339(second.saturating_mul(1000)));
        }
        let Some(begin) = made.1.strip_suffix("000Z") else {
            line.extend_from_slice(rfc3339(now_ms).as_bytes());
            return;
        };
        line.extend_from_slice(begin.as_bytes());
        // Three digits, with a one in front that is left out.
        let mut digits = itoa::Buffer::new();
        line.extend_from_slice(digits.format(1000 + millisecond).get(1..).unwrap_or_default().as_bytes());
        line.push(b'Z');
    }

    /// Writes lines from here on in this form.
    pub fn set_format(&self, format: LogFormat) {
        self.format.set(format);
    }

    /// From now on, what is cut off is cut off by the gateway.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Hands what has gathered to the sink.
    pub fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        self.sink.write(lines);
    }
}

impl Drop for AccessLog {
    /// The last one to hold the log may be a request that is cut off when its thread ends.
    fn drop(&mut self) {
        self.flush();
    }
}

impl Record {
    fn method_name(&self) -> &str {
        self.method.as_ref().map_or("", Method::as_str)
    }

    /// The path without the query.
    fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }

    /// Writes the record of a request that has ended.
    pub(super) fn finish(&mut self, duration: Duration, upstream_duration: Option<Duration>) {
        (self.duration, self.upstream_duration) = (duration, upstream_duration);
        if self.ended == Ended::Client && self.log.stopping.get() {
            self.ended = Ended::Gateway;
        }
        match self.purpose {
            Purpose::Line => self.write_line(),
            Purpose::Memory => self.remember(),
            Purpose::LineAndMemory => {
                self.write_line();
                self.remember();
            }
        }
    }

    /// Whether it is of use to say why it is refused.
    pub(super) fn is_remembered(&self) -> bool {
        match self.purpose {
            Purpose::Line => false,
            Purpose::Memory | Purpose::LineAndMemory => true,
        }
    }

    /// Remembers it if it was refused. What was only refused on paper has passed.
    fn remember(&mut self) {
        let (Some(reason), Some(refusals)) = (self.reason, &self.log.refusals) else { return };
        refusals.add(Refused {
            request_id: shortened(self.request_id.as_str()),
            at_unix_ms: self.log.clock.now_unix_ms(),
            client: self.client,
            method: shortened(self.method_name()),
            host: shortened(self.host.as_str()),
            path: shortened(self.path()),
            route: self.route.as_deref().map(Box::from),
            upstream: self.upstream.as_deref().map(Box::from),
            user: self.user.as_deref().map(shortened),
            status: self.status,
            reason,
            grounds: self.grounds.take(),
        });
    }

    fn write_line(&self) {
        let mut lines = self.log.lines.borrow_mut();
        if lines.capacity() == 0 {
            lines.reserve(FIRST_BYTES);
        }
        self.write(&mut lines);
        let full = lines.len() >= BATCH_BYTES;
        drop(lines);
        if full {
            self.log.flush();
        }
    }

    fn write(&self, line: &mut Vec<u8>) {
        match self.log.format.get() {
            LogFormat::Json => self.write_json(line),
            LogFormat::Pretty => self.write_pretty(line),
        }
        line.push(b'\n');
    }

    fn write_json(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"timestamp\":\"");
        self.log.write_time(line);
        line.extend_from_slice(b"\",\"event\":\"request\"");
        text(line, br#","request_id":"#, Some(self.request_id.as_str()));
        if let Some(client) = self.client {
            address(line, br#","client":"#, client);
        }
        text(line, br#","method":"#, Some(self.method_name()));
        text(line, br#","host":"#, Some(self.host.as_str()));
        text(line, br#","path":"#, Some(self.path()));
        text(line, br#","route":"#, self.route.as_deref());
        text(line, br#","upstream":"#, self.upstream.as_deref());
        text(line, br#","user":"#, self.user.as_deref());
        text(line, br#","reason":"#, self.reason.map(Reason::word));
        text(line, br#","would_refuse":"#, self.would_refuse.map(Reason::word));
        text(line, br#","ended_by":"#, Some(self.ended.word()));
        number(line, br#","status":"#, u64::from(self.status.unwrap_or(0)));
        number(line, br#","duration_us":"#, micros(self.duration));
        if let Some(duration) = self.upstream_duration {
            number(line, br#","upstream_us":"#, micros(duration));
        }
        number(line, br#","received_bytes":"#, self.received_bytes);
        number(line, br#","sent_bytes":"#, self.sent_bytes);
        line.push(b'}');
    }

    fn write_pretty(&self, line: &mut Vec<u8>) {
        let time = rfc3339(self.log.clock.now_unix_ms());
        let mut path = Vec::new();
        json_string(&mut path, self.path());
        let mut user = Vec::new();
        json_string(&mut user, self.user.as_deref().unwrap_or("-"));
        line.extend_from_slice(
            format!(
                "{time}  {:3} {:7} {} user={} route={} {}us {}{}",
                self.status.unwrap_or(0),
                self.method_name().escape_default(),
                String::from_utf8_lossy(&path),
                String::from_utf8_lossy(&user),
                self.route.as_deref().unwrap_or("-"),
                self.duration.as_micros(),
                self.would_refuse.map_or("", |_| "would refuse: "),
                self.reason.or(self.would_refuse).map_or("", Reason::word),
            )
            .trim_end()
            .as_bytes(),
        );
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A time in RFC 3339, in UTC, to the millisecond.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    const FORM: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(FORM).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::account::{Account, Needs};
    use crate::telemetry::refused::Refusals;

    #[test]
    fn the_time_of_a_line_is_the_time() {
        let (sink, _writer) = Sink::start(Memory::default()).unwrap();
        for now_ms in [0, 7, 1_795_000_000_045, 1_795_000_000_999, 1_795_000_001_000, -1, i64::MAX] {
            let log = AccessLog::new(sink.clone(), Clock::manual(now_ms).0, LogFormat::Json, None);
            for _ in 0..2 {
                let mut line = Vec::new();
                log.write_time(&mut line);
                assert_eq!(String::from_utf8(line).unwrap(), rfc3339(now_ms));
            }
        }
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_826_215_123), "2000-02-29T12:10:15.123Z");
        assert_eq!(rfc3339(1_795_392_000_000), "2026-11-23T00:00:00.000Z");
    }

    #[test]
    fn a_dropped_record_is_one_plain_line_that_says_who_ended_it() {
        for format in [LogFormat::Json, LogFormat::Pretty] {
            let memory = Memory::default();
            let (sink, writer) = Sink::start(memory.clone()).unwrap();
            let log = Rc::new(AccessLog::new(sink, Clock::manual(0).0, format, None));
            let mut record = log.begin(Purpose::Line);
            record.user = Some("a\r\n\u{202e}\u{1b}[1m\"".to_owned());
            record.target = Some(PathAndQuery::from_static("/a?secret=1"));
            drop(Account::begin(Some(record), None, None, Needs::Nothing));
            log.flush();
            writer.flush(Duration::from_secs(10));
            let written = memory.0.lock().unwrap().clone();
            assert!(written.strip_suffix(b"\n").unwrap().iter().all(|byte| (0x20..0x7f).contains(byte)));
            if format == LogFormat::Json {
                let line: Value = serde_json::from_slice(&written).unwrap();
                assert_eq!(
                    (&line["user"], &line["path"]),
                    (&"a\r\n\u{202e}\u{1b}[1m\"".into(), &"/a".into())
                );
                assert_eq!(line["ended_by"], "client");
                assert_eq!(line["status"], 0);
            }
        }
    }

    #[test]
    fn what_was_refused_is_remembered_whether_it_is_logged_or_not_and_nothing_else_is() {
        let memory = Memory::default();
        let (sink, writer) = Sink::start(memory.clone()).unwrap();
        let refusals = Refusals::default();
        let ring = Some(refusals.thread());
        let log = Rc::new(AccessLog::new(sink, Clock::manual(7).0, LogFormat::Json, ring));
        assert!(log.can_remember());
        let end = |purpose: Purpose, id: &str, reason: Option<Reason>, would_refuse: Option<Reason>| {
            let mut account = Account::begin(Some(log.begin(purpose)), None, None, Needs::Nothing);
            account.note(|record| {
                record.request_id = Text::of(&HeaderValue::from_str(id).unwrap());
                record.would_refuse = would_refuse;
            });
            account.refused(reason);
            account.explain(|| {
                assert_ne!(purpose, Purpose::Line, "nobody asks for this");
                Grounds { detail: "d".into(), ..Grounds::default() }
            });
        };
        let refused = Some(Reason::GroupMissing);
        end(Purpose::Line, "line", refused, None);
        end(Purpose::Memory, "memory", refused, None);
        end(Purpose::LineAndMemory, "both", refused, None);
        end(Purpose::LineAndMemory, "passed", None, None);
        end(Purpose::LineAndMemory, "reported", None, refused);
        log.flush();
        writer.flush(Duration::from_secs(10));
        let written = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let logged = |id: &str| written.contains(&format!("\"request_id\":\"{id}\""));
        assert!(logged("line") && logged("both") && logged("passed") && !logged("memory"), "{written}");
        let mut ids: Vec<_> = refusals.latest(9).iter().map(|refused| refused.request_id.clone()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["both", "memory"].map(Box::<str>::from));
        let found = &refusals.with_id("both")[0];
        assert_eq!((found.reason, found.at_unix_ms), (Reason::GroupMissing, 7));
        assert_eq!(found.grounds.as_ref().unwrap().detail, "d");
    }

    #[test]
    fn a_record_is_for_what_somebody_wants() {
        assert_eq!(Purpose::of(false, false), None);
        assert_eq!(Purpose::of(true, false), Some(Purpose::Line));
        assert_eq!(Purpose::of(false, true), Some(Purpose::Memory));
        assert_eq!(Purpose::of(true, true), Some(Purpose::LineAndMemory));
    }
}
