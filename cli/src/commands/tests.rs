//! Commands against a log in memory.

use clap::Parser;
use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, CleanupPolicy, Committed, GroupId, Headers, ManualClock, Offset, Positions, Producer,
    ProducerName, Timestamp, TopicName, memory::MemoryLog,
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
        let positions = Positions::new(GroupId("dashboard".into()), vec![(place("readings", 0), committed)]);
        producer.commit(Some(&positions)).await.unwrap();
    });
    log
}

fn place(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number))
}

fn append(producer: &mut dyn Producer, topic: &str, number: u32, fill: impl FnOnce(&mut BatchBuilder)) {
    let mut batch = BatchBuilder::default();
    fill(&mut batch);
    producer.append(&place(topic, number), &mut batch).unwrap();
}

/// Runs a command on `log`, with `input` to read from, nobody to ask, and a quarter past eleven on a day in 2015.
fn output_of(log: &MemoryLog, command: &str, input: &str) -> Result<String, Failure> {
    run_with(log, command, input, false)
}

fn run_with(log: &MemoryLog, command: &str, input: &str, asks: bool) -> Result<String, Failure> {
    let words = command.split(' ').map(|word| word.replace('_', " "));
    let arguments = Arguments::try_parse_from(std::iter::once("headwater".to_owned()).chain(words))
        .expect("the command parses");
    let mut out = Vec::new();
    let mut session = Session {
        asks,
        shows: false,
        quiet: true,
        clock: &ManualClock::new(Timestamp(1_441_106_100_000)),
        input: &mut input.as_bytes(),
        out: &mut out,
    };
    let Command::OnLog(command) = &arguments.command else { panic!("it is not for an open log") };
    block_on(command.run(log, &mut session))?;
    Ok(String::from_utf8(out).unwrap())
}

fn output(command: &str) -> Result<String, Failure> {
    output_of(&log(), command, "")
}

#[track_caller]
fn check(command: &str, expected: &str) {
    assert_eq!(output(command).unwrap(), expected, "headwater {command}");
}

#[track_caller]
fn refused(command: &str) -> String {
    refused_on(&log(), command)
}

#[track_caller]
fn refused_on(log: &MemoryLog, command: &str) -> String {
    match output_of(log, command, "") {
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
    insta::assert_snapshot!("describe", output("topics describe averages").unwrap());
    insta::assert_snapshot!("describe_json", output("topics describe readings --json").unwrap());
    let log = log();
    output_of(&log, "topics create empty", "").unwrap();
    let described = output_of(&log, "topics describe empty", "").unwrap();
    assert!(described.contains(
        "PARTITION  EARLIEST  END  RECORDS  SIZE  NEWEST\n        0         0    0        0  0 B   -\n"
    ));
}

#[test]
fn a_topic_is_made_once() {
    let log = log();
    let create =
        "topics create events --partitions 3 --config retention.ms=5000 --config cleanup.policy=compact";
    assert_eq!(output_of(&log, create, "").unwrap(), "topic events created: 3 partitions\n");
    let spec = block_on(topic(&log, "events")).unwrap();
    assert_eq!((spec.partitions.get(), spec.config.retention_ms), (3, Some(5000)));
    assert_eq!(spec.config.cleanup_policy, CleanupPolicy::Compact);
    assert_eq!(
        refused_on(&log, "topics create events --partitions 3"),
        "there is a topic of this name already: change it with `headwater topics alter`, or say --if-not-exists. topic=events, partitions=3"
    );
    let again = output_of(&log, "topics create events --partitions 3 --if-not-exists", "").unwrap();
    assert_eq!(again, "topic events was there already: 3 partitions\n");
    let json = output_of(&log, "topics create others --json", "").unwrap();
    assert_eq!(json, "{\"created\":true,\"partitions\":1,\"topic\":\"others\"}\n");
    for wrong in [
        "topics create events --partitions 4 --if-not-exists",
        "topics create new/name",
        "topics create new --config retention=1",
        "topics create new --config retention.ms=soon",
    ] {
        refused_on(&log, wrong);
    }
    assert_eq!(block_on(log.topics()).unwrap().len(), 4, "what was refused made nothing");
}

#[test]
fn a_topic_is_changed() {
    let log = log();
    assert_eq!(
        output_of(
            &log,
            "topics alter averages --config segment.ms=7 --reset cleanup.policy --partitions 2",
            ""
        )
        .unwrap(),
        "SETTING         OLD        NEW\npartitions      1          2\ncleanup.policy  compact    delete\nsegment.ms      604800000  7\n"
    );
    assert_eq!(
        output_of(&log, "topics alter averages --config segment.ms=7", "").unwrap(),
        "topic averages is so already: nothing changed\n"
    );
    assert_eq!(
        output_of(&log, "topics alter averages --reset segment.ms --json", "").unwrap(),
        "{\"changed\":[{\"new\":\"604800000\",\"old\":\"7\",\"setting\":\"segment.ms\"}],\"topic\":\"averages\"}\n"
    );
    assert_eq!(
        refused_on(&log, "topics alter averages"),
        "nothing to change: say --config, --reset or --partitions"
    );
    for wrong in ["--partitions 1", "--config retention.ms=soon", "--reset retention"] {
        refused_on(&log, &format!("topics alter averages {wrong}"));
    }
}

#[test]
fn what_cannot_be_taken_back_is_asked_for() {
    let log = log();
    assert_eq!(
        refused_on(&log, "topics delete readings averages"),
        "delete topic averages with 1 record, readings with 5 records? This cannot be taken back: say --yes"
    );
    for answer in ["", "n\n", "nyet\ny\n"] {
        assert!(run_with(&log, "topics delete readings", answer, true).is_err(), "{answer}");
    }
    assert_eq!(refused_on(&log, "topics delete readings reading --yes"), refused("consume reading"));
    assert_eq!(block_on(log.topics()).unwrap().len(), 2, "nothing was deleted so far");
    let deleted = run_with(&log, "topics delete readings", "y\n", true).unwrap();
    assert_eq!(deleted, "topic readings deleted: 5 records\n");
    let deleted = output_of(&log, "topics delete averages averages --yes", "").unwrap();
    assert_eq!(deleted, "topic averages deleted: 1 record\n");
    assert_eq!(block_on(log.topics()).unwrap(), []);
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
        "--offset 1 --time now",
        "--from-end --from-beginning",
        "--offset --5",
        "--time yesterday",
        "--follow --until now",
        "--until now --until-offset 5",
        "--json --format text",
        "--format pretty",
        "--format %z",
        "--offset 1 --from-beginning",
        "--partition 0 --offset 1 --group g",
        "--from-beginning --group g",
        "--max -1",
    ] {
        let command = format!("headwater consume readings {arguments}");
        assert!(Arguments::try_parse_from(command.split(' ')).is_err(), "{command}");
    }
}

#[test]
fn a_range_ends_where_it_is_told_to() {
    let offsets = |command: &str| -> Vec<String> {
        let format = format!("consume readings {command} --format %p:%o\\n");
        output(&format).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(offsets("--from-beginning"), ["0:0", "0:1", "0:2", "1:0", "1:1"]);
    assert_eq!(offsets("--offset -1"), ["0:2", "1:1"]);
    assert_eq!(offsets("--offset -9"), ["0:0", "0:1", "0:2", "1:0", "1:1"]);
    assert_eq!(offsets("--from-end"), Vec::<String>::new());
    assert_eq!(offsets("--partition 0 --until-offset 1"), ["0:0"]);
    assert_eq!(offsets("--partition 0 --offset 1 --until-offset 2"), ["0:1"]);
    assert_eq!(offsets("--partition 0 --until-offset 99"), ["0:0", "0:1", "0:2"]);
    // The clock says 11:15, and partition 0 was written from 11:30 on.
    assert_eq!(offsets("--time now"), ["0:0", "0:1", "0:2"]);
    assert_eq!(offsets("--time 2015-09-01T11:30:01Z"), ["0:1", "0:2"]);
    assert_eq!(offsets("--until 1_hour_ago"), ["1:0", "1:1"]);
    assert_eq!(offsets("--until 1441107001001"), ["0:0", "0:1", "1:0", "1:1"]);
    assert_eq!(offsets("--time 250 --until 251"), ["1:0"]);
    assert_eq!(refused("consume readings --until-offset 1"), refused("consume readings --offset 0"));
}

#[test]
fn a_format_prints_what_it_names() {
    check(
        "consume readings --partition 1 --max 1 --key fridge --format %t/%p/%o:%k=%s(%S)%T\\n",
        "readings/1/1:fridge=(-1)251\n",
    );
}

#[test]
fn following_ends_when_there_was_enough() {
    check("consume readings --follow --max 4 --format %p:%o\\n", "0:0\n0:1\n0:2\n1:0\n");
}

#[test]
fn groups_are_listed_and_described() {
    check("groups list", "GROUP      TOPICS    LAG\ndashboard  readings    1\n");
    check("groups list --json", "{\"group\":\"dashboard\",\"lag\":1,\"topics\":[\"readings\"]}\n");
    check(
        "groups describe dashboard",
        "TOPIC     PARTITION  COMMITTED  END  LAG  METADATA\nreadings          0          2    3    1  -\n",
    );
    check(
        "groups describe dashboard --json",
        "{\"committed\":2,\"end\":3,\"group\":\"dashboard\",\"lag\":1,\"metadata\":\"\",\"partition\":0,\"topic\":\"readings\"}\n",
    );
    assert_eq!(
        refused("groups describe board"),
        "there is no such group, or it has committed nothing: `headwater groups list` shows which there are. group=board"
    );
}

#[test]
fn a_group_is_sent_where_it_shall_go_on_and_only_when_asked_to() {
    let log = log();
    let reset = "groups reset-offsets dashboard --topic readings";
    let committed = |number| {
        let at = block_on(log.committed(&GroupId("dashboard".into()), &place("readings", number))).unwrap();
        at.map(|at| at.offset.0)
    };
    let heading = "TOPIC     PARTITION  OLD  NEW  LAG\n";
    assert_eq!(
        output_of(&log, &format!("{reset} --to-earliest"), "").unwrap(),
        format!(
            "{heading}readings          0  2      0    3\nreadings          1  -      0    2\n\n\
             nothing was changed: say --execute, and group dashboard goes on at NEW\n"
        )
    );
    assert_eq!((committed(0), committed(1)), (Some(2), None));
    for (to, offsets) in [
        ("--to-latest", (3, 2)),
        ("--to-earliest", (0, 0)),
        ("--to-offset 1", (1, 1)),
        ("--shift-by 1", (2, 2)),
        ("--shift-by -9", (0, 0)),
        ("--to-offset 9", (3, 2)),
        ("--to-time 2015-09-01T11:30:01Z", (1, 2)),
        ("--to-time 1_hour_ago", (0, 2)),
    ] {
        output_of(&log, &format!("{reset} {to} --execute"), "").unwrap();
        assert_eq!((committed(0), committed(1)), (Some(offsets.0), Some(offsets.1)), "{to}");
    }
    assert_eq!(
        output_of(&log, &format!("{reset} --partition 1 --to-earliest --execute --json"), "").unwrap(),
        "{\"executed\":true,\"group\":\"dashboard\",\"lag\":2,\"new\":0,\"old\":2,\"partition\":1,\"topic\":\"readings\"}\n"
    );
    assert_eq!(committed(0), Some(0), "the other partition stays");
    refused_on(&log, "groups reset-offsets new --topic readings --shift-by 1");
    refused_on(&log, "groups reset-offsets dashboard --topic readings --partition 2 --to-latest");
    output_of(&log, "groups reset-offsets new --topic readings --topic averages --to-latest --execute", "")
        .unwrap();
    assert_eq!(output_of(&log, "groups list", "").unwrap().lines().count(), 3);
}

#[test]
fn a_group_is_deleted() {
    let log = log();
    assert_eq!(
        refused_on(&log, "groups delete dashboard"),
        "delete group dashboard with 1 position? This cannot be taken back: say --yes"
    );
    assert_eq!(
        output_of(&log, "groups delete dashboard --yes", "").unwrap(),
        "group dashboard deleted: 1 position\n"
    );
    assert_eq!(output_of(&log, "groups list", "").unwrap(), "GROUP  TOPICS  LAG\n");
}

/// What a group is called may come from anywhere.
#[test]
fn names_and_metadata_do_a_terminal_no_harm() {
    let log = log();
    let committed = Committed { offset: Offset(1), metadata: b"\x1b[2J".as_slice().into() };
    let group = GroupId("\x1b[31mred".into());
    let positions = Positions::new(group, vec![(place("readings", 0), committed)]);
    block_on(log.commit_positions(&positions)).unwrap();
    for command in [
        "groups list",
        "groups list --json",
        "groups describe \x1b[31mred",
        "groups describe \x1b[31mred --json",
    ] {
        let output = output_of(&log, command, "").unwrap();
        assert!(output.contains("[31mred") || output.contains("[2J"), "{output}");
        assert!(!output.contains('\x1b'), "{output:?}");
    }
}
