//! An upstream task that is far ahead of another one: what it sent waits in the log, and is taken in its turn.

use headwater_core::{Timestamp, partition_for_key};
use headwater_streams::{Settings, StreamsBuilder, testing::TopologyTestDriver};

const PARTITIONS: u32 = 3;
const TURN: i64 = 1_000;
/// Turns for which the last task has nothing to send.
const TURNS: i64 = 60;

/// Two tasks send several times what a lane keeps in memory, while the third is still at the beginning of time.
#[test]
fn what_two_tasks_sent_far_ahead_is_taken_when_the_third_is_there() {
    let keys = (0..PARTITIONS).map(|partition| {
        let lies_there =
            |key: &String| partition_for_key(key.as_bytes(), PARTITIONS.try_into().unwrap()).0 == partition;
        (0..).map(|n| format!("key-{n}")).find(lies_there).unwrap()
    });
    let keys: Vec<String> = keys.collect();
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .filter(|_, text| !text.is_empty())
        .select_key(|_, _| "all".to_owned())
        .repartition("all")
        .map_values(|_, text| text[..8].to_owned())
        .to("out");
    let settings = Settings { turn_records_max: TURN.unsigned_abs() as usize, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, PARTITIONS).unwrap();
    let mut expected = Vec::new();
    for at in 0..TURN * TURNS {
        for (number, key) in keys.iter().take(2).enumerate() {
            // Both times are later than all of the third task's, and the two take turns.
            let time = 10 + at * 2 + i64::try_from(number).unwrap();
            let text = format!("{time:08} and what makes it long: {}", "x".repeat(60));
            driver.append("in", key, &text, Timestamp(time)).unwrap();
            expected.push(format!("{time:08}"));
        }
        driver.append("in", &keys[2], &String::new(), Timestamp(0)).unwrap();
    }
    driver.append("in", &keys[2], &"00000001".to_owned(), Timestamp(1)).unwrap();
    expected.insert(0, "00000001".to_owned());
    (0..TURNS).for_each(|_| driver.turn().unwrap());
    assert!(driver.read::<String, String>("out").unwrap().is_empty(), "the third task is not there yet");
    driver.run().unwrap();
    let values: Vec<String> =
        driver.read::<String, String>("out").unwrap().into_iter().map(|record| record.value).collect();
    assert_eq!(values.len(), expected.len());
    assert!(values == expected, "not in the order of time");
}
