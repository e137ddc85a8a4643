//! The public [`Processor`] trait, which users implement and all built-in operators that keep anything.

mod hop;

use std::time::Duration;

use headwater_core::{Data, Error, Record, Result, TaskId, Timestamp};

pub(crate) use self::hop::Hop;
use crate::{
    edge::{Lent, Process},
    runtime::{
        context::TaskContext,
        panic::{catch, panicked},
        punctuation::{ProcessorNumber, Punctuate, Punctuation},
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
    #[inline(always)]
    pub fn forward(&mut self, record: Record<K, V>) -> Result<()> {
        if record.timestamp.0 < 0 {
            return Err(negative(record.timestamp));
        }
        Lent::with(record, |record| self.next.process(record, self.task))
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

#[cold]
fn negative(timestamp: Timestamp) -> Error {
    Error::processing(format!("timestamp is negative. timestamp={timestamp}"))
}
