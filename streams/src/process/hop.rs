//! The node of an operator that keeps something: it, and those that follow it.

use std::marker::PhantomData;

use headwater_core::{Data, Error, Result, Timestamp};

use super::{Processor, ProcessorContext};
use crate::{
    edge::{Call, Lent, Next, Process},
    runtime::{
        context::TaskContext,
        punctuation::{Due, ProcessorNumber, Punctuation},
    },
};

/// What is asked of an operator that keeps something: the same as of a [`Processor`], which most are, but it sees records where
/// they lie. One that sends no record on for most that it takes need not move them.
pub(crate) trait Operator<KIn, VIn, KOut, VOut>: Send + 'static {
    /// [`Processor::init`].
    fn init(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// [`Processor::process`].
    fn take(&mut self, record: Lent<'_, KIn, VIn>, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()>;

    /// [`Processor::advance`].
    fn advance(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// [`Processor::punctuate`].
    fn punctuate(
        &mut self,
        punctuation: Punctuation,
        time: Timestamp,
        cx: &mut ProcessorContext<'_, KOut, VOut>,
    ) -> Result<()> {
        let _ = (punctuation, time, cx);
        Ok(())
    }

    /// [`Processor::flush`].
    fn flush(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// [`Processor::before_commit`].
    fn before_commit(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}

/// A processor: it gets records whole.
pub(crate) struct Whole<P>(pub(crate) P);

impl<KIn, VIn, KOut, VOut, P> Operator<KIn, VIn, KOut, VOut> for Whole<P>
where
    P: Processor<KIn, VIn, KOut, VOut>,
{
    fn init(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        self.0.init(cx)
    }

    #[inline]
    fn take(&mut self, record: Lent<'_, KIn, VIn>, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        self.0.process(record.take(), cx)
    }

    fn advance(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        self.0.advance(cx)
    }

    fn punctuate(
        &mut self,
        punctuation: Punctuation,
        time: Timestamp,
        cx: &mut ProcessorContext<'_, KOut, VOut>,
    ) -> Result<()> {
        self.0.punctuate(punctuation, time, cx)
    }

    fn flush(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        self.0.flush(cx)
    }

    fn before_commit(&mut self, cx: &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> {
        self.0.before_commit(cx)
    }
}

/// An operator and those that follow it.
pub(crate) struct Hop<O, KIn, VIn, KOut, VOut> {
    operator: O,
    next: Next<KOut, VOut>,
    number: ProcessorNumber,
    input: PhantomData<fn(KIn, VIn)>,
}

impl<O, KIn, VIn, KOut, VOut> Hop<O, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(operator: O, next: Next<KOut, VOut>) -> Self {
        Self { operator, next, number: ProcessorNumber::NONE, input: PhantomData }
    }
}

impl<KIn, VIn, KOut, VOut, O> Process<KIn, VIn> for Hop<O, KIn, VIn, KOut, VOut>
where
    KIn: Data,
    VIn: Data,
    KOut: Data,
    VOut: Data,
    O: Operator<KIn, VIn, KOut, VOut>,
{
    #[inline]
    fn process(&mut self, record: Lent<'_, KIn, VIn>, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        self.operator.take(record, &mut ProcessorContext { next: &mut *self.next, task, processor })
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        self.operator.flush(&mut ProcessorContext { next: &mut *self.next, task, processor })?;
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
                self.operator.init(&mut ProcessorContext { next: &mut Unready, task, processor })?;
                self.next.call(call, task)
            }
            Call::Punctuate => match task.punctuators.take_call(self.number) {
                Some(Due { punctuation, time, .. }) => {
                    let processor = self.number;
                    let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                    self.operator.punctuate(punctuation, time, cx)
                }
                None if task.punctuators.is_calling() => self.next.call(call, task),
                None => Ok(()),
            },
            Call::BeforeCommit => {
                let processor = self.number;
                let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                // What came from above just now may have moved time, and its results must not wait for the next commit; unless
                // it is in the middle of closing.
                if !cx.task.is_unfinished {
                    self.operator.advance(cx)?;
                }
                self.operator.before_commit(cx)?;
                self.next.call(call, task)
            }
            Call::Advance => {
                let processor = self.number;
                let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                if !cx.task.is_unfinished {
                    // What it has gathered is earlier than the time that passes.
                    if cx.task.passing().is_some() {
                        self.operator.flush(cx)?;
                    }
                    self.operator.advance(cx)?;
                }
                self.next.call(call, task)
            }
        }
    }
}

/// Stands for the processors that follow while those before them are told that the task is opened.
struct Unready;

impl<K, V> Process<K, V> for Unready {
    fn process(&mut self, _: Lent<'_, K, V>, _: &mut TaskContext) -> Result<()> {
        Err(Error::invalid(
            "a processor forwards a record in `init`: the processors that follow are not ready",
        ))
    }

    fn flush(&mut self, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, _: Call, _: &mut TaskContext) -> Result<()> {
        Ok(())
    }
}
