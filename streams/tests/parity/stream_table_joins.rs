//! Streams that are joined with tables.

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, both, loud, shown, with_values},
};

pub(crate) const TOPOLOGIES: Topologies = &[
    ("inner", inner),
    ("left", left),
    ("inner-in-order", inner),
    ("left-in-order", left),
    ("inner-nulls", |w| inner_of(&w.stream("stream"), w)),
    ("left-nulls", |w| left_of(&w.stream("stream"), w)),
    ("inner-times", inner),
    ("left-times", left),
    ("inner-keys", inner),
    ("left-keys", left),
    ("that-gives-null", |w| {
        let join = |_: &Text, value: Text, row: &String| {
            (shown(&value) != "x").then(|| shown(&value).to_owned() + row)
        };
        w.stream("stream").join_table(&w.table("table"), join).to("out");
    }),
    ("rekeyed", |w| {
        let moved = w.stream("stream").select_key(|_, value| value.clone()).repartition("by-value");
        moved.join_table(&w.table("table"), |_, value, row| both(&value, &Some(row.clone()))).to("out");
    }),
    ("to-table", |w| {
        let table = w.stream("table").map_values(|_, value| loud(&value)).to_table_nullable("rows");
        w.stream("stream").left_join_table(&table, |_, value, row| both(&value, &row.cloned())).to("out");
    }),
    ("filtered", |w| {
        let table =
            w.table("table").filter(|_, value| value != "x").map_values(|_, value| format!("{value}!"));
        w.stream("stream").left_join_table(&table, |_, value, row| both(&value, &row.cloned())).to("out");
    }),
    ("counts", |w| {
        let counts = with_values(&w.stream("table")).group_by_key().count("counts");
        w.stream("stream")
            .join_table(&counts, |_, value, row| both(&value, &Some(row.to_string())))
            .to("out");
    }),
    ("own-topic", |w| {
        let stream = w.stream("in");
        let counts = stream.group_by_key().count("counts");
        stream.join_table(&counts, |_, value, row| both(&value, &Some(row.to_string()))).to("out");
    }),
    ("own-topic-joined-first", |w| {
        let stream = w.stream("in");
        let loud = stream.map_values(|_, value| loud(&value));
        let counts = stream.group_by_key().count("counts");
        loud.left_join_table(&counts, |_, value, row| both(&value, &row.map(ToString::to_string))).to("out");
    }),
];

fn inner(w: &Wiring) {
    inner_of(&with_values(&w.stream("stream")), w);
}

fn left(w: &Wiring) {
    left_of(&with_values(&w.stream("stream")), w);
}

fn inner_of(stream: &Texts, w: &Wiring) {
    stream.join_table(&w.table("table"), |_, value, row| both(&value, &Some(row.clone()))).to("out");
}

fn left_of(stream: &Texts, w: &Wiring) {
    stream.left_join_table(&w.table("table"), |_, value, row| both(&value, &row.cloned())).to("out");
}
