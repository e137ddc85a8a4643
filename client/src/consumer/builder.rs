//! How a consumer is set up.

use std::{fmt, sync::Arc, time::Duration};

use headwater_core::{Assignor, Clock, Error, GroupId, Log, Result, SerdeRef, SystemClock, Timestamp};

use super::{Consumer, RebalanceListener, reader::Reader};

/// Where to begin in a partition in which nothing is committed, or whose records there are gone (Kafka:
/// `auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// With the first record that is there.
    Earliest,
    /// With the next one that is written. Kafka's default, and so ours.
    #[default]
    Latest,
    /// With the first one that is not older than this.
    Timestamp(Timestamp),
    /// With the first one that is not older than so long ago (KIP-1106).
    Ago(Duration),
    /// Nowhere: it is an error, and the caller seeks.
    Fail,
}

/// Which records are read (Kafka: `isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Those of finished transactions.
    #[default]
    ReadCommitted,
    /// Those of open and aborted ones too, on a log that shows them. The embedded log and the one in memory hold
    /// transactions back until they are committed, so that there are none to be read: both levels are one there.
    ReadUncommitted,
}

/// Settings of a consumer that do not change.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) group: Option<GroupId>,
    pub(super) assignor: Assignor,
    pub(super) reset: OffsetReset,
    pub(super) isolation: Isolation,
    pub(super) auto_commit: Option<Duration>,
    pub(super) fetch_bytes: usize,
    pub(super) partition_bytes: usize,
    pub(super) poll_interval_max: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

/// Settings of a [`Consumer`]; begin with [`Consumer::builder`].
#[must_use]
pub struct ConsumerBuilder<K, V> {
    log: Arc<dyn Log>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    listener: Option<Box<dyn RebalanceListener>>,
    settings: Settings,
}

impl<K: 'static, V: 'static> ConsumerBuilder<K, V> {
    pub(super) fn new(log: Arc<dyn Log>, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        let settings = Settings {
            group: None,
            assignor: Assignor::default(),
            reset: OffsetReset::default(),
            isolation: Isolation::default(),
            auto_commit: Some(Duration::from_secs(5)),
            fetch_bytes: 4 << 20,
            partition_bytes: 1 << 20,
            poll_interval_max: Duration::from_secs(5 * 60),
            clock: Arc::new(SystemClock),
        };
        Self { log, key, value, listener: None, settings }
    }

    /// Under whose name positions are committed, and with whom partitions are shared (Kafka: `group.id`).
    pub fn group_id(mut self, group: impl Into<String>) -> Self {
        self.settings.group = Some(GroupId(group.into()));
        self
    }

    /// How the group shares partitions out (Kafka: `partition.assignment.strategy`). Sticky unless set.
    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.settings.assignor = assignor;
        self
    }

    /// Where to begin when no position says it (Kafka: `auto.offset.reset`). The latest unless set, as in Kafka.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.settings.reset = reset;
        self
    }

    /// Which records are read (Kafka: `isolation.level`). Committed ones unless set.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// How often the positions behind the records that were given out are committed by themselves (Kafka:
    /// `enable.auto.commit`, `auto.commit.interval.ms`). Every 5 seconds unless set; `None` leaves it to
    /// [`Consumer::commit`]. A record counts as processed when the next one is asked for.
    pub fn auto_commit(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.settings.auto_commit = interval.into();
        self
    }

    /// How many bytes are fetched at a time, and held (Kafka: `fetch.max.bytes`). 4 MiB unless set. One batch is always
    /// fetched, however large it is.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.settings.fetch_bytes = bytes;
        self
    }

    /// And how many of one partition (Kafka: `max.partition.fetch.bytes`). 1 MiB unless set.
    pub fn partition_bytes(mut self, bytes: usize) -> Self {
        self.settings.partition_bytes = bytes;
        self
    }

    /// Who does not ask for records for so long leaves the group, and its partitions go to others (Kafka:
    /// `max.poll.interval.ms`). 5 minutes unless set; noticed up to an eighth later.
    pub fn poll_interval_max(mut self, interval: Duration) -> Self {
        self.settings.poll_interval_max = interval;
        self
    }

    /// Is told when partitions come and go (Kafka: `ConsumerRebalanceListener`).
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Tells the time for [`OffsetReset::Ago`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Makes the consumer. It reads nothing before [`Consumer::subscribe`] or [`Consumer::assign`].
    ///
    /// # Errors
    /// `Invalid` when a limit is 0.
    pub fn build(self) -> Result<Consumer<K, V>> {
        let Settings { fetch_bytes, partition_bytes, poll_interval_max, auto_commit, .. } = self.settings;
        if fetch_bytes == 0 || partition_bytes == 0 {
            return Err(Error::invalid(format!(
                "a consumer's limit is at least 1 byte. fetch_bytes={fetch_bytes}, partition_bytes={partition_bytes}"
            )));
        }
        if poll_interval_max.is_zero() || auto_commit.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::invalid(
                "an interval is longer than nothing. settings=poll_interval_max, auto_commit",
            ));
        }
        Ok(Consumer::open(Reader::new(self.log, self.settings), self.key, self.value, self.listener))
    }
}

impl<K, V> fmt::Debug for ConsumerBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder").field("group", &self.settings.group).finish_non_exhaustive()
    }
}
