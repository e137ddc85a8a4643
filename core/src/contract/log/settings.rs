//! What a topic's settings do to the batches that are appended.

use std::sync::Arc;

use super::{OpenWithClock, block_on, commit, name, partition, producer};
use crate::{
    Admin, BatchBuilder, Compression, CompressionType, ErrorKind, Headers, ManualClock, Offset, Producer,
    RecordBatch, Result, Timestamp, TimestampType, TopicChanges, TopicConfig, TopicSpec,
};

pub(super) fn all(open: OpenWithClock<'_>) {
    block_on(batches_are_compressed_as_topic_or_producer_say(open));
    block_on(the_size_that_counts_is_the_one_that_is_kept(open));
    block_on(records_get_the_time_of_the_log(open));
}

/// Appends one batch of a record that can be compressed well.
fn append(producer: &mut dyn Producer, compression: Compression, bytes: usize) -> Result<()> {
    let mut builder = BatchBuilder::default();
    builder.set_compression(compression);
    builder.push(Timestamp(7), Some(b"key"), Some(&vec![b'v'; bytes]), &Headers::new());
    producer.append(&partition("t", 0), &mut builder)
}

async fn create(log: &dyn Admin, config: TopicConfig) {
    let spec = TopicSpec { config, ..TopicSpec::new("t", 1).expect("legal") };
    log.create_topic(&spec).await.expect("create");
}

async fn alter(log: &dyn Admin, key: &str, value: &str) {
    let settings = vec![(key.to_owned(), Some(value.to_owned()))];
    log.alter_topic(&name("t"), &TopicChanges { partitions: None, settings }).await.expect("alter");
}

/// The newest batch.
async fn newest(log: &dyn Admin) -> RecordBatch {
    let t = partition("t", 0);
    let end = log.offsets(&t).await.expect("offsets").end;
    let fetched = log.read(&t, Offset(end.0 - 1), 0).await.expect("it can be read");
    fetched.batches.into_iter().next().expect("it is there")
}

async fn batches_are_compressed_as_topic_or_producer_say(open: OpenWithClock<'_>) {
    use Compression::{Lz4, None, Zstd};
    let log = open(Arc::new(ManualClock::default()));
    create(&*log, TopicConfig::default()).await;
    let mut p = producer(&*log, "p").await;
    for setting in [
        CompressionType::Producer,
        CompressionType::Uncompressed,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ] {
        alter(&*log, "compression.type", &setting.to_string()).await;
        for asked in [None, Lz4, Zstd] {
            append(&mut *p, asked, 500).expect("append");
            commit(&mut *p).await;
            let expected = match setting {
                CompressionType::Producer => asked,
                CompressionType::Uncompressed => None,
                CompressionType::Lz4 => Lz4,
                CompressionType::Zstd => Zstd,
            };
            let batch = newest(&*log).await;
            assert_eq!(batch.compression(), expected, "compression.type={setting}, producer={asked}");
            let mut records = batch.cursor();
            let record = records.next().expect("a record").expect("it can be read");
            assert_eq!(record.value, Some(&[b'v'; 500][..]));
        }
    }
}

async fn the_size_that_counts_is_the_one_that_is_kept(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    create(&*log, TopicConfig { max_message_bytes: 300, ..TopicConfig::default() }).await;
    let mut p = producer(&*log, "p").await;
    for round in 0..3 {
        append(&mut *p, Compression::Zstd, 5000).expect("small when it is compressed");
        let error = append(&mut *p, Compression::None, 5000).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        append(&mut *p, Compression::Lz4, 100).expect("what was refused took no sequence number");
        commit(&mut *p).await;
        alter(&*log, "compression.type", "uncompressed").await;
        let error = append(&mut *p, Compression::Zstd, 5000).expect_err("kept as it is, it is too large");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        alter(&*log, "compression.type", "producer").await;
        assert_eq!(log.offsets(&partition("t", 0)).await.expect("offsets").end, Offset(2 * (round + 1)));
    }
}

async fn records_get_the_time_of_the_log(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1000)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    create(&*log, TopicConfig::default()).await;
    let mut p = producer(&*log, "p").await;
    for (setting, expected) in [("CreateTime", 7), ("LogAppendTime", 1050), ("CreateTime", 7)] {
        alter(&*log, "message.timestamp.type", setting).await;
        append(&mut *p, Compression::Lz4, 500).expect("append");
        // What counts is when it is committed.
        clock.advance_ms(25);
        commit(&mut *p).await;
        let batch = newest(&*log).await;
        assert_eq!(batch.timestamp_type() == TimestampType::LogAppendTime, setting == "LogAppendTime");
        assert_eq!(batch.max_timestamp(), Timestamp(expected));
        let mut records = batch.cursor();
        assert_eq!(records.next().expect("a record").expect("good").timestamp, Timestamp(expected));
    }
    let found = log.offset_at(&partition("t", 0), Timestamp(1000)).await.expect("by time");
    assert_eq!(found.map(|found| (found.offset, found.timestamp)), Some((Offset(1), Timestamp(1050))));
}
