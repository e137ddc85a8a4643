//! What processors see of their stores: ranges over what is at hand and what the engine holds, against a sorted map.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex},
};

use headwater_core::{Record, Result, Timestamp};
use headwater_streams::{
    KeyValueHandle, Order, Processor, ProcessorContext, Settings, StreamsBuilder, testing::TopologyTestDriver,
};
use proptest::prelude::*;

/// What the store is asked to do, in the value of a record.
#[derive(Debug, Clone)]
enum Ask {
    Put(String, u64),
    Delete(String),
    Range(Bound<String>, Bound<String>, bool, usize),
    Prefix(String, bool),
    Crash,
}

type Rows = Vec<(String, u64)>;

/// The next thing to do, and where the rows that it gives are left.
#[derive(Clone)]
struct Asked {
    rows: KeyValueHandle<String, u64>,
    next: Arc<Mutex<Option<Ask>>>,
    seen: Arc<Mutex<Rows>>,
}

impl Processor<String, u64, String, u64> for Asked {
    fn process(
        &mut self,
        record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        let mut rows = cx.store(&self.rows);
        let mut seen = Vec::new();
        let order = |back| if back { Order::Backward } else { Order::Forward };
        match self.next.lock().unwrap().take().unwrap() {
            Ask::Put(key, value) => rows.put(&key, value, record.timestamp)?,
            Ask::Delete(key) => rows.delete(&key, record.timestamp)?,
            Ask::Range(from, to, back, count) => rows.range((from, to), order(back), |key, value| {
                seen.push((key, *value));
                if seen.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?,
            Ask::Prefix(prefix, back) => rows.prefix(prefix.as_bytes(), order(back), |key, value| {
                seen.push((key, *value));
                ControlFlow::Continue(())
            })?,
            Ask::Crash => unreachable!("done by the driver"),
        }
        *self.seen.lock().unwrap() = seen;
        Ok(())
    }
}

/// What a sorted map answers.
fn answer(model: &mut BTreeMap<String, u64>, ask: &Ask) -> Rows {
    let turned = |mut rows: Rows, back: bool| {
        if back {
            rows.reverse();
        }
        rows
    };
    match ask.clone() {
        Ask::Put(key, value) => {
            model.insert(key, value);
        }
        Ask::Delete(key) => {
            model.remove(&key);
        }
        Ask::Range(from, to, back, count) => {
            let inside = |key: &String| std::ops::RangeBounds::contains(&(from.clone(), to.clone()), key);
            let rows: Rows =
                model.iter().filter(|(key, _)| inside(key)).map(|(k, v)| (k.clone(), *v)).collect();
            let mut rows = turned(rows, back);
            rows.truncate(count);
            return rows;
        }
        Ask::Prefix(prefix, back) => {
            let rows = model.iter().filter(|(key, _)| key.starts_with(&prefix));
            return turned(rows.map(|(k, v)| (k.clone(), *v)).collect(), back);
        }
        Ask::Crash => {}
    }
    Vec::new()
}

fn key() -> impl Strategy<Value = String> {
    "[ab\u{ff}]{0,3}"
}

fn bound() -> impl Strategy<Value = Bound<String>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (key(), any::<u64>()).prop_map(|(key, value)| Ask::Put(key, value)),
        2 => key().prop_map(Ask::Delete),
        4 => (bound(), bound(), any::<bool>(), 1..9usize).prop_map(|(a, b, back, n)| Ask::Range(a, b, back, n)),
        2 => (key(), any::<bool>()).prop_map(|(prefix, back)| Ask::Prefix(prefix, back)),
        1 => Just(Ask::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With rows at hand only, and with none kept at hand after any commit.
    #[test]
    fn ranges_are_those_of_a_sorted_map(asks in prop::collection::vec(ask(), 1..60), roomy: bool) {
        let builder = StreamsBuilder::new();
        let rows = builder.key_value_store::<String, u64>("rows");
        let asked = Asked { rows: rows.clone(), next: Arc::default(), seen: Arc::default() };
        let supplier = { let asked = asked.clone(); move || asked.clone() };
        builder.stream::<String, u64>("in").process(&[&rows], supplier).to("out");
        let settings = Settings { memory_bytes: if roomy { 1 << 20 } else { 1 }, ..Settings::new("ranges") };
        let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
        let mut model = BTreeMap::new();
        for ask in asks {
            let expected = answer(&mut model, &ask);
            if let Ask::Crash = ask {
                driver.crash().unwrap();
                continue;
            }
            *asked.next.lock().unwrap() = Some(ask.clone());
            driver.pipe("in", &"k".to_owned(), &0u64, Timestamp(0)).unwrap();
            prop_assert_eq!(&*asked.seen.lock().unwrap(), &expected, "{:?}", ask);
        }
    }
}
