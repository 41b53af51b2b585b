//! Users in a file, read at start and again whenever it changes: `[[users]]` tables when its extension is `.toml`,
//! otherwise the `name:hash` lines of htpasswd.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::RandomnessUnavailable;
use crate::base::user::User;

mod document;

use super::hash::{Cost, HashFault, StoredHash};
use super::name::{EmailFault, NameFault, normal_name};
use super::password::HashPool;

/// A file that was touched less than this long before it was read may change again without a visible trace, because
/// file systems keep time in ticks. It is read again until it has rested.
const RESTED_AFTER_MS: i64 = 1_000;

/// Why a file of users cannot be used. It never holds a hash.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than [`bounds::MAX_FILE_BYTES`].
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        fault: LineFault,
    },
    /// The operating system gave no random bytes.
    Randomness(RandomnessUnavailable),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// It is not UTF-8.
    NotUtf8,
    /// It has no colon.
    NoColon,
    /// The name is none.
    Name(NameFault),
    /// An earlier line has the same name.
    Duplicate,
    /// The hash is of a kind that is not accepted, or malformed.
    Hash(HashFault),
    /// The hash needs more memory or time than one may have.
    TooCostly,
    /// A group name is none.
    Group(NameFault),
    /// The e-mail address is none.
    Email(EmailFault),
    /// It is no TOML, for this reason.
    Toml(String),
    /// This key is not known; and what is.
    UnknownKey(String, &'static str),
    /// A user has no such key.
    Missing(&'static str),
    /// The value of the key is not of this kind.
    Kind(&'static str, &'static str),
    /// The id is that of another user, who may be deleted.
    IdTaken,
    /// A line of a table has not this many fields.
    Fields(usize),
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("it is not UTF-8 text"),
            Self::NoColon => f.write_str("it is not of the form name:hash"),
            Self::Name(fault) => write!(f, "the user name cannot be used: {fault}"),
            Self::Duplicate => f.write_str("another user has the same name already"),
            Self::Hash(fault) => fault.fmt(f),
            Self::TooCostly => f.write_str("the hash needs more memory or time than users.hashing allows"),
            Self::Group(fault) => write!(f, "a group name cannot be used: {fault}"),
            Self::Email(fault) => write!(f, "the e-mail address cannot be used: {fault}"),
            Self::Toml(message) => f.write_str(message),
            Self::UnknownKey(key, hint) => write!(f, "unknown key {key:?}; {hint}"),
            Self::Missing(key) => write!(f, "the user has no \"{key}\""),
            Self::IdTaken => f.write_str("a user of the store has or had this id"),
            Self::Fields(count) => write!(f, "it does not have {count} fields, as the header has"),
            Self::Kind(key, kind) => write!(f, "\"{key}\" must be {kind}"),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::TooLarge { path } => {
                write!(f, "{} is larger than {} bytes", path.display(), bounds::MAX_FILE_BYTES)
            }
            Self::Line { path, line, fault } => write!(f, "{}:{line}: {fault}", path.display()),
            Self::Randomness(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::TooLarge { .. } | Self::Line { .. } => None,
            Self::Randomness(error) => Some(error),
        }
    }
}

/// What a look at the file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Changed,
}

/// The users of one file.
#[derive(Debug)]
pub(super) struct FileUsers {
    path: PathBuf,
    pool: HashPool,
    clock: Clock,
    table: ArcSwap<Table>,
    watch: Mutex<Watch>,
}

type Users = HashMap<String, Arc<Entry>>;

/// One user of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: Arc<StoredHash>,
    pub(super) user: User,
    pub(super) active: bool,
}

/// The users as they were last read without fault.
#[derive(Debug)]
pub(super) struct Table {
    users: Users,
    /// Verified for a user who does not exist: as costly as most hashes of the file.
    dummy: Arc<StoredHash>,
}

#[derive(Debug)]
struct Watch {
    /// Of what was read last, good or bad; `None` after the file could not be read.
    read: Option<Stamp>,
    rested: bool,
    /// Seen at the last look. A file is read when two looks see the same, so that one in writing is left alone.
    seen: Option<Stamp>,
    complaint: Complaint,
}

/// What was complained of last and is not yet overcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    Nothing,
    /// The file cannot be read.
    Unreadable,
    /// What was read in this state of the file.
    Content(Stamp),
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Table {
    pub(super) fn user(&self, name: &str) -> Option<Arc<Entry>> {
        self.users.get(name).cloned()
    }

    pub(super) fn dummy(&self) -> Arc<StoredHash> {
        Arc::clone(&self.dummy)
    }
}

impl FileUsers {
    /// Reads the file for the first time. Blocks.
    pub(super) fn open(path: PathBuf, pool: HashPool, clock: Clock) -> Result<Self, FileError> {
        let (stamp, content) = read(&path)?;
        let users = parse(&path, &content, &pool)?;
        let table = ArcSwap::from_pointee(table_of(users, pool.usual_cost())?);
        let rested = stamp.has_rested(&clock);
        let watch =
            Mutex::new(Watch { read: Some(stamp), rested, seen: Some(stamp), complaint: Complaint::Nothing });
        Ok(Self { path, pool, clock, table, watch })
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Reads the file again if it has changed. A fault is logged once and changes nothing. Blocks.
    pub(super) fn look(&self) -> Look {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        match self.look_with(&mut watch) {
            Ok(look) => look,
            Err(error) => {
                // The same complaint about the same state of the file is no news.
                let complaint = watch.read.map_or(Complaint::Unreadable, Complaint::Content);
                if watch.complaint != complaint {
                    tracing::error!(%error, "the users stay as they were");
                }
                watch.complaint = complaint;
                Look::Same
            }
        }
    }

    fn look_with(&self, watch: &mut Watch) -> Result<Look, FileError> {
        let stamp = match std::fs::metadata(&self.path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(source) => {
                (watch.read, watch.seen) = (None, None);
                return Err(FileError::Unreadable { path: self.path.clone(), source });
            }
        };
        if watch.read == Some(stamp) && watch.rested {
            return Ok(Look::Same);
        }
        if watch.seen != Some(stamp) {
            watch.seen = Some(stamp);
            return Ok(Look::Same);
        }
        // Until the end of this look nothing counts as read, so that a failure is tried again.
        watch.read = None;
        let (stamp, content) = read(&self.path)?;
        watch.rested = stamp.has_rested(&self.clock);
        watch.seen = Some(stamp);
        let users = match parse(&self.path, &content, &self.pool) {
            Ok(users) => users,
            Err(error) => {
                watch.read = Some(stamp);
                return Err(error);
            }
        };
        let look = if users == self.table.load().users {
            Look::Same
        } else {
            tracing::info!(path = %self.path.display(), users = users.len(), "the users were read again");
            self.table.store(Arc::new(table_of(users, self.pool.usual_cost())?));
            Look::Changed
        };
        (watch.read, watch.complaint) = (Some(stamp), Complaint::Nothing);
        Ok(look)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn has_rested(&self, clock: &Clock) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed_ms = seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000);
        clock.now_unix_ms().saturating_sub(changed_ms) >= RESTED_AFTER_MS
    }
}

/// The stamp is of before the content, so that a change in between is seen at the next look.
fn read(path: &Path) -> Result<(Stamp, Vec<u8>), FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
    let too_large = || FileError::TooLarge { path: path.to_owned() };
    if stamp.size > bounds::MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut content = Vec::new();
    // It may grow while it is read.
    file.take(bounds::MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > bounds::MAX_FILE_BYTES {
        return Err(too_large());
    }
    Ok((stamp, content))
}

fn parse(path: &Path, content: &[u8], pool: &HashPool) -> Result<Users, FileError> {
    // Editors of other systems put a byte order mark in front, which is no part of a name.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let wrong = |(line, fault)| FileError::Line { path: path.to_owned(), line, fault };
    let entries = if path.extension().is_some_and(|extension| extension == "toml") {
        let text = std::str::from_utf8(content).map_err(|error| {
            let before = content.get(..error.valid_up_to()).unwrap_or_default();
            wrong((before.split(|&byte| byte == b'\n').count(), LineFault::NotUtf8))
        })?;
        document::parse(text).map_err(wrong)?
    } else {
        let lines = content.split(|&byte| byte == b'\n').zip(1..);
        let entries = lines.filter_map(|(line, number)| {
            let parsed = parse_line(line).map_err(|fault| (number, fault)).transpose()?;
            Some(parsed.map(|entry| (number, entry)))
        });
        entries.collect::<Result<Vec<_>, _>>().map_err(wrong)?
    };
    let mut users = HashMap::with_capacity(entries.len());
    for (line, entry) in entries {
        pool.check_cost(entry.hash.cost()).map_err(|_| wrong((line, LineFault::TooCostly)))?;
        if users.insert(entry.user.name.clone(), Arc::new(entry)).is_some() {
            return Err(wrong((line, LineFault::Duplicate)));
        }
    }
    Ok(users)
}

/// A line of an htpasswd file; nobody for a comment or an empty one. Such a user is nothing but a name.
pub(super) fn parse_line(line: &[u8]) -> Result<Option<Entry>, LineFault> {
    let line = std::str::from_utf8(line).map_err(|_| LineFault::NotUtf8)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, hash) = line.split_once(':').ok_or(LineFault::NoColon)?;
    let name = normal_name(name).map_err(LineFault::Name)?;
    let hash = Arc::new(StoredHash::parse(hash).map_err(LineFault::Hash)?);
    let user = User { id: name.clone(), name, email: None, groups: Vec::new() };
    Ok(Some(Entry { hash, user, active: true }))
}

fn table_of(users: Users, usual: Cost) -> Result<Table, FileError> {
    let cost = most_frequent(users.values().map(|entry| entry.hash.cost())).unwrap_or(usual);
    let dummy = Arc::new(StoredHash::dummy(cost).map_err(FileError::Randomness)?);
    Ok(Table { users, dummy })
}

/// The cost that most have. Of two that are as frequent, the dearer one: what costs less is made up for.
pub(super) fn most_frequent(costs: impl Iterator<Item = Cost>) -> Option<Cost> {
    let mut counts: BTreeMap<Cost, usize> = BTreeMap::new();
    for cost in costs {
        *counts.entry(cost).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|&(cost, count)| (count, cost.work(), cost));
    most.map(|(cost, _)| cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;
    use crate::users::password::tests::cheap_hashing;

    const BCRYPT: &str = "$2y$10$XaWB1fUpljSIMXgqcK9B8eFRHPTKzsG9HjzDZ.XmCncpOkeO6Jx/W";

    fn later() -> Clock {
        Clock::manual(i64::MAX / 2).0
    }

    fn open(path: &Path) -> Result<FileUsers, FileError> {
        FileUsers::open(path.to_owned(), HashPool::new(&cheap_hashing()), later())
    }

    fn argon2(memory_kib: u32) -> String {
        StoredHash::dummy(Cost::usual(memory_kib, 1)).unwrap().expose().to_owned()
    }

    #[test]
    fn lines_comments_and_blanks() {
        let scratch = Scratch::new();
        let content =
            format!("\u{feff}# users\n\nalice:{BCRYPT}\r\n  \n#bob:x\nﬁ:{}\nＣarol:{BCRYPT}", argon2(64));
        let users = open(&scratch.write("users", content)).unwrap();
        let table = users.table();
        let mut names: Vec<_> = table.users.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["Carol", "alice", "fi"]);
        assert_eq!(table.user("alice").unwrap().hash.expose(), BCRYPT);
        assert!(table.user("Alice").is_none() && table.user("bob").is_none());
    }

    #[test]
    fn wrong_lines_are_named_and_hashes_are_not_shown() {
        let scratch = Scratch::new();
        let costly = argon2(64).replace("m=64", "m=4096");
        let cases = [
            ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1 is not accepted"),
            ("alice:$1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb", "MD5 (crypt) is not accepted"),
            ("alice:hunter2", "plain text or DES (crypt) is not accepted"),
            ("alice:", "plain text or DES (crypt) is not accepted"),
            ("alice", "name:hash"),
            (":$2y$10$", "user name cannot be used: it is empty"),
            (" alice:x", "white space"),
            ("alice:$2y$10$short", "malformed bcrypt"),
            (&format!("alice:{BCRYPT} "), "malformed bcrypt"),
            (&format!("alice:{costly}"), "more memory or time"),
            (&format!("bob:{BCRYPT}"), "another user has the same name"),
        ];
        for (line, text) in cases {
            let path = scratch.write("users", format!("# first\nbob:{BCRYPT}\n{line}\n"));
            let error = open(&path).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(":3: ") && shown.contains(text), "{line}: {shown}");
            let all = format!("{shown} {error:?}");
            if let Some((_, hash)) = line.split_once(':').filter(|(_, hash)| !hash.is_empty() && *hash != "x")
            {
                assert!(!all.contains(hash), "{all}");
            }
        }
        let bad = scratch.write("users", b"\xff:x");
        assert!(matches!(
            open(&bad).unwrap_err(),
            FileError::Line { line: 1, fault: LineFault::NotUtf8, .. }
        ));
    }

    #[test]
    fn what_is_no_readable_file_is_refused() {
        let scratch = Scratch::new();
        assert!(matches!(open(&scratch.path("missing")), Err(FileError::Unreadable { .. })));
        assert!(matches!(open(&scratch.path(".")), Err(FileError::Unreadable { .. })));
        let size = usize::try_from(bounds::MAX_FILE_BYTES).unwrap();
        assert!(open(&scratch.write("most", vec![b'\n'; size])).is_ok());
        let large = scratch.write("large", vec![b'\n'; size + 1]);
        assert!(matches!(open(&large), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn the_dummy_is_as_dear_as_most_hashes() {
        let scratch = Scratch::new();
        let cost = |content: String| open(&scratch.write("users", content)).unwrap().table().dummy().cost();
        assert_eq!(cost(String::new()), Cost::usual(64, 1));
        let (cheap, dear) = (argon2(32), argon2(128));
        assert_eq!(cost(format!("a:{cheap}\nb:{dear}\nc:{cheap}")), Cost::usual(32, 1));
        assert_eq!(cost(format!("a:{cheap}\nb:{dear}")), Cost::usual(128, 1));
        assert_eq!(cost(format!("a:{BCRYPT}\nb:{BCRYPT}\nc:{dear}")), Cost::Bcrypt { log_rounds: 10 });
    }

    #[test]
    fn a_change_is_taken_when_it_has_come_to_rest() {
        let scratch = Scratch::new();
        let path = scratch.write("users", format!("alice:{BCRYPT}\n"));
        let users = open(&path).unwrap();
        assert_eq!(users.look(), Look::Same);
        // Truncated, as by an editor that is about to write: seen, not taken.
        scratch.write("users", "");
        assert_eq!(users.look(), Look::Same);
        assert!(users.table().user("alice").is_some());
        scratch.write("users", format!("alice:{BCRYPT}\nbob:{BCRYPT}\n"));
        assert_eq!((users.look(), users.look(), users.look()), (Look::Same, Look::Changed, Look::Same));
        assert!(users.table().user("bob").is_some());
        // Replaced by another file.
        std::fs::rename(scratch.write("new", format!("bob:{BCRYPT}\n")), &path).unwrap();
        assert_eq!((users.look(), users.look()), (Look::Same, Look::Changed));
        assert!(users.table().user("alice").is_none());
        // Touched, but the same.
        scratch.write("users", format!("# note\nbob:{BCRYPT}\n"));
        assert_eq!((users.look(), users.look(), users.look()), (Look::Same, Look::Same, Look::Same));
    }

    #[test]
    fn a_bad_or_missing_file_keeps_the_users() {
        let scratch = Scratch::new();
        let path = scratch.write("users", format!("alice:{BCRYPT}\n"));
        let users = open(&path).unwrap();
        scratch.write("users", "alice:hunter2\n");
        assert_eq!((users.look(), users.look(), users.look()), (Look::Same, Look::Same, Look::Same));
        assert!(users.table().user("alice").is_some());
        assert!(matches!(users.watch.lock().unwrap().complaint, Complaint::Content(_)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!((users.look(), users.look()), (Look::Same, Look::Same));
        assert!(users.table().user("alice").is_some());
        scratch.write("users", format!("carol:{BCRYPT}\n"));
        assert_eq!((users.look(), users.look()), (Look::Same, Look::Changed));
        assert!(users.table().user("carol").is_some() && users.table().user("alice").is_none());
        assert_eq!(users.watch.lock().unwrap().complaint, Complaint::Nothing);
    }

    #[test]
    fn a_file_that_has_not_rested_is_read_again() {
        let scratch = Scratch::new();
        let path = scratch.write("users", format!("alice:{BCRYPT}\n"));
        let pool = HashPool::new(&cheap_hashing());
        let (clock, hand) = Clock::manual(0);
        let users = FileUsers::open(path, pool, clock).unwrap();
        assert!(!users.watch.lock().unwrap().rested);
        assert_eq!(users.look(), Look::Same);
        hand.store(i64::MAX / 2, std::sync::atomic::Ordering::Release);
        assert_eq!(users.look(), Look::Same);
        assert!(users.watch.lock().unwrap().rested);
    }
}
