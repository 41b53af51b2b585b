//! Lines about the gateway's own doings, by way of `tracing`.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;

use super::access::rfc3339;
use super::escape::plain_line;
use super::sink::Sink;
use crate::base::clock::Clock;
use crate::config::{Log, LogFormat, LogLevel};

/// What the events of this crate are under.
const OWN: &str = env!("CARGO_PKG_NAME");

/// Sends every event of the process to the sink from now on. Only the first call has an effect.
pub fn install(sink: Sink, log: Log, clock: Clock) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries tell at length what they read and write, which may be a token.
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN, level);
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_timer(UtcTime(clock)).with_writer(Lines(sink));
    let registry = tracing_subscriber::registry();
    // A second gateway in one process, as in tests, keeps the first one's log.
    let _installed_before = match log.format {
        LogFormat::Json => tracing::subscriber::set_global_default(
            registry
                .with(targets)
                .with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)),
        ),
        LogFormat::Pretty => tracing::subscriber::set_global_default(registry.with(targets).with(lines)),
    };
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
