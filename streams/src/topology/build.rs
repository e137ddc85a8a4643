//! From the graph to the processors of one task: types are erased here, once per task, and never per record.

use std::{any::Any, marker::PhantomData};

use headwater_core::Data;

use super::{NodeKind, ShownRef, SinkTopic, Topology};
use crate::{
    OffsetReset,
    edge::{Next, Process, RecordType, Shared, SharedChild, Tee},
    ops::source::Source,
    runtime::lanes::Extract,
};

/// Children with several parents, as the task holds them; each a `SharedChild<K, V>`.
pub(crate) type SharedChildren = Vec<Option<Box<dyn Any + Send>>>;

/// The processors of one task.
pub(crate) struct Processors {
    /// In the order of [`Topology::sources_of`].
    pub(crate) sources: Vec<Box<dyn Source>>,
    pub(crate) shared: SharedChildren,
}

/// A `Next<K, V>` whose types only its builder knows.
pub(crate) struct ErasedNext {
    next: Box<dyn Any>,
    share: fn(Self, usize, &mut SharedChildren) -> Vec<Self>,
}

impl ErasedNext {
    pub(crate) fn of<K: Data, V: Data>(next: Next<K, V>) -> Self {
        Self { next: Box::new(next), share: share::<K, V> }
    }

    pub(crate) fn typed<K: Data, V: Data>(self) -> Next<K, V> {
        *self.next.downcast().expect("the types of all edges were checked by Topology::new")
    }

    /// One for each parent.
    fn shared(self, parents: usize, children: &mut SharedChildren) -> Vec<Self> {
        let share = self.share;
        if parents == 1 { vec![self] } else { share(self, parents, children) }
    }
}

fn share<K: Data, V: Data>(
    next: ErasedNext,
    parents: usize,
    children: &mut SharedChildren,
) -> Vec<ErasedNext> {
    let slot = children.len();
    children.push(Some(Box::new(SharedChild { next: next.typed::<K, V>(), parents, flushed: 0, ready: 0 })));
    let edge = |_| ErasedNext::of::<K, V>(Box::new(Shared { slot, types: PhantomData }));
    (0..parents).map(edge).collect()
}

/// What a node is told about its place when it is built.
pub(crate) struct Slots {
    /// Place of this node's topic in the task's sinks; 0 for nodes that are no sinks or compute their topic.
    pub(crate) sink: usize,
}

pub(crate) trait BuildNode: Send + Sync {
    fn input(&self) -> RecordType;
    fn output(&self) -> Option<RecordType>;
    fn build(&self, slots: &Slots, children: Vec<ErasedNext>) -> ErasedNext;

    /// How keys and values are shown that it writes; for sinks.
    fn shown(&self) -> Option<(ShownRef, ShownRef)> {
        None
    }
}

pub(crate) trait BuildSource: Send + Sync {
    fn output(&self) -> RecordType;
    fn build(&self, children: Vec<ErasedNext>) -> Box<dyn Source>;
    fn reset(&self) -> OffsetReset;
    fn extract(&self) -> Option<Extract>;
}

/// The types of a node: input, output.
type NodeTypes<K, V, K2, V2> = fn(K, V) -> (K2, V2);

/// A node made of what puts an operator in front of those behind it.
pub(crate) struct OperatorNode<K, V, K2, V2, F> {
    put: F,
    types: PhantomData<NodeTypes<K, V, K2, V2>>,
}

impl<K, V, K2, V2, F: Fn(Next<K2, V2>) -> Next<K, V>> OperatorNode<K, V, K2, V2, F> {
    pub(crate) fn new(put: F) -> Self {
        Self { put, types: PhantomData }
    }
}

impl<K, V, K2, V2, F> BuildNode for OperatorNode<K, V, K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(Next<K2, V2>) -> Next<K, V> + Send + Sync,
{
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        Some(RecordType::of::<K2, V2>())
    }

    fn build(&self, _: &Slots, children: Vec<ErasedNext>) -> ErasedNext {
        ErasedNext::of::<K, V>((self.put)(tee::<K2, V2>(children)))
    }
}

pub(crate) fn tee<K: Data, V: Data>(children: Vec<ErasedNext>) -> Next<K, V> {
    let mut children: Vec<Next<K, V>> = children.into_iter().map(ErasedNext::typed).collect();
    if children.len() == 1 { children.remove(0) } else { Box::new(Tee(children)) as Box<dyn Process<K, V>> }
}

impl Topology {
    /// Builds the processors of one task of `subtopology`.
    pub(crate) fn instantiate(&self, subtopology: u32) -> Processors {
        let mut built: Vec<Vec<ErasedNext>> = (0..self.nodes.len()).map(|_| Vec::new()).collect();
        let mut parents = vec![0; self.nodes.len()];
        for child in self.nodes.iter().flat_map(|node| &node.children) {
            parents[child.0] += 1;
        }
        let (mut sources, mut shared) = (Vec::new(), SharedChildren::new());
        let sinks = self.sink_topics_of(subtopology);
        // Children always come after their parents, so one pass from the back suffices.
        for (id, node) in self.nodes_of(subtopology).rev() {
            let children: Vec<ErasedNext> = node
                .children
                .iter()
                .map(|child| built[child.0].pop().expect("a node was built for each of its parents"))
                .collect();
            match &node.kind {
                NodeKind::Source { topic, build } => sources.push((topic, build.build(children))),
                NodeKind::Processor { build, .. } => {
                    built[id.0] =
                        build.build(&Slots { sink: 0 }, children).shared(parents[id.0], &mut shared);
                }
                NodeKind::Sink { topic, build } => {
                    let place = |fixed| sinks.iter().position(|topic| *topic == fixed);
                    let sink = match topic {
                        SinkTopic::Fixed(topic) => {
                            place(topic).expect("the topic is one of the sub-topology's")
                        }
                        SinkTopic::Computed => 0,
                    };
                    built[id.0] = build.build(&Slots { sink }, children).shared(parents[id.0], &mut shared);
                }
            }
        }
        sources.sort_by_key(|(topic, _)| *topic);
        Processors { sources: sources.into_iter().map(|(_, source)| source).collect(), shared }
    }
}
