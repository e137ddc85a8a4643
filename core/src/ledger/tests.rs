//! The rules of the ledger, one by one, and under random commits.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{BatchBuilder, CleanupPolicy, Headers, ProducerStamp, Timestamp, TopicChanges, TopicConfig};

fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
    ProducerStamp { id: 7, epoch, sequence }
}

fn batch(producer: Incarnation, sequence: i32, records: u32) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    for _ in 0..records {
        builder.push(Timestamp(0), None, Some(b"v"), &Headers::new());
    }
    builder.finish(ProducerStamp { id: producer.id, epoch: producer.epoch, sequence })
}

fn ledger() -> (Ledger, Incarnation, Place) {
    let mut ledger = Ledger::default();
    let topic = ledger.create_topic(&TopicSpec::new("t", 2).unwrap()).unwrap().unwrap();
    ledger.apply(&topic).unwrap();
    let (producer, opened) = ledger.open_producer(&ProducerName("p".into()));
    ledger.apply(&opened).unwrap();
    (ledger, producer, Place { topic: TopicId(0), partition: Partition(0) })
}

fn commit(
    ledger: &mut Ledger,
    producer: Incarnation,
    batches: Vec<(Place, RecordBatch)>,
) -> Result<Vec<Written>> {
    let decision = ledger.commit(Commit { producer, batches, positions: None }, Timestamp(0))?;
    decision.entries.iter().for_each(|entry| ledger.apply(entry).unwrap());
    Ok(decision.written)
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 3), 1);
    let mut sequences = Sequences::default();
    sequences.record(stamp(0, i32::MAX - 1), 4, Offset(0));
    assert_eq!(sequences.seen()[0].last, 1);
    assert_eq!(sequences.check(stamp(0, 2), 1).unwrap(), Verdict::New);
    assert_eq!(sequences.check(stamp(0, i32::MAX - 1), 4).unwrap(), Verdict::Duplicate(Offset(0)));
    assert_eq!(sequences.check(stamp(0, 3), 1).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_repeated_commit_gets_the_same_offsets_and_writes_nothing() {
    let (mut ledger, producer, place) = ledger();
    let both = vec![(place, batch(producer, 0, 2)), (place, batch(producer, 2, 3))];
    let first = commit(&mut ledger, producer, both.clone()).unwrap();
    assert_eq!((first[0].base, first[0].next), (Offset(0), Offset(5)));
    assert_eq!(commit(&mut ledger, producer, both.clone()).unwrap(), first);
    assert_eq!(ledger.end(place), Some(Offset(5)));
    commit(&mut ledger, producer, vec![(place, batch(producer, 5, 1))]).unwrap();
    assert_eq!(commit(&mut ledger, producer, both).unwrap(), first);
    assert_eq!(ledger.end(place), Some(Offset(6)));
}

#[test]
fn a_repeated_commit_does_not_move_positions_back() {
    let (mut ledger, producer, place) = ledger();
    let group = GroupId("g".into());
    let mut send = |sequence, offset| {
        let committed = vec![(place, Committed { offset: Offset(offset), metadata: Bytes::new() })];
        let positions = Some(GroupPositions { group: group.clone(), committed });
        let batches = vec![(place, batch(producer, sequence, 1))];
        let decision = ledger.commit(Commit { producer, batches, positions }, Timestamp(0)).unwrap();
        decision.entries.iter().for_each(|entry| ledger.apply(entry).unwrap());
        ledger.committed(&group, place).unwrap().offset
    };
    assert_eq!(send(0, 10), Offset(10));
    assert_eq!(send(1, 20), Offset(20));
    assert_eq!(send(0, 10), Offset(20));
}

#[test]
fn gaps_strangers_and_mixed_repeats_are_refused() {
    let (mut ledger, producer, place) = ledger();
    commit(&mut ledger, producer, vec![(place, batch(producer, 0, 2))]).unwrap();
    let other = Incarnation { id: 99, epoch: 0 };
    for (batches, producer, kind) in [
        (vec![(place, batch(producer, 3, 1))], producer, ErrorKind::Invalid),
        (vec![(place, batch(producer, 2, 1)), (place, batch(producer, 4, 1))], producer, ErrorKind::Invalid),
        (vec![(place, batch(producer, 0, 2)), (place, batch(producer, 2, 1))], producer, ErrorKind::Invalid),
        (vec![(place, batch(other, 2, 1))], producer, ErrorKind::Invalid),
        (vec![(place, batch(other, 2, 1))], other, ErrorKind::Fenced),
    ] {
        let error = commit(&mut ledger, producer, batches).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    assert_eq!(ledger.end(place), Some(Offset(2)));
}

#[test]
fn a_commit_of_which_a_part_was_written_before_is_refused_with_its_positions() {
    let (mut ledger, producer, place) = ledger();
    let other = Place { partition: Partition(1), ..place };
    commit(&mut ledger, producer, vec![(other, batch(producer, 0, 1))]).unwrap();
    for (repeated, new) in [(other, place), (place, other)] {
        commit(&mut ledger, producer, vec![(repeated, batch(producer, 0, 1))]).unwrap();
        let next = if ledger.end(new) == Some(Offset(0)) { 0 } else { 1 };
        let batches = vec![(repeated, batch(producer, 0, 1)), (new, batch(producer, next, 1))];
        let error = commit(&mut ledger, producer, batches).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert_eq!(ledger.end(new), Some(Offset(u64::try_from(next).unwrap())));
    }
}

#[test]
fn a_name_that_runs_out_of_epochs_gets_a_new_id() {
    let (mut ledger, first, _) = ledger();
    let name = ProducerName("p".into());
    ledger
        .apply(&Entry::ProducerOpened {
            name: name.clone(),
            producer: Incarnation { epoch: i16::MAX, ..first },
        })
        .unwrap();
    let (next, opened) = ledger.open_producer(&name);
    assert_eq!((next.id, next.epoch), (first.id + 1, 0));
    ledger.apply(&opened).unwrap();
    let error = commit(&mut ledger, Incarnation { epoch: i16::MAX, ..first }, vec![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(commit(&mut ledger, next, vec![]).unwrap().is_empty());
}

#[test]
fn entries_that_do_not_follow_are_corrupt() {
    let (mut ledger, producer, place) = ledger();
    let missing = Place { topic: TopicId(5), ..place };
    for entry in [
        Entry::Batch { place, batch: batch(producer, 0, 1).at_offset(Offset(3)) },
        Entry::Batch { place: missing, batch: batch(producer, 0, 1) },
        Entry::TopicCreated { id: TopicId(0), spec: TopicSpec::new("u", 1).unwrap() },
        Entry::TopicCreated { id: TopicId(1), spec: TopicSpec::new("t", 1).unwrap() },
    ] {
        assert_eq!(ledger.apply(&entry).unwrap_err().kind(), ErrorKind::Corrupt, "{entry:?}");
    }
    assert!(Sequences::restore(None, vec![SeenBatch { first: 0, last: 0, base: Offset(0) }]).is_err());
}

fn alter(ledger: &mut Ledger, changes: &TopicChanges) -> Result<usize> {
    let entries = ledger.alter_topic(&TopicName::new("t").unwrap(), changes)?;
    entries.iter().for_each(|entry| ledger.apply(entry).unwrap());
    Ok(entries.len())
}

#[test]
fn topics_change_all_at_once_or_not_at_all() {
    let (mut ledger, _, place) = ledger();
    let setting = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    let both = TopicChanges {
        partitions: std::num::NonZeroU32::new(3),
        settings: vec![setting("cleanup.policy", Some("compact")), setting("segment.ms", Some("5"))],
    };
    assert_eq!(alter(&mut ledger, &both).unwrap(), 2);
    assert_eq!(alter(&mut ledger, &both).unwrap(), 0, "it is so already");
    for wrong in [
        TopicChanges { partitions: std::num::NonZeroU32::new(2), settings: vec![] },
        TopicChanges { partitions: std::num::NonZeroU32::new(u32::MAX), settings: vec![] },
        TopicChanges {
            settings: vec![setting("segment.ms", None), setting("segment.ms", Some("-5"))],
            ..both
        },
        TopicChanges { partitions: None, settings: vec![setting("no.such", None)] },
    ] {
        assert_eq!(alter(&mut ledger, &wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    let spec = ledger.topic(place.topic).unwrap();
    assert_eq!((spec.partitions.get(), spec.config.segment_ms), (3, 5));
    assert_eq!(spec.config.cleanup_policy, CleanupPolicy::Compact);
    assert_eq!(ledger.end(Place { partition: Partition(2), ..place }), Some(Offset(0)));
    let reset = TopicChanges { partitions: None, settings: vec![setting("segment.ms", None)] };
    assert_eq!(alter(&mut ledger, &reset).unwrap(), 1);
    assert_eq!(ledger.topic(place.topic).unwrap().config.segment_ms, TopicConfig::default().segment_ms);
}

#[test]
fn a_deleted_topic_leaves_nothing_and_its_number_is_not_used_again() {
    let (mut ledger, producer, place) = ledger();
    let committed = vec![(place, Committed { offset: Offset(0), metadata: Bytes::new() })];
    let positions = Some(GroupPositions { group: GroupId("g".into()), committed });
    let batches = vec![(place, batch(producer, 0, 2))];
    let decision = ledger.commit(Commit { producer, batches, positions }, Timestamp(0)).unwrap();
    decision.entries.iter().for_each(|entry| ledger.apply(entry).unwrap());
    let name = TopicName::new("t").unwrap();
    let deleted = ledger.delete_topic(&name).unwrap();
    ledger.apply(&deleted).unwrap();
    assert_eq!(ledger.apply(&deleted).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(ledger.delete_topic(&name).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!((ledger.groups().count(), ledger.sequences().count()), (0, 0));
    let error = commit(&mut ledger, producer, vec![(place, batch(producer, 2, 1))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let again = ledger.create_topic(&TopicSpec::new("t", 2).unwrap()).unwrap().unwrap();
    ledger.apply(&again).unwrap();
    let new = ledger.place(&TopicPartition::new(name, Partition(0))).unwrap();
    assert_ne!(new.topic, place.topic);
    assert_eq!(ledger.offsets(new), Some(NEW_PARTITION));
    commit(&mut ledger, producer, vec![(new, batch(producer, 0, 1))]).unwrap();
}

#[test]
fn records_are_deleted_from_the_front_and_never_come_back() {
    let (mut ledger, producer, place) = ledger();
    commit(&mut ledger, producer, vec![(place, batch(producer, 0, 5))]).unwrap();
    let tp = ledger.partition(place).unwrap();
    for (before, expected) in [(0, 0), (3, 3), (2, 3), (5, 5), (5, 5)] {
        let entry = ledger.delete_records(&tp, Offset(before)).unwrap();
        entry.iter().for_each(|entry| ledger.apply(entry).unwrap());
        let offsets = ledger.offsets(place).unwrap();
        assert_eq!((offsets.earliest, offsets.end), (Offset(expected), Offset(5)));
    }
    assert_eq!(ledger.delete_records(&tp, Offset(6)).unwrap_err().kind(), ErrorKind::Invalid);
    let forged = Entry::RecordsDeleted { place, before: Offset(6) };
    assert_eq!(ledger.apply(&forged).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_copy_from_entries_is_the_same() {
    let (mut ledger, producer, place) = ledger();
    let committed = vec![(place, Committed { offset: Offset(3), metadata: Bytes::from_static(b"m") })];
    let positions = Some(GroupPositions { group: GroupId("g".into()), committed });
    let batches = vec![(place, batch(producer, 0, 2))];
    let decision = ledger.commit(Commit { producer, batches, positions }, Timestamp(0)).unwrap();
    decision.entries.iter().for_each(|entry| ledger.apply(entry).unwrap());
    let mut copy = Ledger::default();
    ledger.entries().iter().for_each(|entry| copy.apply(entry).unwrap());
    ledger.all_offsets().for_each(|(place, offsets)| copy.restore_offsets(place, offsets).unwrap());
    copy.restore_next_topic_id(ledger.next_topic_id()).unwrap();
    ledger.sequences().for_each(|(id, place, seen)| copy.restore_sequences(id, place, seen.clone()).unwrap());
    copy.restore_batch_bytes_largest(ledger.batch_bytes_largest());
    assert_eq!(format!("{copy:?}"), format!("{ledger:?}"));
}

/// Whoever asks for the positions of a group is told the names of their topics.
#[test]
fn positions_in_a_topic_that_was_never_created_are_corrupt() {
    let (mut ledger, _, place) = ledger();
    let at = |place| {
        let committed = Committed { offset: Offset(3), metadata: Bytes::new() };
        Entry::Positions(GroupPositions { group: GroupId("g".into()), committed: vec![(place, committed)] })
    };
    ledger.apply(&at(place)).unwrap();
    let forged = [Place { topic: TopicId(9), ..place }, Place { partition: Partition(9), ..place }];
    for place in forged {
        assert_eq!(ledger.apply(&at(place)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn held_numbers_go_back_with_what_is_forgotten() {
    let (mut ledger, producer, place) = ledger();
    let tp = ledger.partition(place).unwrap();
    let mut held = Held::new(producer, 300);
    let config = TopicConfig { max_message_bytes: 200, ..TopicConfig::default() };
    let append = |held: &mut Held, bytes: usize| {
        let mut builder = BatchBuilder::default();
        builder.push(Timestamp(0), None, Some(&vec![0; bytes]), &Headers::new());
        held.append((place, &tp), &config, &mut builder)
    };
    append(&mut held, 1).unwrap();
    held.forget();
    append(&mut held, 1).unwrap();
    commit(&mut ledger, producer, held.take()).unwrap();
    held.settle_written();
    assert_eq!(append(&mut held, 500).unwrap_err().kind(), ErrorKind::Invalid);
    (0..3).for_each(|_| append(&mut held, 1).unwrap());
    assert_eq!(append(&mut held, 100).unwrap_err().kind(), ErrorKind::Invalid, "the commit is full");
    held.take();
    held.settle_refused();
    append(&mut held, 1).unwrap();
    commit(&mut ledger, producer, held.take()).unwrap();
    assert_eq!(ledger.end(place), Some(Offset(2)));
}

/// A log without room writes nothing: the same numbers are sent again, and those of later batches follow.
#[test]
fn held_batches_that_come_back_are_sent_again() {
    let (mut ledger, producer, place) = ledger();
    let tp = ledger.partition(place).unwrap();
    let mut held = Held::new(producer, usize::MAX);
    let config = TopicConfig::default();
    let append = |held: &mut Held| {
        let mut builder = BatchBuilder::default();
        builder.push(Timestamp(0), None, Some(b"v"), &Headers::new());
        held.append((place, &tp), &config, &mut builder).unwrap();
    };
    (0..2).for_each(|_| append(&mut held));
    let bytes = held.bytes();
    for _ in 0..3 {
        let taken = held.take();
        append(&mut held);
        held.settle_put_back(taken);
    }
    assert_eq!(held.bytes(), bytes / 2 * 5);
    commit(&mut ledger, producer, held.take()).unwrap();
    held.settle_written();
    assert_eq!(ledger.end(place), Some(Offset(5)));
    append(&mut held);
    let taken = held.take();
    held.settle_put_back(taken);
    held.forget();
    append(&mut held);
    commit(&mut ledger, producer, held.take()).unwrap();
    assert_eq!(ledger.end(place), Some(Offset(6)));
}

/// The rules written down a second time, over the whole history.
fn model(history: &[(i16, SeenBatch)], stamp: ProducerStamp, count: u32) -> Result<Verdict, ErrorKind> {
    let Some((epoch, newest)) = history.last() else { return Ok(Verdict::New) };
    if stamp.epoch < *epoch {
        return Err(ErrorKind::Fenced);
    }
    if stamp.epoch > *epoch {
        return if stamp.sequence == 0 { Ok(Verdict::New) } else { Err(ErrorKind::Invalid) };
    }
    let last = (i64::from(stamp.sequence) + i64::from(count) - 1) % (1 << 31);
    let recent = history.iter().rev().take_while(|(e, _)| e == epoch).take(5);
    for (_, seen) in recent {
        if (seen.first, i64::from(seen.last)) == (stamp.sequence, last) {
            return Ok(Verdict::Duplicate(seen.base));
        }
    }
    let follows = newest.last.checked_add(1).unwrap_or(0) == stamp.sequence;
    if follows { Ok(Verdict::New) } else { Err(ErrorKind::Invalid) }
}

/// One attempt: which epoch, how far from the expected sequence number or how many batches back, how many records.
#[derive(Debug, Clone)]
enum Attempt {
    Next(u32),
    Again(usize),
    Skewed(i16, i32, u32),
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let attempt = prop_oneof![
        4 => (1u32..5).prop_map(Attempt::Next),
        3 => (0usize..8).prop_map(Attempt::Again),
        2 => (-1i16..2, -3i32..4, 1u32..5).prop_map(|(epoch, by, count)| Attempt::Skewed(epoch, by, count)),
        1 => Just(Attempt::Skewed(1, i32::MIN, 2)),
    ];
    prop::collection::vec(attempt, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn sequences_agree_with_the_model(start in prop_oneof![Just(0), (i32::MAX - 20)..=i32::MAX], attempts in attempts()) {
        let mut sequences = Sequences::default();
        let mut history: Vec<(i16, SeenBatch)> = Vec::new();
        let mut end = 0;
        for attempt in attempts {
            let (epoch, next) = history.last().map_or((3, start), |(epoch, seen)| (*epoch, advance(seen.last, 1)));
            let (stamp, count) = match attempt {
                Attempt::Next(count) => (stamp(epoch, next), count),
                Attempt::Again(back) => match history.iter().rev().nth(back) {
                    Some((epoch, seen)) => {
                        let count = (i64::from(seen.last) - i64::from(seen.first)).rem_euclid(1 << 31) + 1;
                        (stamp(*epoch, seen.first), u32::try_from(count).unwrap())
                    }
                    None => continue,
                },
                Attempt::Skewed(by, i32::MIN, count) => (stamp(epoch + by, 0), count),
                Attempt::Skewed(by, skew, count) => (stamp(epoch + by, next.saturating_add(skew).max(0)), count),
            };
            let got = sequences.check(stamp, count).map_err(|error| error.kind());
            prop_assert_eq!(got, model(&history, stamp, count), "{:?} {:?}", stamp, count);
            if got == Ok(Verdict::New) {
                sequences.record(stamp, count, Offset(end));
                history.push((stamp.epoch, SeenBatch { first: stamp.sequence, last: advance(stamp.sequence, count - 1), base: Offset(end) }));
                end += u64::from(count);
            }
            prop_assert!(sequences.seen().len() <= REMEMBERED_BATCHES);
        }
    }
}
