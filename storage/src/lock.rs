//! One process owns a folder: that of a log, and that of an application's state.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use headwater_core::{Error, ErrorKind, Result};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Whoever only asks who holds a lock has it for a moment, so one that is taken is tried again.
const TRIES: u32 = 3;
/// Between two tries.
const MOMENT: Duration = Duration::from_millis(2);

/// Process id of the last who took the lock; empty when that is not known.
pub(crate) fn last_owner(path: &Path) -> String {
    File::open(path).map(|file| pid(&file)).unwrap_or_default()
}

fn pid(file: &File) -> String {
    let mut pid = String::new();
    let _ = file.take(32).read_to_string(&mut pid);
    pid.trim().to_owned()
}

/// Tries once more when somebody has it, who may only be asking.
fn try_again(mut attempt: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match attempt() {
            Err(Errno::WOULDBLOCK) => thread::park_timeout(MOMENT),
            tried => return tried,
        }
    }
    attempt()
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

    /// Who holds the lock, as [`last_owner`] tells it; `None` when nobody does, and when there is no file.
    pub(crate) fn holder(path: &Path) -> Result<Option<String>> {
        let failed = |what, e| Error::io(format!("cannot {what} lock file. file={}", path.display()), e);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| failed("open", e))?,
        };
        // There is no asking without taking; shared, so that two who ask do not find each other.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&file, FlockOperation::Unlock).map(|()| None).map_err(|e| failed("look at", e.into()))
            }
            Err(Errno::WOULDBLOCK) => Ok(Some(pid(&file))),
            Err(error) => Err(failed("look at", error.into())),
        }
    }

    /// Takes the lock for a moment and writes nothing: there need not be room on the disk.
    pub(crate) fn take_unsigned(path: &Path, taken: &str) -> Result<Self> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file =
            open.map_err(|e| Error::io(format!("cannot open lock file. file={}", path.display()), e))?;
        if let Err(error) = try_again(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            if error != Errno::WOULDBLOCK {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What it comes to when it is taken the first so many times, and how often it was tried.
    fn tried(taken: u32, then: Result<(), Errno>) -> (Result<(), Errno>, u32) {
        let mut tries = 0;
        let done = try_again(|| {
            tries += 1;
            if tries <= taken { Err(Errno::WOULDBLOCK) } else { then }
        });
        (done, tries)
    }

    #[test]
    fn who_only_asks_keeps_nobody_out() {
        assert_eq!(tried(0, Ok(())), (Ok(()), 1));
        assert_eq!(tried(TRIES - 1, Ok(())), (Ok(()), TRIES));
        assert_eq!(tried(TRIES, Ok(())), (Err(Errno::WOULDBLOCK), TRIES));
        assert_eq!(tried(1, Err(Errno::IO)), (Err(Errno::IO), 2));
    }

    #[test]
    fn who_holds_it_can_be_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        assert_eq!(FolderLock::holder(&path).unwrap(), None, "there is no file");
        let lock = FolderLock::take(&path, "taken").unwrap();
        assert_eq!(FolderLock::holder(&path).unwrap(), Some(std::process::id().to_string()));
        assert_eq!(FolderLock::take(&path, "taken").unwrap_err().kind(), ErrorKind::Unavailable);
        drop(lock);
        assert_eq!(FolderLock::holder(&path).unwrap(), None);
        FolderLock::take(&path, "taken").unwrap();
    }
}
