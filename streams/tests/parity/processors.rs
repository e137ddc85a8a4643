//! Processors of the user's own, with stores and punctuations.

use std::{ops::ControlFlow, time::Duration};

use headwater_core::{Record, Result, Timestamp};
use headwater_streams::{
    KStream, KeyValueHandle, Order, Processor, ProcessorContext, Punctuate, Punctuation,
};

use crate::{
    Topologies,
    wiring::{Text, Texts, Wiring, shown, with_values},
};

type Context<'a> = ProcessorContext<'a, Text, Text>;
type Store = KeyValueHandle<Text, Text>;

pub(crate) const TOPOLOGIES: Topologies = &[
    ("changes-only", |w| with_store(w, "last", &w.stream("in"), |last| Changes { last }).to("out")),
    ("store-with-deletes", |w| with_store(w, "rows", &w.stream("in"), |rows| Previous { rows }).to("out")),
    ("store-ranges", |w| with_store(w, "rows", &w.stream("in"), |rows| Ranges { rows }).to("out")),
    ("forwards-many", |w| w.stream("in").process(&[], || Triple).to("out")),
    ("stream-time", |w| w.stream("in").process(&[], || StreamTime).to("out")),
    ("punctuate", |w| w.stream("in").process(&[], || Ticks::every(&[10])).to("out")),
    ("punctuate-from-zero", |w| w.stream("in").process(&[], || Ticks::every(&[10])).to("out")),
    ("punctuate-out-of-order", |w| w.stream("in").process(&[], || Ticks::every(&[10])).to("out")),
    ("punctuate-two-intervals", |w| w.stream("in").process(&[], || Ticks::every(&[10, 25])).to("out")),
    ("punctuate-and-cancel", |w| w.stream("in").process(&[], || Cancelled { left: 3 }).to("out")),
    ("punctuate-over-a-store", |w| {
        with_store(w, "counts", &w.stream("in"), |counts| Flushed { counts }).to("out");
    }),
    ("punctuate-before-the-next-operator", |w| {
        let ticks = w.stream("in").process::<Text, Text, _>(&[], || Ticks::every(&[10]));
        let counts = ticks.repartition("by-key").group_by_key().count("counts");
        counts.map_values(|_, count| count.to_string()).to_stream().to("out");
    }),
    ("processor-repartitioned", |w| {
        let moved = w.stream("in").select_key(|_, value| value.clone()).repartition("by-value");
        with_store(w, "last", &moved, |last| Changes { last }).to("out");
    }),
    ("process-values", |w| {
        let previous = with_store(w, "rows", &w.stream("in"), |rows| Previous { rows });
        let counts = with_values(&previous).repartition("by-key").group_by_key().count("counts");
        counts.map_values(|_, count| count.to_string()).to_stream().to("out");
    }),
];

/// Appends a processor that has a store.
fn with_store<P: Processor<Text, Text, Text, Text>>(
    wiring: &Wiring,
    name: &str,
    stream: &Texts,
    processor: impl Fn(Store) -> P + Send + Sync + 'static,
) -> KStream<Text, Text> {
    let store = wiring.builder.key_value_store(name);
    stream.process(&[&store.clone()], move || processor(store.clone()))
}

/// Forwards what is not the last of its key.
struct Changes {
    last: Store,
}

impl Processor<Text, Text, Text, Text> for Changes {
    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        if cx.store(&self.last).get(&record.key)? == Some(&record.value) {
            return Ok(());
        }
        cx.store(&self.last).put(&record.key, record.value.clone(), record.timestamp)?;
        cx.forward(record)
    }
}

/// Stores each value, and forwards the one that was there.
struct Previous {
    rows: Store,
}

impl Processor<Text, Text, Text, Text> for Previous {
    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        let previous = cx.store(&self.rows).get(&record.key)?.cloned().flatten();
        cx.store(&self.rows).put(&record.key, record.value.clone(), record.timestamp)?;
        cx.forward(record.with_value(previous))
    }
}

/// Stores, and forwards some of the rows.
struct Ranges {
    rows: Store,
}

impl Processor<Text, Text, Text, Text> for Ranges {
    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        let mut rows = cx.store(&self.rows);
        match &record.value {
            Some(_) => rows.put(&record.key, record.value.clone(), record.timestamp)?,
            None => rows.delete(&record.key, record.timestamp)?,
        }
        let (mut range, mut backwards) = (String::new(), String::new());
        let (mut prefix, mut all) = (String::new(), String::new());
        let (from, to) = (Some("a".to_owned()), Some("c".to_owned()));
        rows.range(from.clone()..=to.clone(), Order::Forward, collect(&mut range))?;
        rows.range(from..=to, Order::Backward, collect(&mut backwards))?;
        rows.prefix(b"a", Order::Forward, collect(&mut prefix))?;
        rows.range(.., Order::Forward, collect(&mut all))?;
        for (name, text) in [("range", range), ("backwards", backwards), ("prefix", prefix), ("all", all)] {
            let key = Some(name.to_owned());
            cx.forward(Record { key, value: Some(text), ..record.clone() })?;
        }
        Ok(())
    }
}

fn collect(rows: &mut String) -> impl FnMut(Text, &Text) -> ControlFlow<()> {
    |key, value| {
        *rows += &format!("{}{},", shown(&key), shown(value));
        ControlFlow::Continue(())
    }
}

/// Forwards each record three times, at other times and with other keys.
struct Triple;

impl Processor<Text, Text, Text, Text> for Triple {
    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        let (mut later, mut first) = (record.clone(), record.clone());
        later.timestamp = Timestamp(record.timestamp.0 + 10);
        cx.forward(later)?;
        cx.forward(record)?;
        first.key = first.value.clone();
        first.timestamp = Timestamp(0);
        cx.forward(first)
    }
}

/// Forwards the stream time.
struct StreamTime;

impl Processor<Text, Text, Text, Text> for StreamTime {
    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        let time = Some(cx.stream_time().to_string());
        cx.forward(record.with_value(time))
    }
}

/// Forwards a tick every so many milliseconds of stream time, beside the records.
struct Ticks {
    intervals: Vec<u64>,
    punctuations: Vec<Punctuation>,
}

impl Ticks {
    fn every(intervals: &[u64]) -> Self {
        Self { intervals: intervals.to_vec(), punctuations: Vec::new() }
    }
}

impl Processor<Text, Text, Text, Text> for Ticks {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        for interval in &self.intervals {
            self.punctuations.push(cx.schedule(Duration::from_millis(*interval), Punctuate::StreamTime)?);
        }
        Ok(())
    }

    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(record)
    }

    fn punctuate(&mut self, which: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let index = self.punctuations.iter().position(|punctuation| *punctuation == which).unwrap();
        cx.forward(tick(format!("tick-{}", self.intervals[index]), time.to_string(), time))
    }
}

fn tick(key: String, value: String, time: Timestamp) -> Record<Text, Text> {
    Record::new(Some(key), Some(value), time)
}

/// Forwards `left` ticks, and no more.
struct Cancelled {
    left: u32,
}

impl Processor<Text, Text, Text, Text> for Cancelled {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(Duration::from_millis(10), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(record)
    }

    fn punctuate(&mut self, which: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        self.left -= 1;
        if self.left == 0 {
            cx.cancel(which);
        }
        cx.forward(tick("tick".to_owned(), time.to_string(), time))
    }
}

/// Counts by key; each 10 ms of stream time forwards all counts, and forgets them.
struct Flushed {
    counts: Store,
}

impl Processor<Text, Text, Text, Text> for Flushed {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(Duration::from_millis(10), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<Text, Text>, cx: &mut Context<'_>) -> Result<()> {
        cx.store(&self.counts).update(&record.key, record.timestamp, |count| {
            let before = count.take().flatten().map_or(0, |count| count.parse::<u64>().unwrap());
            *count = Some(Some((before + 1).to_string()));
        })
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let mut all = Vec::new();
        cx.store(&self.counts).range(.., Order::Forward, |key, count| {
            all.push((key, count.clone()));
            ControlFlow::Continue(())
        })?;
        for (key, count) in all {
            cx.store(&self.counts).delete(&key, time)?;
            cx.forward(Record::new(key, count, time))?;
        }
        Ok(())
    }
}
