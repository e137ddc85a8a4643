//! `map_async`: values that somebody else is asked for, many at a time.

use std::sync::Arc;

use futures::FutureExt as _;
use headwater_core::{Data, DefaultSerde, Error, Record, Result, SerdeRef};

use super::{Consumed, Produced};
use crate::{
    KStream, StreamsBuilder,
    edge::{Call, Lent, Process, RecordType},
    runtime::{
        calls::{Answer, Calls, Finished, caught},
        context::{TaskContext, partition_of},
    },
    topology::{BuildNode, Effect, ErasedNext, NodeKind, SinkTopic, Slots},
};

/// How many calls of [`KStream::map_async`] a task has open at a time, and in which order their results go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    calls: usize,
    ordered: bool,
}

impl Concurrency {
    /// Up to `calls` at a time and task; results go on in the order of their records.
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build) refuses 0.
    #[must_use]
    pub fn ordered(calls: usize) -> Self {
        Self { calls, ordered: true }
    }

    /// Up to `calls` at a time and task, not 0; results go on as they come. A slow call holds nobody up, and two runs may give
    /// two orders.
    #[must_use]
    pub fn unordered(calls: usize) -> Self {
        Self { calls, ordered: false }
    }
}

impl<K: Data + DefaultSerde, V: Data> KStream<K, V> {
    /// Gives every record the value that `call` gives in time: a look-up over the network, say. Results go through the topic
    /// `<application id>-<name>-repartition`, so that what follows neither waits for calls nor depends on how long they took;
    /// behind it, records of one key are in one task.
    ///
    /// Each record counts exactly once, but `call` is made again for records whose results were not committed before a
    /// crash. A call that fails, with an error of whatever kind, or whose result is too large for the topic, is an error of its
    /// record, about which the error policy decides; what should be tried again, or end after a time, `call` does itself.
    ///
    /// A task takes no more records and makes no punctuations while `concurrency` is reached. One record may become more calls
    /// than that; the rest then waits. A task is committed when none of its calls is open: when it is time for a commit, and a
    /// call is over since the last one, it takes nothing more until all are. What a record gives is so committed after at most
    /// about twice the time that the slowest call takes, and [`Settings::commit_interval`](crate::Settings::commit_interval).
    /// Other tasks go on meanwhile. [`Streams::close`](crate::Streams::close) waits for calls that are open.
    ///
    /// Futures run on the worker's own tokio runtime. [`testing::TopologyTestDriver`](crate::testing::TopologyTestDriver) has
    /// none: calls must do without tokio's timers and sockets there.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{Concurrency, StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// async fn ask_for_name(id: u64) -> String {
    ///     format!("user {id}")
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("user-ids")
    ///     .map_async("names", Concurrency::ordered(32), |_, id| async move { Ok(ask_for_name(id).await) })
    ///     .to("users");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("user-ids", &"key".to_owned(), &7u64, Timestamp(0))?;
    /// assert_eq!(driver.read::<String, String>("users")?[0].value, "user 7");
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn map_async<W, F>(
        &self,
        name: &str,
        concurrency: Concurrency,
        call: impl Fn(K, V) -> F + Send + Sync + 'static,
    ) -> KStream<K, W>
    where
        W: Data + DefaultSerde,
        F: Future<Output = Result<W>> + Send + 'static,
    {
        self.map_async_with(name, concurrency, (K::default_serde(), W::default_serde()), call)
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// As [`KStream::map_async`], with serdes of your own for key and result.
    pub fn map_async_with<W, F>(
        &self,
        name: &str,
        concurrency: Concurrency,
        (key, value): (SerdeRef<K>, SerdeRef<W>),
        call: impl Fn(K, V) -> F + Send + Sync + 'static,
    ) -> KStream<K, W>
    where
        W: Data,
        F: Future<Output = Result<W>> + Send + 'static,
    {
        let mut graph = self.graph.borrow_mut();
        if concurrency.calls == 0 {
            graph.mistake(Error::invalid(format!(
                "`map_async` makes at least one call at a time. name=`{name}`"
            )));
        }
        let topic = graph.add_repartition(name);
        let produced = Produced::with(SerdeRef::clone(&key), SerdeRef::clone(&value));
        let build = Box::new(CallNode {
            call: Arc::new(call),
            serdes: produced.serdes(),
            concurrency,
            input: std::marker::PhantomData,
        });
        let kind = NodeKind::Sink { topic: SinkTopic::Fixed(topic.clone()), build };
        let node = graph.add("map-async", Some(self.node), kind);
        if !concurrency.ordered {
            graph.mark(node, Effect::Shuffles);
        }
        drop(graph);
        StreamsBuilder::over(&self.graph).source(topic, Consumed::with(key, value))
    }
}

struct CallNode<K, V, W, C> {
    call: Arc<C>,
    serdes: (SerdeRef<K>, SerdeRef<W>),
    concurrency: Concurrency,
    input: std::marker::PhantomData<fn(V)>,
}

impl<K, V, W, C, F> BuildNode for CallNode<K, V, W, C>
where
    K: Data,
    V: Data,
    W: Data,
    C: Fn(K, V) -> F + Send + Sync + 'static,
    F: Future<Output = Result<W>> + Send + 'static,
{
    fn input(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn output(&self) -> Option<RecordType> {
        None
    }

    fn build(&self, slots: &Slots, _: Vec<ErasedNext>) -> ErasedNext {
        let (key, value) = &self.serdes;
        ErasedNext::of::<K, V>(Box::new(BeginCall {
            call: Arc::clone(&self.call),
            key: SerdeRef::clone(key),
            value: SerdeRef::clone(value),
            concurrency: self.concurrency,
            sink: slots.sink,
            place: None,
        }))
    }
}

struct BeginCall<K, W, C> {
    call: Arc<C>,
    key: SerdeRef<K>,
    value: SerdeRef<W>,
    concurrency: Concurrency,
    sink: usize,
    /// Of its calls among those of the task.
    place: Option<usize>,
}

impl<K, V, W, C, F> Process<K, V> for BeginCall<K, W, C>
where
    K: Data,
    V: Data,
    W: Data,
    C: Fn(K, V) -> F + Send + Sync + 'static,
    F: Future<Output = Result<W>> + Send + 'static,
{
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        let Record { key, value, timestamp, headers } = record.take();
        let partitions = task.sinks[self.sink].partitions();
        let mut key_bytes = Vec::new();
        let has_key = self.key.encode_nullable(&key, &mut key_bytes)?;
        let key_bytes = has_key.then_some(key_bytes);
        let partition = partition_of(&*self.key, key_bytes.as_deref(), (task.id, partitions));
        let (serde, sink, stream_time) = (SerdeRef::clone(&self.value), self.sink, task.lane_time());
        let call = (self.call)(key, value);
        let finished = async move {
            let answer = caught(call).await.and_then(|value| {
                let mut bytes = Vec::new();
                let has_value = serde.encode_nullable(&value, &mut bytes)?;
                Ok(Answer { partition, key: key_bytes, value: has_value.then_some(bytes) })
            });
            Finished { answer, sink, timestamp, headers, stream_time }
        };
        let place =
            self.place.expect("a task tells its processors that it is opened before their first record");
        task.calls[place].begin(finished.boxed());
        Ok(())
    }

    fn flush(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        if call == Call::Init && self.place.is_none() {
            self.place = Some(task.calls.len());
            task.calls.push(Calls::new(self.concurrency.calls, self.concurrency.ordered));
        }
        Ok(())
    }
}
