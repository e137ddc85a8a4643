//! One difference at a time, and what is none.

use std::num::NonZeroUsize;

use futures::executor::block_on;
use headwater_core::{Admin, ErrorKind, Headers, Offset, Partition, Timestamp, TopicName, TopicPartition};
use headwater_streams::{
    Concurrency, OutputKind, StreamsBuilder,
    replay::diff::{self, Class, Limits, Scope, Sides, TopicDiff},
};

use super::{Written, compare, compare_logs, log_of, output, record};

/// Two records of `a`, two of `b`, one of `c`.
fn five() -> Vec<Written> {
    vec![
        record("a", "1", 10),
        record("b", "1", 11),
        record("a", "2", 12),
        record("b", "2", 13),
        record("c", "1", 14),
    ]
}

/// Equal, missing, extra, different, intermediate.
fn counts(diff: &TopicDiff) -> [u64; 5] {
    assert_eq!(diff.not_comparable, 0);
    [diff.equal, diff.missing, diff.extra, diff.different, diff.intermediate]
}

fn changed(change: impl FnOnce(&mut Vec<Written>)) -> Vec<Written> {
    let mut records = five();
    change(&mut records);
    assert_ne!(records, five());
    records
}

#[test]
fn the_same_is_the_same_in_whatever_order_of_keys() {
    for kind in [OutputKind::Events, OutputKind::Updates] {
        let other_order = changed(|records| {
            records.swap(0, 1);
            records.swap(3, 4);
        });
        let diff = compare(kind, &five(), &other_order);
        assert!(diff.is_empty());
        assert_eq!(counts(&diff), [3, 0, 0, 0, 0]);
        assert_eq!(diff.records, Sides { live: 5, replayed: 5 });
        assert!(diff.examples.is_empty());
    }
}

#[test]
fn every_difference_between_events_is_found() {
    let differences: [(&str, Vec<Written>); 7] = [
        ("lost", changed(|records| drop(records.remove(2)))),
        ("twice", changed(|records| records.insert(3, record("a", "2", 12)))),
        ("swapped", changed(|records| records.swap(0, 2))),
        ("value", changed(|records| records[2].value = Some("3".to_owned()))),
        ("null", changed(|records| records[2].value = None)),
        ("time", changed(|records| records[2].time += 1)),
        ("header", changed(|records| records[2].headers = Headers::new().with("by", "me"))),
    ];
    for (what, replayed) in differences {
        for (live, replayed) in [(five(), replayed.clone()), (replayed, five())] {
            let diff = compare(OutputKind::Events, &live, &replayed);
            assert_eq!(counts(&diff), [2, 0, 0, 1, 0], "{what}");
            assert!(!diff.is_empty());
            assert_eq!((diff.examples.len(), diff.examples[0].key.as_str()), (1, "a"), "{what}");
            assert_eq!(diff.examples[0].class, Class::Different, "{what}");
        }
    }
}

#[test]
fn keys_of_one_side_only_are_missing_or_extra() {
    let without_c = changed(|records| drop(records.pop()));
    for kind in [OutputKind::Events, OutputKind::Updates] {
        let (missing, extra) = (compare(kind, &five(), &without_c), compare(kind, &without_c, &five()));
        assert_eq!((counts(&missing), counts(&extra)), ([2, 1, 0, 0, 0], [2, 0, 1, 0, 0]));
        let [missing, extra] = [&missing.examples[0], &extra.examples[0]];
        assert_eq!((missing.class, extra.class), (Class::Missing, Class::Extra));
        let live = missing.records.live.as_ref().unwrap();
        assert_eq!((live.value.as_str(), live.offset.0, live.timestamp), ("1", 4, Timestamp(14)));
        assert_eq!((missing.key.as_str(), &missing.records.replayed), ("c", &None));
        assert_eq!(extra.counts, Sides { live: 0, replayed: 1 });
    }
}

#[test]
fn of_updates_the_last_one_counts_and_the_others_are_counted_apart() {
    let intermediate: [Vec<Written>; 3] = [
        changed(|records| drop(records.remove(0))),
        changed(|records| records[0].value = Some("9".to_owned())),
        changed(|records| records[2].headers = Headers::new().with("by", "me")),
    ];
    for replayed in intermediate {
        let diff = compare(OutputKind::Updates, &five(), &replayed);
        assert!(diff.is_empty());
        assert_eq!(counts(&diff), [3, 0, 0, 0, 1]);
        assert_eq!((diff.examples.len(), diff.examples[0].class), (1, Class::Intermediate));
    }
    let last: [Vec<Written>; 4] = [
        changed(|records| drop(records.remove(2))),
        changed(|records| records[2].value = None),
        changed(|records| records[2].time = 13),
        changed(|records| records.swap(0, 2)),
    ];
    for replayed in last {
        let diff = compare(OutputKind::Updates, &five(), &replayed);
        assert_eq!(counts(&diff), [2, 0, 0, 1, 0]);
        assert_eq!((diff.examples[0].key.as_str(), diff.examples[0].class), ("a", Class::Different));
    }
}

#[test]
fn null_and_empty_are_two_things() {
    let keyless = Written { key: None, ..record("", "1", 1) };
    let diff = compare(OutputKind::Events, std::slice::from_ref(&keyless), &[record("", "1", 1)]);
    assert_eq!(counts(&diff), [0, 1, 1, 0, 0]);
    let valueless = Written { value: None, ..record("a", "", 1) };
    let diff = compare(OutputKind::Updates, &[valueless], &[record("a", "", 1)]);
    assert_eq!(counts(&diff), [0, 0, 0, 1, 0]);
    // Records without key are in one sequence.
    let two = [keyless.clone(), Written { value: None, ..keyless.clone() }];
    let diff = compare(OutputKind::Events, &two, &[two[1].clone(), two[0].clone()]);
    assert_eq!(counts(&diff), [0, 0, 0, 1, 0]);
}

#[test]
fn the_first_record_that_differs_is_shown() {
    let live: Vec<_> = (0..100).map(|n| record("a", &n.to_string(), n)).collect();
    let mut replayed = live.clone();
    replayed[70].value = Some("other".to_owned());
    replayed.truncate(90);
    let diff = compare(OutputKind::Events, &live, &replayed);
    let example = &diff.examples[0];
    assert_eq!((example.same, example.counts), (Some(70), Sides { live: 100, replayed: 90 }));
    let values = [&example.records.live, &example.records.replayed]
        .map(|record| record.as_ref().unwrap().value.clone());
    assert_eq!(values, ["70", "other"]);

    let diff = compare(OutputKind::Events, &live, &live[..90]);
    let example = &diff.examples[0];
    assert_eq!((example.same, example.records.live.as_ref().unwrap().value.as_str()), (Some(90), "90"));
    assert_eq!(example.records.replayed, None);
}

#[test]
fn a_topic_that_is_not_there_is_empty_and_said_to_be() {
    let (none, five) = (headwater_core::memory::MemoryLog::default(), log_of(1, &five()));
    let diff = compare_logs(&output(OutputKind::Events), &Scope::default(), &none, &five);
    assert_eq!((diff.topics[0].extra, diff.topics[0].notes.len()), (3, 1));
    assert!(diff.to_string().contains("the live log does not have this topic"), "{diff}");
    let diff = compare_logs(&output(OutputKind::Events), &Scope::default(), &none, &none);
    assert!(diff.is_empty() && diff.to_string().contains("neither log"), "{diff}");
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let scope = Scope { from: Some(Timestamp(2)), until: Some(Timestamp(1)), ..Scope::default() };
    let log = log_of(1, &five());
    let error = block_on(diff::compare(&[], &scope, &log, &log, Limits::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn too_little_memory_is_refused_and_little_memory_takes_longer() {
    let keys: Vec<&'static str> = (0..2_000).map(|n| &*format!("key-{n}").leak()).collect();
    let live: Vec<_> = keys.iter().map(|key| record(key, "1", 1)).collect();
    let mut replayed = live.clone();
    replayed.remove(1_000);
    replayed[100].value = None;
    let (live, replayed) = (log_of(1, &live), log_of(1, &replayed));
    let with = |bytes_max| {
        let limits = Limits { bytes_max: NonZeroUsize::new(bytes_max).unwrap(), examples_max: 3 };
        block_on(diff::compare(&[output(OutputKind::Events)], &Scope::default(), &live, &replayed, limits))
    };
    let little = with(20_000).unwrap();
    assert_eq!(little, with(20_000_000).unwrap());
    assert_eq!(counts(&little.topics[0]), [1_998, 1, 0, 1, 0]);
    let error = with(100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("results-0") && error.to_string().contains("bytes_max=100"),
        "{error}"
    );
}

#[test]
fn a_key_in_another_partition_is_another_unless_their_number_changed() {
    let moved: Vec<_> = five().into_iter().map(|record| Written { partition: 1, ..record }).collect();
    let output = output(OutputKind::Events);
    let two = compare_logs(&output, &Scope::default(), &log_of(2, &five()), &log_of(2, &moved));
    assert_eq!(counts(&two.topics[0]), [0, 3, 3, 0, 0]);
    let one = compare_logs(&output, &Scope::default(), &log_of(1, &five()), &log_of(2, &moved));
    assert_eq!((counts(&one.topics[0]), one.topics[0].notes.len()), ([3, 0, 0, 0, 0], 1));
}

#[test]
fn records_that_are_gone_are_said_to_be() {
    let log = log_of(1, &five());
    let partition = TopicPartition::new(TopicName::new("results").unwrap(), Partition(0));
    block_on(log.delete_records(&partition, Offset(1))).unwrap();
    let all = log_of(1, &five());
    let diff = compare_logs(&output(OutputKind::Events), &Scope::default(), &log, &all);
    assert_eq!(diff.topics[0].notes.len(), 1);
    assert!(diff.to_string().contains("are gone from the live log, in 1 of 1 partitions"), "{diff}");
    // They are older than what is asked for.
    let scope = Scope { from: Some(Timestamp(12)), ..Scope::default() };
    let diff = compare_logs(&output(OutputKind::Events), &scope, &log, &all);
    assert!(diff.is_empty() && diff.topics[0].notes.is_empty(), "{diff}");
}

/// Calls of `map_async` may end in another order in each run.
#[test]
fn where_the_order_says_nothing_it_is_not_compared() {
    let builder = StreamsBuilder::new();
    let texts = builder.stream::<String, String>("texts");
    texts.map_async("ask", Concurrency::unordered(2), |_, text| async move { Ok(text) }).to("results");
    let output = builder.build().unwrap().outputs().remove(0);
    let compare = |replayed: &[Written]| {
        compare_logs(&output, &Scope::default(), &log_of(1, &five()), &log_of(1, replayed)).topics.remove(0)
    };
    let swapped = compare(&changed(|records| records.swap(0, 2)));
    assert_eq!((counts(&swapped), swapped.notes.len()), ([3, 0, 0, 0, 0], 1));
    assert_eq!(counts(&compare(&changed(|records| drop(records.remove(0))))), [2, 0, 0, 1, 0]);
    assert_eq!(counts(&compare(&changed(|records| records[0].time = 9))), [2, 0, 0, 1, 0]);
}

/// It runs beside whatever else an application does.
#[test]
fn a_comparison_can_be_sent_to_another_thread() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let log = log_of(1, &five());
    let outputs = [output(OutputKind::Events)];
    let scope = Scope::default();
    let diff = block_on(sent(diff::compare(&outputs, &scope, &log, &log, Limits::default()))).unwrap();
    assert!(diff.is_empty());
}
