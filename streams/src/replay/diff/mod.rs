//! What a replay wrote, compared with what the live run wrote for the same range: per topic, and there per key.
//!
//! An event topic is compared by the sequence of a key's records: value, timestamp and headers of each. An update topic (what
//! comes out of a table, or of windows that do not wait until they are closed) is compared by the last value and timestamp of
//! each key; the updates before it may come in another order on a live tail, so differences among them are counted apart, as
//! *intermediate*. Order across keys never matters. A null value is a value like any other among events; as the last update of
//! a key it says that there is no row, and so it is the same as nothing. What a topic is says [`Output::kind`].
//!
//! Headers that a result has from whichever record moved time (results on close, records of a join that met nobody) do not
//! count, nor does the order of what went through a [`map_async`](crate::KStream::map_async) of any order.
//!
//! # Which records belong to the range
//! Those of both sides whose own timestamp lies in `[from, until)`, out-of-order ones too. A result near a border of the range
//! may depend on records beyond it, which the replay did not read. Where such a result differs, it says nothing about the
//! program: it is *not comparable*, counted apart, and named. Where it is equal, it is equal.
//!
//! | result | not comparable, where it differs |
//! |---|---|
//! | of one record each | never |
//! | of a window, after each record | when the window begins before `from - warm_up`, or ends after `until` |
//! | of a window, on close | the same; and when the window may still be open in one of the two runs |
//! | of a session | as of a window that is longer by the gap, on both ends |
//! | of a join of streams | when the other record may lie before `from - warm_up`; of one that met nobody, also when it may lie after `until`, or is still waited for |
//! | of an aggregate without windows, or of a join with one | always, where there is a `from`: it depends on everything before |
//! | of a table that its topic fills, or of a join with one | never: the replay reads it from its beginning |
//!
//! As long as the key names the window, that window decides. Behind an operator that changes keys it is not known any more, and
//! every window counts in which the result's timestamp may lie. What lies behind several of these operators adds up.
//!
//! Time only moves with records, and so it may stop before `until`. That a window is still open is believed when its end and
//! grace lie no further before `until` than size and grace. A window that the replay closed may still be open in the live run:
//! that is believed when they lie no further than that before the last that the live run wrote into any output.
//!
//! A processor of the user's with stores may look back however far; a warm-up is taken to be enough for it. Without one, the
//! topic has a note ([`TopicDiff::notes`]).
//!
//! Records that are out of order across `from` or `until` come to a replay in another order than they came to the live run. What
//! depends on their order, results by key of what windows, joins or tables gave around these two instants, may then differ
//! although the program is the same. What each window gives last does not depend on it.
//!
//! The full range (neither `from` nor `until`) compares everything, but for windows that only the replay closed.

mod bounds;
mod digest;
mod examples;
mod parts;
mod report;
mod table;
mod tally;

use std::{collections::BTreeMap, num::NonZeroUsize, ops::ControlFlow, time::Duration};

use headwater_core::{Error, Log, Result, Timestamp, TopicName, TopicPartition};

pub use self::report::{Class, Diff, Example, ShownRecord, Sides, TopicDiff};
use self::{
    bounds::Bounds,
    digest::Digester,
    examples::Candidates,
    parts::Unit,
    tally::{Counts, Side, Tally},
};
use crate::{Output, OutputKind};

/// Which records are compared, and what the replay knew of those around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// The first instant of the range; `None` when it begins with the first record there is.
    pub from: Option<Timestamp>,
    /// The instant after the last; `None` when it ends with the last record there is.
    pub until: Option<Timestamp>,
    /// How much before `from` was processed without counting what it wrote.
    pub warm_up: Duration,
    /// Whether the replay closed at its end what was open.
    pub windows_closed: bool,
}

/// How much memory a comparison may take, and how much it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For what is remembered of keys, in bytes: about 100 for a key of one partition. With more keys than fit, partitions are
    /// read several times, each time for a part of the keys.
    pub bytes_max: NonZeroUsize,
    /// How many keys of each topic and class are shown.
    pub examples_max: usize,
}

impl Default for Limits {
    /// 256 MiB, and 10 examples.
    fn default() -> Self {
        Self { bytes_max: NonZeroUsize::new(256 << 20).expect("not zero"), examples_max: 10 }
    }
}

/// Into how many parts the keys of a partition may be divided, each of which takes another reading of it.
const SHARES_MAX: u64 = 256;

/// Compares what is in `outputs` of both logs. Both are only read, and each partition up to the end that it has when its turn
/// comes.
///
/// A topic that a log does not have counts as empty. An output whose topic each record chooses is not compared, but counted
/// in [`Diff::computed`]; give it with [`Output::in_topic`] instead. Partitions are compared one by one, or, where the logs
/// have different numbers of them, all together.
///
/// ```
/// # futures::executor::block_on(async {
/// use headwater_core::memory::MemoryLog;
/// use headwater_streams::{StreamsBuilder, replay::diff::{self, Limits, Scope}};
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, u64>("amounts").filter(|_, amount| *amount > 100).to("large-amounts");
/// let topology = builder.build()?;
/// let (live, replayed) = (MemoryLog::default(), MemoryLog::default());
/// // The live application wrote into the one, a replay into the other.
/// let diff = diff::compare(&topology.outputs(), &Scope::default(), &live, &replayed, Limits::default()).await?;
/// assert!(diff.is_empty(), "{diff}");
/// # Ok::<(), headwater_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// `Invalid` when `from` is after `until`, or the keys of a partition do not fit into [`Limits::bytes_max`] in any number of
/// readings that is worth it; those of the logs, with the partition.
pub async fn compare(
    outputs: &[Output],
    scope: &Scope,
    live: &dyn Log,
    replayed: &dyn Log,
    limits: Limits,
) -> Result<Diff> {
    if let (Some(from), Some(until)) = (scope.from, scope.until)
        && from > until
    {
        return Err(Error::invalid(format!("the range ends before it begins. from={from}, until={until}")));
    }
    let logs = Sides { live, replayed };
    let topics = Sides { live: partitions(live).await?, replayed: partitions(replayed).await? };
    let mut latest_live = None;
    if scope.windows_closed {
        for topic in outputs.iter().filter_map(Output::topic) {
            let partitions = topics.live.get(topic).copied().unwrap_or(0);
            latest_live = latest_live.max(parts::latest(live, topic, partitions).await?);
        }
    }
    let mut diff = Diff::default();
    for output in outputs {
        let Some(topic) = output.topic() else {
            diff.computed += 1;
            continue;
        };
        let partitions = Sides {
            live: topics.live.get(topic).copied().unwrap_or(0),
            replayed: topics.replayed.get(topic).copied().unwrap_or(0),
        };
        let units = Unit::all(topic, partitions, logs, scope.from).await?;
        let comparison = Comparison { output, scope, limits, units, latest_live };
        diff.topics.push(comparison.run(topic, partitions).await?);
    }
    Ok(diff)
}

async fn partitions(log: &dyn Log) -> Result<BTreeMap<TopicName, u32>> {
    Ok(log.topics().await?.into_iter().map(|spec| (spec.name, spec.partitions.get())).collect())
}

/// The comparison of one topic.
struct Comparison<'a> {
    output: &'a Output,
    scope: &'a Scope,
    limits: Limits,
    units: Vec<Unit<'a>>,
    latest_live: Option<Timestamp>,
}

impl Comparison<'_> {
    async fn run(&self, topic: &TopicName, partitions: Sides<u32>) -> Result<TopicDiff> {
        let bounds = Bounds::new(self.scope, self.output, self.latest_live);
        let digester = Digester::new(self.output, bounds);
        let mut counts = Counts::default();
        let mut candidates = Candidates::new(self.limits.examples_max);
        for (at, unit) in self.units.iter().enumerate() {
            let (of_unit, found) = self.tally(&digester, at, unit).await?;
            counts.add(&of_unit);
            candidates.extend(found);
        }
        let mut examples = Vec::new();
        for (at, found) in candidates.by_unit() {
            examples.extend(examples::show(&digester, &self.units[at], found).await?);
        }
        examples.sort_by_key(|example| example.class);
        Ok(TopicDiff::new(topic, self.output.kind(), partitions, counts, examples)
            .with_notes(self.notes(partitions)))
    }

    /// Counts one unit, in as many readings as its keys need.
    async fn tally(
        &self,
        digester: &Digester<'_>,
        at: usize,
        unit: &Unit<'_>,
    ) -> Result<(Counts, Candidates)> {
        let mut shares = 1;
        while shares <= SHARES_MAX {
            if let Some(counted) = self.tally_in(digester, at, unit, shares).await? {
                return Ok(counted);
            }
            shares *= 2;
        }
        Err(Error::invalid(format!(
            "a partition has more keys than can be compared in this memory: allow more. {unit}, bytes_max={}, readings={SHARES_MAX}",
            self.limits.bytes_max
        )))
    }

    /// As [`Comparison::tally`], in `shares` readings; `None` when that is too few.
    async fn tally_in(
        &self,
        digester: &Digester<'_>,
        at: usize,
        unit: &Unit<'_>,
        shares: u64,
    ) -> Result<Option<(Counts, Candidates)>> {
        let mut counts = Counts::default();
        let mut candidates = Candidates::new(self.limits.examples_max);
        for share in 0..shares {
            let mut tally = Tally::new(self.limits.bytes_max);
            for side in Side::BOTH {
                let mut records = 0;
                let mut fits = true;
                for part in unit.of(side) {
                    let flow = part
                        .each(&mut |record| {
                            let Some(digest) = digester.digest(&record) else {
                                return ControlFlow::Continue(());
                            };
                            records += 1;
                            if digest.key[1] % shares == share {
                                fits = tally.add(side, digester, (&digest, record.offset));
                            }
                            if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                        })
                        .await?;
                    if flow.is_break() {
                        return Ok(None);
                    }
                }
                *counts.records.of_mut(side) = records;
            }
            tally.judge(self.output.kind(), &mut counts, |found| candidates.offer(at, found));
        }
        Ok(Some((counts, candidates)))
    }

    fn notes(&self, partitions: Sides<u32>) -> Vec<String> {
        let mut notes = Vec::new();
        match partitions {
            Sides { live: 0, replayed: 0 } => notes.push("neither log has this topic".to_owned()),
            Sides { live: 0, .. } => notes.push("the live log does not have this topic".to_owned()),
            Sides { replayed: 0, .. } => notes.push("the replay does not have this topic".to_owned()),
            Sides { live, replayed } if live != replayed => notes.push(format!(
                "compared across partitions, of which the live log has {live} and the replay {replayed}"
            )),
            Sides { .. } => {}
        }
        for (side, name) in [(Side::Live, "live log"), (Side::Replayed, "replay")] {
            let parts = || self.units.iter().flat_map(|unit| unit.of(side));
            let cut = parts().filter(|part| part.is_cut).count();
            if cut > 0 {
                let all = parts().count();
                notes.push(format!(
                    "records that may belong to the range are gone from the {name}, in {cut} of {all} partitions"
                ));
            }
        }
        if self.output.carried.shuffled && self.output.kind() == OutputKind::Events {
            notes.push("compared without order, which a `map_async` of any order is before".to_owned());
        }
        if self.output.carried.remembers && self.scope.from.is_some() && self.scope.warm_up.is_zero() {
            notes.push(
                "behind a processor with stores, which were empty at the beginning of the range: a warm-up fills them"
                    .to_owned(),
            );
        }
        notes
    }
}

/// Where a record or a reading stands, for errors.
fn reading(partition: &TopicPartition) -> String {
    format!("comparing {partition}")
}
