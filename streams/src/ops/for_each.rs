//! `for_each`.

use std::sync::Arc;

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Step},
    runtime::context::TaskContext,
};

impl<K: Data, V: Data> KStream<K, V> {
    /// Ends the stream with an effect. After a crash, records since the last commit come again: what happens outside of
    /// Headwater happens at least once. To look without ending the stream, use [`KStream::peek`].
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, testing::TopologyTestDriver};
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let builder = StreamsBuilder::new();
    /// let all = Arc::clone(&seen);
    /// builder.stream::<String, u64>("in").for_each(move |key, value| all.lock().unwrap().push(format!("{key}={value}")));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("in", &"a".to_owned(), &1u64, Timestamp(0))?;
    /// assert_eq!(*seen.lock().unwrap(), ["a=1"]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn for_each(&self, effect: impl Fn(&K, &V) + Send + Sync + 'static) {
        let effect = Arc::new(effect);
        self.then_step::<K, V, _>("for-each", move || ForEach { effect: Arc::clone(&effect) });
    }
}

struct ForEach<F> {
    effect: Arc<F>,
}

impl<K: Data, V: Data, F: Fn(&K, &V) + Send + Sync + 'static> Step<K, V, K, V> for ForEach<F> {
    #[inline]
    fn take(&mut self, record: Lent<'_, K, V>, _: &mut dyn Process<K, V>, _: &mut TaskContext) -> Result<()> {
        (self.effect)(record.key(), record.value());
        Ok(())
    }
}
