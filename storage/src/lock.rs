//! One process owns a folder: that of a log, and that of an application's state.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use headwater_core::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};

/// Process id of the last who took the lock; empty when that is not known.
pub(crate) fn last_owner(path: &Path) -> String {
    File::open(path).map(|file| pid(&file)).unwrap_or_default()
}

fn pid(file: &File) -> String {
    let mut pid = String::new();
    let _ = file.take(32).read_to_string(&mut pid);
    pid.trim().to_owned()
}

/// Held while what lies in the folder is open. The system frees it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl FolderLock {
    /// Takes the lock and writes our process id into the file, for whoever finds it taken: `taken` is what that one is told.
    pub(crate) fn take(path: &Path, taken: &str) -> Result<Self> {
        let mut lock = Self::take_unsigned(path, taken)?;
        let write = lock.0.set_len(0).and_then(|()| writeln!(lock.0, "{}", std::process::id()));
        write.map_err(|e| Error::io(format!("cannot write lock file. file={}", path.display()), e))?;
        Ok(lock)
    }

    /// Takes the lock for a moment and writes nothing: there need not be room on the disk.
    pub(crate) fn take_unsigned(path: &Path, taken: &str) -> Result<Self> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file =
            open.map_err(|e| Error::io(format!("cannot open lock file. file={}", path.display()), e))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(Error::io(format!("cannot lock. file={}", path.display()), error.into()));
            }
            let folder = path.parent().unwrap_or(path).display();
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{taken}. folder={folder}, pid={}", pid(&file)),
            ));
        }
        Ok(Self(file))
    }
}

impl Drop for FolderLock {
    /// Closing the file is not enough: a child process that another thread has just begun has it open, too, until it becomes another
    /// program, and would hold the lock that long.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
