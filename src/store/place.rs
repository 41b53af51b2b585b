//! Where the store's file lies, and who may read it.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only the owner reads and writes: the file holds password hashes.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Everything that is for the group or for others.
const OTHERS: u32 = 0o077;

/// Makes the file and its directory where they are missing. SQLite gives `-wal` and `-shm` the mode of the file, so it
/// must be right before SQLite sees it. A file that others may read is closed to them.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent)?;
    }
    let created = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    match created {
        // The mode at creation is subject to the umask, which may have taken away even the owner's bits.
        Ok(file) => file.set_permissions(Permissions::from_mode(FILE_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            close_to_others(path);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// Which file is at `path` now.
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
}

fn close_to_others(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        let Ok(metadata) = file.metadata() else { continue };
        let open_to_others = metadata.is_file() && metadata.permissions().mode() & OTHERS != 0;
        if open_to_others
            && let Err(error) = std::fs::set_permissions(&file, Permissions::from_mode(FILE_MODE))
        {
            tracing::warn!(file = %file.display(), %error, "other users of this machine may read the store");
        }
    }
}
