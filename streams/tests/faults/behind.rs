//! State that is restored into memory and written in parts: whatever happens between two parts, results are those of a process that
//! never ends.

use proptest::prelude::*;

use super::*;

/// Rows are so large that a write has several parts after a few of them.
const LARGE: usize = 600 << 10;
const KEYS: u64 = 24;

#[derive(Debug, Clone)]
enum Step {
    /// A record of this key, so much later than the last one; whether its row is deleted.
    Record(u64, i64, bool),
    Turns(u8),
    Clock(u64),
    Crash,
    Reopen,
    /// The process ends at a later call of this name.
    EndAt(&'static str, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop::sample::select(vec![
        "before a write of state",
        "after a write of state",
        "before the log's commit",
        "after the log's commit",
        "read of a changelog",
    ]);
    let step = prop_oneof![
        20 => (0..KEYS, -15..12i64, 0..6u8).prop_map(|(key, by, deleted)| Step::Record(key, by, deleted == 0)),
        8 => (1..4u8).prop_map(Step::Turns),
        1 => (1..1_000u64).prop_map(Step::Clock),
        2 => Just(Step::Crash),
        1 => Just(Step::Reopen),
        2 => (name, 1..8u64).prop_map(|(name, at)| Step::EndAt(name, at)),
    ];
    prop::collection::vec(step, 1..150)
}

/// A count of records stands in front of a row that is large.
fn add(row: &mut Vec<u8>, records: u64) -> u64 {
    row.resize(LARGE, 0);
    let count = count_of(row) + records;
    row[..8].copy_from_slice(&count.to_be_bytes());
    count
}

fn count_of(row: &[u8]) -> u64 {
    u64::from_be_bytes(*row.first_chunk().unwrap())
}

struct CountOrDelete(KeyValueHandle<String, Vec<u8>>);

impl Processor<String, u64, String, u64> for CountOrDelete {
    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let count = cx.store(&self.0).update(&record.key, record.timestamp, |row| {
            let count = add(row.get_or_insert_default(), 1);
            row.take_if(|_| record.value == 0);
            count
        })?;
        cx.forward(record.with_value(count))
    }
}

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, u64>("in");
    let store = builder.key_value_store::<String, Vec<u8>>("rows");
    let handle = store.clone();
    input.process::<String, u64, _>(&[&store], move || CountOrDelete(handle.clone())).to("counts");
    let windows = TimeWindows::hopping(Duration::from_millis(20), Duration::from_millis(10));
    input
        .group_by_key()
        .windowed_by(windows.grace(Duration::from_millis(5)))
        .emit(Emit::OnClose)
        .aggregate("windows", Vec::new, |_, _, row| _ = add(row, 1))
        .to_stream()
        .map(|at, row| (format!("{} {}", at.key, at.window.start), count_of(&row)))
        .to("windows-out");
    input
        .group_by_key()
        .windowed_by(SessionWindows::gap(Duration::from_millis(6)))
        .emit(Emit::OnClose)
        .count("sessions")
        .to_stream()
        .map(|at, count| (format!("{} {}", at.key, at.window.start), count))
        .to("sessions-out");
    builder.build().unwrap()
}

fn outputs(driver: &mut TopologyTestDriver) -> Vec<Vec<(String, u64, Timestamp)>> {
    ["counts", "windows-out", "sessions-out"]
        .map(|topic| {
            let records = driver.read::<String, u64>(topic).unwrap();
            records.into_iter().map(|r| (r.key, r.value, r.timestamp)).collect()
        })
        .to_vec()
}

fn check(steps: &[Step], settings: &Settings, left_percent: usize) {
    let mut model = TopologyTestDriver::new(topology()).unwrap();
    let fault = Fault::default();
    let ports = ports(MemoryLog::default(), &fault, true, left_percent);
    let mut driver = TopologyTestDriver::on(topology(), settings.clone(), 1, ports).unwrap();
    let mut time = 1_000;
    for step in steps {
        let outcome = match step {
            Step::Record(key, by, deleted) => {
                time += by.max(&0);
                let (key, value, at) = (key.to_string(), u64::from(!deleted), Timestamp(time + by.min(&0)));
                model.append("in", &key, &value, at).unwrap();
                driver.append("in", &key, &value, at)
            }
            Step::Turns(turns) => (0..*turns).try_for_each(|_| driver.turn()),
            Step::Clock(seconds) => driver.advance_clock(Duration::from_secs(*seconds)),
            Step::Crash => driver.crash(),
            Step::Reopen => driver.close_and_reopen(),
            Step::EndAt(name, at) => {
                fault.arm_at(name, *at);
                Ok(())
            }
        };
        if outcome.is_err() {
            fault.arm(false);
            driver.crash().unwrap();
        }
    }
    fault.arm(false);
    // A step that was a crash itself may have failed as the last.
    driver.crash().unwrap();
    for driver in [&mut model, &mut driver] {
        for key in 0..KEYS {
            driver.append("in", &key.to_string(), &1u64, Timestamp(time)).unwrap();
        }
        driver.close_windows().unwrap();
    }
    assert_eq!(outputs(&mut driver), outputs(&mut model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn parts_of_a_write_and_all_that_happens_between_them(
        steps in steps(),
        memory_bytes in prop::sample::select(vec![256 << 20, 60 << 20, 16 << 20, 1 << 20]),
        uncommitted_bytes_max in prop::sample::select(vec![1 << 20, 64 << 20]),
        turn_records_max in 1..5usize,
        left_percent in prop::sample::select(vec![0, 50, 100]),
    ) {
        let commit_interval = Duration::ZERO;
        let settings = Settings { memory_bytes, uncommitted_bytes_max, turn_records_max, commit_interval, ..Settings::new("app") };
        check(&steps, &settings, left_percent);
    }
}

/// Counts how often it was opened.
struct Opened(KeyValueHandle<String, u64>);

impl Processor<String, u64, String, u64> for Opened {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.store(&self.0).update(&"opened".to_owned(), Timestamp(0), |opened| {
            *opened = Some(opened.unwrap_or(0) + 1);
        })
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let opened = cx.store(&self.0).get(&"opened".to_owned())?.copied();
        cx.forward(record.with_value(opened.unwrap_or(0)))
    }
}

/// What a processor stores when it is opened is not written before it is committed, though restored rows are written at once.
#[test]
fn what_is_stored_at_the_opening_is_committed_before_it_is_written() {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("rows");
    let handle = store.clone();
    builder
        .stream::<String, u64>("in")
        .process::<String, u64, _>(&[&store], move || Opened(handle.clone()))
        .to("out");
    let fault = Fault::default();
    let ports = ports(MemoryLog::default(), &fault, false, 100);
    let mut driver =
        TopologyTestDriver::on(builder.build().unwrap(), Settings::new("app"), 1, ports.clone()).unwrap();
    driver.append("in", &"k".to_owned(), &1u64, Timestamp(1)).unwrap();
    driver.run().unwrap();
    for opened in 2..5 {
        driver.crash().unwrap();
        // It lives long enough to write what it restored, and gets no record.
        driver.turn().unwrap();
        driver.turn().unwrap();
        let end = block_on(ports.0.offsets(&changelog("app-rows-changelog"))).unwrap().end;
        assert_eq!(end.0, opened, "what it stored is committed before the engine may have it");
    }
    driver.append("in", &"k".to_owned(), &1u64, Timestamp(1)).unwrap();
    driver.run().unwrap();
    let seen: Vec<u64> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
    assert_eq!(seen, [1, 4]);
}

fn changelog(topic: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(0))
}

/// A round that a task hardly has turns for is brought to its end before rows get so old that their tombstones are gone.
#[test]
fn a_write_takes_no_longer_than_the_time_until_the_next() {
    let (mut driver, _, fault) = with_rows(large_rows(), 0);
    driver.crash().unwrap();
    driver.turn().unwrap();
    assert_eq!(written(&fault), 0, "one part of several");
    driver.advance_clock(Duration::from_secs(601)).unwrap();
    assert_eq!(written(&fault), ROWS);
}
