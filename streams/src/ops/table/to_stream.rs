//! `to_stream`: the changes of a table as records.

use headwater_core::{Data, Record, Result};

use crate::{KStream, KTable, Processor, ProcessorContext, table::Change, topology::Effect};

impl<K: Data, V: Data> KTable<K, V> {
    /// One record for every change of a row; `None` says that it was deleted, and is written to a topic as Kafka's null.
    ///
    /// ```
    /// use headwater_streams::StreamsBuilder;
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, String>("words").group_by_key().count("counts").to_stream().to("counts-so-far");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        self.changes.then("to-stream", &[], || Latest).marked(Effect::Updates)
    }
}

struct Latest;

impl<K: Data, V: Data> Processor<K, Change<V>, K, Option<V>> for Latest {
    #[inline]
    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        cx: &mut ProcessorContext<'_, K, Option<V>>,
    ) -> Result<()> {
        cx.forward(record.map_value(|change| change.new))
    }
}
