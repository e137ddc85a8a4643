//! `split` and its branches: each record goes to the first branch whose predicate holds.

use std::sync::{Arc, Mutex, PoisonError};

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Call, Lent, Next, Process, RecordType, Step},
    runtime::context::TaskContext,
    topology::{BuildNode, ErasedNext, Slots},
};

type Predicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;
/// Written while the topology is built, read when a task is.
type Predicates<K, V> = Arc<Mutex<Vec<Predicate<K, V>>>>;

/// A stream being split; see [`KStream::split`].
pub struct BranchedStream<K, V> {
    split: KStream<K, V>,
    predicates: Predicates<K, V>,
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream: every record goes to the first branch, in the order they are made, whose predicate holds,
    /// and nowhere when there is none (Kafka: `split`, `BranchedKStream`).
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// let readings = builder.stream::<String, f64>("readings").split();
    /// readings.branch(|_, value| value.is_nan()).to("faulty");
    /// readings.otherwise().to("good");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn split(&self) -> BranchedStream<K, V> {
        let predicates = Predicates::default();
        let node = Box::new(BranchNode { predicates: Arc::clone(&predicates) });
        BranchedStream { split: self.then_node("split", &[], node), predicates }
    }
}

impl<K: Data, V: Data> BranchedStream<K, V> {
    /// The records for which `predicate` holds and no earlier branch's did.
    pub fn branch(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.predicates.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(predicate));
        // One child per predicate, also when nothing is ever built on the branch.
        self.split.then_step("branch", || Pass)
    }

    /// The records that no earlier branch took.
    pub fn otherwise(&self) -> KStream<K, V> {
        self.branch(|_, _| true)
    }
}

/// Hands on what comes.
pub(crate) struct Pass;

impl<K: Data, V: Data> Step<K, V, K, V> for Pass {
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K, V>,
        task: &mut TaskContext,
    ) -> Result<()> {
        next.process(record, task)
    }
}

struct BranchNode<K, V> {
    predicates: Predicates<K, V>,
}

impl<K: Data, V: Data> BuildNode for BranchNode<K, V> {
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        Some(RecordType::of::<K, V>())
    }

    fn build(&self, _: &Slots, children: Vec<ErasedNext>) -> ErasedNext {
        let predicates = self.predicates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let branches = predicates.into_iter().zip(children.into_iter().map(ErasedNext::typed)).collect();
        ErasedNext::of::<K, V>(Box::new(Branch { branches }))
    }
}

struct Branch<K, V> {
    branches: Vec<(Predicate<K, V>, Next<K, V>)>,
}

impl<K: Data, V: Data> Process<K, V> for Branch<K, V> {
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        let chosen = self.branches.iter_mut().find(|(holds, _)| holds(record.key(), record.value()));
        chosen.map_or(Ok(()), |(_, next)| next.process(record, task))
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.branches.iter_mut().try_for_each(|(_, next)| next.flush(task))
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.branches.iter_mut().try_for_each(|(_, next)| next.call(call, task))
    }
}
