//! A topology on a log: the application's name and the number of partitions filled in, missing topics created.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use headwater_core::{Error, GroupId, Log, Partition, Result, TaskId, TopicConfig, TopicName, TopicSpec};

use super::{
    lanes::Extract,
    partitions::Partitions,
    settings::{ErrorPolicy, Settings},
};
use crate::{
    OffsetReset,
    replay::Pace,
    topology::{TopicRef, Topology},
};

pub(crate) struct Plan {
    pub(crate) topology: Arc<Topology>,
    pub(crate) settings: Settings,
    pub(crate) group: GroupId,
    pub(crate) subtopologies: Vec<SubtopologyPlan>,
    pub(crate) dead_letters: Option<(TopicName, NonZeroU32)>,
    /// How many partitions all topics of the log have.
    pub(crate) topics: Arc<BTreeMap<TopicName, NonZeroU32>>,
    /// How fast a replay may go.
    pub(crate) pace: Option<Pace>,
}

pub(crate) struct SubtopologyPlan {
    pub(crate) tasks: u32,
    /// In the order of `Topology::sources_of`.
    pub(crate) sources: Vec<SourcePlan>,
    /// In the order of `Topology::sinks_of`.
    pub(crate) sinks: Vec<SinkPlan>,
}

pub(crate) struct SourcePlan {
    pub(crate) topic: TopicName,
    pub(crate) partitions: u32,
    /// For a repartition topic: the sub-topology that writes it, and how many tasks that has.
    pub(crate) upstream: Option<(u32, u32)>,
    /// The sub-topologies that write it, if this one does not lead back to them: their time ends before that of this one.
    pub(crate) writers: Vec<u32>,
    pub(crate) reset: OffsetReset,
    pub(crate) extract: Option<Extract>,
}

pub(crate) struct SinkPlan {
    pub(crate) topic: TopicName,
    pub(crate) partitions: NonZeroU32,
    pub(crate) repartition: bool,
}

impl Plan {
    pub(crate) async fn resolve(topology: Arc<Topology>, settings: Settings, log: &dyn Log) -> Result<Self> {
        settings.check()?;
        let known: BTreeMap<TopicName, NonZeroU32> =
            log.topics().await?.into_iter().map(|t| (t.name, t.partitions)).collect();
        let partitions = Partitions::of(&topology, &known)?;
        let mut plan = Self {
            group: GroupId(settings.application_id.clone()),
            topology: Arc::clone(&topology),
            settings,
            subtopologies: Vec::new(),
            dead_letters: None,
            topics: Arc::default(),
            pace: None,
        };
        for subtopology in 0..topology.subtopologies() {
            let resolved = plan.resolve_subtopology(subtopology, &partitions, &known)?;
            plan.subtopologies.push(resolved);
        }
        plan.find_writers();
        plan.create_topics(&known, log).await?;
        plan.topics = Arc::new(log.topics().await?.into_iter().map(|t| (t.name, t.partitions)).collect());
        Ok(plan)
    }

    fn resolve_subtopology(
        &self,
        subtopology: u32,
        partitions: &Partitions<'_>,
        known: &BTreeMap<TopicName, NonZeroU32>,
    ) -> Result<SubtopologyPlan> {
        let count = partitions.tasks_of(subtopology);
        let mut sources = Vec::new();
        for (topic, build) in self.topology.source_nodes_of(subtopology) {
            let upstream = match topic {
                TopicRef::External(_) => None,
                TopicRef::Repartition(name) => {
                    let writer =
                        self.topology.writer_of(name).expect("a repartition is written where it is made");
                    Some((writer, partitions.tasks_of(writer)))
                }
            };
            let name = self.topic_name(topic)?;
            let width = partitions.width_of(topic).expect("every topic that is read was counted");
            let found = known.get(&name).map_or(width, |found| found.get());
            if found != width {
                return Err(Error::invalid(format!(
                    "a repartition topic has another number of partitions than what it is made of: were the source \
                     topics made wider or narrower? Use a new application id. topic={name}, partitions={found}, \
                     expected={width}"
                )));
            }
            let (reset, extract) = (build.reset(), build.extract());
            let writers = Vec::new();
            sources.push(SourcePlan { topic: name, partitions: width, upstream, writers, reset, extract });
        }
        let mut sinks = Vec::new();
        for topic in self.topology.sink_topics_of(subtopology) {
            let name = self.topic_name(topic)?;
            let repartition = matches!(topic, TopicRef::Repartition(_));
            let count =
                known.get(&name).copied().or_else(|| NonZeroU32::new(self.width_of(topic, partitions)));
            let count = count.expect("every sub-topology has a task");
            sinks.push(SinkPlan { topic: name, partitions: count, repartition });
        }
        Ok(SubtopologyPlan { tasks: count, sources, sinks })
    }

    /// Finds out who sends to whom, through topics of the application and through others.
    fn find_writers(&mut self) {
        let writes = |s: &SubtopologyPlan, topic: &TopicName| s.sinks.iter().any(|sink| sink.topic == *topic);
        let writers_of = |topic: &TopicName| -> Vec<u32> {
            (0..)
                .zip(&self.subtopologies)
                .filter(|(_, s)| writes(s, topic))
                .map(|(number, _)| number)
                .collect()
        };
        let sources =
            |s: &SubtopologyPlan| s.sources.iter().map(|source| writers_of(&source.topic)).collect();
        let mut writers: Vec<Vec<Vec<u32>>> = self.subtopologies.iter().map(sources).collect();
        // Whoever comes before a sub-topology, directly or not.
        let mut before: Vec<BTreeSet<u32>> =
            writers.iter().map(|sources| sources.iter().flatten().copied().collect()).collect();
        for _ in 0..before.len() {
            for at in 0..before.len() {
                let further: Vec<u32> =
                    before[at].iter().flat_map(|s| before[*s as usize].iter().copied()).collect();
                before[at].extend(further);
            }
        }
        for (number, sources) in (0..).zip(&mut writers) {
            sources
                .iter_mut()
                .for_each(|all| all.retain(|writer| !before[*writer as usize].contains(&number)));
        }
        for (subtopology, writers) in self.subtopologies.iter_mut().zip(writers) {
            for (source, writers) in subtopology.sources.iter_mut().zip(writers) {
                source.writers = writers;
            }
        }
    }

    /// The tasks whose time ends before that of the tasks of `subtopology`.
    pub(crate) fn tasks_before(&self, subtopology: u32) -> Vec<TaskId> {
        let sources = &self.subtopologies[subtopology as usize].sources;
        let writers: BTreeSet<u32> =
            sources.iter().flat_map(|source| source.writers.iter().copied()).collect();
        writers.into_iter().flat_map(|writer| self.tasks_of(writer)).collect()
    }

    /// Partitions of a topic that is made: as its readers need them, or as many as the widest of its writers has tasks.
    fn width_of(&self, topic: &TopicRef, partitions: &Partitions<'_>) -> u32 {
        let writers = (0..self.topology.subtopologies())
            .filter(|s| self.topology.sink_topics_of(*s).contains(&topic))
            .map(|s| partitions.tasks_of(s));
        partitions.width_of(topic).or_else(|| writers.max()).unwrap_or(1)
    }

    fn topic_name(&self, topic: &TopicRef) -> Result<TopicName> {
        match topic {
            TopicRef::External(name) => Ok(name.clone()),
            TopicRef::Repartition(name) => repartition_topic(&self.settings.application_id, name),
        }
    }

    /// Name of the changelog of the store at `store`.
    pub(crate) fn changelog(&self, store: usize) -> Result<TopicName> {
        changelog_topic(&self.settings.application_id, &self.topology.stores[store].name)
    }

    async fn create_topics(&mut self, known: &BTreeMap<TopicName, NonZeroU32>, log: &dyn Log) -> Result<()> {
        for (number, plan) in (0..).zip(&self.subtopologies) {
            for sink in &plan.sinks {
                let config = TopicConfig::default();
                log.create_topic(&TopicSpec {
                    name: sink.topic.clone(),
                    partitions: sink.partitions,
                    config,
                })
                .await?;
            }
            for store in self.topology.stores_of(number) {
                let mut spec = TopicSpec::new(self.changelog(store)?.as_str(), plan.tasks)?;
                spec.config.cleanup_policy = self.topology.stores[store].build.cleanup();
                log.create_topic(&spec).await?;
            }
        }
        if let ErrorPolicy::DeadLetter(topic) = &self.settings.on_error {
            let widest = self.subtopologies.iter().map(|s| s.tasks).max().unwrap_or(1);
            let mut spec = TopicSpec::new(topic, widest)?;
            if let Some(partitions) = known.get(&spec.name) {
                spec.partitions = *partitions;
            }
            log.create_topic(&spec).await?;
            self.dead_letters = Some((spec.name, spec.partitions));
        }
        Ok(())
    }

    /// How many stores all tasks have together.
    pub(crate) fn store_count(&self) -> usize {
        (0..)
            .zip(&self.subtopologies)
            .map(|(s, plan)| self.topology.stores_of(s).len() * plan.tasks as usize)
            .sum()
    }

    /// All tasks, in order.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0..).zip(&self.subtopologies).flat_map(|(subtopology, _)| self.tasks_of(subtopology))
    }

    fn tasks_of(&self, subtopology: u32) -> impl Iterator<Item = TaskId> + use<> {
        let tasks = self.subtopologies[subtopology as usize].tasks;
        (0..tasks).map(move |p| TaskId { subtopology, partition: Partition(p) })
    }
}

/// Kafka: `<application.id>-<name>-repartition`.
pub(crate) fn repartition_topic(application_id: &str, name: &str) -> Result<TopicName> {
    TopicName::new(format!("{application_id}-{name}-repartition"))
}

/// Kafka: `<application.id>-<store>-changelog`.
pub(crate) fn changelog_topic(application_id: &str, store: &str) -> Result<TopicName> {
    TopicName::new(format!("{application_id}-{store}-changelog"))
}

/// Whether the topology could run on a log with these topics.
pub(crate) fn check(
    topology: &Topology,
    settings: &Settings,
    known: &BTreeMap<TopicName, NonZeroU32>,
) -> Result<()> {
    settings.check()?;
    Partitions::of(topology, known).map(drop)
}
