//! The files of a log folder, as values and on a disk of memory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// All files of a folder and of those in it, by their path from there.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Reads all files of a folder but `LOCK`, which says nothing.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).expect("a folder of ours") {
            let path = entry.expect("a folder of ours").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("LOCK") {
                let name = path.strip_prefix(folder).expect("it lies in there").to_owned();
                files.insert(name, fs::read(&path).expect("a file of ours"));
            }
        }
    }
    files
}

/// A folder that is filled for one run and emptied for the next.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Default for Scratch {
    /// On the disk of memory where there is one.
    fn default() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(folder.expect("a temporary folder can be made"))
    }
}

impl Scratch {
    /// Where the log is.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    /// Makes the log folder hold these files and nothing else.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn fill(&self, files: &Files) {
        let folder = self.log();
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.expect("what a log has made can be removed"),
        }
        // There is always one, and most files share theirs with the one before.
        let mut made = folder.join("journal");
        fs::create_dir_all(&made).expect("folders can be made");
        for (name, bytes) in files {
            let path = folder.join(name);
            let parent = path.parent().expect("it lies in the folder");
            if parent != made && parent != folder {
                fs::create_dir_all(parent).expect("folders can be made");
                made = parent.to_owned();
            }
            fs::write(&path, bytes).expect("files can be written");
        }
    }
}
