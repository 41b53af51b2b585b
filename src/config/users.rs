//! `[users]`.

use std::num::NonZeroU32;

use super::complaint::{Complaint, choose, quoted};
use super::django::django;
use super::kind::Kind;
use super::reader::Table;
use super::server::usize_from;
use super::units;
use super::{Hashing, Lockout, UserSource, Users};

const DEFAULT_MEMORY_KIB: u32 = 19 * 1024;
const DEFAULT_MAX_MEMORY_KIB: u32 = 256 * 1024;
const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// The least memory of argon2 with one lane, in KiB (RFC 9106 section 3.1).
const MIN_MEMORY_KIB: u32 = 8;

#[derive(Clone, Copy)]
enum Source {
    Store,
    File,
    Django,
}

/// Reads `[users]`.
pub(super) fn users(root: &mut Table<'_>) -> Users {
    let mut table = root.table("users");
    let source = table.parsed("source", Kind::Text, |text| {
        choose(text, &[("store", Source::Store), ("file", Source::File), ("django", Source::Django)])
    });
    let source = source.unwrap_or(Source::Store);
    let mut file = table.table("file");
    if let Source::File = source {
        file.require("path", "source = \"file\" needs [users.file] with path = \"users.toml\", the path of a user file, or of an htpasswd file");
    }
    let path = file.parsed("path", Kind::Text, |text| match text {
        "" => Err(Complaint::new("an empty path")
            .hint("write the path of a user file, such as \"users.toml\" or \"users.htpasswd\"")),
        _ => Ok(text.to_owned()),
    });
    let path = path.map(|path| file.reader.resolve(&path));
    file.finish();
    let django = django(&mut table, matches!(source, Source::Django));
    let hashing = hashing(&mut table);
    let lockout = lockout(&mut table);
    table.finish();
    let source = match (source, path, django) {
        (Source::File, Some(path), _) => UserSource::File(path),
        (Source::Django, _, Some(django)) => UserSource::Django(Box::new(django)),
        // Without a path or a URL the configuration has a problem and is never used.
        (Source::File, None, _) | (Source::Django, _, None) | (Source::Store, ..) => UserSource::Store,
    };
    Users { source, hashing, lockout }
}

fn hashing(users: &mut Table<'_>) -> Hashing {
    let mut table = users.table("hashing");
    let memory = table.located("memory", Kind::Size, kib);
    let iterations = table.integer::<NonZeroU32>("iterations", 1..=1000);
    let max_memory = table.located("max_memory", Kind::Size, kib);
    let max_queue = table.integer("max_queue", 0..=1_000_000);
    let memory_kib = memory.as_ref().map_or(DEFAULT_MEMORY_KIB, |memory| memory.value);
    let max_memory_kib = max_memory.as_ref().map_or(DEFAULT_MAX_MEMORY_KIB, |memory| memory.value);
    if memory_kib > max_memory_kib
        && let Some(given) = max_memory.as_ref().or(memory.as_ref())
    {
        let complaint = Complaint::new("\"max_memory\" is less than the \"memory\" of one hash");
        let hint = format!(
            "one hash takes {memory_kib}KiB of a budget of {max_memory_kib}KiB, so nobody could log in"
        );
        table.reader.report(&given.span, complaint.hint(hint));
    }
    table.finish();
    Hashing {
        memory_kib,
        iterations: iterations.unwrap_or(DEFAULT_ITERATIONS),
        max_memory_kib,
        max_queue: usize_from(max_queue.unwrap_or(256)),
    }
}

fn lockout(users: &mut Table<'_>) -> Lockout {
    let mut table = users.table("lockout");
    let attempts = table.integer::<NonZeroU32>("attempts", 1..=1_000_000);
    let window = table.parsed("window", Kind::Duration, units::duration);
    let duration = table.parsed("duration", Kind::Duration, units::duration);
    table.finish();
    let usual = Lockout::default();
    Lockout {
        attempts: attempts.unwrap_or(usual.attempts),
        window: window.unwrap_or(usual.window),
        duration: duration.unwrap_or(usual.duration),
    }
}

/// A size in whole KiB, at least what argon2 needs.
fn kib(text: &str) -> Result<u32, Complaint> {
    let bytes = units::size(text)?.get();
    if bytes % 1024 != 0 {
        return Err(Complaint::new(format!("{} is not a whole number of KiB", quoted(text)))
            .hint("memory is counted in KiB: \"19MiB\" or \"19456KiB\""));
    }
    u32::try_from(bytes / 1024).ok().filter(|kib| *kib >= MIN_MEMORY_KIB).ok_or_else(|| {
        Complaint::new(format!("{} is out of range", quoted(text)))
            .hint(format!("argon2 takes at least {MIN_MEMORY_KIB}KiB; \"19MiB\" is a good choice"))
    })
}
