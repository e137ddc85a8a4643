//! What of a topology a replay must know: which sources only fill tables, which topics are internal, and which it both writes
//! and reads.

use std::collections::BTreeSet;

use headwater_core::{Result, TopicName};

use crate::{
    Topology,
    runtime::{changelog_topic, lanes::Extract, repartition_topic},
    topology::{NodeId, NodeKind, SinkTopic, TopicRef},
};

/// How the operator calls itself that keeps the latest value of each key of a stream.
const TABLE: &str = "table-";

impl Topology {
    /// The topics of users that it reads, in the order of their names, with whether they do nothing but fill tables. Without
    /// those that it writes itself.
    pub(super) fn replayed_topics(&self) -> Vec<(TopicName, bool)> {
        let written = self.written_topics();
        let mut topics: Vec<(TopicName, bool)> = (0..self.nodes.len())
            .filter_map(|at| match &self.nodes[at].kind {
                NodeKind::Source { topic: TopicRef::External(name), .. } => {
                    Some((name.clone(), self.only_fills_tables(NodeId(at))))
                }
                _ => None,
            })
            .filter(|(name, _)| !written.contains(name))
            .collect();
        topics.sort();
        topics
    }

    /// The topics of users that it is known to write.
    pub(super) fn written_topics(&self) -> BTreeSet<TopicName> {
        let sinks = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink { topic: SinkTopic::Fixed(TopicRef::External(name)), .. } => Some(name.clone()),
            _ => None,
        });
        sinks.collect()
    }

    /// Those of them that it reads as well.
    pub(super) fn read_back_topics(&self) -> BTreeSet<TopicName> {
        let written = self.written_topics();
        let read = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source { topic: TopicRef::External(name), .. } => Some(name.clone()),
            _ => None,
        });
        read.filter(|name| written.contains(name)).collect()
    }

    /// How the timestamps of a topic are found, when not in the log.
    pub(super) fn extract_of(&self, topic: &TopicName) -> Option<Extract> {
        let mut sources = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source { topic: TopicRef::External(name), build } if name == topic => Some(build),
            _ => None,
        });
        sources.next()?.extract()
    }

    /// Whether records decide to which topic they go.
    pub(super) fn computes_topics(&self) -> bool {
        self.nodes.iter().any(|node| matches!(&node.kind, NodeKind::Sink { topic: SinkTopic::Computed, .. }))
    }

    /// The topics that belong to an application of it: repartitions and changelogs.
    pub(super) fn internal_topics(&self, application_id: &str) -> Result<BTreeSet<TopicName>> {
        let repartitions = self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source { topic: TopicRef::Repartition(name), .. } => {
                Some(repartition_topic(application_id, name))
            }
            _ => None,
        });
        let changelogs = self.stores.iter().map(|store| changelog_topic(application_id, &store.name));
        repartitions.chain(changelogs).collect()
    }

    /// Whether all that comes from `node` becomes rows of tables, be it through steps that keep nothing, or a repartition.
    fn only_fills_tables(&self, node: NodeId) -> bool {
        let children = &self.nodes[node.0].children;
        let fills = |child: &NodeId| {
            let node = &self.nodes[child.0];
            match &node.kind {
                NodeKind::Processor { .. } if node.name.starts_with(TABLE) => true,
                NodeKind::Processor { stores, .. } => stores.is_empty() && self.only_fills_tables(*child),
                NodeKind::Sink { topic: SinkTopic::Fixed(topic @ TopicRef::Repartition(_)), .. } => {
                    let reads = |kind: &NodeKind| matches!(kind, NodeKind::Source { topic: read, .. } if read == topic);
                    let reader = self.nodes.iter().position(|node| reads(&node.kind));
                    reader.is_some_and(|reader| self.only_fills_tables(NodeId(reader)))
                }
                NodeKind::Sink { .. } | NodeKind::Source { .. } => false,
            }
        };
        !children.is_empty() && children.iter().all(fills)
    }
}

#[cfg(test)]
mod tests {
    use crate::StreamsBuilder;

    #[test]
    fn sources_that_only_fill_tables_are_told_from_others() {
        let builder = StreamsBuilder::new();
        let plain = builder.table::<String, u64>("plain", "plain-rows");
        let mapped = builder.stream::<String, u64>("mapped").map_values(|_, n| n + 1).to_table("mapped-rows");
        let by_other = builder.stream::<String, u64>("moved").select_key(|_, n| n.to_string());
        let moved = by_other.repartition("by-number").to_table("moved-rows");
        let both = builder.stream::<String, u64>("both");
        let both_table = both.to_table("both-rows");
        both.to("copied");
        builder
            .stream::<String, u64>("facts")
            .join_table(&plain, |_, a, b| a + b)
            .join_table(&mapped, |_, a, b| a + b)
            .join_table(&moved, |_, a, b| a + b)
            .join_table(&both_table, |_, a, b| a + b)
            .to("through");
        builder.stream::<String, u64>("through").group_by_key().count("counts").to_stream().to("out");
        let topology = builder.build().unwrap();
        let replayed = topology.replayed_topics();
        let replayed: Vec<_> = replayed.iter().map(|(name, is_table)| (name.as_str(), *is_table)).collect();
        let expected =
            [("both", false), ("facts", false), ("mapped", true), ("moved", true), ("plain", true)];
        assert_eq!(replayed, expected);
        let names = |topics: std::collections::BTreeSet<headwater_core::TopicName>| {
            topics.iter().map(|topic| topic.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(topology.read_back_topics()), ["through"]);
        assert_eq!(names(topology.written_topics()), ["copied", "out", "through"]);
        let internal = names(topology.internal_topics("app").unwrap());
        assert!(internal.contains(&"app-by-number-repartition".to_owned()));
        assert!(internal.contains(&"app-counts-changelog".to_owned()));
        assert!(!topology.computes_topics());
    }
}
