//! Which topics a topology reads, writes, and keeps for itself.

use std::collections::{BTreeMap, BTreeSet};

use headwater_core::{Result, TopicName};

use super::{NodeId, NodeKind, SinkTopic, TopicRef, Topology};
use crate::runtime::{changelog_topic, repartition_topic};

/// What a topic is to an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TopicRole {
    /// It is read, and somebody else writes it.
    Source,
    /// It is written, and read by the application itself.
    Intermediate,
    /// It is written.
    Sink,
    /// Records on their way from one sub-topology to another: the application's own.
    Repartition,
    /// What a store holds: the application's own.
    Changelog,
}

impl TopicRole {
    /// Whether nobody but the application has to do with it.
    #[must_use]
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Repartition | Self::Changelog)
    }

    /// Whether the application reads it and commits how far it is.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::Source | Self::Intermediate | Self::Repartition)
    }
}

impl std::fmt::Display for TopicRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Intermediate => "intermediate",
            Self::Sink => "sink",
            Self::Repartition => "repartition",
            Self::Changelog => "changelog",
        })
    }
}

impl Topology {
    /// The topics of an application `application_id` that runs it, by name, and what each of them is to it. Those that a record
    /// decides ([`KStream::to_each`](crate::KStream::to_each)) are not known before it runs.
    ///
    /// ```
    /// use headwater_streams::{StreamsBuilder, TopicRole};
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, String>("lines").group_by_key().count("counts").to_stream().to("totals");
    /// let topics = builder.build()?.topics("app")?;
    /// let topics: Vec<_> = topics.iter().map(|(name, role)| (name.as_str(), *role)).collect();
    /// assert_eq!(
    ///     topics,
    ///     [
    ///         ("app-counts-changelog", TopicRole::Changelog),
    ///         ("lines", TopicRole::Source),
    ///         ("totals", TopicRole::Sink),
    ///     ]
    /// );
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the names of its topics would not be legal.
    pub fn topics(&self, application_id: &str) -> Result<BTreeMap<TopicName, TopicRole>> {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes[..] {
            match &node.kind {
                NodeKind::Source { topic: TopicRef::External(topic), .. } => read.insert(topic.clone()),
                NodeKind::Sink { topic: SinkTopic::Fixed(TopicRef::External(topic)), .. } => {
                    written.insert(topic.clone())
                }
                _ => false,
            };
        }
        let role = |topic: &TopicName| match (read.contains(topic), written.contains(topic)) {
            (true, true) => TopicRole::Intermediate,
            (true, false) => TopicRole::Source,
            (false, _) => TopicRole::Sink,
        };
        let mut topics: BTreeMap<_, _> =
            read.iter().chain(&written).map(|topic| (topic.clone(), role(topic))).collect();
        for node in &self.nodes[..] {
            if let NodeKind::Source { topic: TopicRef::Repartition(name), .. } = &node.kind {
                topics.insert(repartition_topic(application_id, name)?, TopicRole::Repartition);
            }
        }
        for store in &self.stores[..] {
            topics.insert(changelog_topic(application_id, &store.name)?, TopicRole::Changelog);
        }
        Ok(topics)
    }

    /// Those topics that it reads and that do nothing but fill tables, be it through steps that keep nothing, or a repartition: without
    /// what is at their beginning, rows are missing.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let names = builder.table::<String, String>("names", "name-rows");
    /// builder.stream::<String, String>("visits").join_table(&names, |_, visit, name| format!("{name}: {visit}")).to("named");
    /// let tables = builder.build()?.table_topics();
    /// assert_eq!(tables.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(), ["names"]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn table_topics(&self) -> BTreeSet<TopicName> {
        let sources = self.nodes.iter().enumerate().filter_map(|(at, node)| match &node.kind {
            NodeKind::Source { topic: TopicRef::External(name), .. }
                if self.fills_only_tables(NodeId(at)) =>
            {
                Some(name.clone())
            }
            _ => None,
        });
        sources.collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{StreamsBuilder, TopicRole};

    #[test]
    fn a_topic_that_is_written_and_read_stands_between() {
        let builder = StreamsBuilder::new();
        builder.stream::<String, String>("in").to("between");
        let regrouped =
            builder.stream::<String, String>("between").group_by("by-text", |_, text| text.clone());
        regrouped.count("counts").to_stream().to("out");
        let topics = builder.build().unwrap().topics("app").unwrap();
        let topics: Vec<_> = topics.iter().map(|(name, role)| (name.as_str(), *role)).collect();
        assert_eq!(
            topics,
            [
                ("app-by-text-repartition", TopicRole::Repartition),
                ("app-counts-changelog", TopicRole::Changelog),
                ("between", TopicRole::Intermediate),
                ("in", TopicRole::Source),
                ("out", TopicRole::Sink),
            ]
        );
        assert!(TopicRole::Intermediate.is_read() && !TopicRole::Intermediate.is_internal());
    }

    #[test]
    fn an_application_that_cannot_be_called_so_has_no_topics() {
        let builder = StreamsBuilder::new();
        builder.stream::<String, String>("in").group_by_key().count("counts");
        assert!(builder.build().unwrap().topics("not a name").is_err());
    }
}
