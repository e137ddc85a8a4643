//! A process that dies and a power cut at any step: all of a swap, or nothing.

use super::*;

/// Every step of a compaction is the last one that the process does, and then some of those of the recovery.
#[test]
fn a_crash_at_any_step_leaves_all_or_nothing() {
    let mut steps = 0;
    let options = || LogOptions { tail_bytes_max: 0, ..tiny() };
    for last in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let (armed, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (armed_there, count_there) = (Arc::clone(&armed), Arc::clone(&count));
        let disk = Disk::with(move |op, path| {
            let of_compaction = path.to_str().unwrap().contains("topics/t/0");
            if armed_there.load(Ordering::SeqCst) && changes(op) && of_compaction {
                let number = count_there.fetch_add(1, Ordering::SeqCst) + 1;
                if number > last {
                    return Err(io::Error::from_raw_os_error(EIO));
                }
            }
            Ok(())
        });
        let log = disk.open_log(folder.path(), options()).unwrap();
        create_compacted(&log, 1, TopicConfig { delete_retention_ms: 0, ..compacting(700) });
        let mut p = producer(&log, "p");
        for round in 0..8 {
            let value = format!("{round}{}", "-".repeat(60));
            put(&mut *p, &tp("t", 0), &[("a", Some(&value)), ("b", Some(&value))]);
            put(&mut *p, &tp("t", 0), &[(if round < 5 { "c" } else { "b" }, None), ("d", Some("d"))]);
        }
        block_on(log.checkpoint()).unwrap();
        let before = all_rows(&log, &tp("t", 0));
        armed.store(true, Ordering::SeqCst);
        let cleaned = block_on(log.clean());
        armed.store(false, Ordering::SeqCst);
        assert_eq!(cleaned.is_ok(), count.load(Ordering::SeqCst) <= last, "{last}: {cleaned:?}");
        assert_eq!(
            values_of(&all_rows(&log, &tp("t", 0))),
            values_of(&before),
            "still open, after step {last}"
        );
        log.crash();
        drop((p, log));
        recover_with_crashes(folder.path(), &options(), last);
        let log = EmbeddedLog::open_with(folder.path(), options()).unwrap();
        let after = all_rows(&log, &tp("t", 0));
        assert!(after.iter().all(|row| before.contains(row)), "step {last}");
        assert_eq!(values_of(&after), values_of(&before), "step {last}");
        assert_eq!(leftovers(&partition_folder(folder.path(), 0)), Vec::<String>::new(), "step {last}");
        // Twice, so that tombstones are gone.
        block_on(log.clean()).unwrap();
        put(&mut *producer(&log, "p"), &tp("t", 0), &[("e", Some(&"-".repeat(700)))]);
        block_on(log.clean()).unwrap();
        let left = all_rows(&log, &tp("t", 0));
        assert_eq!(left.iter().filter(|(.., value, _)| value.is_some()).count(), 3, "step {last}: {left:?}");
        steps = last;
        if cleaned.is_ok() {
            break;
        }
    }
    assert!(steps > 30, "a compaction has more steps: {steps}");
}

pub(super) fn changes(op: Op) -> bool {
    let opens = matches!(op, Op::Open(Open::Write | Open::Create | Open::Truncate));
    opens
        || matches!(op, Op::SyncFolder | Op::Rename | Op::RemoveFile | Op::Write | Op::SetLen | Op::SyncFile)
}

/// Some recoveries that come no further than to some step.
fn recover_with_crashes(folder: &Path, options: &LogOptions, seed: u64) {
    for last in (seed % 7..).step_by(5) {
        let count = AtomicU64::new(0);
        let disk = Disk::with(move |op, path| {
            let of_compaction = path.to_str().unwrap().contains("topics/t/0") && changes(op);
            if of_compaction && count.fetch_add(1, Ordering::SeqCst) >= last {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            Ok(())
        });
        if let Ok(log) = disk.open_log(folder, options.clone()) {
            log.crash();
            return;
        }
    }
}

/// A folder of a partition with the given files.
struct State {
    files: BTreeMap<String, Vec<u8>>,
}

impl State {
    fn read(folder: &Path) -> Self {
        let files = contents(folder).into_iter();
        let name = |path: String| Path::new(&path).file_name().unwrap().to_str().unwrap().to_owned();
        Self { files: files.map(|(path, bytes)| (name(path), bytes)).collect() }
    }

    fn write(&self, folder: &Path) {
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir(folder).unwrap();
        self.files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
}

/// A log of one partition, before and after a compaction that made one segment of all but the active one.
struct BeforeAndAfter {
    folder: TempDir,
    files: PathBuf,
    old: State,
    old_rows: Vec<Row>,
    new: State,
    new_rows: Vec<Row>,
    bases: Vec<u64>,
}

impl BeforeAndAfter {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = partition_folder(folder.path(), 0);
        let log = EmbeddedLog::open(folder.path()).unwrap();
        create_compacted(&log, 1, compacting(250));
        fill(&log, 2);
        let old_rows = all_rows(&log, &tp("t", 0));
        block_on(log.close()).unwrap();
        let (old, bases) = (State::read(&files), numbered(&files, "log"));
        let log = EmbeddedLog::open(folder.path()).unwrap();
        let settings = vec![("segment.bytes".into(), Some("1000000".into()))];
        let changes = TopicChanges { partitions: None, settings };
        block_on(log.alter_topic(&TopicName::new("t").unwrap(), &changes)).unwrap();
        block_on(log.clean()).unwrap();
        let new_rows = all_rows(&log, &tp("t", 0));
        block_on(log.close()).unwrap();
        let new = State::read(&files);
        assert!(
            bases.len() > 3 && numbered(&files, "log") == [bases[0], bases[bases.len() - 1]],
            "{bases:?}"
        );
        Self { folder, files, old, old_rows, new, new_rows, bases }
    }

    fn log_name(&self) -> String {
        format!("{:020}.log", self.bases[0])
    }

    fn mark(&self, state: &mut State) {
        let (first, active) = (self.bases[0], self.bases[self.bases.len() - 1]);
        state.files.insert(format!("{first:020}-{active:020}.swap"), Vec::new());
    }

    /// Opens a log with these files.
    fn check(&self, state: &State, expected: &[Row], what: &str) {
        state.write(&self.files);
        let log = EmbeddedLog::open(self.folder.path()).unwrap();
        assert_eq!(all_rows(&log, &tp("t", 0)), expected, "{what}");
        for time in [7, 8] {
            let found = block_on(log.offset_at(&tp("t", 0), Timestamp(time))).unwrap();
            assert_eq!(found.map(|found| found.offset.0), (time == 7).then(|| expected[0].0), "{what}");
        }
        assert_eq!(leftovers(&self.files), Vec::<String>::new(), "{what}");
        block_on(log.close()).unwrap();
    }
}

/// What the disk may hold after a power cut before the new file has its name.
#[test]
fn a_power_cut_before_the_marker_leaves_nothing_and_after_it_all() {
    let logs = BeforeAndAfter::make();
    let whole = &logs.new.files[&logs.log_name()][..];
    for (marked, cleaned, is_done, what) in [
        (false, Some(whole), false, "written, not decided"),
        (true, Some(whole), true, "decided"),
        (true, Some(&whole[..100]), false, "no power cut does this: decided, half written"),
        (true, Some(&[][..]), false, "no power cut does this: decided, not written"),
        (true, None, false, "no power cut does this: decided, not there"),
        (false, None, false, "nothing"),
    ] {
        let mut state = State { files: logs.old.files.clone() };
        if marked {
            logs.mark(&mut state);
        }
        if let Some(bytes) = cleaned {
            state.files.insert(format!("{}.cleaned", logs.log_name()), bytes.to_vec());
            state.files.insert(format!("{:020}.index.cleaned", logs.bases[0]), b"whatever".to_vec());
        }
        logs.check(&state, if is_done { &logs.new_rows } else { &logs.old_rows }, what);
    }
}

/// The new file has its name, and the disk knows of any of the removals, or of none.
#[test]
fn a_power_cut_after_the_rename_leaves_all() {
    let logs = BeforeAndAfter::make();
    let removable = &logs.bases[1..logs.bases.len() - 1];
    for removed in 0u32..1 << removable.len() {
        let mut state = State { files: logs.old.files.clone() };
        state.files.insert(logs.log_name(), logs.new.files[&logs.log_name()].clone());
        logs.mark(&mut state);
        for (number, base) in removable.iter().enumerate() {
            if removed & (1 << number) != 0 {
                state.files.remove(&format!("{base:020}.log"));
            }
        }
        logs.check(&state, &logs.new_rows, &format!("renamed, {removed:b} removed"));
        // Whoever looks from outside while they are removed, the first one first, finds records too.
        if (removed + 1).is_power_of_two() {
            state.write(&logs.files);
            let observed = ObservedLog::open(logs.folder.path()).unwrap();
            assert_eq!(values_of(&all_rows(&observed, &tp("t", 0))), values_of(&logs.new_rows));
        }
    }
    let mut state = State { files: logs.new.files.clone() };
    logs.mark(&mut state);
    logs.check(&state, &logs.new_rows, "done, but for the marker");
}

/// What a kill leaves of a swap is not damaged: whoever opens the log next ends it.
#[test]
fn a_swap_that_was_interrupted_is_no_damage() {
    let logs = BeforeAndAfter::make();
    let (name, index) = (logs.log_name(), format!("{:020}.index", logs.bases[0]));
    let new_log = &logs.new.files[&name];
    let mut state = State { files: logs.old.files.clone() };
    logs.mark(&mut state);
    state.files.insert(format!("{name}.cleaned"), new_log.clone());
    state.write(&logs.files);
    check_files(logs.folder.path());
    // The log has its name, and its indexes have not; then the others go, one by one.
    state.files.remove(&format!("{name}.cleaned"));
    state.files.insert(name, new_log.clone());
    state.files.insert(index, vec![0, 0, 0, 1, 0, 0, 0, 80]);
    for base in &logs.bases[1..] {
        state.write(&logs.files);
        check_files(logs.folder.path());
        state.files.remove(&format!("{base:020}.log"));
    }
    // Whoever ends it leaves no index of what was there before.
    let active = format!("{:020}.log", logs.bases[logs.bases.len() - 1]);
    let bytes = logs.new.files[&active].clone();
    state.files.insert(active, bytes);
    state.write(&logs.files);
    block_on(EmbeddedLog::open(logs.folder.path()).unwrap().close()).unwrap();
    assert_eq!(leftovers(&logs.files), Vec::<String>::new());
    check_files(logs.folder.path());
}
