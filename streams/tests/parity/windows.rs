//! Tumbling and hopping windows.

use std::{fmt::Display, time::Duration};

use headwater_core::Data;
use headwater_streams::{Emit, TimeWindows, Windowed, WindowedStream, WindowedTable};

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, concat, shown},
};

pub(crate) const TOPOLOGIES: Topologies = &[
    ("tumbling-count", |w| counted(w, ten_grace_5())),
    ("tumbling-keys", |w| counted(w, ten())),
    ("tumbling-no-grace", |w| counted(w, ten())),
    ("tumbling-grace-edge", |w| counted(w, ten_grace_5())),
    ("tumbling-late-by-another-key", |w| counted(w, ten())),
    ("tumbling-equal-timestamps", |w| counted(w, ten())),
    ("tumbling-out-of-order", |w| counted(w, ten_grace_5())),
    ("tumbling-far-apart", |w| counted(w, ten_grace_5())),
    ("tumbling-nulls", |w| counted(w, ten())),
    ("tumbling-null-keys-move-no-time", |w| counted(w, ten())),
    ("tumbling-aggregate-nulls", |w| bracketed(windowed(w, ten()))),
    ("tumbling-reduce", |w| appended(windowed(w, ten_grace_5()))),
    ("tumbling-aggregate", |w| bracketed(windowed(w, ten_grace_5()))),
    ("tumbling-repartitioned", |w| {
        let group = w.stream("in").group_by("by-value", |_, value| value.clone());
        texts(&group.windowed_by(ten_grace_5()).count("counts")).to("out");
    }),
    ("tumbling-keys-as-bytes", |w| windowed(w, ten()).count("counts").to_stream().to("out")),
    ("hopping-count", |w| counted(w, hopping())),
    ("hopping-from-zero", |w| counted(w, hopping_by_3())),
    ("hopping-partly-late", |w| counted(w, hopping())),
    ("hopping-grace-edge", |w| counted(w, hopping().grace(ms(5)))),
    ("hopping-uneven", |w| counted(w, hopping_by_3())),
    ("hopping-aggregate", |w| bracketed(windowed(w, hopping().grace(ms(5))))),
    ("close-tumbling", |w| closing(w, ten())),
    ("close-order", |w| closing(w, ten_grace_5())),
    ("close-grace-edge", |w| closing(w, ten_grace_5())),
    ("close-many-at-once", |w| closing(w, ten())),
    ("close-late-record-adds-nothing", |w| closing(w, ten())),
    ("close-nothing-was-open", |w| closing(w, ten())),
    ("close-repeated-time", |w| closing(w, ten())),
    ("close-hopping", |w| {
        let group = windowed(w, hopping().grace(ms(5))).emit(Emit::OnClose);
        let add = |_: &Text, value: Text, all: &mut String| *all += &format!("+{}", shown(&value));
        texts(&group.aggregate("texts", || "0".to_owned(), add)).to("out");
    }),
    ("close-hopping-late", |w| closing(w, hopping())),
    ("close-reduce", |w| appended(windowed(w, ten_grace_5()).emit(Emit::OnClose))),
    ("close-nulls", |w| closing(w, ten())),
    ("close-when-time-jumps", |w| closing(w, ten_grace_5())),
    ("close-repartitioned", |w| {
        let group = w.stream("in").group_by("by-value", |_, value| value.clone());
        texts(&group.windowed_by(ten()).emit(Emit::OnClose).count("counts")).to("out");
    }),
    ("windows-summed-by-key", |w| {
        let counts = windowed(w, ten()).count("counts").to_stream();
        let updates = counts.map(|key, count| (key.key, count)).repartition("by-key").group_by_key();
        updates.count("updates").map_values(|_, count| count.to_string()).to_stream().to("out");
    }),
    ("windowed-two-stages", |w| {
        let counts = windowed(w, ten()).emit(Emit::OnClose).count("counts").to_stream();
        let again =
            counts.map(|key, count| (key.key, count.to_string())).repartition("by-key").group_by_key();
        let twenty = again.windowed_by(TimeWindows::tumbling(ms(20)));
        texts(&twenty.reduce("texts", |left, right| format!("{left}+{right}"))).to("out");
    }),
];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ten() -> TimeWindows {
    TimeWindows::tumbling(ms(10))
}

fn ten_grace_5() -> TimeWindows {
    ten().grace(ms(5))
}

fn hopping() -> TimeWindows {
    TimeWindows::hopping(ms(10), ms(5))
}

fn hopping_by_3() -> TimeWindows {
    TimeWindows::hopping(ms(10), ms(3)).grace(ms(2))
}

fn windowed(wiring: &Wiring, windows: TimeWindows) -> WindowedStream<Text, Text> {
    wiring.stream("in").group_by_key().windowed_by(windows)
}

fn counted(wiring: &Wiring, windows: TimeWindows) {
    texts(&windowed(wiring, windows).count("counts")).to("out");
}

fn closing(wiring: &Wiring, windows: TimeWindows) {
    texts(&windowed(wiring, windows).emit(Emit::OnClose).count("counts")).to("out");
}

/// One after the other.
fn appended(group: WindowedStream<Text, Text>) {
    let values = group.reduce("texts", |all, one| concat(all, &one)).to_stream();
    values.map(|key, value| (windowed_key(&key), value)).to("out");
}

/// One after the other, behind a bracket.
fn bracketed(group: WindowedStream<Text, Text>) {
    let add = |_: &Text, value: Text, all: &mut String| all.push_str(shown(&value));
    texts(&group.aggregate("texts", || "<".to_owned(), add)).to("out");
}

/// Results with keys as text: `key@start-end`.
fn texts<V: Data + Display>(table: &WindowedTable<Text, V>) -> Texts {
    let text = |key: Windowed<Text>, value: V| (windowed_key(&key), Some(value.to_string()));
    table.to_stream().map(text)
}

fn windowed_key(key: &Windowed<Text>) -> Text {
    Some(format!("{}@{}-{}", shown(&key.key), key.window.start, key.window.end))
}
