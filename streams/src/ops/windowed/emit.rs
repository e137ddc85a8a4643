//! `emit`: when results of windows are sent on.

use headwater_core::{Result, Serde};

use crate::{WindowedStream, Windows};

/// When a windowed aggregate sends a result on.
///
/// Whatever is chosen, the last result of a window is the same; only how many come before it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// After every record (Kafka: `EmitStrategy.onWindowUpdate`, without its cache: one result per record, always).
    #[default]
    OnUpdate,
    /// Once, when stream time has passed the window's end and grace (Kafka: `EmitStrategy.onWindowClose`, without its
    /// wall-clock throttle). The oldest windows come first, keys of one window in the order of their bytes.
    OnClose,
    /// What changed, once per commit: the oldest windows first, the keys of one in no order that means anything (sessions: by
    /// end, then key bytes), without headers. For those who keep the last result only. Kafka's cache does about that, less foreseeably. How many results there are
    /// depends on when commits happen, so two runs over the same records may differ in it.
    OnCommit,
    /// After a record that made the result another one than it was (Kafka: KIP-557, for tables). It is compared as the serde
    /// of the store writes it, so a serde that writes one value in two ways lets both through.
    OnChange,
}

impl<K, V, W: Windows> WindowedStream<K, V, W> {
    /// Says when results are sent on; after every record unless told otherwise.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{Emit, StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("readings")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
    ///     .emit(Emit::OnClose)
    ///     .reduce("highest", u64::max)
    ///     .to_stream()
    ///     .map(|windowed, highest| (windowed.key, highest))
    ///     .to("highest-readings");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (reading, at) in [(3u64, 0), (7, 4), (5, 9), (1, 10)] {
    ///     driver.pipe("readings", &"a".to_owned(), &reading, Timestamp(at))?;
    /// }
    /// let highest = driver.read::<String, u64>("highest-readings")?;
    /// assert_eq!((highest.len(), highest[0].value), (1, 7));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn emit(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }
}

/// Whether a value became another one, by its bytes.
#[derive(Default)]
pub(super) struct Comparison {
    before: Vec<u8>,
    after: Vec<u8>,
    was_there: bool,
}

impl Comparison {
    /// Remembers the value as it is before the record.
    pub(super) fn begin<A: 'static>(&mut self, serde: &dyn Serde<A>, value: Option<&A>) -> Result<()> {
        self.before.clear();
        self.was_there = value.map_or(Ok(false), |value| serde.encode_nullable(value, &mut self.before))?;
        Ok(())
    }

    /// Whether it is another one now, or there was none.
    pub(super) fn differs<A: 'static>(&mut self, serde: &dyn Serde<A>, value: Option<&A>) -> Result<bool> {
        self.after.clear();
        let is_there = value.map_or(Ok(false), |value| serde.encode_nullable(value, &mut self.after))?;
        Ok(is_there != self.was_there || self.before != self.after)
    }
}
