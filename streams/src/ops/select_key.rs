//! `select_key`.

use std::sync::Arc;

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Step},
    runtime::context::TaskContext,
};

impl<K: Data, V: Data> KStream<K, V> {
    /// Gives every record another key. Before anything that works by key, [`KStream::repartition`] must bring records
    /// of one key together; [`StreamsBuilder::build`](crate::StreamsBuilder::build) says so when it is missing.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let words = example(|words| words.select_key(|_, word| word.len() as u64).map_values(|len, _| len.to_string()), ["abc"]);
    /// assert_eq!(words, ["3"]);
    /// ```
    pub fn select_key<K2: Data>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let select = Arc::new(select);
        self.then_step("select-key", move || SelectKey { select: Arc::clone(&select) }).rekeyed("select_key")
    }
}

struct SelectKey<F> {
    select: Arc<F>,
}

impl<K, V, K2, F> Step<K, V, K2, V> for SelectKey<F>
where
    K: Data,
    V: Data,
    K2: Data,
    F: Fn(&K, &V) -> K2 + Send + Sync + 'static,
{
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K2, V>,
        task: &mut TaskContext,
    ) -> Result<()> {
        let key = (self.select)(record.key(), record.value());
        record.with_key(key, next, task)
    }
}
