//! The share is kept, told by a clock of the test; and what reaches the file below, in which order.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn account(part: f64) -> Account {
    Account { share: DiskShare::new(part).unwrap(), ready: None }
}

#[test]
fn the_disk_is_left_alone_until_the_share_is_kept() {
    let begin = Instant::now();
    let mut account = account(0.25);
    assert_eq!(account.wait(begin), Duration::ZERO, "nobody used it yet");
    account.charge(begin, MS);
    assert_eq!(account.wait(begin + MS), 3 * MS);
    assert_eq!(account.wait(begin + 3 * MS), MS);
    assert_eq!(account.wait(begin + 4 * MS), Duration::ZERO);
    // Who comes late has waited for a part of it already.
    account.charge(begin + 6 * MS, MS);
    assert_eq!(account.wait(begin + 7 * MS), MS);
}

/// A second of use, whenever it is allowed.
#[test]
fn over_time_it_is_used_for_the_share_and_no_more() {
    for part in [0.01, 0.1, 0.25, 0.5, 0.9] {
        let begin = Instant::now();
        let (mut account, mut now, mut used) = (account(part), begin, Duration::ZERO);
        for step in 0..1000 {
            let time = Duration::from_micros(100 + 37 * (step % 50));
            account.charge(now, time);
            used += time;
            now += time;
            now += account.wait(now);
        }
        let share = used.as_secs_f64() / (now - begin).as_secs_f64();
        assert!((share - part).abs() < part / 100.0, "{share} instead of {part}");
    }
}

#[test]
fn time_in_which_nobody_used_it_is_made_up_for_by_a_moment_only() {
    let begin = Instant::now();
    let mut account = account(0.5);
    account.charge(begin, MS);
    let later = begin + Duration::from_secs(3600);
    let mut now = later;
    let mut used = Duration::ZERO;
    while account.wait(now).is_zero() {
        account.charge(now, MS);
        now += MS;
        used += MS;
    }
    // Half of the credit, and half of the time that it took.
    assert!(used <= CREDIT_MAX + MS, "{used:?}");
    assert!(used >= CREDIT_MAX / 2, "{used:?}");
}

#[test]
fn a_disk_that_hangs_is_waited_for_and_not_for_ever_behind_it() {
    let begin = Instant::now();
    let mut account = account(0.001);
    let time = Duration::from_secs(60);
    account.charge(begin, time);
    assert_eq!(account.wait(begin + time), WAIT_MAX);
}

/// What was done with a file, and what it holds.
#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    unsynced: u64,
    syncs: u32,
    /// The most that was ever not synced.
    unsynced_most: u64,
    /// The error of the next sync.
    fails: Option<io::ErrorKind>,
    /// A write takes no more.
    at_once: usize,
}

#[derive(Debug)]
struct Fake(Arc<Mutex<Written>>);

impl DataFile for Fake {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap();
        assert_eq!(at, written.bytes.len() as u64, "in order, and nothing twice");
        let bytes = &bytes[..bytes.len().min(written.at_once)];
        written.bytes.extend_from_slice(bytes);
        written.unsynced += bytes.len() as u64;
        written.unsynced_most = written.unsynced_most.max(written.unsynced);
        Ok(bytes.len())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut written = self.0.lock().unwrap();
        written.syncs += 1;
        written.unsynced = 0;
        written.fails.take().map_or(Ok(()), |kind| Err(kind.into()))
    }
}

/// A file that is always waited for, but for no time that counts.
fn file(at_once: usize) -> (GentleFile, Arc<Mutex<Written>>) {
    let written = Arc::new(Mutex::new(Written { at_once, ..Written::default() }));
    let fs = GentleFs::new(Arc::new(super::super::RealFs), DiskShare::new(0.9).unwrap());
    let inner = Arc::new(Fake(Arc::clone(&written)));
    (GentleFile { inner, turns: fs.turns, unsynced: AtomicU64::new(0) }, written)
}

fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn everything_is_written_in_order_and_synced_in_slices() {
    let slice = usize::try_from(SLICE_BYTES).unwrap();
    // Writes of any size, whatever the file below takes at once.
    for (write, at_once) in [(1 << 20, usize::MAX), (100, usize::MAX), (300_000, 50_000), (5000, 777)] {
        let (gentle, written) = file(at_once);
        let bytes = numbered(3 * slice + 12_345);
        let mut at = 0;
        for part in bytes.chunks(write) {
            (&gentle as &dyn DataFile).write_all_at(part, at).unwrap();
            at += part.len() as u64;
        }
        let written = written.lock().unwrap();
        assert!(written.bytes == bytes, "writes of {write}");
        assert_eq!(written.syncs, 3, "writes of {write}");
        assert!(written.unsynced_most <= SLICE_BYTES, "writes of {write}: {}", written.unsynced_most);
    }
}

#[test]
fn pieces_are_written_in_order_and_synced_in_slices() {
    let (gentle, written) = file(usize::MAX);
    let bytes = numbered(500_000);
    let (first, rest) = bytes.split_at(100);
    let (second, third) = rest.split_at(300_000);
    let mut pieces = [first, &[], second, third].map(IoSlice::new);
    (&gentle as &dyn DataFile).write_all_pieces_at(&mut pieces, 0).unwrap();
    let written = written.lock().unwrap();
    assert!(written.bytes == bytes);
    assert_eq!(written.syncs, 3);
    assert!(written.unsynced_most <= SLICE_BYTES, "{}", written.unsynced_most);
}

#[test]
fn a_sync_that_somebody_asks_for_begins_a_slice() {
    let (gentle, written) = file(usize::MAX);
    let half = numbered(usize::try_from(SLICE_BYTES).unwrap() / 2 + 10);
    (&gentle as &dyn DataFile).write_all_at(&half, 0).unwrap();
    gentle.sync_data().unwrap();
    (&gentle as &dyn DataFile).write_all_at(&half, half.len() as u64).unwrap();
    assert_eq!(written.lock().unwrap().syncs, 1, "two halves of which one is on disk");
}

/// The system tells it once. A full disk is no exception: a sync has no second try.
#[test]
fn an_error_of_a_slice_is_that_of_the_write() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Interrupted, io::ErrorKind::Other] {
        let (gentle, written) = file(usize::MAX);
        written.lock().unwrap().fails = Some(kind);
        let bytes = numbered(usize::try_from(SLICE_BYTES).unwrap());
        let error = (&gentle as &dyn DataFile).write_all_at(&bytes, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "{kind}");
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(cause.kind(), kind);
    }
}

/// Whoever uses the disk is alone with it.
#[test]
fn one_at_a_time() {
    let turns = GentleFs::new(Arc::new(super::super::RealFs), DiskShare::new(0.9).unwrap()).turns;
    let inside = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    turns.take(|| drop(inside.try_lock().expect("nobody else is inside")));
                }
            });
        }
    });
    // Also behind one that panicked.
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turns.take(|| panic!("in its turn"))));
    assert!(panicked.is_err());
    turns.take(|| ());
}
