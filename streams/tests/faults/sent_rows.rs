//! Rows that a store sends by itself, so many that they fill batch after batch; some fail when they were sent in part, and the log
//! does not take one of the batches.

use headwater_core::Error;
use headwater_streams::ErrorPolicy;

use super::*;

const KEYS: usize = 5_000;
/// Of these every seventh fails.
const FAILING: usize = 7;

fn key(n: usize) -> String {
    format!("{n:05}")
}

fn value() -> String {
    "-".repeat(100)
}

/// What fails was sent to `first` before.
fn topology(emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    let rows = builder
        .stream::<String, String>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .emit(emit)
        .reduce("rows", |_, new| new)
        .to_stream()
        .map(|at, row| (at.key, row));
    rows.to("first");
    rows.try_map_values(|key, row| {
        let fails = key.parse::<usize>().is_ok_and(|n| n % FAILING == 0);
        if fails { Err(Error::processing("a row that fails")) } else { Ok(row) }
    })
    .to("out");
    builder.build().unwrap()
}

/// Keys of the records in `first`, and keys and values of those in `out`, both sorted; which calls failed, and how many rows were
/// left out.
type Outcome = (Vec<String>, Vec<(String, String)>, usize, u64);

/// `at`: which batch the log does not take, if any; counted from when all input is there.
fn outcome(emit: Emit, on_error: ErrorPolicy, at: Option<u64>) -> Outcome {
    let fault = Fault::default();
    let settings = Settings { on_error, commit_interval: Duration::from_secs(3_600), ..Settings::new("app") };
    let mut driver =
        TopologyTestDriver::on(topology(emit), settings, 1, ports(MemoryLog::default(), &fault, false, 0))
            .unwrap();
    for n in 0..KEYS {
        driver.append("in", &key(n), &value(), Timestamp(1)).unwrap();
    }
    // Closes the window of all others.
    driver.append("in", &key(KEYS), &value(), Timestamp(20)).unwrap();
    if let Some(at) = at {
        fault.arm_at("append", at);
        driver.run().unwrap_err();
        driver.crash().unwrap();
    }
    driver.run().unwrap();
    let mut first: Vec<_> =
        driver.read::<String, String>("first").unwrap().into_iter().map(|r| r.key).collect();
    let mut out: Vec<_> =
        driver.read::<String, String>("out").unwrap().into_iter().map(|r| (r.key, r.value)).collect();
    first.sort();
    out.sort();
    (first, out, fault.fired().len(), driver.metrics().total().skipped)
}

#[test]
fn rows_that_fill_many_batches_are_sent_once_or_left_out_whole() {
    let fails = |n: &usize| n.is_multiple_of(FAILING);
    for (emit, keys) in [(Emit::OnCommit, KEYS + 1), (Emit::OnClose, KEYS)] {
        let sound: Vec<_> = (0..keys).filter(|n| !fails(n)).map(key).collect();
        for at in [None, Some(1), Some(4), Some(9)] {
            let (first, out, fired, skipped) = outcome(emit, ErrorPolicy::Skip, at);
            let expected: Vec<_> = sound.iter().map(|key| (key.clone(), value())).collect();
            assert!(first == sound && out == expected, "{emit:?}, batch {at:?}");
            assert_eq!((fired, skipped), (usize::from(at.is_some()), (keys - sound.len()) as u64));
            // What is left out goes among what is not.
            let (first, out, ..) = outcome(emit, ErrorPolicy::DeadLetter("out".to_owned()), at);
            let keys_out: Vec<_> = out.iter().map(|(key, _)| key.clone()).collect();
            assert!(first == sound && keys_out == (0..keys).map(key).collect::<Vec<_>>(), "{emit:?}, {at:?}");
            assert!(out.iter().all(|(_, row)| *row == value()), "{emit:?}, {at:?}");
        }
    }
}
