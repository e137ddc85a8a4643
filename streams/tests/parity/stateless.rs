//! Operators without state, repartitions, and streams that become tables.

use headwater_streams::KStream;

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, begins_with, both, letters, loud},
};

pub(crate) const TOPOLOGIES: Topologies = &[
    ("filter", |w| w.stream("in").filter(|_, value| begins_with(value, 'a')).to("out")),
    ("filter-nulls", |w| w.stream("in").filter(|key, value| key.is_none() || value.is_none()).to("out")),
    ("filter-not", |w| w.stream("in").filter_not(|_, value| begins_with(value, 'a')).to("out")),
    ("map", |w| w.stream("in").map(|key, value| (value, key)).to("out")),
    ("map-nulls", |w| w.stream("in").map(|key, value| (value, key)).to("out")),
    ("map-values", |w| w.stream("in").map_values(|key, value| both(key, &value)).to("out")),
    ("map-values-nulls", |w| w.stream("in").map_values(|_, value| changed_null(value)).to("out")),
    ("flat-map", |w| {
        let map = |key: Text, value: Text| letters(&value).into_iter().map(move |l| (l, key.clone()));
        w.stream("in").flat_map(map).to("out");
    }),
    ("flat-map-values", |w| w.stream("in").flat_map_values(|_, value| letters(&value)).to("out")),
    ("flat-map-values-nulls", |w| w.stream("in").flat_map_values(|_, value| [value, None]).to("out")),
    ("select-key", |w| w.stream("in").select_key(|_, value| value.clone()).to("out")),
    ("peek", |w| {
        let twice = w.stream("in").peek(w.seen("before")).map_values(|_, value| both(&value, &value));
        twice.peek(w.seen("after")).to("out");
    }),
    ("for-each", |w| {
        let stream = w.stream("in");
        stream.for_each(w.seen("each"));
        stream.to("out");
    }),
    ("children-in-order", |w| {
        let letters = w.stream("in").flat_map_values(|_, value| letters(&value));
        letters.for_each(w.seen("seen"));
        letters.map(|_, value| (Some("2".to_owned()), value)).for_each(w.seen("seen"));
        letters.map(|_, value| (Some("3".to_owned()), value)).for_each(w.seen("seen"));
    }),
    ("split", |w| {
        let split = w.stream("in").split();
        split.branch(|_, value| begins_with(value, 'a')).to("first");
        split.branch(|_, value| value.as_ref().is_some_and(|value| value.ends_with('z'))).to("second");
    }),
    ("split-default", |w| {
        let split = w.stream("in").split();
        split.branch(|_, value| value.is_none()).to("nulls");
        split.branch(|_, value| begins_with(value, 'a')).map_values(|_, value| loud(&value)).to("first");
        split.otherwise().to("rest");
    }),
    ("merge", |w| w.stream("one").merge(&w.stream("two")).to("out")),
    ("merge-with-itself", |w| {
        let stream = w.stream("in");
        let loud = stream.map_values(|_, value| loud(&value));
        stream.merge(&loud).merge(&stream.filter(|_, value| begins_with(value, 'a'))).to("out");
    }),
    ("two-sinks", |w| {
        let stream = w.stream("in");
        stream.to("copy");
        stream.map_values(|_, value| loud(&value)).to("loud");
        stream.to("copy");
    }),
    ("through-a-topic", |w| {
        w.stream("in").map_values(|_, value| loud(&value)).to("middle");
        w.stream("middle").select_key(|_, value| value.clone()).to("out");
    }),
    ("repartition", |w| by_value(w).to("out")),
    ("repartition-null-values", |w| w.stream("in").repartition("again").to("out")),
    ("repartition-null-keys", |w| w.stream("in").repartition("again").to("out")),
    ("repartition-diamond", |w| {
        let stream = w.stream("in");
        let moved = stream.select_key(|_, value| value.clone()).repartition("by-value");
        moved.merge(&stream).to("out");
    }),
    ("to-table", |w| rows(&w.stream("in")).to("out")),
    ("to-table-null-keys", |w| rows(&w.stream("in")).to("out")),
    ("to-table-repartitioned", |w| rows(&by_value(w)).to("out")),
];

fn by_value(wiring: &Wiring) -> Texts {
    wiring.stream("in").select_key(|_, value| value.clone()).repartition("by-value")
}

fn rows(stream: &Texts) -> KStream<Text, Text> {
    stream.to_table_nullable("rows").to_stream()
}

/// Null becomes text, and `c` becomes null.
fn changed_null(value: Text) -> Text {
    match value.as_deref() {
        None => Some("nothing".to_owned()),
        Some("c") => None,
        Some(_) => value,
    }
}
