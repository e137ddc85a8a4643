//! Where a program begins: [`StreamsBuilder`], and the graph that the DSL writes into.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc};

use headwater_core::{Data, DefaultSerde, Error, Result, SerdeRef, TopicName};

use crate::{
    KStream,
    ops::source::{Consumed, SourceNode},
    state::{BuildStore, KeyValueHandle, KeyValueSpec},
    topology::{Effect, Node, NodeId, NodeKind, StoreNode, TopicRef, Topology},
};

/// Builds a [`Topology`].
///
/// Mistakes that the types cannot catch (a topic read twice, a store name used twice) are reported by
/// [`StreamsBuilder::build`], so that a chain of calls needs no `?` in between.
///
/// ```
/// use headwater_streams::StreamsBuilder;
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, String>("texts").filter(|_, text| !text.is_empty()).to("full-texts");
/// let topology = builder.build()?;
/// assert_eq!(topology.subtopologies(), 1);
/// # Ok::<(), headwater_core::Error>(())
/// ```
#[derive(Default)]
pub struct StreamsBuilder {
    graph: Rc<RefCell<Graph>>,
}

impl StreamsBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on a graph that is being written.
    pub(crate) fn over(graph: &Rc<RefCell<Graph>>) -> Self {
        Self { graph: Rc::clone(graph) }
    }

    /// Reads a topic with the default serdes of its types.
    pub fn stream<K: Data + DefaultSerde, V: Data + DefaultSerde>(&self, topic: &str) -> KStream<K, V> {
        self.stream_with(topic, Consumed::with(K::default_serde(), V::default_serde()))
    }

    /// Reads a topic as `consumed` says.
    pub fn stream_with<K: Data, V: Data>(&self, topic: &str, consumed: Consumed<K, V>) -> KStream<K, V> {
        let topic = self.graph.borrow_mut().topic(topic);
        self.source(TopicRef::External(topic), consumed)
    }

    /// Reads several topics as one stream, with the default serdes of its types. Records come in the order of their
    /// timestamps; those of one partition keep theirs.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// builder.streams::<String, f64>(&["readings-north", "readings-south"]).to("readings");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn streams<K: Data + DefaultSerde, V: Data + DefaultSerde>(&self, topics: &[&str]) -> KStream<K, V> {
        self.streams_with(topics, &Consumed::with(K::default_serde(), V::default_serde()))
    }

    /// As [`StreamsBuilder::streams`], each topic as `consumed` says.
    pub fn streams_with<K: Data, V: Data>(
        &self,
        topics: &[&str],
        consumed: &Consumed<K, V>,
    ) -> KStream<K, V> {
        let Some((first, rest)) = topics.split_first() else {
            self.graph.borrow_mut().mistake(Error::invalid("a stream of several topics has at least one"));
            // The placeholder is never used, because `build` fails.
            return self.stream_with("invalid", consumed.clone());
        };
        let rest: Vec<_> = rest.iter().map(|topic| self.stream_with(topic, consumed.clone())).collect();
        self.stream_with(first, consumed.clone()).merge_all(&rest)
    }

    pub(crate) fn source<K: Data, V: Data>(
        &self,
        topic: TopicRef,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let kind = NodeKind::Source { topic, build: Box::new(SourceNode::new(consumed)) };
        let node = self.graph.borrow_mut().add("source", None, kind);
        KStream::new(Rc::clone(&self.graph), node)
    }

    /// Declares a key-value store with a changelog, for processors ([`KStream::process`]).
    pub fn key_value_store<K: Data + DefaultSerde, V: Data + DefaultSerde>(
        &self,
        name: &str,
    ) -> KeyValueHandle<K, V> {
        self.key_value_store_with(name, K::default_serde(), V::default_serde())
    }

    /// As [`StreamsBuilder::key_value_store`], with serdes of your own.
    pub fn key_value_store_with<K: Data, V: Data>(
        &self,
        name: &str,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
    ) -> KeyValueHandle<K, V> {
        let index = self.graph.borrow_mut().add_store(name, Arc::new(KeyValueSpec::new(key, value)));
        KeyValueHandle::new(index)
    }

    /// Checks everything and closes the graph.
    ///
    /// # Errors
    /// `Invalid`, with the first mistake that was made.
    pub fn build(self) -> Result<Topology> {
        let graph = self.graph.take();
        match graph.mistakes.into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Topology::new(graph.nodes, graph.stores),
        }
    }
}

/// The graph while it is written.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    stores: Vec<StoreNode>,
    repartitions: BTreeSet<String>,
    mistakes: Vec<Error>,
}

impl Graph {
    /// Node names are for people and use a counter; nothing durable is called by them.
    pub(crate) fn add(&mut self, role: &str, parent: Option<NodeId>, kind: NodeKind) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node {
            name: format!("{role}-{}", id.0),
            kind,
            children: Vec::new(),
            effect: Effect::default(),
        });
        if let Some(parent) = parent {
            self.nodes[parent.0].children.push(id);
        }
        id
    }

    /// Says what a node makes of what comes.
    pub(crate) fn mark(&mut self, node: NodeId, effect: Effect) {
        self.nodes[node.0].effect = effect;
    }

    /// Gives a node another parent, which must be older than it.
    pub(crate) fn link(&mut self, parent: NodeId, child: NodeId) {
        self.nodes[parent.0].children.push(child);
    }

    pub(crate) fn add_store(&mut self, name: &str, build: Arc<dyn BuildStore>) -> usize {
        if let Err(error) = TopicName::new(name) {
            self.mistakes.push(error.context("a store is called as its changelog topic"));
        }
        if self.stores.iter().any(|store| store.name == name) {
            self.mistakes.push(Error::invalid(format!("two stores have one name. store=`{name}`")));
        }
        self.stores.push(StoreNode { name: name.to_owned(), build });
        self.stores.len() - 1
    }

    pub(crate) fn add_repartition(&mut self, name: &str) -> TopicRef {
        if let Err(error) = TopicName::new(name) {
            self.mistakes.push(error.context("a repartition is called as its topic"));
        }
        if !self.repartitions.insert(name.to_owned()) {
            self.mistakes
                .push(Error::invalid(format!("two repartitions have one name. repartition=`{name}`")));
        }
        TopicRef::Repartition(name.to_owned())
    }

    pub(crate) fn mistake(&mut self, error: Error) {
        self.mistakes.push(error);
    }

    /// A wrong topic name is remembered as a mistake; the placeholder is never used, because `build` fails.
    pub(crate) fn topic(&mut self, name: &str) -> TopicName {
        TopicName::new(name).unwrap_or_else(|error| {
            self.mistakes.push(error);
            TopicName::new("invalid").expect("a legal name")
        })
    }
}
