//! `peek`: looks at records as they pass.

use std::sync::Arc;

use headwater_core::{Data, Result};

use crate::{
    KStream,
    edge::{Lent, Process, Step},
    runtime::context::TaskContext,
};

impl<K: Data, V: Data> KStream<K, V> {
    /// Calls `look` with every record and passes it on. After a crash records are seen again: what `look` does outside
    /// is done at least once.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let same = example(|words| words.peek(|_, word| assert_eq!(word, "a")), ["a"]);
    /// assert_eq!(same, ["a"]);
    /// ```
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> KStream<K, V> {
        let look = Arc::new(look);
        self.then_step("peek", move || Peek { look: Arc::clone(&look) })
    }
}

struct Peek<F> {
    look: Arc<F>,
}

impl<K: Data, V: Data, F: Fn(&K, &V) + Send + Sync + 'static> Step<K, V, K, V> for Peek<F> {
    #[inline]
    fn take(
        &mut self,
        record: Lent<'_, K, V>,
        next: &mut dyn Process<K, V>,
        task: &mut TaskContext,
    ) -> Result<()> {
        (self.look)(record.key(), record.value());
        next.process(record, task)
    }
}
