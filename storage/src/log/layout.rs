//! Which files a log folder holds, and how whole files are replaced.
//!
//! ```text
//! LOCK                                     held by the one process that has the log open
//! format                                   version of all of this
//! checkpoint                               what was true at one point of the journal
//! checkpoint.copy                          the same once more: one of them may be damaged, lost, or half written
//! published                                how far readers in other processes may read; disposable
//! journal/00000000000000000001.journal     the atomic and durable point
//! journal/00000000000000000001.spare       a journal file that waits to be used again
//! topics/<topic>/<partition>/00000000000000000000.log     batches from this offset on, in Kafka's layout
//! topics/<topic>/<partition>/00000000000000000000.index   where in the file which offset is; disposable
//! topics/<topic>/<partition>/00000000000000000000.timeindex    up to which offset records are how old; disposable
//! topics/<topic>/<partition>/cleaner       how far it was compacted; disposable
//! topics/<topic>/<partition>/00000000000000000000.log.cleaned    being made by compaction, as are its indexes
//! topics/<topic>/<partition>/00000000000000000000-00000000000000000500.swap    it takes the place of all in between
//! topics/<topic>~1                         a folder that was where a new topic's had to be, and is not the log's
//! topics/~deleted.7                        what is left of deleted topic number 7; being removed
//! ```

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_core::{Error, Offset, Result, TopicName, TopicPartition, ledger::TopicId};

use super::fs::{FileSystem, Open, write_error};

/// What the names of deleted topics' folders begin with: no topic is called so.
const DELETED: &str = "~deleted.";

/// Digits in the name of a numbered file.
const DIGITS: usize = 20;

/// What `format` holds.
pub(super) const FORMAT: &str = "headwater-log 1\n";

/// Names the files of one log, and says on which file system they are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) folder: PathBuf,
    pub(super) fs: Arc<dyn FileSystem>,
}

impl Layout {
    pub(super) fn new(folder: &Path, fs: Arc<dyn FileSystem>) -> Self {
        Self { folder: folder.to_owned(), fs }
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join("LOCK")
    }

    pub(super) fn format(&self) -> PathBuf {
        self.folder.join("format")
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }

    /// Where the copies of the checkpoint are, in the order in which they are written.
    pub(super) fn checkpoints(&self) -> [PathBuf; 2] {
        [self.checkpoint(), self.folder.join("checkpoint.copy")]
    }

    pub(super) fn published(&self) -> PathBuf {
        self.folder.join("published")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    pub(super) fn journal_segment(&self, sequence: u64) -> PathBuf {
        self.journal().join(format!("{sequence:020}.journal"))
    }

    pub(super) fn journal_spare(&self, sequence: u64) -> PathBuf {
        self.journal().join(format!("{sequence:020}.spare"))
    }

    pub(super) fn topics(&self) -> PathBuf {
        self.folder.join("topics")
    }

    /// A topic name is checked when it is made: it cannot lead out of the folder.
    pub(super) fn topic(&self, topic: &TopicName) -> PathBuf {
        self.topics().join(topic.as_str())
    }

    pub(super) fn partition(&self, partition: &TopicPartition) -> PathBuf {
        self.topic(&partition.topic).join(partition.partition.to_string())
    }

    /// Moves a folder that is where a new topic's will be, and of which the log knows nothing, to a name that no topic has.
    pub(super) fn set_aside(&self, topic: &TopicName) -> Result<()> {
        let folder = self.topic(topic);
        if !self.exists(&folder)? {
            return Ok(());
        }
        let aside = self.unused(|number| format!("{topic}~{number}"))?;
        tracing::warn!(from = %folder.display(), to = %aside.display(), "the new topic's folder was there: moved away");
        self.rename(&folder, &aside)?;
        self.sync_folder(&self.topics())
    }

    /// A name in `topics` that nothing has, of those that `name` makes of 1, 2, and so on.
    fn unused(&self, name: impl Fn(u64) -> String) -> Result<PathBuf> {
        for number in 1.. {
            let path = self.topics().join(name(number));
            if !self.exists(&path)? {
                return Ok(path);
            }
        }
        Err(Error::invalid(format!("every name is taken. folder={}", self.topics().display())))
    }

    /// Gives the folder of a deleted topic, of which readers may have files open, a name that no topic has: a new topic may
    /// be made at once. What it holds is left for [`Layout::remove_deleted`]. Whether there was a folder.
    pub(super) fn set_deleted_aside(&self, topic: &TopicName, id: TopicId) -> Result<bool> {
        let folder = self.topic(topic);
        if !self.exists(&folder)? {
            return Ok(false);
        }
        let deleted = self.unused(|number| match number {
            1 => format!("{DELETED}{}", id.0),
            number => format!("{DELETED}{}.{number}", id.0),
        })?;
        self.rename(&folder, &deleted).map(|()| true)
    }

    /// Removes what is left of deleted topics, while `go_on` says so before each file; whether all was tried. Nothing depends
    /// on it: what cannot be removed is left, and the next open tries again.
    pub(super) fn remove_deleted(&self, go_on: &mut dyn FnMut() -> bool) -> bool {
        let topics = self.topics();
        let names = self.fs.list(&topics).unwrap_or_default();
        for name in names.into_iter().filter(|name| is_deleted(name)) {
            let folder = topics.join(name);
            match self.remove_topic_folder(&folder, go_on) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "a deleted topic's folder cannot be removed: remove it if it stays");
                }
            }
        }
        true
    }

    fn remove_topic_folder(&self, folder: &Path, go_on: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        for partition in self.fs.list(folder)?.into_iter().map(|name| folder.join(name)) {
            for name in self.fs.list(&partition)? {
                if !go_on() {
                    return Ok(false);
                }
                self.fs.remove_file(&partition.join(name))?;
            }
            self.fs.remove_folder(&partition)?;
        }
        self.fs.remove_folder(folder).map(|()| true)
    }
}

/// Whether a name in `topics` is that of a deleted topic's folder.
pub(super) fn is_deleted(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(DELETED))
}

/// The records of a segment that begins at `base`.
pub(super) fn log_file(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.log", base.0))
}

/// The index of a segment that begins at `base`.
pub(super) fn index_file(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.index", base.0))
}

/// The time index of a segment that begins at `base`.
pub(super) fn time_index_file(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.timeindex", base.0))
}

/// All files of a segment that begins at `base`; the first one is the one that matters.
pub(super) fn segment_files(folder: &Path, base: Offset) -> [PathBuf; 3] {
    [log_file(folder, base), index_file(folder, base), time_index_file(folder, base)]
}

/// What is made of several steps, or whose errors need words.
impl Layout {
    pub(super) fn exists(&self, path: &Path) -> Result<bool> {
        self.fs.exists(path).map_err(|e| Error::io(format!("cannot look. path={}", path.display()), e))
    }

    /// What is in `folder`; nothing when there is none.
    pub(super) fn names(&self, folder: &Path) -> Result<Vec<OsString>> {
        match self.fs.list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => {
                names.map_err(|e| Error::io(format!("cannot list folder. folder={}", folder.display()), e))
            }
        }
    }

    /// The numbers of the files in `folder` called `<number>.<extension>`, in order; none when there is no folder.
    pub(super) fn numbered(&self, folder: &Path, extension: &str) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for path in self.names(folder)?.into_iter().map(PathBuf::from) {
            if path.extension().is_none_or(|found| found != extension) {
                continue;
            }
            // As they are written: another name would be taken for a file that is not there.
            let digits = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == DIGITS);
            match digits.and_then(|digits| digits.parse::<u64>().ok()) {
                Some(number) => numbers.push(number),
                None => {
                    tracing::warn!(folder = %folder.display(), file = %path.display(), "not a file of the log: ignored");
                }
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes folders that are missing, durably.
    pub(super) fn create_folder_durably(&self, path: &Path) -> Result<()> {
        let mut above = Vec::new();
        for folder in path.ancestors().take_while(|folder| !folder.as_os_str().is_empty()) {
            if self.exists(folder)? {
                break;
            }
            above.extend(folder.parent());
        }
        self.create_folder(path)?;
        above.into_iter().try_for_each(|folder| self.sync_folder(folder))
    }

    /// Makes folders that are missing; their entries are on disk after a [`Layout::sync_folder`] of the folders above.
    pub(super) fn create_folder(&self, path: &Path) -> Result<()> {
        let created = self.fs.create_folder(path);
        created.map_err(|e| write_error(format_args!("cannot create folder. folder={}", path.display()), e))
    }

    /// Makes created, renamed and removed files of a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<()> {
        // The parent of a relative path of one name.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let synced = self.fs.sync_folder(path);
        synced.map_err(|e| Error::io(format!("cannot sync folder. folder={}", path.display()), e))
    }

    /// Puts on disk what was written to a file, by whomever.
    pub(super) fn sync_file(&self, path: &Path) -> Result<()> {
        let synced = self.fs.open(path, Open::Read).and_then(|file| file.sync_data());
        synced.map_err(|e| Error::io(format!("cannot sync. file={}", path.display()), e))
    }

    /// Renames a file.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = self.fs.rename(from, to);
        let what = format_args!("cannot rename. from={}, to={}", from.display(), to.display());
        renamed.map_err(|e| write_error(what, e))
    }

    /// Removes a file.
    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        let removed = self.fs.remove_file(path);
        removed.map_err(|e| write_error(format_args!("cannot remove. file={}", path.display()), e))
    }

    /// Removes a file that may be gone.
    pub(super) fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        match self.fs.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes a segment that nobody needs; parts of it may be gone already.
    pub(super) fn remove_segment(&self, folder: &Path, base: Offset) -> Result<()> {
        for path in segment_files(folder, base) {
            let removed = self.remove_if_there(&path);
            removed.map_err(|e| Error::io(format!("cannot remove. file={}", path.display()), e))?;
        }
        Ok(())
    }

    /// Writes a whole file over what was there, durably, and needs no more room than it has. After a crash it may be
    /// neither the old one nor the new one: there must be another.
    pub(super) fn overwrite(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if !self.exists(path)? {
            return self.replace(path, bytes);
        }
        let write = || {
            let file = self.fs.open(path, Open::Write)?;
            file.write_all_at(bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            Ok(file)
        };
        let file = write();
        let file = file.map_err(|e| write_error(format_args!("cannot write. file={}", path.display()), e))?;
        file.sync_data().map_err(|e| Error::io(format!("cannot sync. file={}", path.display()), e))
    }

    /// Replaces a whole file, durably: after a crash it is the old one or the new one.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let new = path.with_extension("new");
        let file = self.fs.write(&new, bytes);
        let file = file.map_err(|e| write_error(format_args!("cannot write. file={}", new.display()), e))?;
        file.sync_data().map_err(|e| Error::io(format!("cannot sync. file={}", new.display()), e))?;
        self.rename(&new, path)?;
        self.sync_folder(path.parent().unwrap_or(path))
    }
}
