//! How one processor hands a record to the next: the public [`Processor`] trait, which users and the built-in
//! operators implement alike, and the edges between processors.

use std::{
    any::{Any, type_name},
    marker::PhantomData,
    time::Duration,
};

use headwater_core::{Data, Error, Record, Result, TaskId, Timestamp};

use crate::{
    runtime::{
        context::TaskContext,
        panic::{catch, panicked},
        punctuation::{Due, ProcessorNumber, Punctuate, Punctuation},
    },
    state::{KeyValueHandle, KeyValueStore},
};

/// One step of a topology. It exists once per task, so its fields need no locks; what must survive a restart belongs
/// into a store. It is dropped when its task is closed (Kafka: `close`).
///
/// ```
/// use headwater_core::{Record, Result};
/// use headwater_streams::{Processor, ProcessorContext};
///
/// struct Double;
/// impl Processor<String, u64, String, u64> for Double {
///     fn process(&mut self, record: Record<String, u64>, cx: &mut ProcessorContext<'_, String, u64>) -> Result<()> {
///         let doubled = record.value * 2;
///         cx.forward(record.with_value(doubled))
///     }
/// }
/// ```
pub trait Processor<KIn, VIn, KOut, VOut>: Send + 'static {
    /// Called once, when the task is opened and before its first record: here belongs [`ProcessorContext::schedule`]. The
    /// stores hold what was committed. Nothing can be forwarded yet.
    ///
    /// # Errors
    /// Stops the application.
    fn init(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Takes one record and forwards any number.
    ///
    /// # Errors
    /// Its own, and those of `cx`. The error policy decides what becomes of the record; what was forwarded and stored
    /// for it is taken back first.
    fn process(&mut self, record: Record<KIn, VIn>, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()>;

    /// Called after a record is done, when a processor of the task asked for it with [`ProcessorContext::wake`], and when time
    /// passes behind the end of the input ([`Streams::close_windows`](crate::Streams::close_windows)): for work that is not
    /// that record's own, such as sending what a closed window holds. It may be called more than once.
    ///
    /// # Errors
    /// Stops the application: there is no record that could be left out.
    fn advance(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Called when `punctuation`, which this processor has scheduled, is due; once, however many intervals have passed.
    /// `time` is the stream time, or the wall-clock time as of the worker's turn. What is forwarded and stored here
    /// commits with the task (Kafka: `Punctuator`).
    ///
    /// # Errors
    /// Its own, and those of `cx`. The error policy decides, as it does for a record: what was forwarded and stored here is
    /// taken back first, and the punctuation is left out and counted, or the application stops. A dead letter has
    /// neither key nor value then.
    fn punctuate(
        &mut self,
        punctuation: Punctuation,
        time: Timestamp,
        cx: &mut ProcessorContext<'_, KOut, VOut>,
    ) -> Result<()> {
        let _ = (punctuation, time, cx);
        Ok(())
    }

    /// Called after the last record of a batch, for processors that gather records.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn flush(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Called once before each commit, when everything that comes before this processor has had its turn: for what is sent
    /// once per commit. It is committed with all else.
    ///
    /// # Errors
    /// As [`Processor::advance`].
    fn before_commit(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}

/// What a processor may touch while it holds a record.
pub struct ProcessorContext<'a, K, V> {
    next: &'a mut dyn Process<K, V>,
    pub(crate) task: &'a mut TaskContext,
    processor: ProcessorNumber,
}

impl<K: Data, V: Data> ProcessorContext<'_, K, V> {
    /// Hands `record` to the processors that follow, and returns when they are done with it.
    ///
    /// # Errors
    /// Theirs, to be passed on; `Processing` when the timestamp is negative (Kafka: `Record` refuses it, too).
    #[inline]
    pub fn forward(&mut self, record: Record<K, V>) -> Result<()> {
        if record.timestamp.0 < 0 {
            let timestamp = record.timestamp;
            return Err(Error::processing(format!("timestamp is negative. timestamp={timestamp}")));
        }
        self.next.process(record, self.task)
    }

    /// As [`ProcessorContext::forward`], for a row that a store sends by itself: a panic of those that follow is its error.
    pub(crate) fn forward_row(&mut self, record: Record<K, V>) -> Result<()> {
        catch(|| self.forward(record)).unwrap_or_else(|panic| Err(panicked(&panic)))
    }

    /// Asks for [`Processor::advance`] once this record is done.
    pub fn wake(&mut self) {
        self.task.wake = true;
    }

    /// Asks for [`Processor::punctuate`] every `interval` (in whole milliseconds), by the time that `by` says; see there when
    /// it is due first. Made in [`Processor::init`], it is there after every restart; made for a record, only until the
    /// next one, and no more if that record fails and is left out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::{Record, Result, Timestamp};
    /// use headwater_streams::{
    ///     Processor, ProcessorContext, Punctuate, Punctuation, StreamsBuilder, testing::TopologyTestDriver,
    /// };
    ///
    /// /// Says every ten milliseconds of stream time how many records there were.
    /// #[derive(Default)]
    /// struct Meter { records: u64 }
    /// impl Processor<String, u64, String, u64> for Meter {
    ///     fn init(&mut self, cx: &mut ProcessorContext<'_, String, u64>) -> Result<()> {
    ///         cx.schedule(Duration::from_millis(10), Punctuate::StreamTime).map(drop)
    ///     }
    ///     fn process(&mut self, _: Record<String, u64>, _: &mut ProcessorContext<'_, String, u64>) -> Result<()> {
    ///         self.records += 1;
    ///         Ok(())
    ///     }
    ///     fn punctuate(
    ///         &mut self, _: Punctuation, time: Timestamp, cx: &mut ProcessorContext<'_, String, u64>,
    ///     ) -> Result<()> {
    ///         cx.forward(Record::new("so far".to_owned(), self.records, time))
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, u64>("in").process::<String, u64, _>(&[], Meter::default).to("out");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for at in [12, 15, 20, 57] {
    ///     driver.pipe("in", &"key".to_owned(), &1u64, Timestamp(at))?;
    /// }
    /// let told: Vec<_> = driver.read::<String, u64>("out")?.into_iter().map(|r| (r.timestamp.0, r.value)).collect();
    /// assert_eq!(told, [(12, 1), (20, 3), (57, 4)]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when `interval` is shorter than a millisecond.
    pub fn schedule(&mut self, interval: Duration, by: Punctuate) -> Result<Punctuation> {
        self.task.punctuators.schedule(self.processor, interval, by)
    }

    /// Ends a punctuation, also from inside of it. One that was ended before is no error.
    pub fn cancel(&mut self, punctuation: Punctuation) {
        self.task.punctuators.cancel(punctuation);
    }

    /// The highest timestamp that this task has seen (Kafka: `currentStreamTimeMs`).
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        self.task.stream_time
    }

    /// Which task this is.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.task.id
    }

    /// The store behind `handle`.
    ///
    /// # Panics
    /// When `handle` was not passed to [`KStream::process`](crate::KStream::process) with this processor.
    pub fn store<SK: Data, SV: Data>(
        &mut self,
        handle: &KeyValueHandle<SK, SV>,
    ) -> KeyValueStore<'_, SK, SV> {
        self.task.key_value_store(handle)
    }
}

/// What a parent sees of its child: one virtual call per hop, no queue.
pub(crate) trait Process<K, V>: Send {
    fn process(&mut self, record: Record<K, V>, task: &mut TaskContext) -> Result<()>;
    fn advance(&mut self, task: &mut TaskContext) -> Result<()>;
    fn flush(&mut self, task: &mut TaskContext) -> Result<()>;
    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()>;
}

/// What a task says to its processors without a record, each time to each of them once, however many ways lead there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// [`Processor::init`], to all.
    Init,
    /// [`Processor::punctuate`], to the one that [`Punctuators`](crate::runtime::punctuation::Punctuators) names.
    Punctuate,
    /// [`Processor::before_commit`], to all, to those before a processor first.
    BeforeCommit,
    /// That time has passed: [`Processor::flush`] and [`Processor::advance`], to all, to those before a processor first.
    Pass,
}

impl Call {
    /// Whether a processor is told once all of those before it have been; all else it knows by itself when it is come by again.
    fn goes_down(self) -> bool {
        matches!(self, Self::BeforeCommit | Self::Pass)
    }
}

pub(crate) type Next<K, V> = Box<dyn Process<K, V>>;

/// A processor and those that follow it.
pub(crate) struct Hop<P, KIn, VIn, KOut, VOut> {
    processor: P,
    next: Next<KOut, VOut>,
    number: ProcessorNumber,
    input: PhantomData<fn(KIn, VIn)>,
}

impl<P, KIn, VIn, KOut, VOut> Hop<P, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(processor: P, next: Next<KOut, VOut>) -> Self {
        Self { processor, next, number: ProcessorNumber::NONE, input: PhantomData }
    }
}

impl<KIn, VIn, KOut, VOut, P> Process<KIn, VIn> for Hop<P, KIn, VIn, KOut, VOut>
where
    KIn: Data,
    VIn: Data,
    KOut: Data,
    VOut: Data,
    P: Processor<KIn, VIn, KOut, VOut>,
{
    #[inline]
    fn process(&mut self, record: Record<KIn, VIn>, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        self.processor.process(record, &mut ProcessorContext { next: &mut *self.next, task, processor })
    }

    fn advance(&mut self, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        self.processor.advance(&mut ProcessorContext { next: &mut *self.next, task, processor })?;
        self.next.advance(task)
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        self.processor.flush(&mut ProcessorContext { next: &mut *self.next, task, processor })?;
        self.next.flush(task)
    }

    #[cold]
    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        match call {
            // It was come by on another way.
            Call::Init if self.number != ProcessorNumber::NONE => Ok(()),
            Call::Init => {
                let processor = task.punctuators.add_processor();
                self.number = processor;
                self.processor.init(&mut ProcessorContext { next: &mut Unready, task, processor })?;
                self.next.call(call, task)
            }
            Call::Punctuate => match task.punctuators.take_call(self.number) {
                Some(Due { punctuation, time, .. }) => {
                    let processor = self.number;
                    let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                    self.processor.punctuate(punctuation, time, cx)
                }
                None if task.punctuators.is_calling() => self.next.call(call, task),
                None => Ok(()),
            },
            Call::BeforeCommit => {
                let processor = self.number;
                let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                // What came from above just now may have moved time, and its results must not wait for the next commit.
                self.processor.advance(cx)?;
                self.processor.before_commit(cx)?;
                self.next.call(call, task)
            }
            Call::Pass => {
                let processor = self.number;
                let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                // What it has gathered is earlier than the time that passes.
                self.processor.flush(cx)?;
                self.processor.advance(cx)?;
                self.next.call(call, task)
            }
        }
    }
}

/// Stands for the processors that follow while those before them are told that the task is opened.
struct Unready;

impl<K, V> Process<K, V> for Unready {
    fn process(&mut self, _: Record<K, V>, _: &mut TaskContext) -> Result<()> {
        Err(Error::invalid(
            "a processor forwards a record in `init`: the processors that follow are not ready",
        ))
    }

    fn advance(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, _: Call, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }
}

/// Several children: each gets its own copy, the last one the original.
pub(crate) struct Tee<K, V>(pub(crate) Vec<Next<K, V>>);

impl<K: Data, V: Data> Process<K, V> for Tee<K, V> {
    fn process(&mut self, record: Record<K, V>, task: &mut TaskContext) -> Result<()> {
        let Some((last, rest)) = self.0.split_last_mut() else { return Ok(()) };
        for next in rest {
            next.process(record.clone(), task)?;
        }
        last.process(record, task)
    }

    fn advance(&mut self, task: &mut TaskContext) -> Result<()> {
        self.0.iter_mut().try_for_each(|next| next.advance(task))
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.0.iter_mut().try_for_each(|next| next.flush(task))
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.0.iter_mut().try_for_each(|next| next.call(call, task))
    }
}

/// An edge to a child that has other parents, too. The child lies in the task, and is taken out while it has a record: no
/// child leads back to its parents.
pub(crate) struct Shared<K, V> {
    /// Its place in the task.
    pub(crate) slot: usize,
    pub(crate) types: PhantomData<fn(K, V)>,
}

/// A child with several parents.
pub(crate) struct SharedChild<K, V> {
    pub(crate) next: Next<K, V>,
    pub(crate) parents: usize,
    /// How many of them are done with their batch.
    pub(crate) flushed: usize,
    /// How many of them have been told what goes down.
    pub(crate) ready: usize,
}

impl<K: Data, V: Data> Shared<K, V> {
    #[inline]
    fn with(
        &self,
        task: &mut TaskContext,
        visit: impl FnOnce(&mut SharedChild<K, V>, &mut TaskContext) -> Result<()>,
    ) -> Result<()> {
        let child = task.shared[self.slot].take();
        let mut taken = TakenOut { task, slot: self.slot, child };
        let child = taken.child.as_mut().expect("a child does not lead back to its parents");
        visit(child.downcast_mut().expect("a slot is made together with its edges"), taken.task)
    }
}

/// Counts one more of `parents`; whether that was the last, and counting begins anew.
fn have_all(count: &mut usize, parents: usize) -> bool {
    *count = (*count + 1) % parents;
    *count == 0
}

/// A child that has a record; it goes back to its place also when it panics.
struct TakenOut<'a> {
    task: &'a mut TaskContext,
    slot: usize,
    child: Option<Box<dyn Any + Send>>,
}

impl Drop for TakenOut<'_> {
    fn drop(&mut self) {
        self.task.shared[self.slot] = self.child.take();
    }
}

impl<K: Data, V: Data> Process<K, V> for Shared<K, V> {
    #[inline]
    fn process(&mut self, record: Record<K, V>, task: &mut TaskContext) -> Result<()> {
        self.with(task, |child, task| child.next.process(record, task))
    }

    fn advance(&mut self, task: &mut TaskContext) -> Result<()> {
        self.with(task, |child, task| child.next.advance(task))
    }

    /// When all parents are done, so that the child has everything that they send, and once.
    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.with(task, |child, task| {
            let all = have_all(&mut child.flushed, child.parents);
            if all { child.next.flush(task) } else { Ok(()) }
        })
    }

    /// See [`Call::goes_down`].
    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.with(task, |child, task| {
            let all = !call.goes_down() || have_all(&mut child.ready, child.parents);
            if all { child.next.call(call, task) } else { Ok(()) }
        })
    }
}

/// The types of the records on an edge, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordType {
    id: std::any::TypeId,
    pub(crate) name: &'static str,
}

impl RecordType {
    pub(crate) fn of<K: 'static, V: 'static>() -> Self {
        Self { id: std::any::TypeId::of::<(K, V)>(), name: type_name::<(K, V)>() }
    }
}
