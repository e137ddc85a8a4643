//! Ranges of time: what a replay of a part of the input writes is equal to what the whole wrote, or said not to be comparable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    DefaultSerde, Timestamp,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Emit, JoinWindows, KStream, Output, SessionWindows, Settings, StreamsBuilder, TimeWindows, Topology,
    Windowed,
    replay::diff::{self, Class, Diff, Limits, Scope, TopicDiff},
    testing::TopologyTestDriver,
};
use proptest::prelude::*;

use super::cases;

/// How far records may be out of order; nothing is late.
const GRACE: i64 = 5;
const WINDOW: i64 = 10;
/// No result depends on anything further back, but for those that depend on everything.
const LONGEST: i64 = 60;

/// Topic, key, value, time.
type Input = (&'static str, &'static str, u64, i64);

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// Everything that reaches around: of values up to `value_max`.
fn topology(value_max: u64) -> Topology {
    let builder = StreamsBuilder::new();
    let left = builder.stream::<String, u64>("left").filter(move |_, value| *value <= value_max);
    let right = builder.stream::<String, u64>("right");
    let rows = builder.table::<String, u64>("rows", "rows");
    left.to("kept");
    rows.filter(|_, value| *value > 0).to_stream().to("kept-rows");
    left.join_table(&rows, |_, value, row| value + 10 * row).to("looked-up");
    left.group_by_key().count("counts").to_stream().to("counted");
    windows(&left);
    sessions(&left);
    joins(&left, &right);
    builder.build().unwrap()
}

fn windows(left: &KStream<String, u64>) {
    let tumbling = TimeWindows::tumbling(ms(WINDOW)).grace(ms(GRACE));
    let hopping = TimeWindows::hopping(ms(WINDOW), ms(WINDOW / 2)).grace(ms(GRACE));
    let grouped = left.group_by_key();
    let updates = grouped.windowed_by(tumbling).reduce("windows", |a, b| a + b).to_stream();
    updates.to("window-updates");
    updates.map(|windowed, sum| (windowed.key, sum)).to("window-updates-by-key");
    grouped.windowed_by(hopping).count("hopping").to_stream().to("hopping-updates");
    let committed = grouped.windowed_by(tumbling).emit(Emit::OnCommit).count("committed");
    committed.to_stream().to("window-commits");
    let closed = grouped.windowed_by(hopping).emit(Emit::OnClose).reduce("closed", |a, b| a + b).to_stream();
    closed.to("windows-closed");
    closed.map(|windowed: Windowed<String>, sum| (windowed.key, sum)).to("windows-closed-by-key");
    let again = closed.map(|_, sum| (sum % 2, sum)).repartition("parity").group_by_key();
    again
        .windowed_by(tumbling)
        .emit(Emit::OnClose)
        .reduce("again", |a, b| a + b)
        .to_stream()
        .to("closed-again");
}

fn sessions(left: &KStream<String, u64>) {
    let windows = SessionWindows::gap(ms(3)).grace(ms(GRACE));
    let grouped = left.group_by_key();
    grouped.windowed_by(windows).count("sessions").to_stream().to("session-updates");
    let closed = grouped.windowed_by(windows).emit(Emit::OnClose).count("ended").to_stream();
    closed.to("sessions-closed");
    closed.map(|session, count| (session.key, count)).to("sessions-closed-by-key");
}

fn joins(left: &KStream<String, u64>, right: &KStream<String, u64>) {
    let within = JoinWindows::within(ms(6)).before(ms(2)).grace(ms(GRACE));
    left.join(right, "inner", within, |_, a, b| 100 * a + b).to("joined");
    left.left_join(right, "left", within, |_, a, b| 100 * a + b.copied().unwrap_or(99)).to("left-joined");
    let sum = |_: &String, a: Option<&u64>, b: Option<&u64>| 100 * a.unwrap_or(&99) + b.unwrap_or(&99);
    left.outer_join(right, "outer", within, sum).to("outer-joined");
}

/// What does not depend on the order in which records come that are out of order.
const WHATEVER_ORDER: &[&str] = &[
    "kept",
    "window-updates",
    "hopping-updates",
    "window-commits",
    "windows-closed",
    "session-updates",
    "sessions-closed",
];

/// Runs these parts of the input, one after the other.
fn run(value_max: u64, parts: &[Vec<Input>]) -> MemoryLog {
    let log = MemoryLog::default();
    let ports = (Arc::new(log.clone()) as _, Arc::new(MemoryBackend::default()) as _);
    let mut driver = TopologyTestDriver::on(topology(value_max), Settings::new("test"), 1, ports).unwrap();
    for (topic, key, value, time) in parts.iter().flatten() {
        let mut bytes = Vec::new();
        u64::default_serde().encode(value, &mut bytes).unwrap();
        driver.append_bytes(topic, Some(key.as_bytes()), Some(&bytes), Timestamp(*time)).unwrap();
        driver.run().unwrap();
    }
    log
}

/// As a replay does it: tables first, then the warm-up, then the range.
fn replay(value_max: u64, inputs: &[Input], scope: &Scope) -> MemoryLog {
    let from = scope.from.map_or(i64::MIN, |from| from.0);
    let until = scope.until.map_or(i64::MAX, |until| until.0);
    let warm_from = from.saturating_sub(i64::try_from(scope.warm_up.as_millis()).unwrap());
    let part = |keep: &dyn Fn(&Input) -> bool| inputs.iter().copied().filter(keep).collect::<Vec<_>>();
    let mut parts = vec![
        part(&|(topic, _, _, time)| *topic == "rows" && *time < warm_from),
        part(&|(_, _, _, time)| warm_from <= *time && *time < from),
        part(&|(_, _, _, time)| from <= *time && *time < until),
    ];
    if scope.windows_closed {
        // What comes of it is of no range.
        parts.push(vec![
            ("left", "end", 0, 1_000_000),
            ("right", "end", 0, 1_000_000),
            ("left", "end", 0, 2_000_000),
        ]);
    }
    run(value_max, &parts)
}

fn compare(outputs: &[Output], scope: &Scope, live: &MemoryLog, replayed: &MemoryLog) -> Diff {
    block_on(diff::compare(outputs, scope, live, replayed, Limits::default())).unwrap()
}

/// A few records at every instant, some of them out of order, but none beyond an instant of `borders` unless that is wanted.
fn inputs(crossing: bool, borders: [i64; 2]) -> impl Strategy<Value = Vec<Input>> {
    let key = || prop::sample::select(vec!["a", "b", "ab"]);
    let left = (key(), 0..8_u64, 0..=GRACE);
    let others = prop::option::of((prop::sample::select(vec!["right", "rows"]), key(), 0..3_u64, 0..=GRACE));
    prop::collection::vec((left, others, 0..3_i64), 60..120).prop_map(move |instants| {
        let (mut now, mut inputs) = (0, Vec::new());
        for ((key, value, back), other, step) in instants {
            now += step;
            let floor = borders.into_iter().filter(|border| !crossing && *border <= now).max().unwrap_or(0);
            inputs.push(("left", key, value, (now - back).max(floor)));
            if let Some((topic, key, value, back)) = other {
                inputs.push((topic, key, value, (now - back).max(floor)));
            }
        }
        inputs
    })
}

#[derive(Debug, Clone)]
struct Case {
    inputs: Vec<Input>,
    scope: Scope,
    crossing: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let warm_up = prop::sample::select(vec![0, 3, WINDOW, LONGEST]);
    let range = (20..50_i64, 1..25_i64, warm_up, any::<[bool; 4]>());
    range.prop_flat_map(|(from, length, warm_up, [crossing, closed, has_from, has_until])| {
        let scope = Scope {
            from: has_from.then_some(Timestamp(from)),
            until: has_until.then_some(Timestamp(from + length)),
            warm_up: ms(if has_from { warm_up } else { 0 }),
            windows_closed: closed && has_until,
        };
        let warm_from = from - warm_up;
        // The borders between the phases; `until` is one as well.
        let borders = [from, from + length];
        inputs(crossing, borders).prop_map(move |inputs| {
            // Nor does anything cross the beginning of the warm-up.
            let inputs = if crossing { inputs } else { in_order_at(warm_from, inputs) };
            Case { inputs, scope, crossing }
        })
    })
}

/// Nothing from before `border` comes after what is from behind it.
fn in_order_at(border: i64, inputs: Vec<Input>) -> Vec<Input> {
    let mut reached = false;
    let moved = inputs.into_iter().map(|(topic, key, value, time)| {
        reached |= time >= border;
        (topic, key, value, if reached { time.max(border) } else { time })
    });
    moved.collect()
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn nothing_differs_that_can_be_compared(Case { inputs, scope, crossing } in case()) {
        let live = run(9, std::slice::from_ref(&inputs));
        let replayed = replay(9, &inputs, &scope);
        let outputs: Vec<_> = topology(9)
            .outputs()
            .into_iter()
            .filter(|output| !crossing || WHATEVER_ORDER.contains(&output.topic().unwrap().as_str()))
            .collect();
        let diff = compare(&outputs, &scope, &live, &replayed);
        prop_assert!(diff.is_empty(), "{scope:?} crossing={crossing}\n{diff}");
        if scope.from.is_none() && scope.until.is_none() {
            let not_comparable: u64 = diff.topics.iter().map(|topic| topic.not_comparable).sum();
            prop_assert_eq!(not_comparable, 0);
        }
    }
}

/// One `left` record of each key per instant, so that nothing is open but what is near an end.
fn steady() -> Vec<Input> {
    let mut inputs = vec![("rows", "a", 1, 0), ("rows", "b", 2, 0)];
    for time in 0..200_i64 {
        let (topic, value) = if time % 2 == 0 { ("right", 1) } else { ("rows", 2) };
        // A pause every 20 ms lets sessions end.
        if time % 20 < 15 {
            inputs.extend([("left", "a", u64::from(time % 7 == 0) + 3, time), ("left", "b", 5, time)]);
        }
        inputs.push((topic, "a", value, time));
    }
    inputs
}

fn topics(diff: &Diff) -> BTreeMap<&str, &TopicDiff> {
    diff.topics.iter().map(|topic| (topic.topic.as_str(), topic)).collect()
}

/// From the middle of a window to the middle of another.
const MIDDLE: Scope = Scope {
    from: Some(Timestamp(45)),
    until: Some(Timestamp(145)),
    warm_up: Duration::ZERO,
    windows_closed: false,
};

#[test]
fn what_changed_in_the_middle_of_a_range_is_found_everywhere() {
    let live = run(9, &[steady()]);
    let scope = Scope { warm_up: ms(LONGEST), until: Some(Timestamp(190)), ..MIDDLE };
    let lost: Vec<_> = steady().into_iter().filter(|input| *input != ("left", "a", 4, 105)).collect();
    assert_eq!(lost.len() + 1, steady().len());
    let mut twice = steady();
    let at = twice.iter().position(|input| *input == ("left", "a", 4, 105)).unwrap();
    twice.insert(at, twice[at]);
    let threshold = replay(3, &steady(), &scope);
    for replayed in [replay(9, &lost, &scope), replay(9, &twice, &scope), threshold] {
        let diff = compare(&topology(9).outputs(), &scope, &live, &replayed);
        // They depend on everything before the range, or on none of this.
        let blind = ["counted", "sessions-closed-by-key", "kept-rows"];
        let equal = diff.topics.iter().filter(|topic| topic.is_empty()).map(|topic| topic.topic.as_str());
        assert_eq!(equal.filter(|topic| !blind.contains(topic)).collect::<Vec<_>>(), [""; 0], "{diff}");
    }
}

#[test]
fn without_a_warm_up_windows_that_began_before_the_range_are_named() {
    let live = run(9, &[steady()]);
    let replayed = replay(9, &steady(), &MIDDLE);
    let diff = compare(&topology(9).outputs(), &MIDDLE, &live, &replayed);
    assert!(diff.is_empty(), "{diff}");
    let windows = topics(&diff)["window-updates"];
    let named: Vec<_> = windows.examples.iter().map(|it| (it.class, it.key.as_str(), it.reason)).collect();
    let reason = Some("reaches back before the range and its warm-up");
    assert_eq!(
        named[..2],
        [(Class::NotComparable, "a@[40,50)", reason), (Class::NotComparable, "b@[40,50)", reason)]
    );
    assert_eq!(windows.not_comparable, 2);
    // With the time of one window before it they are equal; so is what lies at the end, where nothing is out of order.
    let scope = Scope { warm_up: ms(WINDOW), ..MIDDLE };
    let replayed = replay(9, &steady(), &scope);
    let diff = compare(&topology(9).outputs(), &scope, &live, &replayed);
    let windows = topics(&diff)["window-updates"];
    assert_eq!((windows.not_comparable, windows.equal, windows.is_empty()), (0, 22, true), "{diff}");
    let looked_up = topics(&diff)["looked-up"];
    assert_eq!((looked_up.not_comparable, looked_up.equal), (0, 2), "{diff}");
}

#[test]
fn windows_that_are_open_at_the_end_are_named_unless_they_are_closed() {
    let live = run(9, &[steady()]);
    let scope = Scope { warm_up: ms(LONGEST), until: Some(Timestamp(150)), ..MIDDLE };
    let diff = compare(&topology(9).outputs(), &scope, &live, &replay(9, &steady(), &scope));
    assert!(diff.is_empty(), "{diff}");
    let closed = topics(&diff)["windows-closed"];
    let open = closed.examples.iter().find(|it| it.key == "a@[140,150)").unwrap();
    assert_eq!(
        (open.class, open.reason),
        (Class::NotComparable, Some("is not over at the end of the range"))
    );
    let scope = Scope { windows_closed: true, ..scope };
    let diff = compare(&topology(9).outputs(), &scope, &live, &replay(9, &steady(), &scope));
    assert!(diff.is_empty(), "{diff}");
    let closed = topics(&diff)["windows-closed"];
    let open: Vec<_> = closed.examples.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(open, ["a@[145,155)", "b@[145,155)"], "{diff}");
}

/// A live run never closes what is open at its end; a replay of everything does, when asked to.
#[test]
fn windows_that_only_the_replay_closed_are_no_difference() {
    let (all, closed) = (Scope::default(), Scope { windows_closed: true, ..Scope::default() });
    let live = run(9, &[steady()]);
    let mut replayed = steady();
    replayed.push(("left", "a", 9, 220));
    let replayed = run(9, &[replayed]);
    let outputs: Vec<_> = topology(9)
        .outputs()
        .into_iter()
        .filter(|it| it.topic().unwrap().as_str() == "windows-closed")
        .collect();
    assert!(compare(&outputs, &all, &live, &live).is_empty());
    let diff = compare(&outputs, &all, &live, &replayed);
    assert!(diff.topics[0].extra > 0, "{diff}");
    let diff = compare(&outputs, &closed, &live, &replayed);
    assert!(diff.is_empty() && diff.topics[0].not_comparable > 0, "{diff}");
}
