//! What others do while a partition is compacted.

use super::*;

/// A disk on which the compaction waits, once, before the first thing that `waits` picks, until it is told to go on.
fn waiting_disk(
    waits: impl Fn(Op, &str) -> bool + Send + Sync + 'static,
) -> (Disk, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
    let (before, reaches, go) = waiting(waits);
    let disk = Disk::with(move |op, path| {
        before(op, path);
        Ok(())
    });
    (disk, reaches, go)
}

/// What waits, once, before the first thing that `waits` picks, until it is told to go on.
fn waiting(
    waits: impl Fn(Op, &str) -> bool + Send + Sync + 'static,
) -> (impl Fn(Op, &Path) + Send + Sync + 'static, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
    let (reached, reaches) = mpsc::sync_channel(1);
    let (go, goes) = mpsc::sync_channel::<()>(1);
    let once = Mutex::new(Some((reached, goes)));
    let before = move |op, path: &Path| {
        if !waits(op, path.to_str().unwrap()) {
            return;
        }
        let first = once.lock().unwrap().take();
        if let Some((reached, goes)) = first {
            reached.send(()).unwrap();
            // Whoever goes away lets it go on too.
            let _ = goes.recv();
        }
    };
    (before, reaches, go)
}

/// Asks for a compaction, elsewhere.
fn cleaning(log: &EmbeddedLog) -> JoinHandle<Result<Cleaned>> {
    let log = log.clone();
    thread::spawn(move || block_on(log.clean()))
}

#[test]
fn a_topic_may_go_and_come_again_meanwhile() {
    let picks: [fn(Op, &str) -> bool; 4] = [
        |op, path| op == Op::Open(Open::Truncate) && path.ends_with(".log.cleaned"),
        |op, path| op == Op::SyncFile && path.ends_with(".log.cleaned"),
        |op, path| op == Op::Open(Open::Truncate) && path.ends_with("index.cleaned"),
        |op, path| op == Op::Write && path.ends_with("index.cleaned"),
    ];
    for (number, pick) in picks.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, reaches, go) = waiting_disk(pick);
        let log = disk.open_log(folder.path(), tiny()).unwrap();
        create_compacted(&log, 1, compacting(800));
        fill(&log, 20);
        let cleaning = cleaning(&log);
        reaches.recv().unwrap();
        block_on(log.delete_topic(&TopicName::new("t").unwrap())).unwrap();
        create_compacted(&log, 1, compacting(120));
        fill(&log, 20);
        block_on(log.checkpoint()).unwrap();
        let before = all_rows(&log, &tp("t", 0));
        go.send(()).unwrap();
        cleaning.join().unwrap().unwrap();
        assert_eq!(all_rows(&log, &tp("t", 0)), before, "{number}");
        log.crash();
        let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
        assert_eq!(all_rows(&log, &tp("t", 0)), before, "{number}");
        assert_eq!(leftovers(&partition_folder(folder.path(), 0)), Vec::<String>::new(), "{number}");
    }
}

#[test]
fn records_may_be_deleted_meanwhile() {
    for before in [1, 5, 20, 60] {
        let folder = tempfile::tempdir().unwrap();
        let (disk, reaches, go) =
            waiting_disk(|op, path| op == Op::SyncFile && path.ends_with(".log.cleaned"));
        let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
        create_compacted(&log, 1, compacting(800));
        fill(&log, 20);
        let old = all_rows(&log, &tp("t", 0));
        let cleaning = cleaning(&log);
        reaches.recv().unwrap();
        block_on(log.delete_records(&tp("t", 0), Offset(before))).unwrap();
        go.send(()).unwrap();
        cleaning.join().unwrap().unwrap();
        let expected: Vec<_> = old.into_iter().filter(|(offset, ..)| *offset >= before).collect();
        assert_eq!(values_of(&all_rows(&log, &tp("t", 0))), values_of(&expected), "{before}");
        block_on(log.clean()).unwrap();
        log.crash();
        let log = EmbeddedLog::open(folder.path()).unwrap();
        let left = all_rows(&log, &tp("t", 0));
        assert_eq!(values_of(&left), values_of(&expected), "{before}");
        assert!(left.iter().all(|row| expected.contains(row)));
    }
}

/// A pass reads what was there when it began. Segments that went since are no damage, in whichever part of it.
#[test]
fn records_may_be_deleted_while_they_are_read() {
    for opened in [2, 15] {
        let folder = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let (armed_there, count) = (Arc::clone(&armed), AtomicU64::new(0));
        let (disk, reaches, go) = waiting_disk(move |op, path| {
            let opens = op == Op::Open(Open::Read) && path.contains("topics/t/0") && path.ends_with(".log");
            armed_there.load(Ordering::SeqCst) && opens && count.fetch_add(1, Ordering::SeqCst) + 1 == opened
        });
        let log = disk.open_log(folder.path(), LogOptions { open_files_max: 1, ..tiny() }).unwrap();
        create_compacted(&log, 1, compacting(800));
        fill(&log, 20);
        block_on(log.checkpoint()).unwrap();
        armed.store(true, Ordering::SeqCst);
        let cleaning = cleaning(&log);
        reaches.recv().unwrap();
        block_on(log.delete_records(&tp("t", 0), Offset(50))).unwrap();
        go.send(()).unwrap();
        cleaning.join().unwrap().unwrap();
        let left = all_rows(&log, &tp("t", 0));
        assert!(block_on(log.clean()).unwrap().compacted_bytes > 0);
        assert_eq!(values_of(&all_rows(&log, &tp("t", 0))), values_of(&left));
    }
}

#[test]
fn what_was_not_put_in_place_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, reaches, go) = waiting_disk(|op, path| op == Op::SyncFile && path.ends_with(".log.cleaned"));
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(800));
    fill(&log, 20);
    let cleaning = cleaning(&log);
    reaches.recv().unwrap();
    block_on(log.delete_records(&tp("t", 0), Offset(20))).unwrap();
    go.send(()).unwrap();
    let cleaned = cleaning.join().unwrap().unwrap();
    assert_eq!((cleaned.compacted_bytes, cleaned.kept_bytes), (0, 0));
}

/// Whether somebody can write, who need not wait for the compaction.
fn commits_go_on(log: &EmbeddedLog) -> bool {
    let (written, writes) = mpsc::sync_channel(1);
    let log = log.clone();
    thread::spawn(move || {
        for _ in 0..3 {
            put(&mut *producer(&log, "q"), &tp("t", 0), &[("d", Some("d"))]);
        }
        written.send(())
    });
    writes.recv_timeout(Duration::from_secs(30)).is_ok()
}

#[test]
fn commits_go_on_while_a_new_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, reaches, go) = waiting_disk(|op, path| op == Op::RemoveFile && path.ends_with(".cleaned"));
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(300));
    let mut p = producer(&log, "p");
    for number in 0..5 {
        put(&mut *p, &tp("t", 0), &[(&format!("key {number}"), Some(&"-".repeat(200)))]);
    }
    let cleaning = cleaning(&log);
    reaches.recv().unwrap();
    let gone_on = commits_go_on(&log);
    go.send(()).unwrap();
    assert!(gone_on, "a commit waits for a file to be removed");
    cleaning.join().unwrap().unwrap();
}

/// Files that were replaced while somebody searched take their room until they are closed.
#[cfg(target_os = "linux")]
#[test]
fn a_search_that_was_overtaken_leaves_no_file_open() {
    let folder = tempfile::tempdir().unwrap();
    let files = fs::canonicalize(folder.path()).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let (armed_there, count) = (Arc::clone(&armed), AtomicU64::new(0));
    let (search, search_reaches, search_goes) = waiting(move |op, path| {
        let opens = op == Op::Open(Open::Read) && path.contains("topics/t/0") && path.ends_with(".log");
        armed_there.load(Ordering::SeqCst) && opens && count.fetch_add(1, Ordering::SeqCst) + 1 == 3
    });
    let (remove, remove_reaches, remove_goes) =
        waiting(|op, path| op == Op::RemoveFile && path.contains("topics/t/0") && path.ends_with(".log"));
    let disk = Disk::with(move |op, path| {
        search(op, path);
        remove(op, path);
        Ok(())
    });
    let options = || LogOptions { open_files_max: 10_000, ..LogOptions::default() };
    let log = disk.open_log(folder.path(), options()).unwrap();
    create_compacted(&log, 1, compacting(450));
    fill(&log, 10);
    block_on(log.checkpoint()).unwrap();
    let settings = vec![("segment.bytes".into(), Some("2000".into()))];
    let changes = TopicChanges { partitions: None, settings };
    block_on(log.alter_topic(&TopicName::new("t").unwrap(), &changes)).unwrap();
    block_on(log.close()).unwrap();
    // Now nobody knows how old the records of a segment are.
    let log = disk.open_log(folder.path(), options()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let search = thread::spawn({
        let log = log.clone();
        move || block_on(log.offset_at(&tp("t", 0), Timestamp(8)))
    });
    search_reaches.recv().unwrap();
    let cleaning = cleaning(&log);
    remove_reaches.recv().unwrap();
    search_goes.send(()).unwrap();
    assert_eq!(search.join().unwrap().unwrap(), None);
    remove_goes.send(()).unwrap();
    cleaning.join().unwrap().unwrap();
    let open =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let gone: Vec<_> = open
        .filter(|path| path.starts_with(&files) && path.to_str().unwrap().ends_with("(deleted)"))
        .collect();
    assert_eq!(gone, Vec::<PathBuf>::new());
}

#[test]
fn a_log_is_closed_while_it_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, reaches, go) = waiting_disk(|op, path| op == Op::Write && path.ends_with(".log.cleaned"));
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(300));
    fill(&log, 20);
    let before = all_rows(&log, &tp("t", 0));
    let first = cleaning(&log);
    reaches.recv().unwrap();
    // One more, who comes too late for this one.
    let second = cleaning(&log);
    let closing = thread::spawn({
        let log = log.clone();
        move || block_on(log.close())
    });
    while !log.0.shared.queue.is_closed() {
        thread::yield_now();
    }
    go.send(()).unwrap();
    closing.join().unwrap().unwrap();
    for asked in [first, second] {
        assert_eq!(asked.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
    let log = EmbeddedLog::open(folder.path()).unwrap();
    assert_eq!(all_rows(&log, &tp("t", 0)), before);
    assert_eq!(leftovers(&partition_folder(folder.path(), 0)), Vec::<String>::new());
    assert!(block_on(log.clean()).unwrap().compacted_bytes > 0);
}

#[test]
fn two_who_ask_are_both_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, reaches, go) = waiting_disk(|op, path| op == Op::Write && path.ends_with(".log.cleaned"));
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(300));
    fill(&log, 20);
    let first = cleaning(&log);
    reaches.recv().unwrap();
    fill(&log, 20);
    let second = cleaning(&log);
    // It is in line when something that came after it was answered.
    fill(&log, 1);
    go.send(()).unwrap();
    let (first, second) = (first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
    assert!(first.compacted_bytes > 0 && second.compacted_bytes > 0, "{first:?}, {second:?}");
}

/// An index that is made again of a file that is about to be replaced must not become that of the new one.
#[test]
fn an_index_may_be_made_again_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, reaches, go) =
        waiting_disk(|op, path| op == Op::Write && path.contains("topics/t") && path.ends_with(".new"));
    let log =
        disk.open_log(folder.path(), LogOptions { tail_bytes_max: 0, ..LogOptions::default() }).unwrap();
    create_compacted(&log, 1, compacting(20_000));
    let mut p = producer(&log, "p");
    for number in 0..90 {
        put(&mut *p, &tp("t", 0), &[(&format!("key {}", number % 3), Some(&"-".repeat(1000)))]);
    }
    block_on(log.checkpoint()).unwrap();
    let files = partition_folder(folder.path(), 0);
    fs::remove_file(files.join(format!("{:020}.index", 0))).unwrap();
    let reading = thread::spawn({
        let log = log.clone();
        move || rows(&log, &tp("t", 0), Offset(12), 0).unwrap()
    });
    reaches.recv().unwrap();
    let cleaning = cleaning(&log);
    // The compaction has decided, and waits for the reader. Nobody else does.
    while !leftovers(&files).iter().any(|name| name.ends_with(".swap")) {
        thread::yield_now();
    }
    let gone_on = commits_go_on(&log);
    go.send(()).unwrap();
    assert!(gone_on, "a commit waits for an index to be made again");
    assert!(!reading.join().unwrap().is_empty());
    cleaning.join().unwrap().unwrap();
    assert!(numbered(&files, "index").contains(&0));
    check_files(folder.path());
    assert_eq!(values_of(&all_rows(&log, &tp("t", 0))).len(), 4);
}

/// What was written, by offset.
type Written = Mutex<Vec<(String, Option<String>)>>;

/// Whoever reads finds what was written, wherever they are and whatever happens meanwhile.
fn read_at_random(log: &dyn Log, written: &Written, seed: u64) -> u64 {
    let mut random = seed | 1;
    let mut found = 0;
    for round in 0.. {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let end = block_on(log.offsets(&tp("t", 0))).unwrap().end.0;
        let from = if end == 0 { 0 } else { random % end };
        let rows = rows(log, &tp("t", 0), Offset(from), if random & 64 == 0 { 0 } else { 500 }).unwrap();
        let written = written.lock().unwrap();
        for (offset, key, value, _) in &rows {
            let index = usize::try_from(*offset).unwrap();
            assert!(
                written.get(index).is_none_or(|row| row == &(key.clone(), value.clone())),
                "offset {offset}"
            );
        }
        drop(written);
        found += rows.len() as u64;
        let at = block_on(log.offset_at(&tp("t", 0), Timestamp(7))).unwrap();
        assert!(at.is_some() || end == 0);
        assert_eq!(block_on(log.offset_at(&tp("t", 0), Timestamp(8))).unwrap(), None);
        if end >= 600 && round > 20 {
            return found;
        }
    }
    found
}

#[test]
fn readers_find_what_was_written_while_it_is_compacted() {
    for options in [tiny(), LogOptions { tail_bytes_max: 0, ..LogOptions::default() }] {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
        create_compacted(&log, 1, compacting(900));
        let observed = ObservedLog::open(folder.path()).unwrap();
        let written = Written::default();
        thread::scope(|scope| {
            let readers: Vec<_> = [1, 2]
                .map(|seed| {
                    scope.spawn({
                        let (log, written) = (&log, &written);
                        move || read_at_random(log, written, seed)
                    })
                })
                .into();
            let observer = scope.spawn(|| read_at_random(&observed, &written, 3));
            let mut p = producer(&log, "p");
            for number in 0..600u64 {
                let (key, value) = (format!("key {}", number % 7), format!("{number}{}", "-".repeat(40)));
                written.lock().unwrap().push((key.clone(), Some(value.clone())));
                put(&mut *p, &tp("t", 0), &[(&key, Some(&value))]);
                if number % 10 == 9 {
                    assert!(block_on(log.clean()).unwrap().compacted_bytes > 0 || number < 50);
                }
            }
            let found: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(found > 0 && observer.join().unwrap() > 0);
        });
    }
}
