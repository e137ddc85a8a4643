//! Which commands exist, one file each.

mod consume;
mod topics;

#[cfg(test)]
mod tests;

use std::io::Write;

use clap::Subcommand;
use headwater_core::{Error, Log, TopicSpec};

use self::{consume::Consume, topics::Topics};
use crate::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows which topics there are, and what is in their partitions.
    #[command(subcommand)]
    Topics(Topics),
    /// Prints the records of a topic, partition by partition, up to its end as of now.
    Consume(Consume),
}

pub(crate) async fn run(command: &Command, log: &dyn Log, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Topics(topics) => topics::run(topics, log, out).await,
        Command::Consume(consume) => consume::run(consume, log, out).await,
    }
}

/// The topic called `name`.
async fn topic(log: &dyn Log, name: &str) -> Result<TopicSpec, Failure> {
    log.topics().await?.into_iter().find(|spec| spec.name.as_str() == name).ok_or_else(|| {
        let name = name.escape_debug();
        Failure::Usage(Error::invalid(format!(
            "there is no such topic: `headwater topics list` shows which there are. topic={name}"
        )))
    })
}
