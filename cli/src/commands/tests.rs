//! Commands against a log in memory.

use clap::Parser;
use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, CleanupPolicy, Committed, GroupId, Headers, Offset, Partition, Positions, Producer,
    ProducerName, Timestamp, TopicName, TopicPartition, memory::MemoryLog,
};

use super::*;
use crate::Arguments;

/// Two topics: `readings` with two partitions, and `averages` with windowed keys.
fn log() -> MemoryLog {
    let log = MemoryLog::default();
    block_on(async {
        log.create_topic(&TopicSpec::new("readings", 2).unwrap()).await.unwrap();
        let mut averages = TopicSpec::new("averages", 1).unwrap();
        averages.config.cleanup_policy = CleanupPolicy::Compact;
        log.create_topic(&averages).await.unwrap();
        let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
        let headers = Headers::new().with("unit", "°C");
        for at in 0..3u8 {
            let value = format!(r#"{{"celsius":{at}.5}}"#);
            let time = Timestamp(1_441_107_000_000 + 1000 * i64::from(at));
            append(&mut *producer, "readings", 0, |batch| {
                batch.push(time, Some(b"oven"), Some(value.as_bytes()), &headers);
            });
        }
        append(&mut *producer, "readings", 1, |batch| {
            batch.push(Timestamp(250), None, Some(b"\x00\xff"), &Headers::new());
            batch.push(Timestamp(251), Some(b"fridge"), None, &Headers::new());
        });
        append(&mut *producer, "averages", 0, |batch| {
            let key = [b"oven".as_slice(), &60_000i64.to_be_bytes()].concat();
            batch.push(Timestamp(60_001), Some(&key), Some(b"1.5"), &Headers::new());
        });
        let committed = Committed { offset: Offset(2), metadata: Vec::new().into() };
        let positions =
            Positions::new(GroupId("dashboard".into()), vec![(partition("readings", 0), committed)]);
        producer.commit(Some(&positions)).await.unwrap();
    });
    log
}

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number))
}

fn append(producer: &mut dyn Producer, topic: &str, number: u32, fill: impl FnOnce(&mut BatchBuilder)) {
    let mut batch = BatchBuilder::default();
    fill(&mut batch);
    producer.append(&partition(topic, number), &mut batch).unwrap();
}

fn output(command: &str) -> Result<String, Failure> {
    let arguments =
        Arguments::try_parse_from(format!("headwater {command}").split(' ')).expect("the command parses");
    let mut out = Vec::new();
    block_on(run(&arguments.command, &log(), &mut out))?;
    Ok(String::from_utf8(out).unwrap())
}

fn check(command: &str, expected: &str) {
    assert_eq!(output(command).unwrap(), expected, "headwater {command}");
}

fn refused(command: &str) -> String {
    match output(command) {
        Err(Failure::Usage(error)) => error.to_string(),
        other => panic!("not refused: headwater {command}: {other:?}"),
    }
}

#[test]
fn topics_are_listed() {
    check(
        "topics list",
        "TOPIC     PARTITIONS  RECORDS  CLEANUP\naverages           1        1  compact\nreadings           2        5  delete\n",
    );
    check(
        "topics list --json",
        "{\"cleanup\":\"compact\",\"partitions\":1,\"records\":1,\"topic\":\"averages\"}\n\
         {\"cleanup\":\"delete\",\"partitions\":2,\"records\":5,\"topic\":\"readings\"}\n",
    );
}

#[test]
fn a_topic_is_described() {
    check(
        "topics describe readings",
        "readings: cleanup delete, segments of 1073741824 bytes\n\n\
         PARTITION  EARLIEST  END  RECORDS\n        0         0    3        3\n        1         0    2        2\n",
    );
    check(
        "topics describe averages --json",
        "{\"cleanup\":\"compact\",\"partitions\":[{\"earliest\":0,\"end\":1,\"partition\":0,\"records\":1}],\
         \"segment_bytes\":1073741824,\"topic\":\"averages\"}\n",
    );
}

#[test]
fn records_are_printed_for_people() {
    check(
        "consume readings --partition 1",
        "1\t0\t1970-01-01T00:00:00.250Z\t0x00ff\n1\t1\t1970-01-01T00:00:00.251Z\tnull\n",
    );
    check(
        "consume readings --keys --headers --offset 2 --partition 0",
        "0\t2\t2015-09-01T11:30:02Z\toven\t{\"celsius\":2.5}\tunit=°C\n",
    );
    check("consume readings --headers --offset 1 --partition 1", "1\t1\t1970-01-01T00:00:00.251Z\tnull\t\n");
    check(
        "consume readings --keys",
        "0\t0\t2015-09-01T11:30:00Z\toven\t{\"celsius\":0.5}\n\
         0\t1\t2015-09-01T11:30:01Z\toven\t{\"celsius\":1.5}\n\
         0\t2\t2015-09-01T11:30:02Z\toven\t{\"celsius\":2.5}\n\
         1\t0\t1970-01-01T00:00:00.250Z\tnull\t0x00ff\n\
         1\t1\t1970-01-01T00:00:00.251Z\tfridge\tnull\n",
    );
    check(
        "consume averages --windowed-key",
        "0\t0\t1970-01-01T00:01:00.001Z\toven@1970-01-01T00:01:00Z\t1.5\n",
    );
}

#[test]
fn records_are_printed_for_programs() {
    check(
        "consume readings --json --partition 0 --max 1",
        "{\"topic\":\"readings\",\"partition\":0,\"offset\":0,\"timestamp\":1441107000000,\
         \"time\":\"2015-09-01T11:30:00Z\",\"key\":\"oven\",\"value\":{\"celsius\":0.5},\
         \"headers\":[{\"name\":\"unit\",\"value\":\"°C\"}]}\n",
    );
    check(
        "consume averages --json --windowed-key",
        "{\"topic\":\"averages\",\"partition\":0,\"offset\":0,\"timestamp\":60001,\"time\":\"1970-01-01T00:01:00.001Z\",\
         \"key\":\"oven\",\"window_start\":60000,\"window_start_time\":\"1970-01-01T00:01:00Z\",\"value\":\"1.5\"}\n",
    );
}

#[test]
fn which_records_can_be_chosen() {
    let offsets = |command: &str| -> Vec<String> {
        let lines = output(command).unwrap();
        lines.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(":")).collect()
    };
    assert_eq!(offsets("consume readings --from-beginning"), ["0:0", "0:1", "0:2", "1:0", "1:1"]);
    assert_eq!(offsets("consume readings --max 4"), ["0:0", "0:1", "0:2", "1:0"]);
    assert_eq!(offsets("consume readings --max 0"), Vec::<String>::new());
    assert_eq!(offsets("consume readings --partition 1"), ["1:0", "1:1"]);
    assert_eq!(offsets("consume readings --partition 1 --offset 1"), ["1:1"]);
    assert_eq!(offsets("consume readings --partition 1 --offset 2"), Vec::<String>::new());
    assert_eq!(offsets("consume averages --offset 0"), ["0:0"]);
    assert_eq!(offsets("consume readings --group dashboard"), ["0:2", "1:0", "1:1"]);
    assert_eq!(offsets("consume readings --key fridge"), ["1:1"]);
    assert_eq!(offsets("consume averages --key oven"), Vec::<String>::new());
    assert_eq!(offsets("consume averages --key oven --windowed-key"), ["0:0"]);
}

#[test]
fn what_is_not_there_is_refused_with_advice() {
    assert_eq!(
        refused("consume reading"),
        "there is no such topic: `headwater topics list` shows which there are. topic=reading"
    );
    assert_eq!(refused("topics describe reading"), refused("consume reading"));
    assert_eq!(
        refused("consume readings --partition 2"),
        "there is no such partition: they count from 0. topic=readings, partition=2, partitions=2"
    );
    assert_eq!(
        refused("consume readings --partition 1 --offset 3"),
        "there is no such offset: choose one from earliest to end. partition=readings-1, offset=3, earliest=0, end=2"
    );
    assert_eq!(
        refused("consume readings --offset 0"),
        "an offset is one of a partition: say which with --partition. topic=readings, partitions=2"
    );
}

#[test]
fn contradicting_arguments_do_not_parse() {
    for arguments in [
        "--offset 1 --from-beginning",
        "--partition 0 --offset 1 --group g",
        "--from-beginning --group g",
        "--max -1",
    ] {
        let command = format!("headwater consume readings {arguments}");
        assert!(Arguments::try_parse_from(command.split(' ')).is_err(), "{command}");
    }
}
