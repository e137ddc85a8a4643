//! Which files a log folder holds, and how whole files are replaced.
//!
//! ```text
//! LOCK                                     held by the one process that has the log open
//! format                                   version of all of this
//! checkpoint                               what was true at one point of the journal
//! journal/00000000000000000001.journal     the atomic and durable point
//! journal/00000000000000000001.spare       a journal file that waits to be used again
//! topics/<topic>/<partition>/00000000000000000000.log     batches from this offset on, in Kafka's layout
//! topics/<topic>/<partition>/00000000000000000000.index   where in the file which offset is; disposable
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use headwater_core::{Error, Offset, Result, TopicName, TopicPartition};

/// Digits in the name of a numbered file.
const DIGITS: usize = 20;

/// What `format` holds.
pub(super) const FORMAT: &str = "headwater-log 1\n";

/// Names the files of one log.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) folder: PathBuf,
}

impl Layout {
    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join("LOCK")
    }

    pub(super) fn format(&self) -> PathBuf {
        self.folder.join("format")
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint")
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
        if !folder.exists() {
            return Ok(());
        }
        let mut names = (1..).map(|number| self.topics().join(format!("{topic}~{number}")));
        let aside = names.find(|name| !name.exists()).expect("the numbers do not end");
        tracing::warn!(from = %folder.display(), to = %aside.display(), "the new topic's folder was there: moved away");
        rename(&folder, &aside)?;
        sync_folder(&self.topics())
    }
}

/// The records of a segment that begins at `base`.
pub(super) fn log_file(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.log", base.0))
}

/// The index of a segment that begins at `base`.
pub(super) fn index_file(folder: &Path, base: Offset) -> PathBuf {
    folder.join(format!("{:020}.index", base.0))
}

/// The numbers of the files in `folder` called `<number>.<extension>`, in order; none when there is no folder.
pub(super) fn numbered(folder: &Path, extension: &str) -> Result<Vec<u64>> {
    let failed = |e| Error::io(format!("cannot list folder. folder={}", folder.display()), e);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let path = PathBuf::from(entry.map_err(failed)?.file_name());
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
pub(super) fn create_folder_durably(path: &Path) -> Result<()> {
    let missing: Vec<_> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    create_folder(path)?;
    missing.iter().filter_map(|folder| folder.parent()).try_for_each(sync_folder)
}

/// Makes folders that are missing; their entries are on disk after a [`sync_folder`] of the folders above.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|e| Error::io(format!("cannot create folder. folder={}", path.display()), e))
}

/// Makes created, renamed and removed files of a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    // The parent of a relative path of one name.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    note(|| format!("sync {}", path.display()));
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|e| Error::io(format!("cannot sync folder. folder={}", path.display()), e))
}

/// Puts on disk what was written to a file, by whomever.
pub(super) fn sync_file(path: &Path) -> Result<()> {
    note(|| format!("sync {}", path.display()));
    let synced = File::open(path).and_then(|file| file.sync_data());
    synced.map_err(|e| Error::io(format!("cannot sync. file={}", path.display()), e))
}

/// Renames a file.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    let renamed = fs::rename(from, to);
    renamed.map_err(|e| Error::io(format!("cannot rename. from={}, to={}", from.display(), to.display()), e))
}

/// Replaces a whole file, durably: after a crash it is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io(format!("cannot write. file={}", new.display()), e))?;
    rename(&new, path)?;
    sync_folder(path.parent().unwrap_or(path))
}

#[cfg(test)]
thread_local! {
    /// What this thread put on disk, in order: no test can look at a disk without the system's memory in front of it.
    pub(super) static NOTES: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Notes it for tests.
pub(super) fn note(what: impl FnOnce() -> String) {
    #[cfg(test)]
    NOTES.with_borrow_mut(|notes| notes.push(what()));
    #[cfg(not(test))]
    drop(what);
}
