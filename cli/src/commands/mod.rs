//! Which commands exist, one file each.

mod consume;
mod groups;
mod log;
mod produce;
mod topics;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{Read, Write},
    path::Path,
};

use clap::Subcommand;
use headwater_core::{Admin, Clock, Log, Partition, Result, TopicPartition, TopicSpec};

use self::{consume::Consume, groups::Groups, log::LogFiles, produce::Produce, topics::Topics};
use crate::{
    Failure,
    open::{Access, open_to_look, open_to_write},
};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnLog(OnLog),
    /// Look into the files of a log, and check them
    #[command(subcommand)]
    Log(LogFiles),
}

/// What is done on an open log, whatever it is made of.
#[derive(Debug, Subcommand)]
pub(crate) enum OnLog {
    /// Make, show, change and delete topics
    #[command(subcommand)]
    Topics(Topics),
    /// Write records to a topic, from lines of text or JSON
    Produce(Produce),
    /// Print the records of a topic
    Consume(Consume),
    /// Show what groups have read, send them back or forward, and delete them
    #[command(subcommand)]
    Groups(Groups),
}

/// What a command works with besides the log.
pub(crate) struct Session<'a> {
    /// Whether there is somebody who can be asked.
    pub(crate) asks: bool,
    /// Whether the output goes to a terminal.
    pub(crate) shows: bool,
    /// Whether nothing is said but results and errors.
    pub(crate) quiet: bool,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) input: &'a mut dyn Read,
    pub(crate) out: &'a mut dyn Write,
}

impl OnLog {
    fn access(&self) -> Access {
        match self {
            Self::Topics(topics) => topics.access(),
            Self::Produce(produce) => produce.access(),
            Self::Consume(_) => Access::Look,
            Self::Groups(groups) => groups.access(),
        }
    }

    async fn run(&self, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
        match self {
            Self::Topics(topics) => topics::run(topics, log, session).await,
            Self::Produce(produce) => produce::run(produce, log, session).await,
            Self::Consume(consume) => consume::run(consume, log, session).await,
            Self::Groups(groups) => groups::run(groups, log, session).await,
        }
    }
}

/// Opens the log in `folder` as the command needs it, and does it.
pub(crate) async fn run(command: &Command, folder: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let command = match command {
        Command::Log(files) => return log::run(files, folder, session).await,
        Command::OnLog(command) => command,
    };
    match command.access() {
        Access::Look => command.run(&open_to_look(folder)?, session).await,
        access => {
            let log = open_to_write(folder, access)?;
            let done = command.run(&log, session).await;
            let closed = log.close().await;
            done.and_then(|()| closed.map_err(Failure::Log))
        }
    }
}

/// The topic called `name`, if there is one.
async fn find_topic(log: &dyn Log, name: &str) -> Result<Option<TopicSpec>, Failure> {
    Ok(log.topics().await?.into_iter().find(|spec| spec.name.as_str() == name))
}

/// The topic called `name`.
async fn topic(log: &dyn Log, name: &str) -> Result<TopicSpec, Failure> {
    find_topic(log, name).await?.ok_or_else(|| {
        let name = name.escape_debug();
        Failure::usage(format!(
            "there is no such topic: `headwater topics list` shows which there are. topic={name}"
        ))
    })
}

/// Partition `number` of a topic.
fn partition(spec: &TopicSpec, number: u32) -> Result<TopicPartition, Failure> {
    if number < spec.partitions.get() {
        return Ok(TopicPartition::new(spec.name.clone(), Partition(number)));
    }
    Err(Failure::usage(format!(
        "there is no such partition: they count from 0. topic={}, partition={number}, partitions={}",
        spec.name, spec.partitions
    )))
}

/// Asks whether to do what cannot be taken back, unless `yes` was said already.
fn confirm(yes: bool, what: impl fmt::Display, session: &mut Session<'_>) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !session.asks {
        return Err(Failure::usage(format!("{what}? This cannot be taken back: say --yes")));
    }
    session.out.flush()?;
    let _ = write!(std::io::stderr(), "{what}? This cannot be taken back. [y/N] ");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < 8 && session.input.read(&mut byte).is_ok_and(|count| count > 0) && byte != *b"\n" {
        answer.push(byte[0]);
    }
    if matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes") {
        return Ok(());
    }
    Err(Failure::usage("not confirmed: nothing was changed"))
}

/// `k=v` of the command line.
fn key_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts.map(|(key, value)| (key.into(), value.into())).ok_or_else(|| "write it as NAME=VALUE".into())
}

/// `1 record`, `2 records`
fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
