//! Streams that are joined with streams.

use std::time::Duration;

use headwater_streams::JoinWindows;

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, both, first_letter},
};

pub(crate) const TOPOLOGIES: Topologies = &[
    ("inner", |w| inner(w, wide())),
    ("left", |w| left(w, wide())),
    ("outer", |w| outer(w, wide())),
    ("inner-out-of-order", |w| inner(w, wide())),
    ("left-out-of-order", |w| left(w, wide())),
    ("outer-out-of-order", |w| outer(w, wide())),
    ("inner-edges", |w| inner(w, ten())),
    ("left-edges", |w| left(w, ten())),
    ("outer-edges", |w| outer(w, ten())),
    ("inner-asymmetric", |w| inner(w, before_10_after_2())),
    ("left-asymmetric", |w| left(w, before_10_after_2())),
    ("outer-asymmetric", |w| outer(w, before_10_after_2())),
    ("inner-after-only", |w| inner(w, ten().before(ms(0)))),
    ("inner-before-only", |w| inner(w, ten().after(ms(0)))),
    ("inner-same-time", |w| inner(w, JoinWindows::within(ms(0)))),
    ("outer-same-time", |w| outer(w, JoinWindows::within(ms(0)))),
    ("left-unmatched", |w| left(w, hundred_grace_10())),
    ("left-unmatched-edge", |w| left(w, hundred_grace_10())),
    ("outer-unmatched", |w| outer(w, hundred_grace_10())),
    ("outer-unmatched-order", |w| outer(w, ten())),
    ("outer-order-at-one-time", |w| outer(w, ten())),
    ("left-match-in-grace", |w| left(w, ten().grace(ms(5)))),
    ("left-out-of-order-in-grace", |w| left(w, hundred_grace_10())),
    ("left-out-of-order-unmatched", |w| left(w, hundred_grace_10())),
    ("outer-out-of-order-unmatched", |w| outer(w, hundred_grace_10())),
    ("inner-late", |w| inner(w, ten().grace(ms(5)))),
    ("left-late", |w| left(w, ten())),
    ("left-duplicates", |w| left(w, ten())),
    ("inner-duplicates", |w| inner(w, ten())),
    ("inner-keys", |w| inner(w, ten())),
    ("inner-nulls", |w| inner(w, ten())),
    ("left-nulls", |w| left(w, ten())),
    ("outer-nulls", |w| outer(w, ten())),
    ("itself", |w| {
        let stream = w.stream("in");
        stream.join(&stream, "join", ten(), |_, left, right| both(left, right)).to("out");
    }),
    ("repartitioned", |w| {
        let (left, right) = (by_letter(w, "left"), by_letter(w, "right"));
        left.join(&right, "join", ten(), |_, left, right| both(left, right)).to("out");
    }),
    ("left-repartitioned", |w| {
        let (left, right) = (by_letter(w, "left"), by_letter(w, "right"));
        left.left_join(&right, "join", ten(), |_, left, right| both(left, unmatched(right))).to("out");
    }),
];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn wide() -> JoinWindows {
    JoinWindows::within(ms(10_000))
}

fn ten() -> JoinWindows {
    JoinWindows::within(ms(10))
}

fn before_10_after_2() -> JoinWindows {
    ten().after(ms(2))
}

fn hundred_grace_10() -> JoinWindows {
    JoinWindows::within(ms(100)).grace(ms(10))
}

fn sides(wiring: &Wiring) -> (Texts, Texts) {
    (wiring.stream("left"), wiring.stream("right"))
}

fn inner(wiring: &Wiring, windows: JoinWindows) {
    let (left, right) = sides(wiring);
    left.join(&right, "join", windows, |_, left, right| both(left, right)).to("out");
}

fn left(wiring: &Wiring, windows: JoinWindows) {
    let (left, right) = sides(wiring);
    left.left_join(&right, "join", windows, |_, left, right| both(left, unmatched(right))).to("out");
}

fn outer(wiring: &Wiring, windows: JoinWindows) {
    let (left, right) = sides(wiring);
    let join = |_: &Text, left: Option<&Text>, right: Option<&Text>| both(unmatched(left), unmatched(right));
    left.outer_join(&right, "join", windows, join).to("out");
}

/// The value of a side, or null when nobody was met there.
fn unmatched(side: Option<&Text>) -> &Text {
    side.unwrap_or(&None)
}

fn by_letter(wiring: &Wiring, topic: &str) -> Texts {
    let letter = |_: &Text, value: &Text| value.as_deref().map(first_letter);
    wiring.stream(topic).select_key(letter).repartition(&format!("{topic}-by-letter"))
}
