//! What users do when partitions come and go.

use async_trait::async_trait;
use headwater_core::{Offset, Result, TopicPartition};

use super::reader::Reader;

/// Is told, within [`Consumer::recv`] and [`Consumer::poll`], when partitions come and go (Kafka:
/// `ConsumerRebalanceListener`).
///
/// An error is returned from there, and the same is told again by the next call; so it is when the future of the call was
/// dropped half way.
///
/// [`Consumer::recv`]: super::Consumer::recv
/// [`Consumer::poll`]: super::Consumer::poll
#[async_trait]
pub trait RebalanceListener: Send + Sync + 'static {
    /// These are the consumer's now; nothing of them was given out yet. The place to seek.
    ///
    /// # Errors
    /// Any, which stops nothing.
    async fn on_assigned(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// These will be given up when this returns, and go to others then. The place to commit what was done.
    ///
    /// # Errors
    /// Any; they are not given up then.
    async fn on_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// These are gone: their topic is, or the consumer asked for no records for too long. Others may have them, and
    /// nothing can be committed in them.
    ///
    /// # Errors
    /// Any, which stops nothing.
    async fn on_lost(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let _ = partitions;
        Ok(())
    }
}

/// What a listener can do with its consumer.
pub struct Rebalance<'a>(pub(super) &'a mut Reader);

impl Rebalance<'_> {
    /// As [`Consumer::commit`](super::Consumer::commit).
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&mut self) -> Result<()> {
        self.0.commit().await
    }

    /// As [`Consumer::commit_positions`](super::Consumer::commit_positions).
    ///
    /// # Errors
    /// As there.
    pub async fn commit_positions(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<()> {
        self.0.commit_these(positions.to_vec()).await
    }

    /// The next offset that would be given out; `None` when it is not known yet.
    ///
    /// # Errors
    /// `Invalid` when the partition is not the consumer's.
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Option<Offset>> {
        self.0.partitions.position(partition)
    }

    /// As [`Consumer::seek`](super::Consumer::seek).
    ///
    /// # Errors
    /// As there.
    pub fn seek(&mut self, partition: &TopicPartition, to: Offset) -> Result<()> {
        self.0.partitions.seek(partition, Some(to))
    }
}
