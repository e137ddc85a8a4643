//! The embedded log beside what the disk and the memory can do: append, read, commit, and the producer of the clients.
//!
//! `make bench BENCH_ARGS="--bench log"`. Each group has a plain twin that moves the same bytes with plain system calls, in
//! the same run. The folder for the data is `TMPDIR`, so put it on the disk that is meant.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has failed")]

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use criterion::{
    BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use futures::executor::block_on;
use headwater::{
    client,
    core::{
        BatchBuilder, Headers, Log, Offset, Partition, Producer, ProducerName, Record, Timestamp, TopicName,
        TopicPartition, TopicSpec,
    },
    storage::log::{Durability, EmbeddedLog, LogOptions},
};
use headwater_benches::cpu;

/// Records of one measured run, as bytes of their values.
const RUN_BYTES: usize = 64 << 20;
const BATCH_BYTES: usize = 64 << 10;
const COMMIT_BYTES: usize = 1 << 20;
/// About as much is kept as so many runs write.
const KEPT_RUNS: u64 = 2;

/// A log that is used for long: its journal goes round, old segments are deleted, and about 128 MiB are kept.
fn open(folder: &Path, durability: Durability, partitions: u32) -> EmbeddedLog {
    let retention_check = Duration::from_millis(200);
    let options = LogOptions { durability, retention_check, ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder, options).unwrap();
    let mut spec = TopicSpec::new("t", partitions).unwrap();
    spec.config.segment_bytes = (RUN_BYTES as u64 / u64::from(partitions)).max(1 << 20);
    spec.config.retention_bytes = Some(spec.config.segment_bytes);
    block_on(log.create_topic(&spec)).unwrap();
    log
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), Partition(number))
}

/// Appends records of `value` bytes to all partitions in turn, a batch of 64 KiB at a time; returns bytes of batches.
fn append(producer: &mut dyn Producer, value: usize, partitions: u32, records: usize) -> usize {
    let (value, mut batch) = (vec![b'v'; value], BatchBuilder::default());
    let (mut held, mut bytes, mut to) = (0, 0, 0);
    for record in 0..records {
        batch.push(Timestamp(0), None, Some(&value), &Headers::new());
        let last = record + 1 == records;
        if batch.size() >= BATCH_BYTES || last {
            held += batch.size();
            producer.append(&partition(to), &mut batch).unwrap();
            to = (to + 1) % partitions;
        }
        if held >= COMMIT_BYTES || last {
            block_on(producer.commit(None)).unwrap();
            bytes += held;
            held = 0;
        }
    }
    bytes
}

/// The same bytes, in the same pieces, to a new file. As many bytes stay as the log keeps, and those before them are deleted.
struct Plain {
    folder: tempfile::TempDir,
    files: u64,
}

impl Plain {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: 0 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    fn write(&mut self, bytes: usize, sync: bool) {
        self.files += 1;
        if let Some(old) = self.files.checked_sub(KEPT_RUNS) {
            let _ = fs::remove_file(self.path(old));
        }
        let file = File::create(self.path(self.files)).unwrap();
        let piece = vec![b'v'; COMMIT_BYTES];
        let mut at = 0;
        while at < bytes {
            let size = COMMIT_BYTES.min(bytes - at);
            file.write_all_at(&piece[..size], at as u64).unwrap();
            if sync {
                file.sync_data().unwrap();
            }
            at += size;
        }
    }
}

fn appends<M: Measurement>(criterion: &mut Criterion<M>, unit: &str, modes: &[Durability]) {
    for durability in modes {
        for value in [100, 1000] {
            let mut group = criterion.benchmark_group(format!("append {value} B, {durability:?}, {unit}"));
            let records = RUN_BYTES / value;
            let mut bytes = RUN_BYTES;
            group.sample_size(10).throughput(Throughput::Elements(records as u64));
            for partitions in [1, 16, 128] {
                let folder = tempfile::tempdir().unwrap();
                let log = open(folder.path(), *durability, partitions);
                let mut producer = block_on(log.producer(&ProducerName("bench".into()))).unwrap();
                group.bench_function(BenchmarkId::new("log, partitions", partitions), |bencher| {
                    bencher.iter(|| bytes = append(&mut *producer, value, partitions, records));
                });
            }
            let mut plain = Plain::new();
            group.bench_function("plain write", |bencher| {
                bencher.iter(|| plain.write(bytes, *durability == Durability::Fsync));
            });
        }
    }
}

fn appends_by_time(criterion: &mut Criterion) {
    appends(criterion, "time", &[Durability::Os, Durability::Fsync]);
}

fn appends_by_cpu(criterion: &mut Criterion<CpuTime>) {
    appends(criterion, "CPU", &[Durability::Os]);
}

/// From the page cache: the newest are in the memory of the log, too, so it is closed and opened again.
fn reads(criterion: &mut Criterion) {
    for value in [100, 1000] {
        let mut group = criterion.benchmark_group(format!("read {value} B"));
        let records = RUN_BYTES / value;
        group.sample_size(10).throughput(Throughput::Elements(records as u64));
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), Durability::Os, 1);
        let mut producer = block_on(log.producer(&ProducerName("bench".into()))).unwrap();
        append(&mut *producer, value, 1, records);
        block_on(log.close()).unwrap();
        let log = open(folder.path(), Durability::Os, 1);
        group.bench_function("log, every record", |bencher| {
            bencher.iter(|| assert_eq!(read_all(&log), records));
        });
        group.bench_function("plain read", |bencher| {
            bencher.iter(|| plain_read(&folder.path().join("topics/t/0")));
        });
    }
}

fn read_all(log: &EmbeddedLog) -> usize {
    let (mut next, mut count, mut bytes) = (Offset(0), 0, 0);
    loop {
        let fetched = block_on(log.read(&partition(0), next, 1 << 20)).unwrap();
        let Some(last) = fetched.batches.last() else { break };
        next = last.next_offset();
        for batch in &fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next() {
                bytes += record.unwrap().value.map_or(0, <[u8]>::len);
                count += 1;
            }
        }
    }
    std::hint::black_box(bytes);
    count
}

fn plain_read(folder: &Path) {
    let mut buffer = vec![0; 1 << 20];
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let mut file = File::open(path).unwrap();
            while file.read(&mut buffer).unwrap() > 0 {
                std::hint::black_box(&buffer);
            }
        }
    }
}

/// One small batch to each partition, all in one commit, beside one `fdatasync` of a page that is overwritten.
fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit, fsync");
    group.sample_size(20);
    for partitions in [1, 16, 64] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), Durability::Fsync, partitions);
        let mut producer = block_on(log.producer(&ProducerName("bench".into()))).unwrap();
        let mut batch = BatchBuilder::default();
        group.bench_function(BenchmarkId::new("log, partitions", partitions), |bencher| {
            bencher.iter(|| {
                for number in 0..partitions {
                    (0..10).for_each(|_| batch.push(Timestamp(0), None, Some(&[b'v'; 100]), &Headers::new()));
                    producer.append(&partition(number), &mut batch).unwrap();
                }
                block_on(producer.commit(None)).unwrap();
            });
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("plain")).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    file.sync_all().unwrap();
    group.bench_function("plain fdatasync", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&[1; 4096], 0).unwrap();
            file.sync_data().unwrap();
        });
    });
}

/// Through the producer of the clients, record by record, with keys: CPU time of the whole process, which is what one core
/// would need for all that the threads of the log and the runtime share.
fn producer_by_cpu(criterion: &mut Criterion<CpuTime>) {
    producer(criterion, "CPU", 100);
}

/// The same for larger records, by time, beside a plain write of as many bytes.
fn producer_by_time(criterion: &mut Criterion) {
    producer(criterion, "time", 1000);
}

fn producer<M: Measurement>(criterion: &mut Criterion<M>, unit: &str, size: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group(format!("producer API {size} B, Os, {unit}"));
    let records = RUN_BYTES / size;
    group.sample_size(10).throughput(Throughput::Elements(records as u64));
    for partitions in [1, 16] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), Durability::Os, partitions);
        group.bench_function(BenchmarkId::new("send, partitions", partitions), |bencher| {
            bencher.iter(|| runtime.block_on(send_all(&log, size, records)));
        });
    }
    let mut plain = Plain::new();
    group.bench_function("plain write", |bencher| {
        bencher.iter(|| plain.write(RUN_BYTES, false));
    });
}

/// 10 bytes of key, and a value that makes `size` of it.
async fn send_all(log: &EmbeddedLog, size: usize, records: usize) {
    let producer: client::Producer<Bytes, Bytes> =
        client::Producer::builder(Arc::new(log.clone())).build().await.unwrap();
    let record = |number| {
        let (key, value) = (Bytes::from(format!("sensor-{number:03}")), Bytes::from(vec![b'v'; size - 10]));
        Record::new(key, value, Timestamp(0))
    };
    let some: Vec<_> = (0..1000).map(record).collect();
    for record in some.iter().cycle().take(records) {
        let _acknowledged = producer.send("t", record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Measures CPU time of this process, of all its threads.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu()
    }

    fn end(&self, started: Duration) -> Duration {
        cpu().saturating_sub(started)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group!(by_time, appends_by_time, producer_by_time, reads, commits);
criterion_group!(
    name = by_cpu;
    config = Criterion::default().with_measurement(CpuTime);
    targets = appends_by_cpu, producer_by_cpu
);
criterion_main!(by_time, by_cpu);
