//! Which topics must be divided alike: those whose records meet in a store.

use std::collections::BTreeSet;

use super::{NodeKind, TopicRef, Topology};

/// Topics whose records of one key must be in partitions of one number (Kafka: a co-partition group).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copartitioned<'a> {
    /// The stores in which they meet.
    pub(crate) stores: BTreeSet<&'a str>,
    pub(crate) topics: BTreeSet<&'a TopicRef>,
}

impl Topology {
    /// The groups of topics that meet in stores. A store that only one node uses divides nothing: what is merged before
    /// it may have any number of partitions, as in Kafka Streams.
    pub(crate) fn copartitioned(&self) -> Vec<Copartitioned<'_>> {
        let sources = self.sources_of_nodes();
        let mut groups: Vec<Copartitioned<'_>> = Vec::new();
        for (store, node) in self.stores.iter().enumerate() {
            let uses = |kind: &NodeKind| matches!(kind, NodeKind::Processor { stores, .. } if stores.contains(&store));
            let users: Vec<usize> = (0..self.nodes.len()).filter(|at| uses(&self.nodes[*at].kind)).collect();
            if users.len() < 2 {
                continue;
            }
            let topics = users.iter().flat_map(|at| sources[*at].iter().copied()).collect();
            let mut group = Copartitioned { stores: BTreeSet::from([node.name.as_str()]), topics };
            // Being divided alike is transitive.
            let (meeting, apart) =
                groups.into_iter().partition(|other| !other.topics.is_disjoint(&group.topics));
            groups = apart;
            let meeting: Vec<Copartitioned<'_>> = meeting;
            for other in meeting {
                group.stores.extend(other.stores);
                group.topics.extend(other.topics);
            }
            groups.push(group);
        }
        groups
    }

    /// For each node the topics whose records may reach it.
    fn sources_of_nodes(&self) -> Vec<BTreeSet<&TopicRef>> {
        let mut sources = vec![BTreeSet::new(); self.nodes.len()];
        // Parents come before their children.
        for (at, node) in self.nodes.iter().enumerate() {
            if let NodeKind::Source { topic, .. } = &node.kind {
                sources[at].insert(topic);
            }
            for child in &node.children {
                let of_parent = sources[at].clone();
                sources[child.0].extend(of_parent);
            }
        }
        sources
    }
}
