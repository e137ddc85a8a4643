//! What a replay wrote, beside what the live run wrote for the same range.
//!
//! The live run reads what the plan of the replay did not hold: records that came since, and, where a range begins or ends at offsets,
//! those on the other side of these. Results of such times are left out, and a note says which.

use std::{collections::BTreeSet, path::Path};

use headwater_core::{Error, Log, Result, Timestamp, TopicName};
use headwater_storage::log::ObservedLog;
use headwater_streams::{
    Output, Topology,
    replay::{
        Range,
        diff::{self, Diff, Limits, Scope},
    },
};
use headwater_terminal::time::rfc3339;

use super::store::{Place, Stored};
use crate::reading::each_batch;

/// Compares what a replay wrote with what the live run wrote for the same range.
pub(super) async fn compare(live: &Path, place: &Place, topology: &Topology, limits: Limits) -> Result<Diff> {
    let stored = place.read_finished()?;
    let (live, own) = (ObservedLog::open(live)?, ObservedLog::open(&place.folder)?);
    let range = stored.plan.range()?;
    let mut scope = Scope {
        from: range.from,
        until: range.until,
        warm_up: stored.plan.warm_up(),
        windows_closed: stored.plan.closes_windows(),
    };
    let mut notes = Vec::new();
    if let Some(from) = begins(&live, &range).await? {
        scope.from = Some(from);
        notes.push(format!(
            "compared from {}: there are records before the offsets where the range begins that are younger than the first behind them",
            rfc3339(from)
        ));
    }
    if let Some(until) = ends(&live, &range, &scope).await? {
        scope.until = Some(until);
        notes.push(format!(
            "compared before {}: the live log has records of that time and later that the replay did not read",
            rfc3339(until)
        ));
        if !holds_before(&live, &range, scope.from, until).await? {
            return Err(Error::invalid(format!(
                "nothing can be compared: the live log has records as old as the range, which came behind those that the replay \
                 read; replay anew. name={}, from={}, earliest of them={}",
                place.name,
                scope.from.map_or_else(|| "the earliest record".to_owned(), rfc3339),
                rfc3339(until)
            )));
        }
    }
    let mut diff = diff::compare(&outputs(topology, &stored)?, &scope, &live, &own, limits).await?;
    diff.notes.extend(notes);
    Ok(diff)
}

/// The outputs, with a topic for each that records chose in the replay.
fn outputs(topology: &Topology, stored: &Stored) -> Result<Vec<Output>> {
    let (mut fixed, computed): (Vec<_>, Vec<_>) =
        topology.outputs().into_iter().partition(|output| output.topic().is_some());
    // Which of several outputs wrote a topic is not known: no more is said of it than of all of them.
    let Some(any) = computed.into_iter().reduce(|a, b| a.and(&b)) else { return Ok(fixed) };
    let known: BTreeSet<TopicName> = fixed.iter().filter_map(Output::topic).cloned().collect();
    let written = stored.report.as_ref().and_then(|report| report.get("outputs")?.as_object());
    let count = fixed.len();
    for name in written.into_iter().flat_map(|written| written.keys()) {
        let name = TopicName::new(name).map_err(|e| e.context("topic that a replay wrote"))?;
        if !known.contains(&name) {
            fixed.push(any.clone().in_topic(name));
        }
    }
    if fixed.len() == count {
        // Counted as one that was not compared.
        fixed.push(any);
    }
    Ok(fixed)
}

/// Where the comparison begins instead: behind the youngest record that lies before the offsets of the range and is of its time.
async fn begins(live: &dyn Log, range: &Range) -> Result<Option<Timestamp>> {
    let Some(from) = range.from else { return Ok(None) };
    let mut youngest = None;
    for (partition, offsets) in &range.offsets {
        let Some(first) = live.offset_at(partition, from).await? else { continue };
        each_batch(live, partition, first.offset..offsets.start, |batch, offsets| {
            if batch.next_offset() <= offsets.end {
                youngest = youngest.max(Some(batch.max_timestamp()));
                return Ok(true);
            }
            let mut records = batch.cursor();
            while let Some(record) = records.next().transpose()? {
                if record.offset < offsets.end {
                    youngest = youngest.max(Some(record.timestamp));
                }
            }
            Ok(true)
        })
        .await?;
    }
    Ok(youngest.filter(|time| *time >= from).map(|time| Timestamp(time.0.saturating_add(1))))
}

/// Where the comparison ends instead: at the oldest record behind the offsets of the range that is of a time before its end.
async fn ends(live: &dyn Log, range: &Range, scope: &Scope) -> Result<Option<Timestamp>> {
    let warm_up = i64::try_from(scope.warm_up.as_millis()).unwrap_or(i64::MAX);
    // Nothing that is compared depends on what is older, but for rows of tables: theirs say themselves what they change.
    let floor = scope.from.map(|from| Timestamp(from.0.saturating_sub(warm_up)));
    let counts = |time: Timestamp| floor.is_none_or(|floor| time >= floor);
    let mut oldest: Option<Timestamp> = None;
    for (partition, offsets) in &range.offsets {
        let end = live.offsets(partition).await?.end;
        each_batch(live, partition, offsets.end..end, |batch, offsets| {
            let Some(lowest) = batch.min_timestamp()? else { return Ok(true) };
            if oldest.is_some_and(|oldest| lowest >= oldest) {
                return Ok(true);
            }
            if batch.base_offset() >= offsets.start && counts(lowest) {
                oldest = Some(lowest);
                return Ok(true);
            }
            let mut records = batch.cursor();
            while let Some(record) = records.next().transpose()? {
                let is_older = oldest.is_none_or(|oldest| record.timestamp < oldest);
                if record.offset >= offsets.start && counts(record.timestamp) && is_older {
                    oldest = Some(record.timestamp);
                }
            }
            Ok(true)
        })
        .await?;
    }
    Ok(oldest.filter(|oldest| range.until.is_none_or(|until| *oldest < until)))
}

/// Whether the replay read anything before `until`.
async fn holds_before(
    live: &dyn Log,
    range: &Range,
    from: Option<Timestamp>,
    until: Timestamp,
) -> Result<bool> {
    if let Some(from) = from {
        return Ok(from < until);
    }
    let mut holds = false;
    for (partition, offsets) in &range.offsets {
        each_batch(live, partition, offsets.clone(), |batch, _| {
            holds = holds || batch.min_timestamp()?.is_some_and(|lowest| lowest < until);
            Ok(!holds)
        })
        .await?;
    }
    Ok(holds)
}
