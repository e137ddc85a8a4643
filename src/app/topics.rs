//! `topics`: which topics the program has, and what is in them.

use std::{collections::BTreeMap, num::NonZeroU32};

use clap::Args;
use headwater_core::{Admin, Error, Log, Result, TopicName, TopicSpec};
use headwater_streams::{ErrorPolicy, Settings, TopicRole, Topology};
use headwater_terminal::{Table, number, size};
use serde_json::json;

use super::{App, Exit, Failure, Session};

/// How to show topics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app topics
  app topics --json | jq -r 'select(.role == \"sink\").topic'

Works while the program runs, too. What is in a topic is printed by `headwater consume TOPIC --log FOLDER`. RECORDS counts offsets: of a
compacted topic some of them are gone. Topics that a record decides are not known here.")]
pub(super) struct Topics {
    /// One JSON object per topic and line, for programs
    #[arg(long)]
    json: bool,
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn topics(&self, how: &Topics, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
        let (topology, settings) = (self.build(session.args)?, self.settings_of(session));
        let log = session.observe()?;
        let known = known(&log).await?;
        let mut table = Table::new(&["TOPIC", "ROLE", "PARTITIONS", "RECORDS", "SIZE"]);
        let mut missing = Vec::new();
        for (name, role) in all(&topology, &settings)? {
            let found = match known.get(&name) {
                Some(spec) => Some(Contents::of(&log, spec).await?),
                None => None,
            };
            if how.json {
                let line = json!({ "topic": name.as_str(), "role": role, "partitions": found.as_ref().map(|f| f.partitions),
                    "records": found.as_ref().map(|f| f.records), "bytes": found.as_ref().map(|f| f.bytes) });
                writeln!(session.out, "{line}")?;
                continue;
            }
            match found {
                Some(Contents { partitions, records, bytes }) => {
                    table.row(&[&name, &role, &partitions, &number(records), &size(bytes)]);
                }
                None => {
                    table.row(&[&name, &role, &"-", &"-", &"-"]);
                    missing.extend((role == TopicRole::Source.to_string()).then_some(name));
                }
            }
        }
        if !how.json {
            table.print(session.out)?;
            if !missing.is_empty() && !session.config.quiet {
                writeln!(session.out, "\nSource topics are missing: {}", how_to_create(&missing, session))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// What there is of a topic.
struct Contents {
    partitions: u32,
    records: u64,
    bytes: u64,
}

impl Contents {
    async fn of(log: &dyn Admin, spec: &TopicSpec) -> Result<Self> {
        let mut contents = Self { partitions: spec.partitions.get(), records: 0, bytes: 0 };
        for partition in spec.topic_partitions() {
            let offsets = log.offsets(&partition).await?;
            contents.records += offsets.end.0.saturating_sub(offsets.earliest.0);
            contents.bytes += log.size(&partition).await?;
        }
        Ok(contents)
    }
}

/// The topics of the program, sources first, and what each is to it.
fn all(topology: &Topology, settings: &Settings) -> Result<Vec<(TopicName, String)>> {
    let mut topics: Vec<_> = topology.topics(&settings.application_id)?.into_iter().collect();
    topics.sort_by(|(name, role), (other, theirs)| (role, name).cmp(&(theirs, other)));
    let mut topics: Vec<_> = topics.into_iter().map(|(name, role)| (name, role.to_string())).collect();
    if let ErrorPolicy::DeadLetter(name) = &settings.on_error {
        topics.push((TopicName::new(name)?, "dead letters".to_owned()));
    }
    Ok(topics)
}

async fn known(log: &dyn Log) -> Result<BTreeMap<TopicName, TopicSpec>> {
    Ok(log.topics().await?.into_iter().map(|spec| (spec.name.clone(), spec)).collect())
}

fn how_to_create<A>(missing: &[TopicName], session: &Session<'_, A>) -> String {
    let names: Vec<_> = missing.iter().map(TopicName::as_str).collect();
    format!(
        "create each with `headwater topics create {} --partitions N --log {}`, or let `run --create-topics N` do it. topics={}",
        names.first().unwrap_or(&"TOPIC"),
        session.config.log.display(),
        names.join(",")
    )
}

/// Makes sure that all topics are there that are read and written by somebody else.
///
/// # Errors
/// `Invalid` when one is missing and `create` does not say with how many partitions to make it.
pub(super) async fn provide_sources<A>(
    topology: &Topology,
    create: Option<NonZeroU32>,
    log: &dyn Log,
    session: &Session<'_, A>,
) -> Result<(), Failure> {
    let known = known(log).await?;
    let topics = topology.topics(&session.config.application_id)?;
    let external = |role| matches!(role, TopicRole::Source | TopicRole::Intermediate);
    let missing: Vec<_> = topics
        .into_iter()
        .filter(|(name, role)| external(*role) && !known.contains_key(name))
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(partitions) = create else {
        let how = how_to_create(&missing, session);
        return Err(Failure::Usage(Error::invalid(format!("source topics do not exist: {how}"))));
    };
    for name in missing {
        log.create_topic(&TopicSpec::new(name.as_str(), partitions.get())?).await?;
        tracing::info!(topic = %name, partitions, "topic created");
    }
    Ok(())
}
