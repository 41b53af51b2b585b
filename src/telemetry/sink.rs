//! Where log lines go: a thread of its own writes them, so that a slow or blocked output never stops a request.

use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::bounds;

/// How often is told that lines were dropped.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The way to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    lines: mpsc::Sender<Message>,
    state: Arc<State>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    lines: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    waiting_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Lines(Vec<u8>),
    /// Everything before this was written: tell so.
    Flush(mpsc::Sender<()>),
}

impl Sink {
    /// Starts a thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<(Self, Writer)> {
        let (lines, queue) = mpsc::channel();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut sheet = Sheet { output, broken_off: false, told: 0, told_at: None };
            for message in queue {
                match message {
                    Message::Lines(bytes) => sheet.write(&bytes, &shared),
                    Message::Flush(done) => drop(done),
                }
            }
        })?;
        Ok((Self { lines: lines.clone(), state }, Writer { lines, thread: Some(thread) }))
    }

    /// Hands over whole lines. When too many wait already, these are dropped and counted.
    pub fn write(&self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let waiting = self.state.waiting_bytes.fetch_add(length, Ordering::AcqRel);
        if waiting + length > bounds::MAX_LOG_BACKLOG_BYTES {
            self.state.waiting_bytes.fetch_sub(length, Ordering::AcqRel);
            self.state.drop_lines(&bytes);
            return;
        }
        // The thread ends only when every sender is gone.
        let _gone = self.lines.send(Message::Lines(bytes));
    }

    /// Lines that were dropped because the output was too slow, or took none.
    pub fn dropped_lines(&self) -> u64 {
        self.state.dropped_lines.load(Ordering::Acquire)
    }
}

impl State {
    fn drop_lines(&self, lines: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', lines).count();
        self.dropped_lines.fetch_add(lines as u64, Ordering::AcqRel);
    }
}

/// What the thread writes on.
struct Sheet<W> {
    output: W,
    /// Something of the last line was not written.
    broken_off: bool,
    /// Dropped lines that were told of, and when that was last.
    told: u64,
    told_at: Option<Instant>,
}

impl<W: Write> Sheet<W> {
    fn write(&mut self, lines: &[u8], state: &State) {
        // What was written of a lost line is no part of the next one.
        let separator: &[u8] = if self.broken_off { b"\n" } else { b"" };
        let written = self.output.write_all(separator).and_then(|()| self.output.write_all(lines));
        self.broken_off = written.and_then(|()| self.output.flush()).is_err();
        if self.broken_off {
            state.drop_lines(lines);
        }
        state.waiting_bytes.fetch_sub(lines.len(), Ordering::AcqRel);
        if !self.broken_off {
            self.tell_of_dropped_lines(state);
        }
    }

    /// Tells, at most once in [`TELL_EVERY`], how many lines were dropped since it was told last. The output takes lines
    /// again, and there is room for this one.
    fn tell_of_dropped_lines(&mut self, state: &State) {
        let dropped = state.dropped_lines.load(Ordering::Acquire);
        if dropped == self.told || self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        tracing::warn!(
            lines = dropped - self.told,
            "lines of this log were dropped: its reader is too slow, or was gone"
        );
        self.told = dropped;
        self.told_at = Some(Instant::now());
    }
}

impl Writer {
    /// Waits until what was handed over is written, but no longer than `at_most`.
    pub fn flush(&self, at_most: Duration) {
        let (done, written) = mpsc::channel();
        if self.lines.send(Message::Flush(done)).is_ok() {
            // The other end is dropped when the turn of the message comes; it never sends.
            let _disconnected = written.recv_timeout(at_most);
        }
    }

    /// Whether the thread still runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// An output that takes nothing until it is opened.
    struct Gate(Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (sink, writer) = Sink::start(Gate(Arc::clone(&written))).unwrap();
        sink.write(b"one\n".to_vec());
        sink.write(b"two\n".to_vec());
        writer.flush(Duration::from_secs(10));
        assert_eq!(*written.lock().unwrap(), b"one\ntwo\n");
        assert!(writer.is_running());
    }

    /// An output that takes half of what it is given and then fails, as long as it is full.
    struct Device {
        full: Arc<std::sync::atomic::AtomicBool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Device {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut written = self.written.lock().unwrap();
            if !self.full.load(Ordering::Acquire) {
                written.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            if bytes.len() < 4 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            written.extend_from_slice(&bytes[..bytes.len() / 2]);
            Ok(bytes.len() / 2)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_an_output_does_not_take_are_counted_and_later_ones_are_whole() {
        let (full, written) = (Arc::default(), Arc::default());
        let device = Device { full: Arc::clone(&full), written: Arc::clone(&written) };
        let (sink, writer) = Sink::start(device).unwrap();
        full.store(true, Ordering::Release);
        sink.write(b"this is lost\n".to_vec());
        sink.write(b"this\nas well\n".to_vec());
        writer.flush(Duration::from_secs(10));
        assert_eq!(sink.dropped_lines(), 3);
        full.store(false, Ordering::Release);
        sink.write(b"whole\n".to_vec());
        writer.flush(Duration::from_secs(10));
        assert!(written.lock().unwrap().ends_with(b"\nwhole\n"));
        assert!(writer.is_running());
    }

    /// An output that panics.
    struct Faulty;

    impl Write for Faulty {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("on purpose");
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_of_the_output_is_noticed() {
        let (sink, writer) = Sink::start(Faulty).unwrap();
        sink.write(b"one\n".to_vec());
        while writer.is_running() {
            std::thread::yield_now();
        }
        sink.write(b"two\n".to_vec());
    }

    #[test]
    fn a_blocked_output_stops_nobody_and_lost_lines_are_counted() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let blocked = written.lock().unwrap();
        let (sink, writer) = Sink::start(Gate(Arc::clone(&written))).unwrap();
        let line = vec![b'\n'; bounds::MAX_LOG_BACKLOG_BYTES / 4];
        for _ in 0..6 {
            sink.write(line.clone());
        }
        assert_eq!(sink.dropped_lines(), 2 * line.len() as u64);
        drop(blocked);
        writer.flush(Duration::from_secs(10));
        assert_eq!(written.lock().unwrap().len(), 4 * line.len());
        sink.write(b"again\n".to_vec());
        writer.flush(Duration::from_secs(10));
        assert!(written.lock().unwrap().ends_with(b"again\n"));
    }
}
