//! The writing handle: holds batches back, and hands them to the journal thread at the commit.

use std::sync::Arc;

use async_trait::async_trait;
use futures::channel::oneshot;
use headwater_core::{
    BatchBuilder, Compression, Error, ErrorKind, Positions, Producer, Result, TopicPartition, Written,
    ledger::{Commit, GroupPositions, Held, Incarnation},
};

use super::{
    Owner,
    queue::{Outcome, Request},
};

pub(super) struct EmbeddedProducer {
    owner: Arc<Owner>,
    /// The journal thread looks whether this is still there: as long as it is, the producer is not forgotten.
    producer: Arc<Incarnation>,
    held: Held,
    /// Answer to a commit whose future was dropped before it came.
    on_its_way: Option<oneshot::Receiver<Result<Outcome>>>,
}

impl EmbeddedProducer {
    pub(super) fn new(owner: Arc<Owner>, producer: Arc<Incarnation>, bytes_max: usize) -> Self {
        let held = Held::new(*producer, bytes_max);
        Self { owner, producer, held, on_its_way: None }
    }

    /// What came of the last commit. Safe to drop half way.
    async fn settle(&mut self) -> Result<Vec<Written>> {
        let Some(answer) = &mut self.on_its_way else { return Ok(Vec::new()) };
        let answer = answer.await;
        self.on_its_way = None;
        match answer {
            Ok(Ok(Outcome::Written(written))) => {
                self.held.settle_written();
                Ok(written)
            }
            Ok(Ok(Outcome::Refused(batches, full))) => {
                self.held.settle_put_back(batches);
                Err(full)
            }
            Ok(Err(error)) => {
                if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Invalid) {
                    self.held.settle_refused();
                }
                Err(error)
            }
            Err(oneshot::Canceled) => Err(self.owner.shared.stopped()),
        }
    }

    fn placed(&self, positions: &Positions) -> Result<GroupPositions> {
        let placed = self.owner.shared.placed(positions)?;
        let bytes_max = self.owner.shared.options.commit_bytes_max.min(super::BYTES_MAX);
        let bytes = self.held.bytes() + placed.bytes();
        if bytes > bytes_max {
            return Err(Error::invalid(format!(
                "commit is too large with its positions: commit earlier, or raise `commit_bytes_max`. group={}, bytes={bytes}, commit_bytes_max={bytes_max}",
                placed.group
            )));
        }
        Ok(placed)
    }
}

#[async_trait]
impl Producer for EmbeddedProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        let (place, config) = {
            let visible = self.owner.shared.visible();
            let (place, config) = visible.place_and_config(partition).inspect_err(|_| batch.clear())?;
            // Compressing takes its time: nobody waits for it.
            (place, config.clone())
        };
        // What is compressed goes elsewhere, and the builder keeps the memory that it has.
        if config.compression_type.of(batch.compression()) == Compression::None {
            self.owner.shared.spare.lend(batch);
        }
        self.held.append((place, partition), &config, batch)
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        // Checked here, so that the journal thread never refuses a commit that could be mended.
        let member = positions.and_then(|positions| positions.member);
        let positions = positions.map(|positions| self.placed(positions)).transpose()?;
        let mut written = self.settle().await?;
        let Self { owner, producer, held, on_its_way } = self;
        let bytes = held.bytes() + positions.as_ref().map_or(0, GroupPositions::bytes);
        let make = || {
            let (to, answer) = oneshot::channel();
            *on_its_way = Some(answer);
            let commit = Commit { producer: **producer, batches: held.take(), positions };
            Request::Commit(commit, member, to)
        };
        if !owner.shared.queue.push(bytes, make).await {
            return Err(owner.shared.stopped());
        }
        written.extend(self.settle().await?);
        Ok(written)
    }

    fn abort(&mut self) {
        self.held.forget();
    }
}
