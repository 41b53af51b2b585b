//! Telling whoever asks over the admin listener what came of a reload.

use tokio::sync::mpsc;

use super::error::ReloadError;
use super::{Mode, Reloader, Report};
use crate::admin::{Ask, Told};

/// Answers one after the other, for ever.
pub(super) async fn answer(reloader: &Reloader, mut asked: mpsc::Receiver<Ask>) {
    while let Some(Ask { is_dry_run, digest, answer }) = asked.recv().await {
        let mode = if is_dry_run { Mode::DryRun } else { Mode::Apply };
        let told = match reloader.reload(mode, Some(digest)).await {
            Ok(report) => Told::Done(words(&report, mode)),
            Err(error @ ReloadError::OtherFile(_)) => Told::OtherFile(format!("{error}\n")),
            Err(error) => Told::Refused(format!("{error}\n")),
        };
        // Who has gone meanwhile finds it in the log.
        let _gone = answer.send(told).is_err();
    }
    // There is no admin listener any more, which is the end of the gateway.
    std::future::pending::<()>().await;
}

fn words(report: &Report, mode: Mode) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text.extend([change.text.as_str(), "\n"]);
    }
    text.push_str(match (mode, report.changes.is_empty()) {
        (Mode::Apply, true) => "reloaded: nothing has changed\n",
        (Mode::Apply, false) => "reloaded\n",
        (Mode::DryRun, true) => "a reload would change nothing\n",
        (Mode::DryRun, false) => "a reload would change this; nothing was changed now\n",
    });
    text
}
