//! Tables that are read from a topic, and what is made of them.

use headwater_streams::{KGroupedTable, KTable};

use crate::{
    Topologies,
    wiring::{Text, first_letter},
};

/// Rows are not null; keys may be.
type Rows = KTable<Text, String>;

pub(crate) const TOPOLOGIES: Topologies = &[
    ("table", |w| sent(&w.table("in"))),
    ("null-keys", |w| sent(&w.table("in"))),
    ("equal-timestamps", |w| sent(&w.table("in"))),
    ("to-stream-with-key", |w| {
        let twice = |key: &Text, _: &Text| key.as_ref().map(|key| key.repeat(2));
        w.table("in").to_stream().select_key(twice).to("out");
    }),
    ("filter", |w| sent(&w.table("in").filter(|_, value| value != "d" && value != "b"))),
    ("filter-unseen", |w| sent(&w.table("in").filter(|_, value| value.as_str() > "m"))),
    ("filter-unseen-without-store", |w| sent(&w.table("in").filter(|_, value| value.as_str() > "m"))),
    ("filter-not", |w| sent(&w.table("in").filter_not(|_, value| value.as_str() > "m"))),
    ("map-values", |w| {
        sent(&w.table("in").map_values(|key, value| format!("{}{value}", key.as_deref().unwrap())));
    }),
    ("filter-map-filter", |w| {
        let loud = w.table("in").filter(|_, value| value != "b").map_values(|_, value| format!("{value}!"));
        sent(&loud.filter(|_, value| value != "d!"));
    }),
    ("used-twice", |w| {
        let table = w.table("in");
        table.filter(|_, value| value.as_str() > "c").to_stream().to("some");
        table.map_values(|_, value| format!("{value}!")).to_stream().to("all");
    }),
    ("group-count", |w| counted(&by_letter(&w.table("in")))),
    ("group-reduce", |w| {
        let without = |all: String, one: String| all.replacen(&one, "", 1);
        sent(&by_letter(&w.table("in")).reduce("texts", |all, one| all + &one, without));
    }),
    ("group-aggregate", |w| logged(&by_letter(&w.table("in")))),
    ("group-same-key", |w| logged(&by_letter(&w.table("in")))),
    ("group-timestamps", |w| logged(&by_letter(&w.table("in")))),
    ("group-null-keys", |w| {
        let select = |_: &Text, value: &String| {
            ((!value.starts_with('n')).then(|| first_letter(value)), value.clone())
        };
        logged(&w.table("in").group_by("by-letter", select));
    }),
    ("group-filtered", |w| logged(&by_letter(&w.table("in").filter(|_, value| !value.ends_with('2'))))),
    ("group-mapped", |w| {
        let longer = w.table("in").map_values(|key, value| format!("{value}{}", key.as_deref().unwrap()));
        counted(&by_letter(&longer));
    }),
    ("of-an-aggregate-grouped", |w| {
        let values = w.stream("in").filter(|_, value| value.is_some()).map_values(|_, value| value.unwrap());
        logged(&by_letter(&values.group_by_key().reduce("last", |_, last| last)));
    }),
];

fn sent(table: &Rows) {
    table.to_stream().to("out");
}

fn by_letter(table: &Rows) -> KGroupedTable<Text, String> {
    table.group_by("by-letter", |_, value| (Some(first_letter(value)), value.clone()))
}

fn counted(group: &KGroupedTable<Text, String>) {
    sent(&group.count("counts").map_values(|_, count| count.to_string()));
}

/// What came into a group, and what was taken out, in order.
fn logged(group: &KGroupedTable<Text, String>) {
    let (add, subtract) = (written("+"), written("-"));
    sent(&group.aggregate(
        "texts",
        || "<".to_owned(),
        move |_, value: String, all| add(&value, all),
        move |_, value: String, all| subtract(&value, all),
    ));
}

fn written(sign: &'static str) -> impl Fn(&str, &mut String) {
    move |value, all| {
        all.push_str(sign);
        all.push_str(value);
    }
}
