//! Session windows.

use std::{fmt::Display, time::Duration};

use headwater_core::Data;
use headwater_streams::{Emit, Session, SessionTable, SessionWindows, Windowed, WindowedStream};

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, concat, shown},
};

type Sessions = WindowedStream<Text, Text, SessionWindows>;

pub(crate) const TOPOLOGIES: Topologies = &[
    ("count", |w| counted(w, five())),
    ("derived", |w| counted(w, five())),
    ("gap-edge", |w| counted(w, five().grace(ms(100)))),
    ("boundary-own-key", |w| counted(w, five())),
    ("boundary-other-key", |w| counted(w, five())),
    ("bridge", |w| counted(w, five().grace(ms(100)))),
    ("bridge-many", |w| counted(w, five().grace(ms(100)))),
    ("same-timestamp", |w| counted(w, five())),
    ("inside", |w| counted(w, five().grace(ms(100)))),
    ("backwards", |w| counted(w, five().grace(ms(100)))),
    ("late", |w| counted(w, five())),
    ("late-joins-live", |w| counted(w, five())),
    ("grace", |w| counted(w, five().grace(ms(10)))),
    ("keys", |w| counted(w, five())),
    ("nulls", |w| counted(w, five())),
    ("null-keys-move-no-time", |w| counted(w, five())),
    ("aggregate", |w| joined(windowed(w, five().grace(ms(100))))),
    ("aggregate-with-init", |w| bracketed(windowed(w, five().grace(ms(100))))),
    ("aggregate-nulls", |w| joined(windowed(w, five()))),
    ("reduce", |w| appended(windowed(w, five().grace(ms(100))))),
    ("repartitioned", |w| {
        let group = w.stream("in").group_by("by-value", |_, value| value.clone());
        texts(&group.windowed_by(five()).count("counts")).to("out");
    }),
    ("keys-as-bytes", |w| windowed(w, five()).count("counts").to_stream().to("out")),
    ("close", |w| closing(w, five())),
    ("close-edge", |w| closing(w, five())),
    ("close-order", |w| closing(w, five())),
    ("close-grace", |w| closing(w, five().grace(ms(10)))),
    ("close-reduce", |w| appended(windowed(w, five().grace(ms(10))).emit(Emit::OnClose))),
];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn five() -> SessionWindows {
    SessionWindows::gap(ms(5))
}

fn windowed(wiring: &Wiring, windows: SessionWindows) -> Sessions {
    wiring.stream("in").group_by_key().windowed_by(windows)
}

fn counted(wiring: &Wiring, windows: SessionWindows) {
    texts(&windowed(wiring, windows).count("counts")).to("out");
}

fn closing(wiring: &Wiring, windows: SessionWindows) {
    texts(&windowed(wiring, windows).emit(Emit::OnClose).count("counts")).to("out");
}

/// One after the other.
fn appended(sessions: Sessions) {
    let values = sessions.reduce("texts", |all, one| concat(all, &one)).to_stream();
    values.map(|key, value| (session_key(&key), value.flatten())).to("out");
}

/// One after the other, with aggregates that are joined in the same way.
fn joined(sessions: Sessions) {
    let add = |_: &Text, value: Text, all: &mut String| all.push_str(shown(&value));
    let merge = |_: &Text, other: String, all: &mut String| all.push_str(&other);
    texts(&sessions.aggregate("texts", String::new, add, merge)).to("out");
}

/// Shows what was merged with what, and in which order.
fn bracketed(sessions: Sessions) {
    let add = |_: &Text, value: Text, all: &mut String| all.push_str(shown(&value));
    let merge = |_: &Text, other: String, all: &mut String| *all = format!("({all}|{other})");
    texts(&sessions.aggregate("texts", || "<".to_owned(), add, merge)).to("out");
}

/// Results with keys as text: `key@start-end`.
fn texts<V: Data + Display>(table: &SessionTable<Text, V>) -> Texts {
    let text = |key, value: Option<V>| (session_key(&key), value.map(|value| value.to_string()));
    table.to_stream().map(text)
}

fn session_key(key: &Windowed<Text, Session>) -> Text {
    Some(format!("{}@{}-{}", shown(&key.key), key.window.start, key.window.end))
}
