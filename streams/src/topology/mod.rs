//! The plan of a program: one immutable graph, its sub-topologies and its stores.

mod build;
mod copartition;
mod describe;
mod effect;
mod outputs;
mod topics;

use std::{collections::BTreeMap, sync::Arc};

use headwater_core::{Error, Result, TopicName};

pub(crate) use self::{
    build::{BuildNode, BuildSource, ErasedNext, OperatorNode, Processors, SharedChildren, Slots, tee},
    copartition::Copartitioned,
    effect::{Carried, Effect},
    outputs::{ShownRef, shown},
};
pub use self::{
    describe::PlanFormat,
    outputs::{Output, OutputKind},
    topics::TopicRole,
};
use crate::state::BuildStore;

/// Place of a node in the graph. Parents come before their children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

/// A topic as the topology knows it, before an application has given its name to the internal ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicRef {
    /// A topic of the user.
    External(TopicName),
    /// The repartition topic called so by the user; `<application id>-<name>-repartition` in the log.
    Repartition(String),
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SinkTopic {
    Fixed(TopicRef),
    /// To a topic that each record decides.
    Computed,
}

pub(crate) enum NodeKind {
    Source { topic: TopicRef, build: Box<dyn BuildSource> },
    Processor { stores: Vec<usize>, build: Box<dyn BuildNode> },
    Sink { topic: SinkTopic, build: Box<dyn BuildNode> },
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    pub(crate) children: Vec<NodeId>,
    pub(crate) effect: Effect,
}

pub(crate) struct StoreNode {
    pub(crate) name: String,
    pub(crate) build: Arc<dyn BuildStore>,
}

/// A checked topology, made by [`StreamsBuilder::build`](crate::StreamsBuilder::build). Prints itself as text. Cheap to clone: an
/// application, its replays and their plans share one graph.
#[derive(Clone)]
pub struct Topology {
    pub(crate) nodes: Arc<[Node]>,
    pub(crate) stores: Arc<[StoreNode]>,
    /// Sub-topology of each node.
    pub(crate) subtopology: Arc<[u32]>,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Topology {
    pub(crate) fn new(nodes: Vec<Node>, stores: Vec<StoreNode>) -> Result<Self> {
        check_edges(&nodes)?;
        check_topics(&nodes)?;
        let subtopology = connected_components(&nodes);
        let topology = Self { nodes: nodes.into(), stores: stores.into(), subtopology: subtopology.into() };
        topology.check_cycles()?;
        Ok(topology)
    }

    /// No sub-topology reads what it writes itself, directly or through others: it would wait for itself.
    fn check_cycles(&self) -> Result<()> {
        let count = self.subtopologies();
        let upstream = |subtopology: u32| {
            let topics = self.sources_of(subtopology).into_iter();
            topics
                .filter_map(|t| if let TopicRef::Repartition(name) = t { self.writer_of(name) } else { None })
        };
        for start in 0..count {
            let (mut seen, mut next) = (Vec::new(), upstream(start).collect::<Vec<_>>());
            while let Some(subtopology) = next.pop() {
                if subtopology == start {
                    return Err(Error::invalid(format!(
                        "a sub-topology reads, directly or through others, what it repartitions itself, and would wait for \
                         itself: a join, a merge or a shared store brings a stream together with its own repartition. \
                         Let it go through a topic instead: write it there with `to`, and read that with `stream`. \
                         sub-topology={start}\n{self}"
                    )));
                }
                if !seen.contains(&subtopology) {
                    seen.push(subtopology);
                    next.extend(upstream(subtopology));
                }
            }
        }
        Ok(())
    }

    /// How many sub-topologies there are.
    #[must_use]
    pub fn subtopologies(&self) -> u32 {
        self.subtopology.iter().max().map_or(0, |max| max + 1)
    }

    pub(crate) fn nodes_of(&self, subtopology: u32) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (NodeId(i), n))
            .filter(move |(i, _)| self.subtopology[i.0] == subtopology)
    }

    /// Source topics of a sub-topology, sorted; their order is that of the task's sources.
    pub(crate) fn sources_of(&self, subtopology: u32) -> Vec<&TopicRef> {
        self.source_nodes_of(subtopology).into_iter().map(|(topic, _)| topic).collect()
    }

    /// As [`Topology::sources_of`], with what makes the sources.
    pub(crate) fn source_nodes_of(&self, subtopology: u32) -> Vec<(&TopicRef, &dyn BuildSource)> {
        let mut sources: Vec<_> = self
            .nodes_of(subtopology)
            .filter_map(|(_, node)| match &node.kind {
                NodeKind::Source { topic, build } => Some((topic, &**build)),
                NodeKind::Processor { .. } | NodeKind::Sink { .. } => None,
            })
            .collect();
        sources.sort_by_key(|(topic, _)| *topic);
        sources
    }

    /// Topics that a sub-topology is known to write, each once, in the order of their first sink; that of the task's buffers.
    pub(crate) fn sink_topics_of(&self, subtopology: u32) -> Vec<&TopicRef> {
        let mut topics = Vec::new();
        for (_, node) in self.nodes_of(subtopology) {
            if let NodeKind::Sink { topic: SinkTopic::Fixed(topic), .. } = &node.kind
                && !topics.contains(&topic)
            {
                topics.push(topic);
            }
        }
        topics
    }

    /// Stores of a sub-topology, by their place in `stores`, in that order.
    pub(crate) fn stores_of(&self, subtopology: u32) -> Vec<usize> {
        let mut stores: Vec<usize> = self
            .nodes_of(subtopology)
            .filter_map(|(_, n)| {
                if let NodeKind::Processor { stores, .. } = &n.kind { Some(stores.clone()) } else { None }
            })
            .flatten()
            .collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }

    /// The sub-topology that writes into a repartition topic.
    pub(crate) fn writer_of(&self, name: &str) -> Option<u32> {
        let wanted = SinkTopic::Fixed(TopicRef::Repartition(name.to_owned()));
        let writes = |n: &Node| matches!(&n.kind, NodeKind::Sink { topic, .. } if *topic == wanted);
        self.nodes.iter().position(writes).map(|i| self.subtopology[i])
    }
}

/// The types on both ends of every edge agree. The DSL cannot build anything else; a later hand-built graph can.
fn check_edges(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let output = match &node.kind {
            NodeKind::Source { build, .. } => Some(build.output()),
            NodeKind::Processor { build, .. } | NodeKind::Sink { build, .. } => build.output(),
        };
        for child in &node.children {
            let child = &nodes[child.0];
            let input = match &child.kind {
                NodeKind::Source { .. } => None,
                NodeKind::Processor { build, .. } | NodeKind::Sink { build, .. } => Some(build.input()),
            };
            if output != input {
                let show = |t: Option<crate::edge::RecordType>| t.map_or("nothing", |t| t.name);
                return Err(Error::invalid(format!(
                    "record type mismatch. from=`{}`, output=`{}`, to=`{}`, input=`{}`",
                    node.name,
                    show(output),
                    child.name,
                    show(input)
                )));
            }
        }
    }
    Ok(())
}

/// A topic is read by one source, and a repartition topic written by one sub-topology's one sink.
fn check_topics(nodes: &[Node]) -> Result<()> {
    let mut read = BTreeMap::new();
    for node in nodes {
        if let NodeKind::Source { topic, .. } = &node.kind
            && let Some(first) = read.insert(topic, &node.name)
        {
            return Err(Error::invalid(format!(
                "a topic is read twice: use the same stream handle twice instead. topic={topic}, first=`{first}`, second=`{}`",
                node.name
            )));
        }
    }
    if read.is_empty() {
        return Err(Error::invalid("the topology reads no topic: begin with `StreamsBuilder::stream`"));
    }
    Ok(())
}

impl std::fmt::Display for TopicRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TopicRef::External(name) => write!(f, "{name}"),
            TopicRef::Repartition(name) => write!(f, "{name}-repartition"),
        }
    }
}

/// Numbers the groups of nodes that are linked by edges or by a shared store, in the order of their first node.
fn connected_components(nodes: &[Node]) -> Vec<u32> {
    fn find(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    fn unite(parent: &mut [usize], a: usize, b: usize) {
        let (a, b) = (find(parent, a), find(parent, b));
        parent[a.max(b)] = a.min(b);
    }
    let mut parent: Vec<usize> = (0..nodes.len()).collect();
    let mut store_owner = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for child in &node.children {
            unite(&mut parent, i, child.0);
        }
        if let NodeKind::Processor { stores, .. } = &node.kind {
            for store in stores {
                let owner = *store_owner.entry(*store).or_insert(i);
                unite(&mut parent, i, owner);
            }
        }
    }
    let mut numbers = BTreeMap::new();
    (0..nodes.len())
        .map(|i| {
            let next = u32::try_from(numbers.len()).expect("a topology has fewer than 2^32 nodes");
            *numbers.entry(find(&mut parent, i)).or_insert(next)
        })
        .collect()
}
