//! `group_by_key`: the door to everything that aggregates.

use headwater_core::{Data, Error};

use crate::KStream;

/// A stream whose records of one key are in one task.
pub struct KGroupedStream<K, V>(pub(crate) KStream<K, V>);

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups records by the key they have. Their partitions must follow that key:
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build) fails when an operator changed it since.
    pub fn group_by_key(&self) -> KGroupedStream<K, V> {
        if let Some(by) = self.rekeyed_by {
            self.graph.borrow_mut().mistake(Error::invalid(format!(
                "`{by}` may change keys, so records of one key are not in one task: call `.repartition(\"a-name\")` \
                 before `.group_by_key()`"
            )));
        }
        KGroupedStream(self.clone())
    }
}
