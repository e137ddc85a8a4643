//! Streams that are grouped and aggregated without windows.

use headwater_streams::{KGroupedStream, KTable};

use crate::{
    Topologies,
    wiring::{Text, concat, first_letter, shown, with_values},
};

pub(crate) const TOPOLOGIES: Topologies = &[
    ("count", |w| text(&w.stream("in").group_by_key().count("counts"))),
    ("count-nulls", |w| text(&w.stream("in").group_by_key().count("counts"))),
    ("count-as-bytes", |w| w.stream("in").group_by_key().count("counts").to_stream().to("out")),
    ("group-by-count", |w| {
        text(&w.stream("in").group_by("by-value", |_, value| value.clone()).count("counts"));
    }),
    ("group-by-null", |w| {
        let unless_x = |_: &Text, value: &Text| value.clone().filter(|value| value != "x");
        text(&w.stream("in").group_by("by-value", unless_x).count("counts"));
    }),
    ("group-by-null-values", |w| {
        let with_x = |key: &Text, _: &Text| Some(format!("{}x", shown(key)));
        text(&w.stream("in").group_by("by-x", with_x).count("counts"));
    }),
    ("reduce", |w| appended(&w.stream("in").group_by_key()).to_stream().to("out")),
    ("reduce-nulls", |w| appended(&with_values(&w.stream("in")).group_by_key()).to_stream().to("out")),
    ("reduce-maximum", |w| w.stream("in").group_by_key().reduce("greatest", Ord::max).to_stream().to("out")),
    ("reduce-repartitioned", |w| {
        let letter = |_: &Text, value: &Text| value.as_deref().map(first_letter);
        appended(&w.stream("in").group_by("by-letter", letter)).to_stream().to("out");
    }),
    ("aggregate", |w| from_bracket(&w.stream("in").group_by_key()).to_stream().to("out")),
    ("aggregate-nulls", |w| from_bracket(&w.stream("in").group_by_key()).to_stream().to("out")),
    ("aggregate-sees-the-key", |w| {
        let add =
            |key: &Text, value: Text, all: &mut String| *all += &format!("{}-{}", shown(key), shown(&value));
        w.stream("in").group_by_key().aggregate("texts", String::new, add).to_stream().to("out");
    }),
    ("aggregate-that-deletes", |w| {
        let add = |_: &Text, value: Text, all: String| (shown(&value) != "x").then(|| all + shown(&value));
        let group = w.stream("in").group_by_key();
        group.aggregate_or_delete("texts", || "<".to_owned(), add).to_stream().to("out");
    }),
    ("aggregate-sum", |w| {
        let numbers = w.stream("in").map_values(|_, value| shown(&value).parse::<i64>().unwrap());
        numbers.group_by_key().aggregate("sums", || 0i64, |_, n, sum| *sum += n).to_stream().to("out");
    }),
    ("two-aggregates", |w| {
        let group = w.stream("in").group_by_key();
        group.count("counts-store").map_values(|_, count| count.to_string()).to_stream().to("counts");
        group.reduce("texts-store", |all, one| concat(all, &one)).to_stream().to("texts");
    }),
    ("count-of-counts", |w| {
        let counts = w.stream("in").group_by_key().count("counts").map_values(|_, count| count.to_string());
        text(
            &counts.group_by("by-count", |key, count| (Some(count.clone()), key.clone())).count("histogram"),
        );
    }),
    ("aggregate-as-table", |w| {
        let even = w.stream("in").group_by_key().count("counts").filter(|_, count| count % 2 == 0);
        even.map_values(|_, count| format!("even {count}")).to_stream().to("out");
    }),
    ("many-keys-in-order", |w| text(&w.stream("in").group_by_key().count("counts"))),
];

/// The counts as text, to `out`.
fn text(counts: &KTable<Text, u64>) {
    counts.to_stream().map_values(|_, count| count.map(|count| count.to_string())).to("out");
}

/// One after the other.
fn appended(group: &KGroupedStream<Text, Text>) -> KTable<Text, Text> {
    group.reduce("texts", |all, one| concat(all, &one))
}

/// One after the other, behind a bracket.
fn from_bracket(group: &KGroupedStream<Text, Text>) -> KTable<Text, String> {
    group.aggregate("texts", || "<".to_owned(), |_, value, all| all.push_str(shown(&value)))
}
