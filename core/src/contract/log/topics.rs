//! Topics are created once and described.

use super::{Open, block_on, create, name, partition};
use crate::{CleanupPolicy, ErrorKind, GroupId, Offset, TopicConfig, TopicSpec};

pub(super) fn all(open: Open<'_>) {
    block_on(a_topic_is_created_once(open));
    block_on(a_new_topic_is_empty(open));
    block_on(what_does_not_exist_is_invalid(open));
}

async fn a_topic_is_created_once(open: Open<'_>) {
    let log = open();
    assert_eq!(log.topics().await.expect("topics"), []);
    create(&*log, "b", 3).await;
    let config = TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes: 12345,
        ..TopicConfig::default()
    };
    let compacted = TopicSpec { config, ..TopicSpec::new("a", 1).expect("legal") };
    log.create_topic(&compacted).await.expect("a topic with settings");
    create(&*log, "b", 3).await;
    // Settings of an existing topic stay as they are.
    create(&*log, "a", 1).await;
    let error = log
        .create_topic(&TopicSpec::new("b", 4).expect("legal"))
        .await
        .expect_err("another number of partitions");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let topics = log.topics().await.expect("topics");
    assert_eq!(topics, [compacted, TopicSpec::new("b", 3).expect("legal")], "by name");
    assert_eq!(topics[0].name, name("a"));
}

async fn a_new_topic_is_empty(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    for number in 0..2 {
        let partition = partition("t", number);
        let offsets = log.offsets(&partition).await.expect("it exists");
        assert_eq!((offsets.earliest, offsets.end), (Offset(0), Offset(0)));
        let fetched = log.read(&partition, Offset(0), 1000).await.expect("an empty partition can be read");
        assert!(fetched.batches.is_empty());
        assert_eq!(fetched.end, Offset(0));
        let committed = log.committed(&GroupId("g".into()), &partition).await.expect("no position");
        assert_eq!(committed, None);
    }
}

async fn what_does_not_exist_is_invalid(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    for missing in [partition("t", 2), partition("u", 0)] {
        let error = log.offsets(&missing).await.expect_err("no such partition");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&missing.to_string()), "the error names the partition: {error}");
        let error = log.read(&missing, Offset(0), 10).await.expect_err("no such partition");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
