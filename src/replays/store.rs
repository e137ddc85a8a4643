//! What lies in the folder of a replay.
//!
//! ```text
//! <data folder>/replays/<name>/           an embedded log: what the replay wrote
//! <data folder>/replays/<name>/state/     its state
//! <data folder>/replays/<name>/replay.json    what it was asked for, and what came of it; replaced as a whole
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use headwater_core::{Error, Result, Timestamp, TopicName};
use headwater_storage::log::LogLock;
use headwater_streams::replay::{Plan, Report};
use headwater_terminal::time::rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of `replay.json`.
const VERSION: u32 = 1;

/// Folder of all replays of a data folder.
pub(super) fn replays(log: &Path) -> PathBuf {
    log.join("replays")
}

/// Where a replay is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

/// What is known of a replay.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    pub(super) name: String,
    /// Milliseconds since 1970.
    pub(super) begun: i64,
    pub(super) finished: bool,
    /// What came of it when it last ended in order.
    pub(super) report: Option<Value>,
    pub(super) plan: Plan,
    /// The words of each option of the program's own; nothing where no command line began it.
    #[serde(default)]
    said: Option<BTreeMap<String, Vec<String>>>,
}

impl Stored {
    pub(super) fn new(name: &str, now: Timestamp, plan: Plan) -> Self {
        let name = name.to_owned();
        Self { version: VERSION, name, begun: now.0, finished: false, report: None, plan, said: None }
    }

    pub(super) fn with_said(self, said: Option<BTreeMap<String, Vec<String>>>) -> Self {
        Self { said, ..self }
    }

    /// Whether the program was told the same when it was begun, so that it is the same program.
    pub(super) fn check_said(&self, now: Option<&BTreeMap<String, Vec<String>>>) -> Result<()> {
        let (Some(then), Some(now)) = (&self.said, now) else { return Ok(()) };
        let words = |said: &BTreeMap<String, Vec<String>>, option: &String| {
            let words = said.get(option).filter(|words| !words.is_empty());
            words.map_or_else(|| format!("no {option}"), |words| words.join(" ").escape_debug().to_string())
        };
        let mut options = then.keys().chain(now.keys());
        match options.find(|option| words(then, option) != words(now, option)) {
            None => Ok(()),
            Some(option) => Err(Error::invalid(format!(
                "a replay goes on with the options that it was begun with. name={}, begun with={}, now={}",
                self.name,
                words(then, option),
                words(now, option)
            ))),
        }
    }

    /// Takes note of what came of it.
    pub(super) fn take(&mut self, report: &Report) -> Result<()> {
        self.finished = report.finished;
        let report = serde_json::to_value(report);
        self.report =
            Some(report.map_err(|e| Error::invalid("cannot write a report as JSON").with_source(e))?);
        Ok(())
    }
}

impl Place {
    pub(super) fn new(log: &Path, name: &str) -> Result<Self> {
        // Checked before it becomes the name of a folder.
        TopicName::new(name).map_err(|e| e.context("name of a replay, which is as that of a topic"))?;
        Ok(Self { name: name.to_owned(), folder: replays(log).join(name) })
    }

    /// Makes the folder of the replay `name`. Of two who want a name at the same time, one gets it.
    pub(super) fn claim(log: &Path, name: &str) -> Result<Self> {
        let place = Self::new(log, name)?;
        if place.make_folder()? {
            return Ok(place);
        }
        if !place.file().exists() {
            return Err(place.not_begun());
        }
        Err(Error::invalid(format!(
            "there is a replay of this name: go on with it, delete it, or choose another name. name={name}, folder={}",
            place.folder.display()
        )))
    }

    /// Makes the folder of one that is called by the time, with a number behind it when there is one of that time already.
    pub(super) fn claim_unused(log: &Path, now: Timestamp) -> Result<Self> {
        let second = Timestamp(now.0 - now.0.rem_euclid(1000));
        let time = rfc3339(second).replace(':', "-");
        for number in 1..1000 {
            let name = if number == 1 { time.clone() } else { format!("{time}-{number}") };
            let place = Self::new(log, &name)?;
            if place.make_folder()? {
                return Ok(place);
            }
        }
        Err(Error::invalid(format!("every name of this second is taken: give one. name={time}")))
    }

    /// Whether it was this call that made it.
    fn make_folder(&self) -> Result<bool> {
        let made = match self.folder.parent() {
            Some(replays) => fs::create_dir_all(replays).and_then(|()| fs::create_dir(&self.folder)),
            None => fs::create_dir(&self.folder),
        };
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => {
                Err(Error::io(format!("cannot make folder. folder={}", self.folder.display()), error))
            }
        }
    }

    /// Deletes it, unless somebody has it open. Cut short it is one that never began, and can be deleted again.
    pub(super) fn delete(&self) -> Result<()> {
        let lock = LogLock::take(&self.folder)
            .map_err(|e| e.context(format!("replay cannot be deleted. name={}", self.name)))?;
        // First of all, so that nobody takes what is left for a replay.
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot delete file. file={}", self.file().display()), error))
            }
            _ => lock.delete_folder(),
        }
    }

    fn not_begun(&self) -> Error {
        Error::invalid(format!(
            "the replay was cut short before it began: `replays delete {}`, and begin again. folder={}",
            self.name,
            self.folder.display()
        ))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("replay.json")
    }

    pub(super) fn read(&self) -> Result<Stored> {
        let file = self.file();
        let bytes = fs::read(&file).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                if self.folder.is_dir() {
                    return self.not_begun();
                }
                let folder = self.folder.display();
                return Error::invalid(format!(
                    "there is no such replay. name={}, folder={folder}",
                    self.name
                ));
            }
            Error::io(format!("cannot read file. file={}", file.display()), error)
        })?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| {
            let message = format!(
                "file of a replay cannot be read: another version may have written it; delete the replay, and do it anew. file={}",
                file.display()
            );
            Error::corrupt(message).with_source(e)
        })?;
        if stored.version != VERSION {
            return Err(Error::invalid(format!(
                "another version of Headwater made this replay: delete it, and do it anew. file={}, version={}, known={VERSION}",
                file.display(),
                stored.version
            )));
        }
        Ok(stored)
    }

    /// As [`Place::read`], for those who need all that it writes.
    pub(super) fn read_finished(&self) -> Result<Stored> {
        let stored = self.read()?;
        if !stored.finished {
            return Err(Error::invalid(format!(
                "the replay is not finished: go on with it first. name={}",
                self.name
            )));
        }
        Ok(stored)
    }

    /// A process that dies leaves the old file or the new one.
    pub(super) fn write(&self, stored: &Stored) -> Result<()> {
        let (file, next) = (self.file(), self.folder.join("replay.json.next"));
        let json = serde_json::to_vec_pretty(stored);
        let json = json.map_err(|e| Error::invalid("cannot write a plan as JSON").with_source(e))?;
        let written = || -> io::Result<()> {
            let mut open = fs::File::create(&next)?;
            open.write_all(&json)?;
            open.sync_all()?;
            fs::rename(&next, &file)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        written().map_err(|e| Error::io(format!("cannot write file. file={}", file.display()), e))
    }
}
