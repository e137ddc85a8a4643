//! `lag`: how far the program is behind in what it reads.

use clap::Args;
use headwater_core::{GroupId, Log};
use headwater_terminal::{Table, number};
use serde_json::json;

use super::{App, Exit, Failure, Session};

/// How to show it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app lag
  app lag --json | jq -s 'map(.lag) | add'

Works while the program runs, too. COMMITTED is where it would go on after a crash; a partition of which it has committed nothing is read
from where its source says, for most from the beginning. Of a repartition topic it is the position of the slowest of its lanes.")]
pub(super) struct Lag {
    /// One JSON object per partition and line, for programs
    #[arg(long)]
    json: bool,
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn lag(&self, how: &Lag, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
        let (topology, settings) = (self.build(session.args)?, self.settings_of(session));
        let topics = topology.topics(&settings.application_id)?;
        let group = GroupId(settings.application_id);
        let log = session.observe()?;
        let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
        let mut total = 0;
        let known = log.topics().await?;
        for spec in known.iter().filter(|spec| topics.get(&spec.name).is_some_and(|role| role.is_read())) {
            for partition in spec.topic_partitions() {
                let offsets = log.offsets(&partition).await?;
                let committed = log.committed(&group, &partition).await?.map(|committed| committed.offset);
                let lag = offsets.end.0.saturating_sub(committed.unwrap_or(offsets.earliest).0);
                total += lag;
                let (topic, at) = (&partition.topic, partition.partition);
                if how.json {
                    let line = json!({ "topic": topic.as_str(), "partition": at.0, "committed": committed.map(|c| c.0),
                        "end": offsets.end.0, "lag": lag });
                    writeln!(session.out, "{line}")?;
                } else {
                    let committed = committed.map_or_else(|| "-".into(), |committed| committed.to_string());
                    table.row(&[topic, &at, &committed, &offsets.end, &lag]);
                }
            }
        }
        if !how.json {
            table.print(session.out)?;
            writeln!(session.out, "\n{} is {} records behind", group, number(total))?;
        }
        Ok(Exit::Done)
    }
}
