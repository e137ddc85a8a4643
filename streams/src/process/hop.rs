//! The node of a processor: it, and those that follow it.

use std::marker::PhantomData;

use headwater_core::{Data, Error, Result};

use super::{Processor, ProcessorContext};
use crate::{
    edge::{Call, Lent, Next, Process},
    runtime::{
        context::TaskContext,
        punctuation::{Due, ProcessorNumber},
    },
};

/// A processor, how it takes a record, and those that follow it.
pub(crate) struct Hop<P, T, KIn, VIn, KOut, VOut> {
    processor: P,
    /// Mostly [`Processor::process`]; one that sends no record on for most that it takes need not move them.
    take: T,
    next: Next<KOut, VOut>,
    number: ProcessorNumber,
    input: PhantomData<fn(KIn, VIn)>,
}

impl<P, T, KIn, VIn, KOut, VOut> Hop<P, T, KIn, VIn, KOut, VOut> {
    pub(crate) fn new(processor: P, take: T, next: Next<KOut, VOut>) -> Self {
        Self { processor, take, next, number: ProcessorNumber::NONE, input: PhantomData }
    }
}

impl<KIn, VIn, KOut, VOut, P, T> Process<KIn, VIn> for Hop<P, T, KIn, VIn, KOut, VOut>
where
    KIn: Data,
    VIn: Data,
    KOut: Data,
    VOut: Data,
    P: Processor<KIn, VIn, KOut, VOut>,
    T: Fn(&mut P, Lent<'_, KIn, VIn>, &mut ProcessorContext<'_, KOut, VOut>) -> Result<()> + Send,
{
    #[inline]
    fn process(&mut self, record: Lent<'_, KIn, VIn>, task: &mut TaskContext) -> Result<()> {
        let processor = self.number;
        let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
        (self.take)(&mut self.processor, record, cx)
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
                // What came from above just now may have moved time, and its results must not wait for the next commit; unless
                // it is in the middle of closing.
                if !cx.task.is_unfinished {
                    self.processor.advance(cx)?;
                }
                self.processor.before_commit(cx)?;
                self.next.call(call, task)
            }
            Call::Advance => {
                let processor = self.number;
                let cx = &mut ProcessorContext { next: &mut *self.next, task, processor };
                if !cx.task.is_unfinished {
                    // What it has gathered is earlier than the time that passes.
                    if cx.task.passing().is_some() {
                        self.processor.flush(cx)?;
                    }
                    self.processor.advance(cx)?;
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
