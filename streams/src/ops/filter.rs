//! `filter` and `filter_not`.

use std::sync::Arc;

use headwater_core::{Data, Record, Result};

use crate::{KStream, Processor, ProcessorContext};

impl<K: Data, V: Data> KStream<K, V> {
    /// Keeps the records for which `predicate` holds.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let kept = example(|words| words.filter(|_, word| word.len() > 2), ["a", "bcd"]);
    /// assert_eq!(kept, ["bcd"]);
    /// ```
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let predicate = Arc::new(predicate);
        self.then("filter", &[], move || Filter { predicate: Arc::clone(&predicate) })
    }

    /// Keeps the records for which `predicate` does not hold.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let kept = example(|words| words.filter_not(|_, word| word.len() > 2), ["a", "bcd"]);
    /// assert_eq!(kept, ["a"]);
    /// ```
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filter(move |key, value| !predicate(key, value))
    }
}

struct Filter<F> {
    predicate: Arc<F>,
}

impl<K: Data, V: Data, F: Fn(&K, &V) -> bool + Send + Sync + 'static> Processor<K, V, K, V> for Filter<F> {
    #[inline]
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, V>) -> Result<()> {
        if (self.predicate)(&record.key, &record.value) { cx.forward(record) } else { Ok(()) }
    }
}
