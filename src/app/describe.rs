//! `describe`: the plan of the topology. It needs no log.

use clap::{Args, ValueEnum};
use headwater_streams::PlanFormat;

use super::{App, Exit, Failure, Session};

/// How to print the plan.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app describe
  app describe --format dot | dot -Tsvg > plan.svg
  app describe --format mermaid")]
pub(super) struct Describe {
    /// What to print it as
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid, which many sites draw within Markdown
    Mermaid,
}

impl<A: Args + 'static> App<A> {
    pub(super) fn describe(&self, how: &Describe, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
        let format = match how.format {
            Format::Text => PlanFormat::Text,
            Format::Dot => PlanFormat::Dot,
            Format::Mermaid => PlanFormat::Mermaid,
        };
        let plan = self.build(session.args)?.describe_as(format);
        writeln!(session.out, "{}", plan.trim_end())?;
        Ok(Exit::Done)
    }
}
