//! Reading PEM files, and telling one state of a file from another.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::base::bounds;

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` when the file cannot be looked at. Links are followed.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl Stamp {
    /// Whether it is the same file, whatever it holds now.
    pub fn is_of_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file as it was read. It is wiped when dropped, since it may be a key.
pub(super) struct Content {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Whether everybody on this machine may read it.
    pub(super) is_exposed: bool,
}

/// Reads a regular file of at most [`bounds::MAX_FILE_BYTES`]. Blocks.
pub(super) fn read(path: &Path) -> io::Result<Content> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let file = File::open(path)?;
    let is_exposed = file.metadata()?.mode() & 0o004 != 0;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bounds::MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bounds::MAX_FILE_BYTES) {
        return Ok(Content { bytes, is_exposed });
    }
    Err(io::Error::other(format!("it is larger than {} bytes", bounds::MAX_FILE_BYTES)))
}
