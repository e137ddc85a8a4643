//! Windows that are open at the end are closed when that is asked for, and only then.

use std::{collections::BTreeMap, time::Duration};

use headwater_core::Timestamp;
use headwater_streams::{
    Emit, StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Position},
};

use crate::world::{Sent, contents, live, replay, send};

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .emit(Emit::OnClose)
        .count("counts")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n))
        .to("out");
    builder.build().unwrap()
}

#[test]
fn windows_are_closed_at_the_end_and_not_at_the_end_of_the_warm_up() {
    let log = live(&[("in", 2)]);
    let sent: Vec<Sent> = (0..60).map(|n| (format!("k{}", n % 3), 1, n)).collect();
    send(&log, "in", &sent, 7);
    let windows = |close_windows| {
        let options = Options {
            from: Position::Time(Timestamp(25)),
            until: Position::Time(Timestamp(55)),
            warm_up: Duration::from_millis(10),
            close_windows,
            ..Options::default()
        };
        let (_, own) = replay(&topology(), &options, &log);
        let mut windows: Vec<(String, u64)> = contents(&own, "out")
            .into_iter()
            .flatten()
            .map(|(key, n, _)| {
                let n = u64::from_be_bytes(n.unwrap().try_into().unwrap());
                (String::from_utf8(key.unwrap()).unwrap(), n)
            })
            .collect();
        windows.sort();
        windows
    };
    let closed = windows(true);
    // The warm-up begins at 15, and stream time is 24 at its end: what began at 10 closed, and was dropped.
    let mut expected = BTreeMap::new();
    for (key, _, time) in sent.iter().filter(|(_, _, time)| (20..55).contains(time)) {
        *expected.entry(format!("{key}@{}", time / 10 * 10)).or_insert(0) += 1;
    }
    let expected: Vec<(String, u64)> = expected.into_iter().collect();
    assert_eq!(closed, expected);
    let open: Vec<_> = windows(false);
    assert!(open.len() < closed.len() && open.iter().all(|window| closed.contains(window)), "{open:?}");
}
