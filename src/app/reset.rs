//! `reset`: the program begins again at a position.

use clap::Args;
use headwater_streams::replay::Position;
use serde_json::json;

use super::{App, Exit, Failure, Session};
use crate::{
    Reset,
    position::{POSITION_HELP, parse_position},
};

const EXAMPLES: &str = "\
Examples:
  app reset
  app reset --execute
  app reset --to 7d --execute
  app reset --to readings:0=1200,readings:1=900 --execute

Source topics go to the position; those that only fill tables go to their beginning, unless offsets of theirs are given, and topics that
the program both writes and reads to their end. Its repartition topics, changelogs and state are deleted. What it wrote to its output topics stays, and is written again behind it.";

/// Where to, and whether to do it.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{POSITION_HELP}"))]
pub(super) struct ResetTo {
    /// Where it begins again
    #[arg(long, value_name = "POSITION", default_value = "earliest", value_parser = parse_position)]
    to: Position,
    /// Do it; without this it only says what would be done
    #[arg(long)]
    execute: bool,
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn reset(&self, how: &ResetTo, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
        // Says what to do when there is no log.
        session.observe()?;
        let config = &session.config;
        let reset = Reset::of(&self.build(session.args)?, &config.application_id);
        let mut reset = reset.log(&config.log).to(how.to.clone());
        if let Some(folder) = &config.state_dir {
            reset = reset.state_in(folder);
        }
        let plan = if how.execute { reset.execute().await? } else { reset.plan().await? };
        if how.json {
            let line = json!({ "executed": how.execute, "plan": plan });
            writeln!(session.out, "{line}")?;
            return Ok(Exit::Done);
        }
        let id = &plan.application_id;
        let note = if how.execute {
            format!("{id} begins again at NEW")
        } else {
            format!("nothing was changed: say --execute, and {id} begins again at NEW")
        };
        writeln!(session.out, "{plan}\n\n{note}")?;
        Ok(Exit::Done)
    }
}
