//! Random records on both sides, against a comparison that keeps everything.

use std::{collections::BTreeMap, num::NonZeroUsize};

use futures::executor::block_on;
use headwater_core::{Headers, Timestamp};
use headwater_streams::{
    OutputKind,
    replay::diff::{self, Limits, Scope, Sides},
};
use proptest::prelude::*;

use super::{Written, cases, log_of, output};

/// Partition and key, and for each side what it says of them, in order.
type ByKey = BTreeMap<(u32, Option<&'static str>), [Vec<(Option<String>, i64, Headers)>; 2]>;

#[derive(Debug, PartialEq, Eq, Default)]
struct Expected {
    equal: u64,
    missing: u64,
    extra: u64,
    different: u64,
    intermediate: u64,
}

fn expected(kind: OutputKind, sides: [&[Written]; 2], in_range: impl Fn(i64) -> bool) -> Expected {
    let mut by_key = ByKey::new();
    for (side, records) in sides.into_iter().enumerate() {
        for Written { partition, key, value, time, headers } in records {
            if in_range(*time) {
                by_key.entry((*partition, *key)).or_default()[side].push((
                    value.clone(),
                    *time,
                    headers.clone(),
                ));
            }
        }
    }
    let mut expected = Expected::default();
    for [live, replayed] in by_key.values() {
        // A row is the last value and its time, unless it was deleted.
        let row = |records: &[(Option<String>, i64, Headers)]| {
            records.last().and_then(|(value, time, _)| value.clone().map(|value| (value, *time)))
        };
        let class = if live == replayed {
            &mut expected.equal
        } else if kind == OutputKind::Updates && row(live) == row(replayed) {
            expected.intermediate += 1;
            &mut expected.equal
        } else if live.is_empty() {
            &mut expected.extra
        } else if replayed.is_empty() {
            &mut expected.missing
        } else {
            &mut expected.different
        };
        *class += 1;
    }
    expected
}

fn written() -> impl Strategy<Value = Written> {
    let key = prop::sample::select(vec![None, Some(""), Some("a"), Some("b"), Some("ab")]);
    let value = prop::option::of(prop::sample::select(vec!["", "1", "2"]).prop_map(str::to_owned));
    let headers = prop::sample::select(vec![Headers::new(), Headers::new(), Headers::new().with("h", "1")]);
    (0..3_u32, key, value, 0..6_i64, headers).prop_map(|(partition, key, value, time, headers)| Written {
        partition,
        key,
        value,
        time,
        headers,
    })
}

/// A live run, and a replay that is about the same.
fn both() -> impl Strategy<Value = (Vec<Written>, Vec<Written>)> {
    let change = (any::<prop::sample::Index>(), 0..4_u8, written());
    (prop::collection::vec(written(), 0..40), prop::collection::vec(change, 0..4)).prop_map(
        |(live, changes)| {
            let mut replayed = live.clone();
            for (at, what, new) in changes {
                match (what, replayed.len()) {
                    (0, _) | (_, 0) => replayed.push(new),
                    (1, len) => drop(replayed.remove(at.index(len))),
                    (2, len) => replayed[at.index(len)] = new,
                    (_, len) => replayed.swap(at.index(len), 0),
                }
            }
            (live, replayed)
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn finds_what_a_comparison_finds_that_keeps_everything(
        (live, replayed) in both(),
        updates: bool,
        range in prop::option::of((0..6_i64, 0..6_i64)),
        bytes_max in prop::sample::select(vec![1_200_usize, 1 << 20]),
    ) {
        let kind = if updates { OutputKind::Updates } else { OutputKind::Events };
        let range = range.map(|(from, length)| (from, from + length));
        let in_range = |time| range.is_none_or(|(from, until)| from <= time && time < until);
        let expected = expected(kind, [&live, &replayed], in_range);
        let scope = Scope {
            from: range.map(|(from, _)| Timestamp(from)),
            until: range.map(|(_, until)| Timestamp(until)),
            ..Scope::default()
        };
        let limits = Limits { bytes_max: NonZeroUsize::new(bytes_max).unwrap(), examples_max: 100 };
        let logs = [log_of(3, &live), log_of(3, &replayed)];
        let diff = block_on(diff::compare(&[output(kind)], &scope, &logs[0], &logs[1], limits)).unwrap();
        let found = &diff.topics[0];
        let counted = Expected {
            equal: found.equal,
            missing: found.missing,
            extra: found.extra,
            different: found.different,
            intermediate: found.intermediate,
        };
        prop_assert_eq!(&counted, &expected);
        prop_assert_eq!(found.not_comparable, 0);
        let records = [&live, &replayed].map(|side| side.iter().filter(|record| in_range(record.time)).count() as u64);
        prop_assert_eq!(found.records, Sides { live: records[0], replayed: records[1] });
        // All are shown, and what is shown are two records that differ.
        let not_equal = expected.missing + expected.extra + expected.different + expected.intermediate;
        prop_assert_eq!(found.examples.len() as u64, not_equal);
        for example in &found.examples {
            let Sides { live, replayed } = &example.records;
            prop_assert!(live.is_some() || replayed.is_some());
            if let (Some(live), Some(replayed)) = (live, replayed) {
                let said = |record: &diff::ShownRecord| (record.value.clone(), record.timestamp, record.headers.clone());
                // Null is shown as a text.
                prop_assert!(said(live) != said(replayed), "{example:?}");
            }
        }
    }
}
