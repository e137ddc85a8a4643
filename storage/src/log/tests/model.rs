//! Random lives of a log, with crashes, against vectors.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TOPICS: [(&str, u32); 3] = [("a", 1), ("b", 3), ("c", 2)];

#[derive(Debug, Clone)]
enum Op {
    Create(usize),
    /// Batches by topic, partition, records and size of each; then a position.
    Commit(Vec<(usize, u32, usize, usize)>, Option<u64>),
    Abort(usize, u32, usize),
    NewProducer,
    Checkpoint,
    Reopen,
    Crash,
}

#[derive(Debug, Default)]
struct Model {
    topics: BTreeMap<TopicPartition, Vec<String>>,
    position: Option<(TopicPartition, u64)>,
    records: usize,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let batch = (0usize..3, 0u32..3, 1usize..6, 0usize..400);
    let op = prop_oneof![
        2 => (0usize..3).prop_map(Op::Create),
        8 => (prop::collection::vec(batch, 0..8), prop::option::of(0u64..100)).prop_map(|(b, p)| Op::Commit(b, p)),
        1 => (0usize..3, 0u32..3, 1usize..6).prop_map(|(t, p, n)| Op::Abort(t, p, n)),
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
    (durability, 200u64..20_000, 200u64..50_000, 0usize..20_000, 100usize..5_000).prop_map(
        |(durability, journal_segment_bytes, checkpoint_bytes, tail_bytes_max, queue_bytes_max)| LogOptions {
            durability,
            journal_segment_bytes,
            checkpoint_bytes,
            tail_bytes_max,
            queue_bytes_max,
            open_files_max: 3,
            ..LogOptions::default()
        },
    )
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
            Op::Create(topic) => {
                let (name, partitions) = TOPICS[topic];
                create(&self.log, name, partitions, 1500);
                for partition in 0..partitions {
                    self.model.topics.entry(tp(name, partition)).or_default();
                }
            }
            Op::Commit(batches, position) => self.commit(&batches, position),
            Op::Abort(topic, partition, records) => {
                let to = tp(TOPICS[topic].0, partition);
                if self.model.topics.contains_key(&to) {
                    append(&mut *self.producer, &to, &vec!["lost".into(); records]);
                }
                self.producer.abort();
            }
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
            let to = tp(TOPICS[*topic].0, *partition);
            let Some(values) = self.model.topics.get_mut(&to) else { continue };
            let from = self.model.records;
            self.model.records += records;
            let batch: Vec<_> = (from..from + records).map(|n| format!("{n}{}", "-".repeat(*size))).collect();
            append(&mut *self.producer, &to, &batch);
            values.extend(batch);
        }
        let first = self.model.topics.keys().next().cloned();
        let position = position.zip(first).map(|(offset, partition)| (partition, offset));
        let positions = position.as_ref().map(|(partition, offset)| at("g", partition, *offset));
        block_on(self.producer.commit(positions.as_ref())).unwrap();
        // Only the first topic by name can have a position: creating `a` later begins another.
        self.model.position = position.or(self.model.position.take());
    }

    fn check(&self) {
        for (partition, expected) in &self.model.topics {
            assert_eq!(&values(&self.log, partition), expected, "{partition}");
        }
        let topics = block_on(self.log.topics()).unwrap();
        assert_eq!(
            topics.iter().map(|topic| topic.partitions.get() as usize).sum::<usize>(),
            self.model.topics.len()
        );
        if let Some((partition, offset)) = &self.model.position {
            assert_eq!(position(&self.log, "g", partition), Some(*offset));
        }
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
