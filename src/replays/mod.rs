//! Replays in a data folder: each has a folder of its own, `replays/<name>/`, with a log, state, and what it was asked for.
//!
//! Read in this order: here, `store` (what lies in such a folder), `listing` (those that there are), `compare` (with the live run),
//! `copy` (where results go besides). What a replay reads and writes is decided in `headwater_streams::replay`.

mod compare;
mod copy;
mod listing;
mod store;

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use headwater_core::{Clock, Error, Log, Result, SystemClock};
use headwater_storage::{
    log::{DiskShare, EmbeddedLog, LogLock, LogOptions, ObservedLog},
    state::{RocksBackend, RocksOptions},
};
use headwater_streams::{
    Settings, Topology,
    replay::{Options, Plan, Position, Report, Run, Watch},
};

pub use self::listing::{ReplaySummary, Replays};
use self::store::{Place, Stored};

/// Runs a topology over a range of the past, beside the application that runs it live: it reads the log in a data folder, whoever owns
/// that, and writes into `replays/<name>/` below it, a log like any other.
///
/// ```
/// use headwater::{Replay, prelude::*, replay::Position};
/// # futures::executor::block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # let embedded = Embedded::open(folder)?;
/// # embedded.create_topic("readings", 1).await?;
/// # let reading = |at, value: u64| Record::new("boiler".to_owned(), value, Timestamp(at));
/// # embedded.send("readings", &[reading(10, 70), reading(20, 95), reading(30, 99)]).await?;
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, u64>("readings").filter(|_, value| *value > 80).to("alerts");
/// let topology = builder.build()?;
///
/// let replay = Replay::of(&topology).settings(Settings::new("alerting")).log(folder).name("what-if");
/// let report = replay.from(Position::Time(Timestamp(20))).until(Position::End).run().await?;
/// assert_eq!(report.outputs["alerts"], 2);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Replay {
    topology: Topology,
    settings: Settings,
    log: PathBuf,
    name: Option<String>,
    options: Options,
    said: Option<BTreeMap<String, Vec<String>>>,
    disk_share: Option<DiskShare>,
}

/// How much state is written in a second, where it shall not take the whole disk: a fraction of what any disk can do.
const STATE_BYTES_PER_SECOND: NonZeroU64 = NonZeroU64::new(32 << 20).expect("it is not 0");

impl Replay {
    /// Of `topology`, over all that there is, as fast as it goes, unless told otherwise.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        Self {
            topology: topology.clone(),
            settings: Settings::new("replay"),
            log: "headwater-data".into(),
            name: None,
            options: Options::default(),
            said: None,
            disk_share: None,
        }
    }

    /// How it runs. The application id is that of the live application: internal topics are called as its are.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The data folder that is read, and where its own folder lies; `headwater-data` unless given.
    #[must_use]
    pub fn log(self, folder: impl Into<PathBuf>) -> Self {
        Self { log: folder.into(), ..self }
    }

    /// Its name, which must be the legal name of a topic; one made of the time unless given.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// What is replayed, and how, all at once.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Where the range begins.
    #[must_use]
    pub fn from(mut self, position: Position) -> Self {
        self.options.from = position;
        self
    }

    /// Where the range ends; what lies there is not in it.
    #[must_use]
    pub fn until(mut self, position: Position) -> Self {
        self.options.until = position;
        self
    }

    /// How long before the range records are processed to fill windows and joins, without counting what they write.
    #[must_use]
    pub fn warm_up(mut self, time: Duration) -> Self {
        self.options.warm_up = time;
        self
    }

    /// How many times as fast as it happened.
    #[must_use]
    pub fn pace(mut self, factor: f64) -> Self {
        self.options.pace = Some(factor);
        self
    }

    /// Closes at the end what is open, as if time went on for ever.
    #[must_use]
    pub fn close_windows(mut self) -> Self {
        self.options.close_windows = true;
        self
    }

    /// How much of the disk's time it takes at most, so that the live program's commits do not wait. Unless given,
    /// [`DiskShare::BESIDE_LIVE`] when a process has the log open at the start, and all of it otherwise. With less than all,
    /// its state is limited to 32 MiB a second.
    #[must_use]
    pub fn disk_share(self, share: DiskShare) -> Self {
        Self { disk_share: Some(share), ..self }
    }

    /// What the program that runs it was told besides: the words of each of its own options. A replay only goes on with the same.
    #[must_use]
    pub(crate) fn options_said(self, said: BTreeMap<String, Vec<String>>) -> Self {
        Self { said: Some(said), ..self }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// As [`Replay::start`], and why it stopped.
    pub async fn run(self) -> Result<Report> {
        self.start().await?.run_until(std::future::pending()).await
    }

    /// Starts it.
    ///
    /// # Errors
    /// `Invalid` when there is no log, the range is not in it (the message says what is), or there is a replay of this name; nothing was
    /// changed then. Those of the logs and the state.
    pub async fn start(&self) -> Result<RunningReplay> {
        let source = ObservedLog::open(&self.log)?;
        let now = SystemClock.now();
        let plan = Plan::resolve(&self.topology, &self.settings, &self.options, now, &source).await?;
        let place = match &self.name {
            Some(name) => Place::claim(&self.log, name)?,
            None => Place::claim_unused(&self.log, now)?,
        };
        let stored = Stored::new(&place.name, now, plan).with_said(self.said.clone());
        match self.begin(source, place.clone(), stored).await {
            Ok(running) => Ok(running),
            Err(error) => {
                // It is ours, and nothing has come of it yet that anybody could go on with.
                let _ = place.delete();
                Err(error)
            }
        }
    }

    /// Goes on with the replay [`Replay::name`], which was stopped or killed. What was asked for then is done; only the pace may
    /// be another.
    ///
    /// # Errors
    /// `Invalid` when there is no such replay, or it is one of another topology; `Unavailable` when it runs (the message has the process
    /// id).
    pub async fn resume(&self) -> Result<RunningReplay> {
        let name =
            self.name.as_deref().ok_or_else(|| Error::invalid("a replay is gone on with by its name"))?;
        let place = Place::new(&self.log, name)?;
        let mut stored = place.read()?;
        stored.check_said(self.said.as_ref())?;
        if self.options.pace.is_some() {
            stored.plan = stored.plan.with_pace(self.options.pace)?;
        }
        self.begin(ObservedLog::open(&self.log)?, place, stored).await
    }

    async fn begin(&self, source: ObservedLog, place: Place, stored: Stored) -> Result<RunningReplay> {
        let disk_share = match self.disk_share {
            Some(share) => share,
            None if LogLock::holder(&self.log)?.is_some() => DiskShare::BESIDE_LIVE,
            None => DiskShare::ALL,
        };
        let options = LogOptions { disk_share, ..LogOptions::default() };
        let log = EmbeddedLog::open_with(&place.folder, options)?;
        place.write(&stored)?;
        let options = RocksOptions {
            memory_bytes: self.settings.memory_bytes / 2,
            write_bytes_per_second: (!disk_share.is_all()).then_some(STATE_BYTES_PER_SECOND),
        };
        let state = Arc::new(RocksBackend::open(place.folder.join("state"), options)?);
        let own: Arc<dyn Log> = Arc::new(log.clone());
        let (settings, source) = (self.settings.clone(), Arc::new(source));
        let run = Run::start(&self.topology, settings, &stored.plan, source, own, state).await;
        match run {
            Ok(run) => Ok(RunningReplay { run, log, place, stored, disk_share }),
            Err(error) => {
                log.close().await?;
                Err(error)
            }
        }
    }
}

/// A replay that runs. Dropping it stops it as a crash would: it can go on.
pub struct RunningReplay {
    run: Run,
    log: EmbeddedLog,
    place: Place,
    stored: Stored,
    disk_share: DiskShare,
}

impl RunningReplay {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Where it is: a log that `Embedded`, or `headwater consume --log`, opens.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// What it reads.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.stored.plan
    }

    /// How much of the disk's time it takes at most.
    #[must_use]
    pub fn disk_share(&self) -> DiskShare {
        self.disk_share
    }

    /// How far it is, for somebody who looks while it runs.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.run.watch()
    }

    /// Runs to the end, or until `stop` is ready: then it commits, and can go on.
    ///
    /// # Errors
    /// Why it stopped. It can go on from its last commit.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Report> {
        let Self { run, log, place, mut stored, .. } = self;
        let report = run.run_until(stop).await;
        let closed = log.close().await;
        let report = report?;
        closed?;
        stored.take(&report)?;
        place.write(&stored)?;
        Ok(report)
    }
}

impl fmt::Debug for RunningReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningReplay").field("folder", &self.place.folder).finish_non_exhaustive()
    }
}
