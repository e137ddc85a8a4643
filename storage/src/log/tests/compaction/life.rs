//! Random lives of compacted partitions: crashes, restarts, deletions.

use super::{crash::changes, *};

/// Keys and values, by partition.
type Batches = Vec<(u32, Vec<(u8, Option<u16>)>)>;

#[derive(Debug, Clone)]
enum Act {
    Commit(Batches),
    Clean,
    Delete(u32, u8),
    Wait(i64),
    Checkpoint,
    Reopen,
    Crash,
    /// A crash when compaction has done so much.
    CleanAndCrash(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let rows = prop::collection::vec((0u8..8, prop::option::weighted(0.7, any::<u16>())), 1..8);
    let act = prop_oneof![
        10 => prop::collection::vec((0u32..2, rows), 1..4).prop_map(Act::Commit),
        3 => Just(Act::Clean),
        1 => (0u32..2, any::<u8>()).prop_map(|(partition, part)| Act::Delete(partition, part)),
        1 => (0i64..20).prop_map(Act::Wait),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Reopen),
        1 => Just(Act::Crash),
        2 => (0u64..60).prop_map(Act::CleanAndCrash),
    ];
    prop::collection::vec(act, 1..50)
}

struct Life {
    folder: TempDir,
    clock: Arc<ManualClock>,
    /// The disk fails when so much was changed; 0 for never.
    fails_after: Arc<AtomicU64>,
    log: EmbeddedLog,
    /// All rows that were written, by partition.
    written: [Vec<Row>; 2],
}

impl Life {
    fn new(config: TopicConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, fails_after) =
            (Arc::new(ManualClock::new(Timestamp(0))), Arc::new(AtomicU64::new(u64::MAX)));
        let log = Self::open(&folder, &clock, &fails_after);
        create_compacted(&log, 2, config);
        Self { folder, clock, fails_after, log, written: Default::default() }
    }

    fn open(folder: &TempDir, clock: &Arc<ManualClock>, fails_after: &Arc<AtomicU64>) -> EmbeddedLog {
        fails_after.store(u64::MAX, Ordering::SeqCst);
        let left = Arc::clone(fails_after);
        let disk = Disk::with(move |op, path| {
            let compacts = path.to_str().unwrap().contains("topics/t/") && changes(op);
            let fails = compacts
                && left.load(Ordering::SeqCst) != u64::MAX
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
            if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        });
        let options = LogOptions { clock: Arc::clone(clock) as Arc<dyn Clock>, ..tiny() };
        disk.open_log(folder.path(), options).unwrap()
    }

    fn apply(&mut self, act: Act) {
        match act {
            Act::Commit(batches) => self.commit(&batches),
            Act::Clean => drop::<Cleaned>(block_on(self.log.clean()).unwrap()),
            Act::Delete(partition, part) => {
                let end = self.written[partition as usize].len() as u64;
                let before = Offset(end * u64::from(part) / 255);
                block_on(self.log.delete_records(&tp("t", partition), before)).unwrap();
            }
            Act::Wait(ms) => self.clock.advance_ms(ms),
            Act::Checkpoint => block_on(self.log.checkpoint()).unwrap(),
            Act::Reopen => {
                block_on(self.log.close()).unwrap();
                self.log = Self::open(&self.folder, &self.clock, &self.fails_after);
                assert_eq!(self.log.recovery(), &RecoveryReport::default());
            }
            Act::Crash => self.crash(),
            Act::CleanAndCrash(steps) => {
                block_on(self.log.checkpoint()).unwrap();
                self.fails_after.store(steps, Ordering::SeqCst);
                // It may be enough.
                let _ = block_on(self.log.clean());
                self.crash();
            }
        }
        self.check();
    }

    fn crash(&mut self) {
        self.log.crash();
        self.log = Self::open(&self.folder, &self.clock, &self.fails_after);
    }

    fn commit(&mut self, batches: &Batches) {
        let mut p = producer(&self.log, "p");
        for (partition, rows) in batches {
            let mut builder = BatchBuilder::default();
            for (key, value) in rows {
                let written = &mut self.written[*partition as usize];
                let (key, value) =
                    (format!("key {key}"), value.map(|value| format!("{value}{}", "-".repeat(20))));
                let time = self.clock.now().0;
                builder.push(
                    Timestamp(time),
                    Some(key.as_bytes()),
                    value.as_ref().map(String::as_bytes),
                    &Headers::new(),
                );
                written.push((written.len() as u64, key, value, time));
            }
            p.append(&tp("t", *partition), &mut builder).unwrap();
        }
        block_on(p.commit(None)).unwrap();
    }

    fn check(&self) {
        for (partition, written) in (0..).zip(&self.written) {
            let offsets = block_on(self.log.offsets(&tp("t", partition))).unwrap();
            assert_eq!(offsets.end.0, written.len() as u64);
            let left = all_rows(&self.log, &tp("t", partition));
            assert!(left.is_sorted());
            assert!(left.iter().all(|row| row == &written[usize::try_from(row.0).unwrap()]));
            // Deleted records are gone, also those whose key has no other.
            let last: BTreeMap<_, _> = written.iter().map(|row| (row.1.as_str(), row)).collect();
            let kept = last.into_values().filter(|row| row.0 >= offsets.earliest.0 && row.2.is_some());
            let kept: BTreeMap<_, _> = kept.map(|row| (row.1.as_str(), row.2.as_deref().unwrap())).collect();
            assert_eq!(values_of(&left), kept);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_life_keeps_the_value_of_each_key(
        acts in acts(),
        segment_bytes in 100u64..1500,
        retention in 0u64..30,
        lag in prop_oneof![3 => Just(0u64), 1 => 1u64..30],
        ratio in prop_oneof![Just(0.0), Just(0.5)],
    ) {
        let config = TopicConfig {
            delete_retention_ms: retention,
            min_compaction_lag_ms: lag,
            min_cleanable_dirty_ratio: ratio,
            ..compacting(segment_bytes)
        };
        let mut life = Life::new(config);
        acts.into_iter().for_each(|act| life.apply(act));
    }
}
