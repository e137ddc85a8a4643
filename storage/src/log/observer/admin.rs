//! What tools ask an observer; what would change the log is refused.

use async_trait::async_trait;
use headwater_core::{
    Admin, Cleaned, Committed, GroupId, Offset, Result, Timestamp, TopicChanges, TopicName, TopicPartition,
    TopicSpec, ledger::Place,
};

use super::{ObservedLog, Observer, patience::Patience, view::Newer};

#[async_trait]
impl Admin for ObservedLog {
    async fn alter_topic(&self, _: &TopicName, _: &TopicChanges) -> Result<TopicSpec> {
        self.refused()
    }

    async fn delete_topic(&self, _: &TopicName) -> Result<()> {
        self.refused()
    }

    async fn delete_records(&self, _: &TopicPartition, _: Offset) -> Result<Offset> {
        self.refused()
    }

    /// Looks at the size of each segment file, on the calling thread.
    async fn size(&self, partition: &TopicPartition) -> Result<u64> {
        self.0.size(partition).await
    }

    async fn groups(&self) -> Result<Vec<GroupId>> {
        self.0.ask(|view| Ok(view.ledger.groups().cloned().collect())).await
    }

    async fn positions(&self, group: &GroupId) -> Result<Vec<(TopicPartition, Committed)>> {
        let positions = self.0.ask(|view| {
            let positions = view.ledger.positions(group);
            let named = positions
                .map(|(place, at): (Place, &Committed)| Ok((view.ledger.partition(place)?, at.clone())));
            let mut named = named.collect::<Result<Vec<_>>>()?;
            named.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(named)
        });
        positions.await
    }

    async fn delete_group(&self, _: &GroupId) -> Result<()> {
        self.refused()
    }

    async fn clean(&self) -> Result<Cleaned> {
        self.refused()
    }
}

impl Observer {
    /// What the batches of a partition take in its files, as far as the newest checkpoint it knows names them, and in the
    /// journal behind that.
    async fn size(&self, partition: &TopicPartition) -> Result<u64> {
        let mut patience = Patience::default();
        loop {
            let asked = self.ask(|view| {
                let Newer { place, earliest, files, .. } =
                    view.newer(partition, Offset(0), Timestamp::MIN)?;
                Ok((place, files, view.journaled_bytes(place, earliest)))
            });
            let (place, mark, journaled) = asked.await?;
            let in_files = mark
                .map_or(Ok(0), |mark| self.span(&mark, partition, Offset(u64::MAX)).map(|span| span.bytes()));
            match in_files {
                Ok(in_files) => {
                    if self.is_there(place).await? {
                        return Ok(in_files + journaled);
                    }
                }
                Err(error) => {
                    self.look_anew_after(&mut patience, error).await?;
                }
            }
        }
    }
}
