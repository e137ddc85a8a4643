//! Results of windows and sessions against a naive recomputation, on random records out of order.
//!
//! The oracle keeps no state between records: what a window holds after record `n` it computes from all records up to `n`,
//! by the definitions alone. `HEADWATER_CASES` sets how many cases each property tries; proptest prints the seed of one that
//! fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use headwater_core::Timestamp;
use headwater_streams::{
    Emit, Session, SessionWindows, Settings, StreamsBuilder, TimeWindows, Topology, Windowed,
    testing::TopologyTestDriver,
};
use proptest::prelude::*;

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// Key, value, timestamp. Keys of which one begins as the other are not to be mistaken.
type Input = (&'static str, u64, i64);
/// Key, start, end, value (`None`: deleted), timestamp.
type Output = (String, i64, i64, Option<String>, i64);

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    // Time moves on, and records lie around it.
    let one = (prop::sample::select(vec!["a", "ab", "b"]), 0..3u64, 0..8i64, 0..30i64, 0..6u8);
    prop::collection::vec(one, 1..40).prop_map(|records| {
        let mut time = 0;
        records
            .into_iter()
            .map(|(key, value, step, back, far)| {
                time += step;
                (key, value, (time - if far == 0 { back } else { back % 9 }).max(0))
            })
            .collect()
    })
}

/// Where the run is interrupted, and how much memory the stores have.
#[derive(Debug, Clone)]
struct Trouble {
    crash_every: usize,
    close_every: usize,
    memory_bytes: usize,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    (prop_oneof![Just(usize::MAX), 2..15usize], prop_oneof![Just(usize::MAX), 2..15usize], any::<bool>())
        .prop_map(|(crash_every, close_every, tight)| Trouble {
            crash_every,
            close_every,
            memory_bytes: if tight { 1 } else { 1 << 20 },
        })
}

fn run(topology: Topology, records: &[Input], trouble: &Trouble) -> TopologyTestDriver {
    let settings = Settings { memory_bytes: trouble.memory_bytes, ..Settings::new("oracle") };
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for (number, (key, value, at)) in (1..).zip(records) {
        driver.append("in", &(*key).to_owned(), value, Timestamp(*at)).unwrap();
        // Several records a commit, now and then, and records that a crash finds processed but not committed.
        match value {
            0 => driver.run().unwrap(),
            1 => driver.turn().unwrap(),
            _ => {}
        }
        if number % trouble.crash_every == 0 {
            driver.crash().unwrap();
        }
        if number % trouble.close_every == 0 {
            driver.close_and_reopen().unwrap();
        }
    }
    driver.run().unwrap();
    driver
}

/// All values in the order of their arrival; so a result tells which records are in it.
fn join(_: &String, value: u64, all: &mut String) {
    *all += &value.to_string();
}

fn key_and_span(key: &str, start: Timestamp, end: Timestamp) -> String {
    format!("{key} {start} {end}")
}

fn outputs(driver: &mut TopologyTestDriver) -> Vec<Output> {
    let records = driver.read::<String, Option<String>>("out").unwrap();
    let parse = |record: headwater_core::Record<String, Option<String>>| {
        let mut parts = record.key.split(' ');
        let key = parts.next().unwrap().to_owned();
        let mut number = || parts.next().unwrap().parse().unwrap();
        (key, number(), number(), record.value, record.timestamp.0)
    };
    records.into_iter().map(parse).collect()
}

fn late(driver: &mut TopologyTestDriver) -> Vec<(String, u64, i64)> {
    let records = driver.read::<String, u64>("late").unwrap();
    records.into_iter().map(|r| (r.key, r.value, r.timestamp.0)).collect()
}

fn windows_of(windows: TimeWindows, emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .on_late(|late| late.to("late"))
        .aggregate("store", String::new, join)
        .to_stream()
        .map(|at: Windowed<String>, v| (key_and_span(&at.key, at.window.start, at.window.end), Some(v)))
        .to("out");
    builder.build().unwrap()
}

fn sessions_of(windows: SessionWindows, emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .on_late(|late| late.to("late"))
        .aggregate("store", String::new, join, |_, other, all| *all += &other)
        .to_stream()
        .map(|at: Windowed<String, Session>, v| (key_and_span(&at.key, at.window.start, at.window.end), v))
        .to("out");
    builder.build().unwrap()
}

/// The last value of each row; those that were deleted are not there.
fn last_values(outputs: &[Output]) -> BTreeMap<(String, i64, i64), (String, i64)> {
    let mut last = BTreeMap::new();
    for (key, start, end, value, timestamp) in outputs {
        let row = (key.clone(), *start, *end);
        match value {
            Some(value) => drop(last.insert(row, (value.clone(), *timestamp))),
            None => drop(last.remove(&row)),
        }
    }
    last
}

#[derive(Default)]
struct Expected {
    updates: Vec<Output>,
    closed: Vec<Output>,
    late: Vec<(String, u64, i64)>,
}

/// Highest timestamp of the first `count` records.
fn time_after(records: &[Input], count: usize) -> i64 {
    records[..count].iter().map(|(_, _, at)| *at).max().unwrap_or(i64::MIN / 2)
}

fn time_windows(records: &[Input], (size, advance, grace): (i64, i64, i64)) -> Expected {
    // Kafka accepts while `end > stream time - grace`, with the time of the record itself.
    let accepts = |start: i64, n: usize| start + size > time_after(records, n + 1) - grace;
    let mut expected = Expected::default();
    // Records of a window up to the one at `n`.
    let members = |key: &str, start: i64, n: usize| {
        let in_it = move |at: i64| start <= at && at < start + size;
        (0..=n)
            .filter(move |i| records[*i].0 == key && in_it(records[*i].2) && accepts(start, *i))
            .collect::<Vec<_>>()
    };
    let row = |key: &str, start: i64, n: usize| -> Option<Output> {
        let members = members(key, start, n);
        let highest = members.iter().map(|i| records[*i].2).max()?;
        let value: String = members.iter().map(|i| records[*i].1.to_string()).collect();
        Some((key.to_owned(), start, start + size, Some(value), highest))
    };
    let mut open: Vec<(i64, &str)> = Vec::new();
    for (n, (key, value, at)) in records.iter().enumerate() {
        let all: Vec<i64> = (0..=*at).filter(|start| start % advance == 0 && at - start < size).collect();
        let taken: Vec<i64> = all.iter().copied().filter(|start| accepts(*start, n)).collect();
        if taken.is_empty() {
            expected.late.push(((*key).to_owned(), *value, *at));
        }
        for start in taken {
            expected.updates.extend(row(key, start, n));
            if !open.contains(&(start, *key)) {
                open.push((start, *key));
            }
        }
        open.sort_unstable();
        let (over, rest) = open.iter().partition(|(start, _)| !accepts(*start, n));
        open = rest;
        let over: Vec<(i64, &str)> = over;
        expected.closed.extend(over.iter().filter_map(|(start, key)| row(key, *start, n)));
    }
    expected
}

/// Sessions from their definition: the records of a key that were taken fall into groups of which neighbours lie no more than
/// the gap apart. One that is closed is no more.
fn sessions(records: &[Input], (gap, grace): (i64, i64)) -> Expected {
    let mut expected = Expected::default();
    let mut taken: Vec<usize> = Vec::new();
    let groups = |taken: &[usize], key: &str| -> Vec<Vec<usize>> {
        let mut own: Vec<usize> = taken.iter().copied().filter(|i| records[*i].0 == key).collect();
        own.sort_by_key(|i| records[*i].2);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for i in own {
            match groups.last_mut() {
                Some(group) if records[i].2 - records[*group.last().unwrap()].2 <= gap => group.push(i),
                _ => groups.push(vec![i]),
            }
        }
        groups
    };
    let span = |group: &[usize]| (records[group[0]].2, records[*group.last().unwrap()].2);
    // What is in each session's value, in the order it was put together: it is merged, so this alone has a memory.
    let mut values: BTreeMap<(String, i64, i64), String> = BTreeMap::new();
    for (n, (key, value, at)) in records.iter().enumerate() {
        let limit = time_after(records, n + 1) - grace - gap;
        let before: Vec<(i64, i64)> = groups(&taken, key).iter().map(|group| span(group)).collect();
        let mut with = taken.clone();
        with.push(n);
        let group = groups(&with, key).into_iter().find(|group| group.contains(&n)).unwrap();
        let (start, end) = span(&group);
        if end < limit {
            expected.late.push(((*key).to_owned(), *value, *at));
        } else {
            let old: Vec<_> = before.into_iter().filter(|(s, e)| start <= *s && *e <= end).collect();
            let mut all = String::new();
            for (s, e) in &old {
                all += &values.remove(&((*key).to_owned(), *s, *e)).unwrap();
                if (start, end) != (*at, *at) {
                    expected.updates.push(((*key).to_owned(), *s, *e, None, *e));
                }
            }
            all += &value.to_string();
            expected.updates.push(((*key).to_owned(), start, end, Some(all.clone()), end));
            values.insert(((*key).to_owned(), start, end), all);
            taken = with;
        }
        let mut over: Vec<_> = values.keys().filter(|(_, _, end)| *end < limit).cloned().collect();
        over.sort_by(|a, b| (a.2, &a.0, a.1).cmp(&(b.2, &b.0, b.1)));
        for (key, start, end) in over {
            let value = values.remove(&(key.clone(), start, end)).unwrap();
            taken.retain(|i| !(records[*i].0 == key && start <= records[*i].2 && records[*i].2 <= end));
            expected.closed.push((key, start, end, Some(value), end));
        }
    }
    expected
}

/// What every way of sending must agree with.
fn check(make: impl Fn(Emit) -> Topology, records: &[Input], trouble: &Trouble, expected: &Expected) {
    let mut driver = run(make(Emit::OnUpdate), records, trouble);
    assert_eq!(outputs(&mut driver), expected.updates, "on update");
    assert_eq!(late(&mut driver), expected.late, "late");
    let mut driver = run(make(Emit::OnClose), records, trouble);
    assert_eq!(outputs(&mut driver), expected.closed, "on close");
}

/// When time ends, what is open closes as it does when a record comes from far ahead.
fn check_end(make: impl Fn(Emit) -> Topology, records: &[Input], trouble: &Trouble, expected: &Expected) {
    let mut driver = run(make(Emit::OnClose), records, trouble);
    driver.begin_to_close_windows().unwrap();
    if trouble.crash_every < usize::MAX {
        driver.turn().unwrap();
        driver.crash().unwrap();
    }
    driver.close_windows().unwrap();
    assert_eq!(outputs(&mut driver), expected.closed, "at the end of time");
    driver.crash().unwrap();
    driver.close_windows().unwrap();
    assert_eq!(outputs(&mut driver), [], "time ends once");
}

fn and_one_far_ahead(mut records: Vec<Input>) -> Vec<Input> {
    records.push(("b", 9, 1_000_000));
    records
}

/// Each result differs from the one before, because each record adds to it; so on change is as on update. On commit, the last
/// value of each row is the same.
fn check_others(make: impl Fn(Emit) -> Topology, records: &[Input], trouble: &Trouble, expected: &Expected) {
    let mut driver = run(make(Emit::OnChange), records, trouble);
    assert_eq!(outputs(&mut driver), expected.updates, "on change");
    let mut driver = run(make(Emit::OnCommit), records, trouble);
    assert_eq!(last_values(&outputs(&mut driver)), last_values(&expected.updates), "on commit");
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("HEADWATER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn tumbling_windows_are_those_of_the_oracle(
        records in inputs(), size in 1..20i64, grace in 0..15i64, trouble in trouble(),
    ) {
        let make = |emit| windows_of(TimeWindows::tumbling(ms(size)).grace(ms(grace)), emit);
        check(make, &records, &trouble, &time_windows(&records, (size, size, grace)));
    }

    #[test]
    fn hopping_windows_are_those_of_the_oracle(
        records in inputs(),
        (size, advance) in (1..20i64).prop_flat_map(|size| (Just(size), 1..=size)),
        grace in 0..15i64,
        trouble in trouble(),
    ) {
        let make = |emit| windows_of(TimeWindows::hopping(ms(size), ms(advance)).grace(ms(grace)), emit);
        check(make, &records, &trouble, &time_windows(&records, (size, advance, grace)));
    }

    #[test]
    fn sessions_are_those_of_the_oracle(
        records in inputs(), gap in 1..12i64, grace in 0..15i64, trouble in trouble(),
    ) {
        let make = |emit| sessions_of(SessionWindows::gap(ms(gap)).grace(ms(grace)), emit);
        check(make, &records, &trouble, &sessions(&records, (gap, grace)));
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn on_change_and_on_commit_agree_with_the_oracle(
        records in inputs(), (size, grace) in (2..15i64, 0..15i64), trouble in trouble(),
    ) {
        let hopping = |emit| windows_of(TimeWindows::hopping(ms(size), ms(size / 2)).grace(ms(grace)), emit);
        check_others(hopping, &records, &trouble, &time_windows(&records, (size, size / 2, grace)));
        let by_gap = |emit| sessions_of(SessionWindows::gap(ms(size)).grace(ms(grace)), emit);
        check_others(by_gap, &records, &trouble, &sessions(&records, (size, grace)));
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn at_the_end_of_time_windows_close_as_by_a_record_from_far_ahead(
        records in inputs(),
        (size, advance) in (1..20i64).prop_flat_map(|size| (Just(size), 1..=size)),
        grace in 0..15i64,
        trouble in trouble(),
    ) {
        let all = and_one_far_ahead(records.clone());
        let hopping = |emit| windows_of(TimeWindows::hopping(ms(size), ms(advance)).grace(ms(grace)), emit);
        check_end(hopping, &records, &trouble, &time_windows(&all, (size, advance, grace)));
        let by_gap = |emit| sessions_of(SessionWindows::gap(ms(size)).grace(ms(grace)), emit);
        check_end(by_gap, &records, &trouble, &sessions(&all, (size, grace)));
    }
}
