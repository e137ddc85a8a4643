//! The edges between processors: how a record gets from one to the next.
//!
//! A record is not moved along an edge. Its key lies with whoever made it, the rest with whoever made the value, and those behind
//! see both where they lie; whoever needs a part for himself takes it out. So a step that only looks costs a call, and one that
//! gives the record another value leaves the key alone.

use std::{
    any::{Any, type_name},
    marker::PhantomData,
};

use headwater_core::{Data, Headers, Record, Result, Timestamp};

use crate::runtime::context::TaskContext;

/// A record where it lies. Handed on whole, and gone for whoever hands it on: those behind may have taken parts of it.
pub(crate) struct Lent<'a, K, V> {
    key: &'a mut Option<K>,
    rest: &'a mut Rest<V>,
}

/// All of a record but its key.
pub(crate) struct Rest<V> {
    value: Option<V>,
    timestamp: Timestamp,
    headers: Headers,
}

/// Why a part is always there.
const WHOLE: &str = "a record is handed on whole";

impl<V> Rest<V> {
    #[inline]
    pub(crate) fn new(value: V, timestamp: Timestamp, headers: Headers) -> Self {
        Self { value: Some(value), timestamp, headers }
    }

    /// With a place for a value, which must come.
    #[inline]
    pub(crate) fn empty(timestamp: Timestamp) -> Self {
        Self { value: None, timestamp, headers: Headers::new() }
    }

    #[inline]
    pub(crate) fn value_place(&mut self) -> &mut Option<V> {
        &mut self.value
    }

    #[inline]
    pub(crate) fn set_headers(&mut self, headers: Headers) {
        self.headers = headers;
    }
}

impl<K: Clone, V: Clone> Lent<'_, K, V> {
    /// Shows a copy of the record to `see`, which may take it apart.
    #[inline]
    pub(crate) fn with_copy<R>(&self, see: impl FnOnce(Lent<'_, K, V>) -> R) -> R {
        let Rest { timestamp, headers, .. } = &*self.rest;
        let (key, value) = (self.key().clone(), self.value().clone());
        Lent::with(Record { key, value, timestamp: *timestamp, headers: headers.clone() }, see)
    }
}

impl<K, V> Lent<'_, K, V> {
    /// Shows a record to `see`, which may take it apart.
    #[inline(always)]
    pub(crate) fn with<R>(record: Record<K, V>, see: impl FnOnce(Lent<'_, K, V>) -> R) -> R {
        let Record { key, value, timestamp, headers } = record;
        see(Lent::new(&mut Some(key), &mut Rest::new(value, timestamp, headers)))
    }
}

impl<'a, K, V> Lent<'a, K, V> {
    #[inline]
    pub(crate) fn new(key: &'a mut Option<K>, rest: &'a mut Rest<V>) -> Self {
        Self { key, rest }
    }

    #[inline]
    pub(crate) fn key(&self) -> &K {
        self.key.as_ref().expect(WHOLE)
    }

    #[inline]
    pub(crate) fn value(&self) -> &V {
        self.rest.value.as_ref().expect(WHOLE)
    }

    #[inline]
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.rest.timestamp
    }

    #[inline]
    pub(crate) fn headers(&self) -> &Headers {
        &self.rest.headers
    }

    /// The record itself.
    #[inline]
    pub(crate) fn take(self) -> Record<K, V> {
        let Rest { value, timestamp, headers } = self.rest;
        Record {
            key: self.key.take().expect(WHOLE),
            value: value.take().expect(WHOLE),
            timestamp: *timestamp,
            headers: std::mem::take(headers),
        }
    }

    /// The value, and the record without it.
    #[inline]
    pub(crate) fn take_value(self) -> (V, Self) {
        (self.rest.value.take().expect(WHOLE), self)
    }

    /// The key and the headers, for a record that is made of this one.
    #[inline]
    pub(crate) fn take_about(self) -> (K, Headers) {
        (self.key.take().expect(WHOLE), std::mem::take(&mut self.rest.headers))
    }

    /// Hands on the record with what `map` makes of its value.
    #[inline]
    pub(crate) fn with_value<W>(
        self,
        map: impl FnOnce(&K, V) -> Result<W>,
        next: &mut dyn Process<K, W>,
        task: &mut TaskContext,
    ) -> Result<()> {
        let Rest { value, timestamp, headers } = self.rest;
        let value = map(self.key.as_ref().expect(WHOLE), value.take().expect(WHOLE))?;
        let mut rest = Rest::new(value, *timestamp, std::mem::take(headers));
        next.process(Lent::new(self.key, &mut rest), task)
    }

    /// Hands on the record under another key.
    #[inline]
    pub(crate) fn with_key<K2>(
        self,
        key: K2,
        next: &mut dyn Process<K2, V>,
        task: &mut TaskContext,
    ) -> Result<()> {
        next.process(Lent::new(&mut Some(key), self.rest), task)
    }
}

/// What a parent sees of its child: one virtual call per hop, no queue.
pub(crate) trait Process<K, V>: Send {
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()>;
    fn flush(&mut self, task: &mut TaskContext) -> Result<()>;
    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()>;
}

pub(crate) type Next<K, V> = Box<dyn Process<K, V>>;

/// What a task says to its processors without a record, each time to each of them once, however many ways lead there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// [`Processor::init`], to all.
    Init,
    /// [`Processor::punctuate`], to the one that [`Punctuators`](crate::runtime::punctuation::Punctuators) names.
    Punctuate,
    /// [`Processor::before_commit`], to all, to those before a processor first.
    BeforeCommit,
    /// [`Processor::advance`], to all, to those before a processor first: what it is to close is what there is when they have
    /// closed theirs. When one is not done because a commit must come first, none behind it begins.
    Advance,
}

impl Call {
    /// Whether a processor is told once all of those before it have been; all else it knows by itself when it is come by again.
    fn goes_down(self) -> bool {
        matches!(self, Self::BeforeCommit | Self::Advance)
    }
}

/// What an operator does that keeps nothing: with a record where it lies. All others are a [`Processor`](crate::Processor).
pub(crate) trait Step<KIn, VIn, KOut, VOut>: Send + 'static {
    fn take(
        &mut self,
        record: Lent<'_, KIn, VIn>,
        next: &mut dyn Process<KOut, VOut>,
        task: &mut TaskContext,
    ) -> Result<()>;
}

/// A step and those that follow it.
pub(crate) struct Stepping<S, KIn, VIn, KOut, VOut> {
    pub(crate) step: S,
    pub(crate) next: Next<KOut, VOut>,
    pub(crate) input: PhantomData<fn(KIn, VIn)>,
}

impl<S, KIn, VIn, KOut, VOut> Process<KIn, VIn> for Stepping<S, KIn, VIn, KOut, VOut>
where
    S: Step<KIn, VIn, KOut, VOut>,
{
    #[inline]
    fn process(&mut self, record: Lent<'_, KIn, VIn>, task: &mut TaskContext) -> Result<()> {
        self.step.take(record, &mut *self.next, task)
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.next.flush(task)
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.next.call(call, task)
    }
}

/// Several children: each gets its own copy, the last one the original.
pub(crate) struct Tee<K, V>(pub(crate) Vec<Next<K, V>>);

impl<K: Data, V: Data> Process<K, V> for Tee<K, V> {
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        let Some((last, others)) = self.0.split_last_mut() else { return Ok(()) };
        for next in others {
            record.with_copy(|copy| next.process(copy, task))?;
        }
        last.process(record, task)
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
    fn process(&mut self, record: Lent<'_, K, V>, task: &mut TaskContext) -> Result<()> {
        self.with(task, |child, task| child.next.process(record, task))
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
