//! What every [`Log`] does: `all` panics where one does not.

mod admin;
mod cleaning;
mod compaction;
mod groups;
mod producing;
mod reading;
mod settings;
mod times;
mod topics;
mod waiting;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use crate::{
    Admin, BatchBuilder, Clock, Headers, Log, ManualClock, Offset, Partition, Producer, ProducerName, Result,
    Timestamp, TopicName, TopicPartition, TopicSpec,
};

/// Runs every check on a log of its own, which `open` makes: empty, and like no other.
///
/// ```
/// # #[cfg(feature = "contract")] {
/// use std::sync::Arc;
/// use headwater_core::{contract, memory::MemoryLog};
/// contract::log::all(|| Arc::new(MemoryLog::default()));
/// # }
/// ```
///
/// # Panics
/// When the log does not do what it should.
pub fn all(open: impl Fn() -> Arc<dyn Log>) {
    topics::all(&open);
    reading::all(&open);
    producing::all(&open);
    waiting::all(&open);
    times::all(&open);
    groups::all(&open);
}

/// As [`all`], for logs that can be looked after and tell the age of records by a clock that is handed to `open`.
///
/// # Panics
/// When the log does not do what it should.
pub fn admin(open: impl Fn(Arc<dyn Clock>) -> Arc<dyn Admin>) {
    admin::all(&|| open(Arc::new(ManualClock::default())));
    cleaning::all(&|clock| open(clock));
    compaction::all(&|clock| open(clock));
    settings::all(&|clock| open(clock));
}

type Open<'a> = &'a dyn Fn() -> Arc<dyn Log>;
type OpenAdmin<'a> = &'a dyn Fn() -> Arc<dyn Admin>;
type OpenWithClock<'a> = &'a dyn Fn(Arc<dyn Clock>) -> Arc<dyn Admin>;

/// Runs `future` on this thread. `core` has no runtime, and needs none.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).expect("the suite uses legal names")
}

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(name(topic), Partition(number))
}

async fn create(log: &dyn Log, topic: &str, partitions: u32) {
    let spec = TopicSpec::new(topic, partitions).expect("the suite uses legal topics");
    log.create_topic(&spec).await.expect("a topic can be created");
}

async fn producer(log: &dyn Log, name: &str) -> Box<dyn Producer> {
    log.producer(&ProducerName(name.into())).await.expect("a producer can be opened")
}

/// Appends one batch with a record per value.
fn append(producer: &mut dyn Producer, to: &TopicPartition, values: &[&str]) -> Result<()> {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(Timestamp(1), Some(b"key"), Some(value.as_bytes()), &Headers::new());
    }
    producer.append(to, &mut builder)
}

async fn commit(producer: &mut dyn Producer) {
    producer.commit(None).await.expect("a commit succeeds");
}

/// Everything in a partition, read batch by batch, with its checks: dense offsets, and progress up to the end.
async fn values(log: &dyn Log, from: &TopicPartition) -> Vec<String> {
    let mut next = log.offsets(from).await.expect("the partition exists").earliest;
    let mut values = Vec::new();
    loop {
        let fetched = log.read(from, next, 0).await.expect("what is there can be read");
        if fetched.batches.is_empty() {
            assert_eq!(next, fetched.end, "an empty read means the end. partition={from}");
            return values;
        }
        for batch in &fetched.batches {
            assert_eq!(batch.base_offset(), next, "offsets are dense. partition={from}");
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next() {
                let record = record.expect("records can be read");
                assert_eq!(record.offset, Offset(values.len() as u64), "offsets are dense. partition={from}");
                values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            }
            next = batch.next_offset();
        }
    }
}
