//! `filter` and `filter_not`.

use std::sync::Arc;

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Step},
    runtime::context::TaskContext,
};

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
        self.then_step("filter", move || Filter { predicate: Arc::clone(&predicate) })
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

impl<K: Data, V: Data, F: Fn(&K, &V) -> bool + Send + Sync + 'static> Step<K, V, K, V> for Filter<F> {
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K, V>,
        task: &mut TaskContext,
    ) -> Result<()> {
        if (self.predicate)(record.key(), record.value()) { next.process(record, task) } else { Ok(()) }
    }
}
