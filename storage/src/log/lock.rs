//! One process owns a data folder.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use headwater_core::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};

/// Process id of the last who took the lock; empty when that is not known.
pub(super) fn last_owner(path: &Path) -> String {
    File::open(path).map(|file| pid(&file)).unwrap_or_default()
}

fn pid(file: &File) -> String {
    let mut pid = String::new();
    let _ = file.take(32).read_to_string(&mut pid);
    pid.trim().to_owned()
}

/// Held while a log is open. The system frees it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "an open file is what holds the lock")] File);

impl FolderLock {
    /// Takes the lock and writes our process id into the file, for whoever finds it taken.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file =
            open.map_err(|e| Error::io(format!("cannot open lock file. file={}", path.display()), e))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(Error::io(format!("cannot lock. file={}", path.display()), error.into()));
            }
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "log is already open: close it there, look at it read-only, or use another folder. folder={}, pid={}",
                    path.parent().unwrap_or(path).display(),
                    pid(&file)
                ),
            ));
        }
        let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        write.map_err(|e| Error::io(format!("cannot write lock file. file={}", path.display()), e))?;
        Ok(Self(file))
    }
}
