//! Observers of a log that is written as fast as it goes, while its files are used again all the time, and while its
//! owners are killed.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, AtomicUsize},
};

use headwater_core::RecordBatch;

use super::*;

const OBSERVERS: usize = 10;
const PARTITIONS: u64 = 4;

/// Where commit `number` writes: one batch of two records in each of two partitions.
fn places(number: u64) -> [u32; 2] {
    [number % PARTITIONS, (number + 1) % PARTITIONS].map(|partition| u32::try_from(partition).unwrap())
}

fn write(producer: &mut dyn Producer, number: u64) {
    for place in places(number) {
        append(
            producer,
            &tp("t", place),
            &[number.to_string(), "y".repeat(usize::try_from(number % 90).unwrap())],
        );
    }
    block_on(producer.commit(Some(&at("g", &tp("t", 0), number + 1)))).unwrap();
}

/// Number of the commit that wrote the record at `offset`: of every four commits two write to a partition, two records
/// each.
fn writer_of(partition: u32, offset: Offset) -> u64 {
    let turns: Vec<u64> = (0..PARTITIONS).filter(|number| places(*number).contains(&partition)).collect();
    let batch = offset.0 / 2;
    batch / 2 * PARTITIONS + turns[usize::try_from(batch % 2).unwrap()]
}

/// Reads one partition after the other from where `next` says, and checks each record: what was seen in one, or in the
/// position before, is seen in those that are read later. Returns the position, and the end of what was seen.
fn read_on(log: &ObservedLog, next: &mut [Offset; 4], bytes_max: usize) -> (u64, u64) {
    let position = position(log, "g", &tp("t", 0)).unwrap_or(0);
    let mut seen = position;
    for (partition, next) in (0..).zip(next) {
        let from = tp("t", partition);
        let mut newest = 0;
        loop {
            let fetched = match block_on(log.read(&from, *next, bytes_max)) {
                Ok(fetched) => fetched,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                    let earliest = block_on(log.offsets(&from)).unwrap().earliest;
                    assert!(earliest > *next, "{error}");
                    *next = earliest;
                    continue;
                }
            };
            let begun = *next;
            for batch in &fetched.batches {
                newest = check_batch(partition, batch, *next) + 1;
                *next = batch.next_offset();
            }
            assert!(fetched.end >= *next);
            if *next == begun {
                break;
            }
        }
        let lacks = writer_of(partition, *next);
        assert!(lacks >= seen, "{from} lacks commit {lacks}, and {seen} commits were seen elsewhere");
        seen = seen.max(newest);
    }
    (position, seen)
}

/// Checks a batch with what was written there, and returns the number of its commit.
fn check_batch(partition: u32, batch: &RecordBatch, next: Offset) -> u64 {
    // The first that is left of deleted ones may be the second of its batch.
    let holds = (batch.base_offset()..batch.next_offset()).contains(&next);
    assert!(holds && next.0 - batch.base_offset().0 < 2, "{batch:?} in partition {partition} at {next}");
    let number = writer_of(partition, next);
    let mut cursor = batch.cursor();
    let value = cursor.next().unwrap().unwrap().value.unwrap().to_vec();
    assert_eq!(String::from_utf8(value).unwrap(), number.to_string(), "partition {partition} at {next}");
    let filling = usize::try_from(number % 90).unwrap();
    assert_eq!(cursor.next().unwrap().unwrap().value.unwrap(), "y".repeat(filling).as_bytes());
    number
}

/// Looks again and again, sometimes from the beginning or as somebody new, until told to stop.
fn observe(
    folder: &Path,
    name: usize,
    (told, other): (&dyn Fn() -> (u64, u64), Look<'_>),
    stop: &AtomicBool,
) -> usize {
    let mut log = ObservedLog::open(folder).unwrap();
    let (mut next, mut looks) = ([Offset(0); 4], 0);
    let mut last = false;
    loop {
        let (acknowledged, _) = told();
        let (position, most) = read_on(&log, &mut next, [0, 700, 1 << 20][looks % 3]);
        let (_, begun) = told();
        assert!(position >= acknowledged, "committed and not seen: {acknowledged} of {position}");
        assert!(most <= begun, "seen and not begun: {most} of {begun}");
        other(&log);
        looks += 1;
        if last {
            return looks;
        }
        if looks % (3 + name) == 0 {
            next = [Offset(0); 4];
        }
        if looks % (7 + name) == 0 {
            log = ObservedLog::open(folder).unwrap();
        }
        last = stop.load(Ordering::SeqCst);
    }
}

/// What an owner does besides committing, after so many commits.
type Chores<'a> = &'a (dyn Fn(&EmbeddedLog, u64) + Sync);
/// What an observer looks at besides.
type Look<'a> = &'a (dyn Fn(&ObservedLog) + Sync);

fn observe_a_running_owner(options: LogOptions, commits: u64, chores: Chores<'_>, other: Look<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create(&log, "t", 4, 2000);
    let (begun, acknowledged, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let told = || (acknowledged.load(Ordering::SeqCst), begun.load(Ordering::SeqCst));
    thread::scope(|scope| {
        let observers: Vec<_> = (0..OBSERVERS)
            .map(|name| {
                let (folder, told, stop) = (folder.path(), &told, &stop);
                scope.spawn(move || observe(folder, name, (told, other), stop))
            })
            .collect();
        let mut producer = producer(&log, "p");
        for number in 0..commits {
            begun.store(number + 1, Ordering::SeqCst);
            write(&mut *producer, number);
            acknowledged.store(number + 1, Ordering::SeqCst);
            chores(&log, number);
        }
        stop.store(true, Ordering::SeqCst);
        let looks: Vec<_> = observers.into_iter().map(|observer| observer.join().unwrap()).collect();
        println!("commits={commits}, looks={looks:?}");
    });
}

#[test]
fn ten_observers_see_a_prefix_while_everything_is_recycled() {
    observe_a_running_owner(tiny(), 200, &|_, _| (), &|_| ());
    let options = LogOptions { durability: Durability::Os, ..tiny() };
    observe_a_running_owner(options, 600, &|_, _| (), &|_| ());
}

#[test]
fn ten_observers_see_a_prefix_of_a_journal_that_is_not_recycled() {
    let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
    observe_a_running_owner(options, 1000, &|_, _| (), &|_| ());
}

/// Deletes records, and makes topic `u` again and again, each time with records that say which one it is.
fn delete_and_make_again(log: &EmbeddedLog, number: u64) {
    if number.is_multiple_of(5) {
        let partition = tp("t", u32::try_from(number / 5 % PARTITIONS).unwrap());
        let end = block_on(log.offsets(&partition)).unwrap().end.0;
        block_on(log.delete_records(&partition, Offset(end.saturating_sub(number % 40)))).unwrap();
    }
    let u = tp("u", 0);
    if number % 12 == 3 {
        create(log, "u", 1, 700);
    }
    if number % 12 > 3 {
        let mut p = producer(log, "u");
        let first = block_on(log.offsets(&u)).unwrap().end.0;
        let values: Vec<_> = (first..first + 3).map(|offset| format!("{} {offset}", number / 12)).collect();
        append(&mut *p, &u, &values);
        block_on(p.commit(None)).unwrap();
    }
    if number % 12 == 11 {
        block_on(log.delete_topic(&u.topic)).unwrap();
    }
}

/// Reads what there is of topic `u`: never records of two such topics, nor of one that was before.
fn look_at_topics_made_again(log: &ObservedLog, newest: &AtomicU64) {
    let (mut next, u) = (Offset(0), tp("u", 0));
    let known = newest.load(Ordering::SeqCst);
    loop {
        let fetched = match block_on(log.read(&u, next, 100)) {
            Ok(fetched) if fetched.batches.is_empty() => return,
            Ok(fetched) => fetched,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
        };
        let mut found = Vec::new();
        for batch in &fetched.batches {
            assert!(batch.next_offset() <= fetched.end);
            let mut cursor = batch.cursor();
            for offset in batch.base_offset().0..batch.next_offset().0 {
                let value =
                    String::from_utf8(cursor.next().unwrap().unwrap().value.unwrap().to_vec()).unwrap();
                let (topic, at) = value.split_once(' ').unwrap();
                assert_eq!(at, offset.to_string());
                found.push(topic.parse::<u64>().unwrap());
            }
            next = batch.next_offset();
        }
        assert!(found.iter().all(|topic| *topic == found[0] && *topic >= known), "{known} {found:?}");
        newest.fetch_max(found[0], Ordering::SeqCst);
    }
}

#[test]
fn ten_observers_see_a_prefix_while_records_and_topics_are_deleted() {
    let newest = AtomicU64::new(0);
    let options = LogOptions { durability: Durability::Os, ..tiny() };
    let other = |log: &ObservedLog| look_at_topics_made_again(log, &newest);
    observe_a_running_owner(options, 400, &delete_and_make_again, &other);
    println!("topics made again and seen: {}", newest.load(Ordering::SeqCst));
}

const CHILD: &str = "HEADWATER_TEST_LOG_OF_A_KILLED_OWNER";
const KILLS: u64 = 12;

/// What the child does until it is killed: it commits, and says so before and after.
fn child(folder: &Path) -> ! {
    let log = EmbeddedLog::open_with(folder, LogOptions { durability: Durability::Os, ..tiny() }).unwrap();
    create(&log, "t", 4, 2000);
    let mut producer = producer(&log, "p");
    let first = position(&log, "g", &tp("t", 0)).unwrap_or(0);
    for number in first.. {
        println!("\nbegun {}", number + 1);
        write(&mut *producer, number);
        println!("\nwritten {}", number + 1);
    }
    unreachable!("the numbers do not end");
}

/// Runs an owner until it has written `writes` times, and kills it.
fn own_and_be_killed(folder: &Path, writes: usize, begun: &AtomicU64, acknowledged: &AtomicU64) {
    let this_test = "log::tests::observed::running::ten_observers_see_a_prefix_while_owners_are_killed";
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", this_test, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(owner.stdout.take().unwrap());
    let mut written = 0;
    for line in output.lines().map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("begun ").and_then(|number| number.parse().ok()) {
            begun.fetch_max(number, Ordering::SeqCst);
        }
        if let Some(number) = line.strip_prefix("written ").and_then(|number| number.parse().ok()) {
            acknowledged.fetch_max(number, Ordering::SeqCst);
            written += 1;
        }
        if written == writes {
            owner.kill().unwrap();
        }
    }
    owner.wait().unwrap();
    assert!(written >= writes, "the owner wrote {written} of {writes} times");
}

#[test]
fn ten_observers_see_a_prefix_while_owners_are_killed() {
    if let Some(folder) = env::var_os(CHILD) {
        child(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    create(&EmbeddedLog::open_with(folder.path(), tiny()).unwrap(), "t", 4, 2000);
    let (begun, acknowledged, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    // The owner is ahead of what has been heard of it.
    let told = || (acknowledged.load(Ordering::SeqCst), u64::MAX);
    let looks = AtomicUsize::new(0);
    thread::scope(|scope| {
        for name in 0..OBSERVERS {
            let (folder, told, stop, looks) = (folder.path(), &told, &stop, &looks);
            scope.spawn(move || {
                looks.fetch_add(observe(folder, name, (told, &|_| ()), stop), Ordering::SeqCst)
            });
        }
        for kill in 0..KILLS {
            own_and_be_killed(
                folder.path(),
                usize::try_from(20 + kill * 37 % 50).unwrap(),
                &begun,
                &acknowledged,
            );
        }
        stop.store(true, Ordering::SeqCst);
    });
    let mut next = [Offset(0); 4];
    let (position, most) = read_on(&look(folder.path()), &mut next, 1 << 20);
    assert!(position >= acknowledged.load(Ordering::SeqCst) && most >= position);
    println!("kills={KILLS}, commits={position}, looks={}", looks.load(Ordering::SeqCst));
}
