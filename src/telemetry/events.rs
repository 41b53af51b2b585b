//! Lines about the gateway's own doings, by way of `tracing`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use super::access::rfc3339;
use super::escape::plain_line;
use super::sink::Sink;
use crate::base::clock::Clock;
use crate::config::{Log, LogFormat, LogLevel};

/// What the events of this crate are under.
const OWN: &str = env!("CARGO_PKG_NAME");

/// The level and the form of the events of this process, which can be changed while they are written.
#[derive(Clone, Debug)]
pub struct Events {
    level: reload::Handle<Targets, Registry>,
    is_pretty: Arc<AtomicBool>,
}

/// Sends every event of the process to the sink from now on. Only the first call has an effect.
pub fn install(sink: Sink, log: Log, clock: Clock) -> Events {
    let is_pretty = Arc::new(AtomicBool::new(is_pretty(log)));
    let form = Form {
        json: Format::default()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_timer(UtcTime(clock.clone())),
        pretty: Format::default().with_ansi(false).with_timer(UtcTime(clock)),
        is_pretty: Arc::clone(&is_pretty),
    };
    let (level, handle) = reload::Layer::new(targets(log));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).event_format(form).with_writer(Lines(sink));
    // A second gateway in one process, as in tests, keeps the first one's log.
    let _installed_before =
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(level).with(lines));
    Events { level: handle, is_pretty }
}

impl Events {
    /// Writes events from here on as another configuration says.
    pub fn set(&self, log: Log) {
        self.is_pretty.store(is_pretty(log), Ordering::Release);
        // Where the first gateway of the process keeps the log, there is nothing to set.
        let _installed_before = self.level.reload(targets(log));
    }
}

fn is_pretty(log: Log) -> bool {
    match log.format {
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    }
}

/// Which events are written.
fn targets(log: Log) -> Targets {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries tell at length what they read and write, which may be a token.
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN, level)
}

/// Both forms that a line may have.
struct Form {
    json: Format<Json, UtcTime>,
    pretty: Format<Full, UtcTime>,
    is_pretty: Arc<AtomicBool>,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if self.is_pretty.load(Ordering::Acquire) {
            self.pretty.format_event(context, writer, event)
        } else {
            self.json.format_event(context, writer, event)
        }
    }
}

/// Logs every panic of the process from now on: where, on which thread. Not its message, in which libraries quote what they
/// work on, such as a part of a request.
pub fn tell_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(place, thread, "a fault of the gateway: something panicked");
    }));
}

#[derive(Clone, Debug)]
struct UtcTime(Clock);

impl FormatTime for UtcTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", rfc3339(self.0.now_unix_ms()))
    }
}

struct Lines(Sink);

/// One event on its way to the sink.
struct Line {
    sink: Sink,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { sink: self.0.clone(), bytes: Vec::new() }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // What an event tells of may come from a client or a file.
        self.sink.write(plain_line(&self.bytes));
    }
}
