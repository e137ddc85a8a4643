//! The handles of the DSL. Their operators are in `ops`, one file each.

use std::{cell::RefCell, marker::PhantomData, rc::Rc};

use headwater_core::{Data, Error, Result};

use crate::{
    Processor, ProcessorContext,
    builder::Graph,
    edge::{Lent, Next, Step, Stepping},
    process::Hop,
    topology::{BuildNode, Effect, NodeId, NodeKind, OperatorNode},
};

/// A stream of records with keys `K` and values `V`. Cheap to clone; using it twice sends every record both ways.
pub struct KStream<K, V> {
    pub(crate) graph: Rc<RefCell<Graph>>,
    pub(crate) node: NodeId,
    /// Which operator gave the records another key since they were last partitioned by it.
    pub(crate) rekeyed_by: Option<&'static str>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: Rc::clone(&self.graph),
            node: self.node,
            rekeyed_by: self.rekeyed_by,
            types: PhantomData,
        }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    pub(crate) fn new(graph: Rc<RefCell<Graph>>, node: NodeId) -> Self {
        Self { graph, node, rekeyed_by: None, types: PhantomData }
    }

    /// Appends a processor. Every operator that makes a stream is built on this and `then_node`.
    pub(crate) fn then<K2, V2, P>(
        &self,
        role: &'static str,
        stores: &[usize],
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        P: Processor<K, V, K2, V2>,
    {
        self.then_taking(role, stores, supplier, |processor, record, cx| processor.process(record.take(), cx))
    }

    /// As [`KStream::then`], for a processor that can take records where they lie.
    pub(crate) fn then_taking<K2, V2, P>(
        &self,
        role: &'static str,
        stores: &[usize],
        supplier: impl Fn() -> P + Send + Sync + 'static,
        take: impl Fn(&mut P, Lent<'_, K, V>, &mut ProcessorContext<'_, K2, V2>) -> Result<()>
        + Copy
        + Send
        + Sync
        + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        P: Processor<K, V, K2, V2>,
    {
        let put =
            move |next| -> Next<K, V> { Box::new(Hop::<P, _, K, V, K2, V2>::new(supplier(), take, next)) };
        self.then_node(role, stores, Box::new(OperatorNode::<K, V, K2, V2, _>::new(put)))
    }

    /// As [`KStream::then`], for an operator that keeps nothing.
    pub(crate) fn then_step<K2, V2, S>(
        &self,
        role: &'static str,
        supplier: impl Fn() -> S + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        S: Step<K, V, K2, V2>,
    {
        let put = move |next| -> Next<K, V> {
            Box::new(Stepping { step: supplier(), next, input: PhantomData::<fn(K, V)> })
        };
        self.then_node(role, &[], Box::new(OperatorNode::<K, V, K2, V2, _>::new(put)))
    }

    pub(crate) fn then_node<K2: Data, V2: Data>(
        &self,
        role: &'static str,
        stores: &[usize],
        build: Box<dyn BuildNode>,
    ) -> KStream<K2, V2> {
        let kind = NodeKind::Processor { stores: stores.to_vec(), build };
        let node = self.graph.borrow_mut().add(role, Some(self.node), kind);
        KStream { graph: Rc::clone(&self.graph), node, rekeyed_by: self.rekeyed_by, types: PhantomData }
    }

    /// Remembers a mistake when the partitions do not follow the keys, by which `operator` works.
    pub(crate) fn needs_keys(&self, operator: &str) {
        if let Some(by) = self.rekeyed_by {
            self.graph.borrow_mut().mistake(Error::invalid(format!(
                "`{by}` may change keys, so records of one key are not in one task: call `.repartition(\"a-name\")` \
                 before `.{operator}`"
            )));
        }
    }

    /// Whether `other` belongs to the same builder; if not, that is remembered as a mistake.
    pub(crate) fn same_builder(&self, operator: &str, other: &Rc<RefCell<Graph>>) -> bool {
        let same = Rc::ptr_eq(&self.graph, other);
        if !same {
            self.graph.borrow_mut().mistake(Error::invalid(format!(
                "`{operator}` takes a stream or table of another StreamsBuilder: build both with one"
            )));
        }
        same
    }

    /// The same stream, marked as having keys that its partitions do not follow.
    pub(crate) fn rekeyed(mut self, by: &'static str) -> Self {
        self.rekeyed_by = Some(by);
        self.marked(Effect::Rekeys)
    }

    /// The same stream, whose node is said to do more than to hand records on.
    pub(crate) fn marked(self, effect: Effect) -> Self {
        self.graph.borrow_mut().mark(self.node, effect);
        self
    }
}
