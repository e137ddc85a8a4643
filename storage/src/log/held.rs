//! A log that is to stay closed for a while.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_core::{Error, Result};

use super::{fs::RealFs, layout::Layout, recovery::TAKEN};
use crate::lock::FolderLock;

/// The lock of the log in a folder: while it is held nobody can open that log. Nothing of the log itself is read or changed, so that one
/// that is damaged has a lock like any other.
#[derive(Debug)]
pub struct LogLock {
    folder: PathBuf,
    lock: FolderLock,
}

impl LogLock {
    /// Takes it.
    ///
    /// # Errors
    /// `Unavailable` when somebody has the log open (the message has the process id), there is no such folder, or the disk fails.
    pub fn take(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let layout = Layout::new(folder, Arc::new(RealFs));
        Ok(Self { folder: folder.to_owned(), lock: FolderLock::take_unsigned(&layout.lock(), TAKEN)? })
    }

    /// Who has the log in a folder open now: a process id, which is empty when it is not known. `None` when nobody has, or there is no log.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails, or does not let us look.
    pub fn holder(folder: impl AsRef<Path>) -> Result<Option<String>> {
        FolderLock::holder(&Layout::new(folder.as_ref(), Arc::new(RealFs)).lock())
    }

    /// Deletes the folder with all that lies in it. The lock goes last: nobody opens what is half deleted.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails: what is left can be deleted again.
    pub fn delete_folder(self) -> Result<()> {
        let Self { folder, lock } = self;
        let layout = Layout::new(&folder, Arc::new(RealFs));
        let delete = || -> io::Result<()> {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.path() == layout.lock() {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir_all(&folder)
        };
        let deleted = delete();
        drop(lock);
        deleted.map_err(|e| Error::io(format!("cannot delete folder. folder={}", folder.display()), e))
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use headwater_core::ErrorKind;

    use super::*;
    use crate::log::{EmbeddedLog, LogOptions};

    #[test]
    fn who_holds_the_lock_keeps_others_out_until_the_folder_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("log");
        let open = || EmbeddedLog::open_with(&folder, LogOptions::default());
        let log = open().unwrap();
        let error = LogLock::take(&folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.report().contains(&format!("pid={}", std::process::id())), "{}", error.report());
        block_on(log.close()).unwrap();
        fs::write(folder.join("LOCK"), "7\n").unwrap();

        let lock = LogLock::take(&folder).unwrap();
        assert_eq!(open().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(fs::read(folder.join("LOCK")).unwrap(), b"7\n", "taking it needs no room on the disk");
        lock.delete_folder().unwrap();
        assert!(!folder.exists());
        let log = open().unwrap();
        block_on(log.close()).unwrap();
    }

    #[test]
    fn whoever_holds_it_can_be_asked_for() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("log");
        assert_eq!(LogLock::holder(&folder).unwrap(), None, "there is no log");
        let log = EmbeddedLog::open_with(&folder, LogOptions::default()).unwrap();
        assert_eq!(LogLock::holder(&folder).unwrap(), Some(std::process::id().to_string()));
        block_on(log.close()).unwrap();
        assert_eq!(LogLock::holder(&folder).unwrap(), None);
        assert!(folder.join("LOCK").exists());
    }

    #[test]
    fn where_no_folder_is_there_is_nothing_to_lock() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("none");
        assert_eq!(LogLock::take(&folder).unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(!folder.exists());
    }
}
