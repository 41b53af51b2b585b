//! Looking for changes of the configuration file.
//!
//! Editors and deployments write a file in several ways: over the old one and perhaps twice, beside it and then renamed, or
//! as a link that is turned. So the file is looked at instead of listening for events, and it is read when nothing has
//! happened to it for a while. A text that was looked at already is not read again.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Mode, Reloader};
use crate::base::bounds;
use crate::config::Text;
use crate::net::tls::Stamp;

/// Looks without a change after which a file is read: 300 ms of [`bounds::WATCH_INTERVAL_MS`].
const SETTLED_LOOKS: u32 = 3;

/// Reads the configuration again whenever its file has changed, for ever.
pub(super) async fn watch(reloader: &Reloader) {
    let Some(source) = reloader.0.source.clone() else { return std::future::pending().await };
    let mut looks = Looks::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let path = source.path.clone();
        // Only a stopping runtime refuses the job.
        let Ok(stamp) = tokio::task::spawn_blocking(move || Stamp::of(&path)).await else { return };
        if looks.look(stamp) == Step::Leave || !reloader.current().config.server.watch_config {
            continue;
        }
        let path = source.path.clone();
        let digest = tokio::task::spawn_blocking(move || Text::read(&path).map(|text| text.digest()));
        let Ok(digest) = digest.await else { return };
        let looked_at = reloader.0.looked_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A file that is gone is told of by reading it.
        if digest.is_ok_and(|digest| digest == looked_at) {
            continue;
        }
        // What came of it is in the log.
        let _told = reloader.reload(Mode::Apply, None).await.is_ok();
    }
}

/// How a file was seen.
#[derive(Debug, Default)]
struct Looks {
    seen: Option<Stamp>,
    /// Looks since the last change; stands still when the file is settled. It is read once after the start, for a change
    /// that came between reading it and the first look.
    quiet: u32,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing has changed, or something is changing right now.
    Leave,
    /// Something has changed, and that was a while ago.
    Read,
}

impl Looks {
    fn look(&mut self, now: Option<Stamp>) -> Step {
        if now != self.seen {
            (self.seen, self.quiet) = (now, 0);
            return Step::Leave;
        }
        if self.quiet >= SETTLED_LOOKS {
            return Step::Leave;
        }
        self.quiet += 1;
        if self.quiet == SETTLED_LOOKS { Step::Read } else { Step::Leave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn a_file_is_read_once_when_it_has_come_to_rest() {
        let scratch = Scratch::new();
        let path = scratch.write("gateway.toml", "1");
        let mut looks = Looks::default();
        let mut look = || looks.look(Stamp::of(&path));
        let settle = |look: &mut dyn FnMut() -> Step| (0..9).filter(|_| look() == Step::Read).count();
        assert_eq!(settle(&mut look), 1, "what came before the first look is not missed");
        assert_eq!(settle(&mut look), 0);
        // An editor that writes twice, with a look in between.
        scratch.write("gateway.toml", "22");
        assert_eq!((look(), look(), look()), (Step::Leave, Step::Leave, Step::Leave));
        scratch.write("gateway.toml", "333");
        assert_eq!(settle(&mut look), 1);
        // One that removes the file for a moment, and renames another one into its place.
        std::fs::remove_file(&path).unwrap();
        assert_eq!((look(), look()), (Step::Leave, Step::Leave));
        let new = scratch.write("gateway.toml~", "4444");
        std::fs::rename(new, &path).unwrap();
        assert_eq!(settle(&mut look), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(settle(&mut look), 1, "a file that stays away is told of");
        assert_eq!(settle(&mut look), 0);
    }
}
