//! A replay that runs: phase by phase, and on from where it stopped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::Fuse};
use headwater_core::{Error, Log, Result, StateBackend, Timestamp, TopicConfig, TopicName, TopicSpec};

use super::{
    pace::Pace,
    plan::{Phase, Plan},
    positions::{Counts, PositionsTopic, Told},
    progress::{Progress, Watch},
    report::Report,
    view::View,
};
use crate::{ErrorPolicy, Metrics, Ports, Settings, Streams, Topology};

/// A replay that runs.
///
/// Dropping it stops it as a crash would; [`Run::stop`] commits first. Either way it goes on where it was when it is started
/// again with the same plan, log and state.
pub struct Run {
    topology: Topology,
    settings: Settings,
    plan: Plan,
    source: Arc<dyn Log>,
    /// The replay's own log, its state, and the clock.
    ports: Ports,
    positions: PositionsTopic,
    told: Told,
    /// Phases that are over.
    over: usize,
    running: Option<Running>,
    watch: Watch,
}

/// The phase that runs.
struct Running {
    streams: Streams,
    view: View,
    since: Timestamp,
}

impl Run {
    /// Starts the replay, or goes on with it. `source` is only read; everything that comes of the replay goes into `own` and
    /// `state`, which nobody else writes.
    ///
    /// The topology runs under its own application id: in `own`, topics are called as they are called live.
    ///
    /// # Errors
    /// `Invalid`, and nothing was changed, when the plan was made for another topology or application id, when `own` holds
    /// something else than this replay, or when a source topic is not there any more; those of [`Streams::start`].
    pub async fn start(
        topology: &Topology,
        settings: Settings,
        plan: &Plan,
        source: Arc<dyn Log>,
        own: Arc<dyn Log>,
        state: Arc<dyn StateBackend>,
    ) -> Result<Self> {
        Self::start_on(topology, settings, plan, source, Ports::new(own, state)).await
    }

    /// As [`Run::start`], with a clock: it tells how long the replay took, and its pace.
    ///
    /// # Errors
    /// As [`Run::start`].
    pub async fn start_on(
        topology: &Topology,
        settings: Settings,
        plan: &Plan,
        source: Arc<dyn Log>,
        ports: Ports,
    ) -> Result<Self> {
        check(topology, &settings, plan)?;
        check_source(plan, &*source).await?;
        let positions = PositionsTopic::of(plan)?;
        let (over, mut told) = found(&positions, plan, &*ports.log).await?;
        if told.plan.is_none() {
            told.plan = Some(plan.clone());
            positions.create(&*ports.log).await?;
            positions.tell(&*ports.log, 0, &told).await?;
        }
        let watch = Watch::new(plan);
        let mut run = Self {
            topology: topology.clone(),
            settings,
            plan: plan.clone(),
            source,
            ports,
            positions,
            told,
            over,
            running: None,
            watch,
        };
        run.create_outputs().await?;
        run.begin().await?;
        Ok(run)
    }

    /// Output topics are as wide as they are live.
    async fn create_outputs(&self) -> Result<()> {
        let mut names = self.topology.written_topics();
        if let ErrorPolicy::DeadLetter(topic) = &self.settings.on_error {
            names.insert(TopicName::new(topic)?);
        }
        let live = self.source.topics().await?;
        if self.topology.computes_topics() {
            let internal = self.topology.internal_topics(&self.plan.application_id)?;
            let all = live.iter().map(|spec| spec.name.clone());
            names.extend(all.filter(|name| !internal.contains(name) && name != self.positions.name()));
        }
        for spec in live.into_iter().filter(|spec| names.contains(&spec.name)) {
            // Nothing of a replay is deleted by age or compacted: it is there to be looked at.
            let config = TopicConfig {
                compression_type: spec.config.compression_type,
                max_message_bytes: spec.config.max_message_bytes,
                ..TopicConfig::default()
            };
            self.ports.log.create_topic(&TopicSpec { config, ..spec }).await?;
        }
        Ok(())
    }

    /// Starts the next phase, if there is one.
    async fn begin(&mut self) -> Result<()> {
        let Some(phase) = self.plan.phases.get(self.over).copied() else {
            self.watch.finish();
            return Ok(());
        };
        let read_back = self.topology.read_back_topics();
        let kept = if phase == Phase::Range {
            None
        } else {
            let mut kept = self.topology.internal_topics(&self.plan.application_id)?;
            kept.extend(read_back.iter().cloned());
            Some(kept)
        };
        let logs = (Arc::clone(&self.source), Arc::clone(&self.ports.log));
        let view = View::new(&self.plan, self.over, logs, (read_back, kept))?;
        self.watch.begin(self.over, view.gauges());
        tracing::info!(%phase, application = self.plan.application_id, "replay");
        let since = self.ports.clock.now();
        let pace = match self.plan.pace.filter(|_| phase == Phase::Range) {
            Some(factor) => {
                // Where all source records were taken, and only what they made is on its way still, nothing is to be held back: it came
                // when it was due.
                let first = view.first_time(&self.topology).await?;
                first.map(|first| Pace::new(factor, first, since))
            }
            None => None,
        };
        let ports = Ports { log: Arc::new(view.clone()), ..self.ports.clone() };
        let streams = Streams::start_paced(self.topology.clone(), self.settings.clone(), ports, pace).await?;
        self.running = Some(Running { streams, view, since });
        Ok(())
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.watch.progress()
    }

    /// Looks at its progress while somebody else waits for its end.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Counters of the phase that runs; `None` when all are over.
    #[must_use]
    pub fn metrics(&self) -> Option<Metrics> {
        self.running.as_ref().map(|running| running.streams.metrics())
    }

    /// Runs to the end, and says what it came to.
    ///
    /// # Errors
    /// Why it stopped. It goes on from the last commit when it is started again.
    pub async fn finish(self) -> Result<Report> {
        self.run_until(std::future::pending()).await
    }

    /// Stops at once, with a commit.
    ///
    /// # Errors
    /// Why it stopped before, or why the commit failed.
    pub async fn stop(self) -> Result<Report> {
        self.run_until(std::future::ready(())).await
    }

    /// Runs to the end, or until `stop` is ready, and stops with a commit then.
    ///
    /// # Errors
    /// As [`Run::finish`].
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<Report> {
        let mut stop = std::pin::pin!(stop.fuse());
        while self.running.is_some() {
            if !self.phase(stop.as_mut()).await? {
                break;
            }
        }
        self.report().await
    }

    /// Runs the phase to its end, and starts the next; `false` when it was stopped before.
    async fn phase(&mut self, mut stop: std::pin::Pin<&mut Fuse<impl Future<Output = ()>>>) -> Result<bool> {
        let Some(Running { streams, view, since }) = self.running.take() else { return Ok(false) };
        let closes = self.plan.close_windows && self.over + 1 == self.plan.phases.len();
        let is_over = {
            let done = std::pin::pin!(Self::is_over(&streams, closes));
            // Asked first: who wants to stop at once does not wait for anything.
            match futures::future::select(stop.as_mut(), done).await {
                futures::future::Either::Left(_) => false,
                futures::future::Either::Right((outcome, _)) => {
                    outcome?;
                    true
                }
            }
        };
        let metrics = streams.close().await?;
        self.told.counts.add(&metrics.total());
        let took = self.ports.clock.now().0.saturating_sub(since.0);
        self.told.add_time(Duration::from_millis(u64::try_from(took).unwrap_or(0)));
        for (topic, records) in view.dropped() {
            *self.told.dropped.entry(topic.to_string()).or_default() += records;
        }
        self.over += usize::from(is_over);
        self.positions.tell(&*self.ports.log, self.over, &self.told).await?;
        if is_over {
            self.begin().await?;
        }
        Ok(is_over)
    }

    async fn is_over(streams: &Streams, closes: bool) -> Result<()> {
        if closes { streams.close_windows().await } else { streams.caught_up().await }
    }

    async fn report(&self) -> Result<Report> {
        let finished = self.over >= self.plan.phases.len();
        let last = self.plan.phases.len().saturating_sub(1);
        let (mut sources, mut before, mut reached) = (BTreeMap::new(), BTreeMap::new(), None);
        for (at, source) in self.plan.sources.iter().enumerate() {
            sources.entry(source.topic.clone()).or_default();
            for phase in 0..self.plan.phases.len() {
                let Some((_, read)) = self.positions.read(&*self.ports.log, phase, at).await? else {
                    continue;
                };
                let records = if phase == last { &mut sources } else { &mut before };
                if read.records > 0 {
                    *records.entry(source.topic.clone()).or_default() += read.records;
                    reached = reached.max(Some(read.time()).filter(|_| phase == last));
                }
            }
        }
        let Counts { late, skipped, dead_letters, null_keys, null_values } = self.told.counts;
        Ok(Report {
            finished,
            phase: self.plan.phases.get(self.over.min(last)).copied().unwrap_or(Phase::Range),
            sources,
            outputs: self.outputs().await?,
            before,
            dropped: self.told.dropped.clone(),
            late,
            skipped,
            dead_letters,
            null_keys,
            null_values,
            from: self.plan.from,
            until: self.plan.until,
            reached: reached.map(Timestamp),
            duration: Duration::from_millis(self.told.millis),
        })
    }

    /// How many records lie in each output topic.
    async fn outputs(&self) -> Result<BTreeMap<String, u64>> {
        let internal = self.topology.internal_topics(&self.plan.application_id)?;
        let written = self.topology.written_topics();
        let mut outputs = BTreeMap::new();
        for spec in self.ports.log.topics().await? {
            if internal.contains(&spec.name) || spec.name == *self.positions.name() {
                continue;
            }
            let mut records = 0;
            for partition in spec.topic_partitions() {
                let offsets = self.ports.log.offsets(&partition).await?;
                records += offsets.end.0 - offsets.earliest.0;
            }
            if records > 0 || written.contains(&spec.name) {
                outputs.insert(spec.name.to_string(), records);
            }
        }
        Ok(outputs)
    }
}

/// The plan is one of this topology.
fn check(topology: &Topology, settings: &Settings, plan: &Plan) -> Result<()> {
    settings.check()?;
    plan.check()?;
    if plan.application_id != settings.application_id {
        return Err(Error::invalid(format!(
            "the plan of the replay is one of another application. planned=`{}`, application id=`{}`",
            plan.application_id, settings.application_id
        )));
    }
    let described = topology.describe();
    if plan.topology != described {
        return Err(Error::invalid(format!(
            "the topology is not the one that the replay was planned for: begin a new one. planned:\n{}now:\n{described}",
            plan.topology
        )));
    }
    Ok(())
}

/// What was planned is still there.
async fn check_source(plan: &Plan, source: &dyn Log) -> Result<()> {
    let topics = source.topics().await?;
    for planned in &plan.sources {
        let is_there = |spec: &TopicSpec| {
            spec.name.as_str() == planned.topic && planned.partition.0 < spec.partitions.get()
        };
        if !topics.iter().any(is_there) {
            let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "a source of the replay is not there any more. partition={}-{}; what there is: {}",
                planned.topic,
                planned.partition,
                names.join(", ")
            )));
        }
    }
    Ok(())
}

/// How far the replay is that `own` holds. It must be this one, or none.
async fn found(positions: &PositionsTopic, plan: &Plan, own: &dyn Log) -> Result<(usize, Told)> {
    let topics = own.topics().await?;
    if let Some(other) = topics.iter().find(|spec| spec.name != *positions.name())
        && !topics.iter().any(|spec| spec.name == *positions.name())
    {
        return Err(Error::invalid(format!(
            "the log that a replay writes to holds something else: give it one of its own. topic={}",
            other.name
        )));
    }
    let (over, told) = positions.told(own).await?;
    match &told.plan {
        Some(planned) if !planned.is_same(plan) => Err(Error::invalid(format!(
            "the log that the replay writes to holds another one: go on with that, or begin anew in an empty log. it \
             holds:\n{planned}"
        ))),
        _ => Ok((over, told)),
    }
}
