//! The embedded log for those who look after it.

use async_trait::async_trait;
use headwater_core::{
    Admin, Cleaned, Committed, GroupId, Offset, Result, TopicChanges, TopicName, TopicPartition, TopicSpec,
};

use super::{
    EmbeddedLog,
    queue::{Request, Upkeep},
};

#[async_trait]
impl Admin for EmbeddedLog {
    async fn alter_topic(&self, topic: &TopicName, changes: &TopicChanges) -> Result<TopicSpec> {
        self.ask(|to| Request::Upkeep(Upkeep::AlterTopic(topic.clone(), changes.clone(), to))).await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<()> {
        self.ask(|to| Request::Upkeep(Upkeep::DeleteTopic(topic.clone(), to))).await
    }

    async fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<Offset> {
        self.ask(|to| Request::Upkeep(Upkeep::DeleteRecords(partition.clone(), before, to))).await
    }

    async fn size(&self, partition: &TopicPartition) -> Result<u64> {
        self.0.shared.check_readable()?;
        self.0.shared.visible().size(partition)
    }

    async fn groups(&self) -> Result<Vec<GroupId>> {
        self.0.shared.check_readable()?;
        Ok(self.0.shared.visible().groups())
    }

    async fn positions(&self, group: &GroupId) -> Result<Vec<(TopicPartition, Committed)>> {
        self.0.shared.check_readable()?;
        Ok(self.0.shared.visible().positions(group))
    }

    async fn delete_group(&self, group: &GroupId) -> Result<()> {
        self.ask(|to| Request::Upkeep(Upkeep::DeleteGroup(group.clone(), to))).await
    }

    async fn clean(&self) -> Result<Cleaned> {
        self.ask(Request::Clean).await
    }
}
