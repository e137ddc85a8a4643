//! `process`: a processor of the user's own, with stores.

use headwater_core::Data;

use crate::{KStream, Processor, state::StoreHandle};

impl<K: Data, V: Data> KStream<K, V> {
    /// Appends a processor of your own. `supplier` makes one for each task; `stores` are those it may touch, declared
    /// with [`StreamsBuilder::key_value_store`](crate::StreamsBuilder::key_value_store).
    ///
    /// The processor may change keys, so grouping its output by key needs a [`KStream::repartition`] first.
    ///
    /// ```
    /// use headwater_core::{Record, Result};
    /// use headwater_streams::{KeyValueHandle, Processor, ProcessorContext, StreamsBuilder};
    ///
    /// /// Forwards a value only when it differs from the last one of its key.
    /// struct Changes { last: KeyValueHandle<String, u64> }
    /// impl Processor<String, u64, String, u64> for Changes {
    ///     fn process(&mut self, record: Record<String, u64>, cx: &mut ProcessorContext<'_, String, u64>) -> Result<()> {
    ///         let last = cx.store(&self.last).get(&record.key)?.copied();
    ///         if last == Some(record.value) {
    ///             return Ok(());
    ///         }
    ///         cx.store(&self.last).put(&record.key, record.value, record.timestamp)?;
    ///         cx.forward(record)
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// let last = builder.key_value_store::<String, u64>("last-value");
    /// let supplier = { let last = last.clone(); move || Changes { last: last.clone() } };
    /// builder.stream::<String, u64>("values").process(&[&last], supplier).to("changes");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn process<K2, V2, P>(
        &self,
        stores: &[&dyn StoreHandle],
        supplier: impl Fn() -> P + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        K2: Data,
        V2: Data,
        P: Processor<K, V, K2, V2>,
    {
        let stores: Vec<usize> = stores.iter().map(|store| store.index()).collect();
        self.then("process", &stores, supplier).rekeyed("process")
    }
}
