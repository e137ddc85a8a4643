//! Transactions: what is sent between `begin` and `commit` becomes visible as a whole, together with input positions.

use futures::channel::oneshot;
use headwater_core::{Error, Positions, Result};

use super::{
    Producer,
    accumulator::{Accumulator, End, Ending, Phase},
    driver,
};

impl<K: 'static, V: 'static> Producer<K, V> {
    /// Begins a transaction. Waits for the end of the last one, if whoever asked for it did not.
    ///
    /// # Errors
    /// `Invalid` when the producer is not transactional or a transaction is open; `Fenced` when a newer producer of its
    /// id exists; `Closed`.
    pub async fn begin(&self) -> Result<()> {
        let shared = self.shared();
        shared.wait_until(|accumulator| accumulator.phase != Phase::Ending).await;
        let mut accumulator = shared.lock();
        alive(&accumulator)?;
        match accumulator.phase {
            Phase::Idle => {
                accumulator.phase = Phase::Open;
                accumulator.transaction += 1;
                accumulator.positions = None;
                Ok(())
            }
            Phase::Plain => Err(not_transactional()),
            Phase::Open | Phase::Failed | Phase::Ending => {
                Err(Error::invalid("a transaction is open: commit or abort it first"))
            }
        }
    }

    /// Adds input positions to the open transaction: they become durable with what it wrote, or not at all (Kafka:
    /// `sendOffsetsToTransaction`). Later ones of a partition replace earlier ones.
    ///
    /// # Errors
    /// `Invalid` when no transaction is open, or it has positions of another group or member.
    pub fn send_offsets(&self, positions: Positions) -> Result<()> {
        let mut accumulator = self.shared().lock();
        alive(&accumulator)?;
        in_transaction(&accumulator)?;
        match &mut accumulator.positions {
            None => accumulator.positions = Some(positions),
            Some(known) if known.group == positions.group => {
                for (partition, at) in positions.committed {
                    match known.committed.iter_mut().find(|(known, _)| *known == partition) {
                        Some((_, known)) => *known = at,
                        None => known.committed.push((partition, at)),
                    }
                }
            }
            Some(known) => {
                return Err(Error::invalid(format!(
                    "a transaction takes positions of one group. group={}, other={}",
                    known.group, positions.group
                )));
            }
        }
        Ok(())
    }

    /// Writes everything sent since [`Producer::begin`], and the positions, all or nothing. It goes on when the future is
    /// dropped half way; the deliveries tell what became of it.
    ///
    /// # Errors
    /// `Invalid` when no transaction is open, or the log refused something of it: [`Producer::abort`] it then. `Fenced`
    /// when a newer producer of the id has taken over: nothing was written. `Unavailable`: it is not known whether it was
    /// written; build a new producer of the id, which settles it, and go on from the positions that are committed then.
    pub async fn commit(&self) -> Result<()> {
        let answer = {
            let mut accumulator = self.shared().lock();
            alive(&accumulator)?;
            in_transaction(&accumulator)?;
            accumulator.close_all();
            let positions = accumulator.positions.take();
            end(&mut accumulator, End::Commit(positions))
        };
        self.answer(answer).await
    }

    /// Forgets everything sent since [`Producer::begin`]; its deliveries are told so. It goes on when the future is
    /// dropped half way.
    ///
    /// # Errors
    /// `Invalid` when no transaction is open, `Fenced`, `Closed`.
    pub async fn abort(&self) -> Result<()> {
        let (answer, forgotten) = {
            let mut accumulator = self.shared().lock();
            alive(&accumulator)?;
            if accumulator.phase != Phase::Failed {
                in_transaction(&accumulator)?;
            }
            let forgotten = accumulator.forget();
            accumulator.positions = None;
            (end(&mut accumulator, End::Abort), forgotten)
        };
        self.shared().fail(forgotten, &driver::aborted());
        let ended = self.answer(answer).await;
        // It was asked for: nobody needs to be told of it.
        self.shared().lock().untold = None;
        ended
    }

    async fn answer(&self, answer: oneshot::Receiver<Result<()>>) -> Result<()> {
        self.shared().work.notify_one();
        answer.await.unwrap_or_else(|oneshot::Canceled| Err(self.shared().dead()))
    }
}

fn end(accumulator: &mut Accumulator, how: End) -> oneshot::Receiver<Result<()>> {
    let (to, answer) = oneshot::channel();
    accumulator.phase = Phase::Ending;
    accumulator.ending = Some(Ending { how, to });
    answer
}

fn alive(accumulator: &Accumulator) -> Result<()> {
    accumulator.dead.as_ref().map_or(Ok(()), |dead| Err(dead.error()))
}

fn in_transaction(accumulator: &Accumulator) -> Result<()> {
    match accumulator.phase {
        Phase::Open => Ok(()),
        Phase::Plain => Err(not_transactional()),
        Phase::Idle => Err(Error::invalid("no transaction is open: call `begin` first")),
        Phase::Ending => Err(Error::invalid("the transaction is being ended already")),
        Phase::Failed => Err(Error::invalid("the transaction has failed: abort it")),
    }
}

fn not_transactional() -> Error {
    Error::invalid("the producer is not transactional: build it with a `transactional_id`")
}
