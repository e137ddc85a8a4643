//! `replays`: those that there are, and how they go.

use clap::{Args, Subcommand};
use headwater_core::Timestamp;
use headwater_terminal::{Table, number, show::escaped, time::rfc3339};
use serde_json::json;

use super::{App, Exit, Failure, Session};
use crate::Replays;

/// What to do with replays.
#[derive(Debug, Subcommand)]
pub(super) enum ReplaysArgs {
    /// Show the replays that there are
    List(List),
    /// Delete replays, with all that they wrote
    Delete(Delete),
}

/// How to list replays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app replays list
  app replays list --json | jq -r 'select(.finished | not).name'

WRITTEN is as of when the replay last ended in order.")]
pub(super) struct List {
    /// One JSON object per replay and line, for programs
    #[arg(long)]
    json: bool,
}

/// Which replays to delete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app replays delete last-week
  app replays delete last-week what-if")]
pub(super) struct Delete {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn replays(
        &self,
        what: &ReplaysArgs,
        session: &mut Session<'_, A>,
    ) -> Result<Exit, Failure> {
        // Says what to do when there is no log.
        session.observe()?;
        let replays = Replays::of(&session.config.log);
        match what {
            ReplaysArgs::List(how) => list(&replays, how, session),
            ReplaysArgs::Delete(what) => {
                let known = replays.list()?;
                // All of them are looked up before the first is gone.
                if let Some(unknown) = what.names.iter().find(|name| known.iter().all(|r| r.name != **name)) {
                    return Err(Failure::Usage(headwater_core::Error::invalid(format!(
                        "there is no such replay: `replays list` shows which there are. name={}",
                        escaped(unknown)
                    ))));
                }
                for name in &what.names {
                    replays.delete(name)?;
                    writeln!(session.out, "replay {name} deleted")?;
                }
                Ok(Exit::Done)
            }
        }
    }
}

fn list<A>(replays: &Replays, how: &List, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
    let mut table = Table::new(&["NAME", "FROM", "UNTIL", "STATE", "WRITTEN"]);
    for replay in replays.list()? {
        if how.json {
            writeln!(session.out, "{}", json!(replay))?;
            continue;
        }
        let time =
            |time: Option<i64>, none: &str| time.map_or_else(|| none.to_owned(), |t| rfc3339(Timestamp(t)));
        let state = match (replay.begun, replay.finished) {
            (None, _) => "unreadable",
            (_, true) => "finished",
            (_, false) => "unfinished",
        };
        let written = replay.written.map_or_else(|| "-".to_owned(), number);
        table.row(&[
            &replay.name,
            &time(replay.from, "earliest"),
            &time(replay.until, "end"),
            &state,
            &written,
        ]);
    }
    if !how.json {
        table.print(session.out)?;
    }
    Ok(Exit::Done)
}
