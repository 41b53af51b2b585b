//! What is shown while it runs: one line that is written over on a terminal, or a line for each second elsewhere.

use std::io::Write;

use super::figures;
use super::run::Told;

/// Where progress is shown.
pub struct Progress<'a> {
    out: &'a mut dyn Write,
    is_terminal: bool,
    name: String,
    has_line: bool,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

impl<'a> Progress<'a> {
    /// On a terminal a line is written over.
    pub fn new(out: &'a mut dyn Write, is_terminal: bool) -> Self {
        Self { out, is_terminal, name: String::new(), has_line: false }
    }

    /// Shows it. That nobody can see it ends nothing.
    pub fn show(&mut self, told: Told<'_>) {
        match told {
            // A line for each login would be thousands.
            Told::LoggedIn(done, all) => {
                if self.is_terminal || done == all {
                    self.line(&format!(
                        "logged in: {} of {}",
                        figures::count(number(done)),
                        figures::count(number(all))
                    ));
                }
            }
            Told::Turn(name, round, rounds) => {
                self.name = if rounds == 1 { name.to_owned() } else { format!("{name} {round}/{rounds}") };
            }
            Told::Passed(second, stretch) => {
                let seconds = stretch.length.as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "a count of one second is far below 2^52")]
                let rate = if seconds > 0.0 { stretch.answered as f64 / seconds } else { 0.0 };
                let text = format!(
                    "{} {second:>4} s  {:>9} a second  50 % {:>9}  99 % {:>9}  failures {}",
                    self.name,
                    figures::decimal(rate),
                    figures::time(stretch.median),
                    figures::time(stretch.p99),
                    figures::count(stretch.failures),
                );
                self.line(&text);
            }
        }
    }

    /// Leaves the line of the terminal empty.
    pub fn clear(&mut self) {
        if self.is_terminal && self.has_line {
            self.write("\r\x1b[K");
        }
        self.has_line = false;
    }

    fn line(&mut self, text: &str) {
        self.has_line = true;
        if self.is_terminal {
            self.write(&format!("\r\x1b[K{text}"));
        } else {
            self.write(&format!("{text}\n"));
        }
    }

    fn write(&mut self, text: &str) {
        let _unseen = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::report::Stretch;

    fn shown(is_terminal: bool) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, is_terminal);
        let stretch = Stretch {
            length: Duration::from_secs(1),
            answered: 1234,
            failures: 2,
            median: Duration::from_micros(300),
            p99: Duration::from_millis(4),
        };
        progress.show(Told::LoggedIn(1, 2));
        progress.show(Told::LoggedIn(2, 2));
        progress.show(Told::Turn("gateway", 1, 3));
        progress.show(Told::Passed(1, stretch));
        progress.clear();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_has_one_line_and_a_file_one_for_each_second() {
        let line = "gateway 1/3    1 s      1,234 a second  50 %  0.300 ms  99 %   4.00 ms  failures 2";
        assert_eq!(shown(false), format!("logged in: 2 of 2\n{line}\n"));
        let on_terminal = shown(true);
        assert!(!on_terminal.contains('\n') && on_terminal.contains(line), "{on_terminal:?}");
        assert!(on_terminal.ends_with("\r\x1b[K"));
    }
}
