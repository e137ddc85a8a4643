//! The replays of a data folder: which there are, what came of them, and how they go.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use headwater_core::{Error, Result, Timestamp};
use headwater_streams::{
    Topology,
    replay::diff::{Diff, Limits},
};
use serde::Serialize;

use super::{
    compare::compare,
    copy,
    store::{Place, replays},
};

/// The replays below a data folder.
///
/// ```no_run
/// use headwater::Replays;
/// for replay in Replays::of("headwater-data").list()? {
///     println!("{} lies in {}", replay.name, replay.folder.display());
/// }
/// # Ok::<(), headwater::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Replays {
    log: PathBuf,
}

/// What there is to know of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReplaySummary {
    /// Its name.
    pub name: String,
    /// Where it is.
    #[serde(serialize_with = "crate::reset::shown")]
    pub folder: PathBuf,
    /// When it was begun, in milliseconds since 1970; `None` when nothing can be read of it.
    pub begun: Option<i64>,
    /// Whether all of it was done.
    pub finished: bool,
    /// Where its range begins; `None` is the earliest record.
    pub from: Option<i64>,
    /// Where its range ends; `None` is the end as it was when it was begun.
    pub until: Option<i64>,
    /// How many records it wrote to output topics, as of when it last ended in order.
    pub written: Option<u64>,
}

impl Replays {
    /// Those of the data folder `log`.
    #[must_use]
    pub fn of(log: impl Into<PathBuf>) -> Self {
        Self { log: log.into() }
    }

    /// Where the replay `name` lies, or would.
    ///
    /// # Errors
    /// `Invalid` when none can be called so.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        Ok(Place::new(&self.log, name)?.folder)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails.
    pub fn list(&self) -> Result<Vec<ReplaySummary>> {
        let folder = replays(&self.log);
        let failed = |e| Error::io(format!("cannot look into folder. folder={}", folder.display()), e);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Some(name) = entry.file_name().to_str()
                && let Ok(place) = Place::new(&self.log, name)
                && entry.path().is_dir()
            {
                found.push(summary(&place));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Deletes a replay.
    ///
    /// # Errors
    /// `Invalid` when there is none of this name; `Unavailable` when it runs (the message has the process id), or the disk fails.
    pub fn delete(&self, name: &str) -> Result<()> {
        let place = Place::new(&self.log, name)?;
        let folder = &place.folder;
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(Error::invalid(format!("there is no such replay. name={name}, folder={folder}")));
        }
        place.delete()
    }

    /// Compares what a finished replay wrote with what the live run wrote for the same range.
    ///
    /// # Errors
    /// `Invalid` when there is no such replay, or it is not finished; those of the logs.
    pub async fn diff(&self, name: &str, topology: &Topology, limits: Limits) -> Result<Diff> {
        compare(&self.log, &Place::new(&self.log, name)?, topology, limits).await
    }

    /// Writes what a replay wrote as JSON lines, one file for each output topic, into `folder`; returns how many records there are.
    ///
    /// # Errors
    /// `Invalid` when there is no such replay; those of its log, and of the disk.
    pub async fn write_json_lines(&self, name: &str, topology: &Topology, folder: &Path) -> Result<u64> {
        copy::json_lines(&Place::new(&self.log, name)?, topology, folder).await
    }

    /// Appends what a finished replay of `topology` wrote to the topics of the same names in the data folder itself, which must not be in
    /// use. When it is cut short, it goes on with the next call: every record is appended once. Topics that the topology reads are left
    /// out: an application that runs it would process their records once more.
    ///
    /// # Errors
    /// `Invalid` when there is no such replay, it is not finished, or a topic there has another number of partitions; `Unavailable` when
    /// somebody uses the data folder (the message has the process id).
    pub async fn append_to_topics(&self, name: &str, topology: &Topology) -> Result<u64> {
        copy::to_topics(&Place::new(&self.log, name)?, topology, &self.log).await
    }
}

fn summary(place: &Place) -> ReplaySummary {
    let stored = place.read().ok();
    let range = stored.as_ref().and_then(|stored| stored.plan.range().ok());
    let written = stored.as_ref().and_then(|stored| {
        let outputs = stored.report.as_ref()?.get("outputs")?.as_object()?;
        Some(outputs.values().filter_map(serde_json::Value::as_u64).sum())
    });
    let millis = |time: Option<Timestamp>| time.map(|time| time.0);
    ReplaySummary {
        name: place.name.clone(),
        folder: place.folder.clone(),
        begun: stored.as_ref().map(|stored| stored.begun),
        finished: stored.is_some_and(|stored| stored.finished),
        from: millis(range.as_ref().and_then(|range| range.from)),
        until: millis(range.as_ref().and_then(|range| range.until)),
        written,
    }
}
