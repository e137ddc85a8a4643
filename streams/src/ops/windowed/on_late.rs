//! `on_late`: where records go that came too late for all of their windows.

use std::{marker::PhantomData, sync::Arc};

use headwater_core::{Data, Result, Timestamp};

use crate::{
    KStream, WindowedStream, Windows,
    edge::{Call, Lent, Next, Process, RecordType},
    ops::branch::Pass,
    runtime::context::TaskContext,
    topology::{BuildNode, ErasedNext, Slots},
};

/// What the user does with late records, once there is a store that knows which those are.
pub(crate) type OnLate<K, V> = Box<dyn FnOnce(KStream<K, V>)>;

/// Whether a record is late, and counts it when it is. The bytes are for its key.
pub(super) type IsLate<K> =
    Arc<dyn Fn(&K, Timestamp, &mut Vec<u8>, &mut TaskContext) -> Result<bool> + Send + Sync>;

impl<K: Data, V: Data, W: Windows> WindowedStream<K, V, W> {
    /// Hands records that came too late to a stream of your own, so that nothing is lost without a trace. They are counted
    /// as late all the same.
    ///
    /// Late is a record for which every one of its windows is closed. One that some hopping windows still take is in those,
    /// and not here. For sessions: one that neither belongs to an open session nor could be one by itself.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("readings")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
    ///     .on_late(|late| late.to("late-readings"))
    ///     .count("counts")
    ///     .to_stream()
    ///     .to("counts");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (reading, at) in [(1u64, 0), (2, 10), (3, 9)] {
    ///     driver.pipe("readings", &"a".to_owned(), &reading, Timestamp(at))?;
    /// }
    /// assert_eq!(driver.read::<String, u64>("late-readings")?[0].value, 3);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn on_late(mut self, late: impl FnOnce(KStream<K, V>) + 'static) -> Self {
        self.on_late = Some(Box::new(late));
        self
    }
}

/// What of `stream` is in time, when somebody wants the rest. The gate asks the store at `store`, which the aggregate behind it
/// fills, so both go by one clock: that of the records before this one. This one's own time makes no difference, since a
/// record that moves time is never late.
pub(super) fn in_time<K: Data, V: Data>(
    stream: KStream<K, V>,
    on_late: Option<OnLate<K, V>>,
    store: usize,
    is_late: IsLate<K>,
) -> KStream<K, V> {
    let Some(on_late) = on_late else { return stream };
    let gate =
        stream.then_node("late-gate", &[store], Box::new(GateNode::<K, V> { is_late, types: PhantomData }));
    // The first child of the gate, also when nothing is built on it; the aggregate is the second.
    on_late(gate.then_step("late", || Pass));
    gate
}

struct GateNode<K, V> {
    is_late: IsLate<K>,
    types: PhantomData<fn(V)>,
}

impl<K: Data, V: Data> BuildNode for GateNode<K, V> {
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        Some(RecordType::of::<K, V>())
    }

    fn build(&self, _: &Slots, children: Vec<ErasedNext>) -> ErasedNext {
        let mut children = children.into_iter().map(ErasedNext::typed);
        let mut child = || children.next().expect("a gate is made with two children");
        let (late, in_time) = (child(), child());
        let is_late = Arc::clone(&self.is_late);
        ErasedNext::of::<K, V>(Box::new(Gate { is_late, key_bytes: Vec::new(), late, in_time }))
    }
}

struct Gate<K, V> {
    is_late: IsLate<K>,
    key_bytes: Vec<u8>,
    late: Next<K, V>,
    in_time: Next<K, V>,
}

impl<K: Data, V: Data> Process<K, V> for Gate<K, V> {
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        if (self.is_late)(record.key(), record.timestamp(), &mut self.key_bytes, task)? {
            self.late.process(record, task)
        } else {
            self.in_time.process(record, task)
        }
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.late.flush(task)?;
        self.in_time.flush(task)
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.late.call(call, task)?;
        self.in_time.call(call, task)
    }
}
