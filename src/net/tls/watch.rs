//! Looking for changes of certificate files, and reading again what has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choice::Entry;
use super::error::TlsError;
use super::files::Stamp;
use super::{Certificate, Served, TlsServer};

/// Looks without a change after which files count as settled: a second of [`crate::base::bounds::WATCH_INTERVAL_MS`].
/// Until then they are read at every look, since file systems keep time in ticks, in which a file can change twice; and
/// nobody is told of a pair that does not match, since of two files one is always replaced first.
const SETTLED_LOOKS: u32 = 10;

/// The files of a server and how they were seen last.
#[derive(Debug)]
pub(super) struct Watcher {
    server: TlsServer,
    pairs: Vec<Files>,
    authorities: Option<Files>,
}

/// Files that are read together.
#[derive(Debug)]
struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    /// Looks since the last change; stands still when the files are settled.
    looks: u32,
}

/// What to do about files at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// They are as they were, or have changed just now and may still be written to.
    Leave,
    /// They may have changed.
    Read,
    /// They may have changed, and a fault will not go away by itself.
    ReadAndTell,
}

impl Files {
    fn new(paths: &[&Path]) -> Self {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        let seen = paths.iter().map(|path| Stamp::of(path)).collect();
        Self { paths, seen, looks: 0 }
    }

    fn look(&mut self) -> Step {
        let now: Vec<Option<Stamp>> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        if now != self.seen {
            let written = |(old, new): (&Option<Stamp>, &Option<Stamp>)| old != new && !is_other(*old, *new);
            let being_written = self.seen.iter().zip(&now).any(written);
            (self.seen, self.looks) = (now, 0);
            return if being_written { Step::Leave } else { Step::Read };
        }
        if self.looks >= SETTLED_LOOKS {
            return Step::Leave;
        }
        self.looks += 1;
        if self.looks == SETTLED_LOOKS { Step::ReadAndTell } else { Step::Read }
    }
}

/// Whether a file has taken the place of another one. It is whole then, while one that was written to may go on growing.
fn is_other(old: Option<Stamp>, new: Option<Stamp>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if !old.is_of_same_file(&new))
}

impl Watcher {
    pub(super) fn new(server: TlsServer) -> Self {
        let tls = &server.shared.tls;
        let pairs = tls.certificates.iter().map(|entry| Files::new(&[&entry.cert, &entry.key])).collect();
        let authorities = tls.client_auth.as_ref().map(|auth| Files::new(&[&auth.ca]));
        Self { server, pairs, authorities }
    }

    /// Looks at all files once, and swaps what has changed. A fault changes nothing and is told once. Blocks.
    pub(super) fn look(&mut self) {
        for place in 0..self.pairs.len() {
            let Some(step) = self.pairs.get_mut(place).map(Files::look) else { continue };
            let outcome = match step {
                Step::Leave => continue,
                Step::Read | Step::ReadAndTell => self.renew(place),
            };
            tell(step, outcome, "a certificate stays as it was");
        }
        let step = self.authorities.as_mut().map_or(Step::Leave, Files::look);
        if step != Step::Leave {
            let outcome = self.renew_authorities();
            tell(step, outcome, "the authorities of client certificates stay as they were");
        }
    }

    fn renew(&self, place: usize) -> Result<(), TlsError> {
        let shared = &self.server.shared;
        let served = shared.served.load_full();
        let (Some(files), Some(entry)) = (shared.tls.certificates.get(place), served.entries.get(place))
        else {
            return Ok(());
        };
        let pair = super::Pair::load(files, &served.common.provider)?;
        if pair.is_same(&entry.pair) {
            return Ok(());
        }
        let settings = served.common.for_pair(&pair)?;
        report(&pair.certificate);
        let mut entries = served.entries.clone();
        if let Some(entry) = entries.get_mut(place) {
            *entry = Entry { pair, settings };
        }
        // There is one watcher, so that nobody else has stored something meanwhile.
        shared.served.store(Arc::new(Served { entries, common: served.common.clone() }));
        Ok(())
    }

    fn renew_authorities(&self) -> Result<(), TlsError> {
        let shared = &self.server.shared;
        let Some(auth) = &shared.tls.client_auth else { return Ok(()) };
        let served = shared.served.load_full();
        let Some(common) = served.common.with_authorities_of(auth)? else { return Ok(()) };
        let pairs = served.entries.iter().map(|entry| entry.pair.clone());
        shared.served.store(Arc::new(Served::new(pairs, common)?));
        tracing::info!(path = %auth.ca.display(), "the authorities of client certificates were read again");
        Ok(())
    }
}

fn tell(step: Step, outcome: Result<(), TlsError>, consequence: &'static str) {
    if let (Step::ReadAndTell, Err(error)) = (step, outcome) {
        tracing::warn!(%error, "{consequence}");
    }
}

fn report(certificate: &Certificate) {
    tracing::info!(
        path = %certificate.path.display(),
        hosts = super::listed(&certificate.hosts),
        not_after = certificate.not_after,
        "a certificate was read again"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn a_change_is_read_until_it_has_settled_and_told_once() {
        let scratch = Scratch::new();
        let (cert, key) = (scratch.write("c", "1"), scratch.path("k"));
        let mut files = Files::new(&[&cert, &key]);
        let settle = |files: &mut Files| {
            let steps: Vec<Step> = (0..SETTLED_LOOKS + 3).map(|_| files.look()).collect();
            let told = steps.iter().filter(|step| **step == Step::ReadAndTell).count();
            let read = steps.iter().filter(|step| **step == Step::Read).count();
            (told, read, steps[0])
        };
        // Also before the first change, for one that came between the start and the watching.
        assert_eq!(settle(&mut files), (1, 9, Step::Read));
        assert_eq!(settle(&mut files), (0, 0, Step::Leave));
        scratch.write("k", "appears");
        assert_eq!(settle(&mut files), (1, 9, Step::Leave));
        // A change before the end begins anew, so that nobody is told of a pair of which one half is still to come.
        scratch.write("c", "22");
        assert_eq!((files.look(), files.look()), (Step::Leave, Step::Read));
        // What takes the place of a file at once is whole, and is read at once.
        let new = scratch.write("c.new", "333");
        std::fs::rename(new, &cert).unwrap();
        assert_eq!(files.look(), Step::Read);
        std::fs::remove_file(&key).unwrap();
        assert_eq!(settle(&mut files), (1, 9, Step::Leave));
        assert_eq!(settle(&mut files), (0, 0, Step::Leave));
    }
}
