//! Random lives of a log, with crashes, against vectors.

use std::collections::BTreeMap;

use headwater_core::Admin;
use proptest::prelude::*;

use super::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];
/// No topic has more.
const PARTITIONS_MAX: u32 = 4;

#[derive(Debug, Clone)]
enum Op {
    Create(usize, u32),
    /// Batches by topic, partition, records and size of each; then a position.
    Commit(Vec<(usize, u32, usize, usize)>, Option<u64>),
    Abort(usize, u32, usize),
    /// A topic gets segments of this size.
    Roll(usize, u64),
    Grow(usize),
    DeleteTopic(usize),
    /// Records of a partition before this one of a thousand.
    DeleteRecords(usize, u32, u64),
    DeleteGroup,
    NewProducer,
    Checkpoint,
    Reopen,
    Crash,
}

#[derive(Debug, Default)]
struct Model {
    /// All records that were ever written, with their times, and how many of them were deleted.
    partitions: BTreeMap<TopicPartition, (Vec<(i64, String)>, usize)>,
    positions: BTreeMap<TopicPartition, u64>,
    records: usize,
}

impl Model {
    fn has(&self, topic: usize) -> bool {
        self.partitions.contains_key(&tp(TOPICS[topic], 0))
    }

    fn partitions_of(&self, topic: usize) -> u32 {
        let of = self.partitions.keys().filter(|partition| partition.topic.as_str() == TOPICS[topic]);
        u32::try_from(of.count()).unwrap()
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let batch = (0usize..3, 0u32..3, 1usize..6, 0usize..400);
    let op = prop_oneof![
        3 => (0usize..3, 1u32..4).prop_map(|(t, n)| Op::Create(t, n)),
        8 => (prop::collection::vec(batch, 0..8), prop::option::of(0u64..100)).prop_map(|(b, p)| Op::Commit(b, p)),
        1 => (0usize..3, 0u32..3, 1usize..6).prop_map(|(t, p, n)| Op::Abort(t, p, n)),
        1 => (0usize..3, 100u64..3000).prop_map(|(t, bytes)| Op::Roll(t, bytes)),
        1 => (0usize..3).prop_map(Op::Grow),
        1 => (0usize..3).prop_map(Op::DeleteTopic),
        2 => (0usize..3, 0u32..3, 0u64..=1000).prop_map(|(t, p, part)| Op::DeleteRecords(t, p, part)),
        1 => Just(Op::DeleteGroup),
        1 => Just(Op::NewProducer),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..60)
}

fn settings() -> impl Strategy<Value = LogOptions> {
    let durability = prop_oneof![
        Just(Durability::Fsync),
        Just(Durability::Os),
        Just(Durability::Interval(Duration::from_millis(1))),
    ];
    let filed = prop_oneof![Just(0), 80usize..500, Just(usize::MAX)];
    let bytes = (200u64..20_000, 200u64..50_000, 0usize..20_000, 100usize..5_000);
    (durability, filed, bytes).prop_map(|(durability, filed_bytes_min, bytes)| {
        let (journal_segment_bytes, checkpoint_bytes, tail_bytes_max, queue_bytes_max) = bytes;
        LogOptions {
            durability,
            filed_bytes_min,
            journal_segment_bytes,
            checkpoint_bytes,
            tail_bytes_max,
            queue_bytes_max,
            open_files_max: 3,
            ..LogOptions::default()
        }
    })
}

struct Run {
    folder: TempDir,
    options: LogOptions,
    log: EmbeddedLog,
    producer: Box<dyn Producer>,
    model: Model,
}

impl Run {
    fn new(options: LogOptions) -> Self {
        let folder = disk::folder();
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        let producer = producer(&log, "p");
        Self { folder, options, log, producer, model: Model::default() }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Create(topic, partitions) if !self.model.has(topic) => {
                create(&self.log, TOPICS[topic], partitions, 1500);
                for partition in 0..partitions {
                    self.model.partitions.insert(tp(TOPICS[topic], partition), (Vec::new(), 0));
                }
            }
            Op::Commit(batches, position) => self.commit(&batches, position),
            Op::Abort(topic, partition, records) => {
                let to = tp(TOPICS[topic], partition);
                if self.model.partitions.contains_key(&to) {
                    append(&mut *self.producer, &to, &vec!["lost".into(); records]);
                }
                self.producer.abort();
            }
            Op::Roll(topic, bytes) if self.model.has(topic) => {
                life::alter(&self.log, TOPICS[topic], None, &[("segment.bytes", &bytes.to_string())]);
            }
            Op::Grow(topic) if self.model.has(topic) => {
                let partitions = (self.model.partitions_of(topic) + 1).min(PARTITIONS_MAX);
                life::alter(&self.log, TOPICS[topic], Some(partitions), &[]);
                self.model.partitions.entry(tp(TOPICS[topic], partitions - 1)).or_default();
            }
            Op::DeleteTopic(topic) if self.model.has(topic) => {
                life::delete_topic(&self.log, TOPICS[topic]).unwrap();
                let other = |partition: &TopicPartition| partition.topic.as_str() != TOPICS[topic];
                self.model.partitions.retain(|partition, _| other(partition));
                self.model.positions.retain(|partition, _| other(partition));
            }
            Op::DeleteRecords(topic, partition, part) => {
                let of = tp(TOPICS[topic], partition);
                let Some((records, deleted)) = self.model.partitions.get_mut(&of) else { return };
                let before = records.len() as u64 * part / 1000;
                *deleted = (*deleted).max(usize::try_from(before).unwrap());
                let left = block_on(self.log.delete_records(&of, Offset(before))).unwrap();
                assert_eq!(left.0, *deleted as u64);
            }
            Op::DeleteGroup => {
                let deleted = block_on(self.log.delete_group(&GroupId("g".into())));
                assert_eq!(deleted.is_ok(), !self.model.positions.is_empty());
                self.model.positions.clear();
            }
            Op::Create(..) | Op::Roll(..) | Op::Grow(_) | Op::DeleteTopic(_) => {}
            Op::NewProducer => self.producer = producer(&self.log, "p"),
            Op::Checkpoint => block_on(self.log.checkpoint()).unwrap(),
            Op::Reopen => {
                block_on(self.log.close()).unwrap();
                self.open();
                assert_eq!(self.log.recovery(), &RecoveryReport::default());
            }
            Op::Crash => {
                self.log.crash();
                self.open();
            }
        }
    }

    fn open(&mut self) {
        self.log = EmbeddedLog::open_with(self.folder.path(), self.options.clone()).unwrap();
        self.check();
        self.producer = producer(&self.log, "p");
    }

    fn commit(&mut self, batches: &[(usize, u32, usize, usize)], position: Option<u64>) {
        for (topic, partition, records, size) in batches {
            let to = tp(TOPICS[*topic], *partition);
            let Some((written, _)) = self.model.partitions.get_mut(&to) else { continue };
            let mut builder = BatchBuilder::default();
            for number in self.model.records..self.model.records + records {
                // Up and down, as those of sensors are.
                let time = i64::try_from(number * 7 + number * number % 50).unwrap();
                let value = format!("{number}{}", "-".repeat(*size));
                builder.push(Timestamp(time), Some(b"key"), Some(value.as_bytes()), &Headers::new());
                written.push((time, value));
            }
            self.model.records += records;
            self.producer.append(&to, &mut builder).unwrap();
        }
        let first = self.model.partitions.keys().next().cloned();
        let position = position.zip(first).map(|(offset, partition)| (partition, offset));
        let positions = position.as_ref().map(|(partition, offset)| at("g", partition, *offset));
        block_on(self.producer.commit(positions.as_ref())).unwrap();
        self.model.positions.extend(position);
    }

    fn check(&self) {
        for (partition, (records, deleted)) in &self.model.partitions {
            let left = records[*deleted..].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
            assert_eq!(values(&self.log, partition), left, "{partition}");
            let offsets = block_on(self.log.offsets(partition)).unwrap();
            assert_eq!((offsets.earliest.0, offsets.end.0), (*deleted as u64, records.len() as u64));
            let times = records.iter().map(|(time, _)| *time).step_by(5).chain([0, i64::MAX]);
            for time in times {
                let first = (0..).zip(records).skip(*deleted).find(|(_, (at, _))| *at >= time);
                let expected = first.map(|(offset, (at, _))| (Offset(offset), Timestamp(*at)));
                let found = block_on(self.log.offset_at(partition, Timestamp(time))).unwrap();
                assert_eq!(
                    found.map(|found| (found.offset, found.timestamp)),
                    expected,
                    "{partition}, {time}"
                );
            }
        }
        let topics = block_on(self.log.topics()).unwrap();
        assert!(
            topics.iter().flat_map(TopicSpec::topic_partitions).eq(self.model.partitions.keys().cloned())
        );
        let positions = block_on(self.log.positions(&GroupId("g".into()))).unwrap();
        let positions = positions.into_iter().map(|(partition, committed)| (partition, committed.offset.0));
        assert_eq!(positions.collect::<BTreeMap<_, _>>(), self.model.positions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_life_agrees_with_the_model(options in settings(), ops in ops()) {
        let mut run = Run::new(options);
        ops.into_iter().for_each(|op| run.apply(op));
        run.check();
    }
}
