//! An application is sent back: it begins again at a position, without state and without internal topics.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use headwater_core::{
    Admin, Clock, Error, GroupId, Log, Offset, PartitionOffsets, Positions, Result, SystemClock, Timestamp,
    TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::{
    log::{EmbeddedLog, ObservedLog},
    state::{RocksBackend, RocksOptions},
};
use headwater_streams::{TopicRole, Topology, position_at, replay::Position};
use headwater_terminal::Table;
use serde::{Serialize, Serializer};

use crate::embedded::{RESET_MARK, state_folder};

/// Sends an application back to a position: its positions are set, its internal topics and its state deleted, so that it begins there
/// as a new one would. What it wrote to its output topics stays, and is written again behind it.
///
/// Source topics go to the position; those that do nothing but fill tables go to their beginning, or rows would be missing, unless
/// offsets of theirs are given. Topics that the application both writes and reads go to their end, or what is in them would count
/// twice.
///
/// ```
/// use headwater::{Reset, prelude::*, replay::Position};
/// # futures::executor::block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # let embedded = Embedded::open(folder)?;
/// # embedded.create_topic("numbers", 1).await?;
/// # embedded.send("numbers", &[Record::new("a".to_owned(), 1u64, Timestamp(0))]).await?;
/// # embedded.close().await?;
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, u64>("numbers").group_by_key().count("counts").to_stream().to("totals");
/// let reset = Reset::of(&builder.build()?, "counter").log(folder).to(Position::Earliest);
/// println!("{}", reset.plan().await?);
/// reset.execute().await?;
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Reset {
    topology: Topology,
    application_id: String,
    log: PathBuf,
    state: Option<PathBuf>,
    to: Position,
}

/// What a reset does, or has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResetPlan {
    /// The application.
    pub application_id: String,
    /// Where it goes on in each partition that it reads and does not make itself.
    pub moves: Vec<Moved>,
    /// The topics among them that do nothing but fill tables, and are read from their beginning.
    pub tables: Vec<String>,
    /// Its own topics, which are deleted, and how many records each has.
    pub deleted_topics: Vec<DeletedTopic>,
    /// Folder of its state, which is emptied.
    #[serde(serialize_with = "shown")]
    pub state: PathBuf,
    /// Bytes of state that are deleted.
    pub state_bytes: u64,
}

/// Where an application goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Moved {
    /// Topic of the partition.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// What is committed now; nothing where the application has never read it.
    pub old: Option<u64>,
    /// What will be.
    pub new: u64,
    /// The end of the partition.
    pub end: u64,
}

/// A topic that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeletedTopic {
    /// Its name.
    pub topic: String,
    /// How many records it holds.
    pub records: u64,
}

impl Reset {
    /// Of the application `application_id` that runs `topology`, to the beginning unless [`Reset::to`] says otherwise.
    #[must_use]
    pub fn of(topology: &Topology, application_id: impl Into<String>) -> Self {
        Self {
            topology: topology.clone(),
            application_id: application_id.into(),
            log: "headwater-data".into(),
            state: None,
            to: Position::Earliest,
        }
    }

    /// The data folder; `headwater-data` unless given.
    #[must_use]
    pub fn log(self, folder: impl Into<PathBuf>) -> Self {
        Self { log: folder.into(), ..self }
    }

    /// Where state lies, if not in the data folder: see [`Embedded::state_in`](crate::Embedded::state_in).
    #[must_use]
    pub fn state_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { state: Some(folder.into()), ..self }
    }

    /// Where it begins again. With offsets, every partition of every source topic must have one, but for topics that fill tables.
    #[must_use]
    pub fn to(self, position: Position) -> Self {
        Self { to: position, ..self }
    }

    /// What it would do. Only looks, also while the application runs.
    ///
    /// # Errors
    /// `Invalid` when there is no log, a source topic is missing, or an offset is outside of what there is; those of the log.
    pub async fn plan(&self) -> Result<ResetPlan> {
        let log = ObservedLog::open(&self.log)?;
        self.plan_on(&log).await
    }

    /// Does it. When it was cut short, the application does not start until it is done again.
    ///
    /// # Errors
    /// As [`Reset::plan`]; `Unavailable` when somebody uses the log or the state, the application itself for one: the message has the
    /// process id.
    pub async fn execute(&self) -> Result<ResetPlan> {
        // The engine would make a log in any folder, which nobody who mistypes its name wants.
        ObservedLog::open(&self.log)?;
        let log = EmbeddedLog::open(&self.log)?;
        let done = self.execute_on(&log).await;
        log.close().await?;
        done
    }

    async fn execute_on(&self, log: &EmbeddedLog) -> Result<ResetPlan> {
        let plan = self.plan_on(log).await?;
        // Held to the end, so that nobody starts the application meanwhile.
        let state = RocksBackend::open(&plan.state, RocksOptions::default())?;
        let mark = plan.state.join(RESET_MARK);
        write_durably(&mark)?;
        let group = GroupId(self.application_id.clone());
        if log.groups().await?.contains(&group) {
            log.delete_group(&group).await?;
        }
        let mut committed = Vec::new();
        for moved in &plan.moves {
            committed.push((moved.place()?, position_at(Offset(moved.new))?));
        }
        log.commit_positions(&Positions::new(group, committed)).await?;
        for topic in &plan.deleted_topics {
            log.delete_topic(&TopicName::new(&topic.topic)?).await?;
        }
        state.delete_all()?;
        let gone = fs::remove_file(&mark);
        gone.map_err(|e| Error::io(format!("cannot delete file. file={}", mark.display()), e))?;
        Ok(plan)
    }

    async fn plan_on(&self, log: &dyn Admin) -> Result<ResetPlan> {
        let state = state_folder(&self.state, &self.log, &self.application_id)?;
        let topics = self.topology.topics(&self.application_id)?;
        let known = log.topics().await?;
        let (mut moves, mut deleted_topics, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        let fills_table = self.topology.table_topics();
        for (name, role) in &topics {
            let spec = known.iter().find(|spec| spec.name == *name);
            match (role, spec) {
                (TopicRole::Source | TopicRole::Intermediate, None) => {
                    return Err(Error::invalid(format!(
                        "a source topic does not exist: there is nothing to go back to. topic={name}, folder={}",
                        self.log.display()
                    )));
                }
                (TopicRole::Source, Some(spec)) if fills_table.contains(name) && !self.names(name) => {
                    // The rows that it has deleted come from there.
                    self.move_all(log, spec, &Position::Earliest, &mut moves).await?;
                    tables.push(name.to_string());
                }
                (TopicRole::Source, Some(spec)) => self.move_all(log, spec, &self.to, &mut moves).await?,
                (TopicRole::Intermediate, Some(spec)) => {
                    self.move_all(log, spec, &Position::End, &mut moves).await?;
                }
                (role, Some(spec)) if role.is_internal() => {
                    let mut records = 0;
                    for partition in spec.topic_partitions() {
                        let PartitionOffsets { earliest, end } = log.offsets(&partition).await?;
                        records += end.0.saturating_sub(earliest.0);
                    }
                    deleted_topics.push(DeletedTopic { topic: name.to_string(), records });
                }
                _ => {}
            }
        }
        if let Position::Offsets(offsets) = &self.to
            && let Some(unknown) = offsets.keys().find(|place| !moves.iter().any(|moved| moved.is(place)))
        {
            return Err(Error::invalid(format!(
                "an offset is of a partition that the application does not read. partition={unknown}"
            )));
        }
        let state_bytes = size_of(&state)?;
        Ok(ResetPlan {
            application_id: self.application_id.clone(),
            moves,
            tables,
            deleted_topics,
            state,
            state_bytes,
        })
    }

    /// Whether an offset of this topic is given.
    fn names(&self, topic: &TopicName) -> bool {
        matches!(&self.to, Position::Offsets(offsets) if offsets.keys().any(|partition| partition.topic == *topic))
    }

    async fn move_all(
        &self,
        log: &dyn Admin,
        spec: &TopicSpec,
        to: &Position,
        moves: &mut Vec<Moved>,
    ) -> Result<()> {
        let group = GroupId(self.application_id.clone());
        for partition in spec.topic_partitions() {
            let there = log.offsets(&partition).await?;
            let old = log.committed(&group, &partition).await?.map(|committed| committed.offset.0);
            let new = find(log, &partition, there, to).await?;
            let (topic, partition) = (partition.topic.to_string(), partition.partition.0);
            moves.push(Moved { topic, partition, old, new: new.0, end: there.end.0 });
        }
        Ok(())
    }
}

async fn find(
    log: &dyn Admin,
    partition: &TopicPartition,
    there: PartitionOffsets,
    to: &Position,
) -> Result<Offset> {
    let PartitionOffsets { earliest, end } = there;
    let time = match to {
        Position::Earliest => return Ok(earliest),
        Position::End => return Ok(end),
        Position::Offsets(offsets) => {
            let offset = offsets.get(partition).copied().ok_or_else(|| {
                Error::invalid(format!(
                    "every partition of the source topics needs an offset. partition={partition}, earliest={earliest}, end={end}"
                ))
            })?;
            if (earliest..=end).contains(&offset) {
                return Ok(offset);
            }
            return Err(Error::invalid(format!(
                "there is no such offset: choose one from earliest to end. partition={partition}, offset={offset}, earliest={earliest}, end={end}"
            )));
        }
        Position::Time(time) => *time,
        Position::Ago(span) => {
            let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            Timestamp(SystemClock.now().0.saturating_sub(ms))
        }
    };
    Ok(log.offset_at(partition, time).await?.map_or(end, |found| found.offset))
}

impl Moved {
    fn is(&self, place: &TopicPartition) -> bool {
        self.topic == place.topic.as_str() && self.partition == place.partition.0
    }

    fn place(&self) -> Result<TopicPartition> {
        Ok(TopicPartition::new(TopicName::new(&self.topic)?, headwater_core::Partition(self.partition)))
    }
}

/// A path need not be Unicode, which JSON must be.
pub(crate) fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Durable when it returns.
fn write_durably(path: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("cannot write file. file={}", path.display()), e);
    fs::File::create(path).and_then(|file| file.sync_all()).map_err(failed)?;
    let folder = path.parent().unwrap_or(path);
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Bytes of all files below a folder, which need not be there.
fn size_of(folder: &Path) -> Result<u64> {
    let failed = |e| Error::io(format!("cannot look into folder. folder={}", folder.display()), e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += size_of(&entry.path())?,
            Ok(found) => bytes += found.len(),
            // The application runs, and has just replaced it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(bytes)
}

impl fmt::Display for ResetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["TOPIC", "PARTITION", "OLD", "NEW", "LAG"]);
        for Moved { topic, partition, old, new, end } in &self.moves {
            let old = old.map_or_else(|| "-".to_owned(), |old| old.to_string());
            table.row(&[topic, partition, &old, new, &end.saturating_sub(*new)]);
        }
        write!(f, "{table}")?;
        if !self.tables.is_empty() {
            writeln!(f, "\nFROM THEIR BEGINNING, AS THEY FILL TABLES\n{}", self.tables.join("\n"))?;
        }
        if !self.deleted_topics.is_empty() {
            let mut table = Table::new(&["DELETED TOPIC", "RECORDS"]);
            for DeletedTopic { topic, records } in &self.deleted_topics {
                table.row(&[topic, records]);
            }
            write!(f, "\n{table}")?;
        }
        let bytes = headwater_terminal::size(self.state_bytes);
        write!(f, "\nDELETED STATE\n{} ({bytes})", self.state.display())
    }
}
