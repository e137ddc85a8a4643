//! How one processor hands a record to the next: the public [`Processor`] trait, which users and the built-in
//! operators implement alike, and the edges between processors.

use std::{any::type_name, marker::PhantomData};

use headwater_core::{Data, Error, Record, Result, TaskId, Timestamp};

use crate::{
    runtime::context::TaskContext,
    state::{KeyValueHandle, KeyValueStore},
};

/// One step of a topology. It exists once per task, so its fields need no locks; what must survive a restart belongs
/// into a store.
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
    /// Takes one record and forwards any number.
    ///
    /// # Errors
    /// Its own, and those of `cx`. The error policy decides what becomes of the record; what was forwarded and stored
    /// for it is taken back first.
    fn process(&mut self, record: Record<KIn, VIn>, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()>;

    /// Called after a record is done, when a processor of the task asked for it with [`ProcessorContext::wake`]: for work
    /// that is not that record's own, such as sending what a closed window holds. Behind a merge it may be called more than
    /// once.
    ///
    /// # Errors
    /// Stops the application: there is no record that could be left out.
    fn advance(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
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
}

/// What a processor may touch while it holds a record.
pub struct ProcessorContext<'a, K, V> {
    next: &'a mut dyn Process<K, V>,
    pub(crate) task: &'a mut TaskContext,
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

    /// Asks for [`Processor::advance`] once this record is done.
    pub fn wake(&mut self) {
        self.task.wake = true;
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
}

pub(crate) type Next<K, V> = Box<dyn Process<K, V>>;

/// A processor and those that follow it.
pub(crate) struct Hop<P, KIn, VIn, KOut, VOut> {
    pub(crate) processor: P,
    pub(crate) next: Next<KOut, VOut>,
    pub(crate) input: PhantomData<fn(KIn, VIn)>,
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
        self.processor.process(record, &mut ProcessorContext { next: &mut *self.next, task })
    }

    fn advance(&mut self, task: &mut TaskContext) -> Result<()> {
        self.processor.advance(&mut ProcessorContext { next: &mut *self.next, task })?;
        self.next.advance(task)
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.processor.flush(&mut ProcessorContext { next: &mut *self.next, task })?;
        self.next.flush(task)
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
}

impl<K: Data, V: Data> Shared<K, V> {
    #[inline]
    fn with(
        &self,
        task: &mut TaskContext,
        visit: impl FnOnce(&mut SharedChild<K, V>, &mut TaskContext) -> Result<()>,
    ) -> Result<()> {
        let mut slot = task.shared[self.slot].take().expect("a child does not lead back to its parents");
        let child = slot.downcast_mut().expect("a slot is made together with its edges");
        let outcome = visit(child, task);
        task.shared[self.slot] = Some(slot);
        outcome
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
            child.flushed += 1;
            if child.flushed < child.parents {
                return Ok(());
            }
            child.flushed = 0;
            child.next.flush(task)
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
