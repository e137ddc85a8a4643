//! `merge`: two streams become one.

use headwater_core::Data;

use super::branch::Pass;
use crate::KStream;

impl<K: Data, V: Data> KStream<K, V> {
    /// The records of both streams, in the order in which the task takes them; those of one stream keep theirs. Both are in
    /// one sub-topology then, and partitions of one number meet in one task. A stream cannot be merged with what was
    /// repartitioned from it: the task would wait for itself, and [`StreamsBuilder::build`](crate::StreamsBuilder::build)
    /// refuses it.
    ///
    /// ```
    /// use headwater_streams::testing::example;
    /// let both = example(
    ///     |words| {
    ///         let (short, long) = (words.filter(|_, word| word.len() < 3), words.filter(|_, word| word.len() >= 3));
    ///         short.merge(&long.map_values(|_, word| word.to_uppercase()))
    ///     },
    ///     ["ab", "abc", "b"],
    /// );
    /// assert_eq!(both, ["ab", "ABC", "b"]);
    /// ```
    pub fn merge(&self, other: &KStream<K, V>) -> KStream<K, V> {
        self.merge_all(std::slice::from_ref(other))
    }

    /// Merges all at one place, so that no record takes more than one step to it.
    pub(crate) fn merge_all(&self, others: &[KStream<K, V>]) -> KStream<K, V> {
        let mut merged = self.then_step("merge", || Pass);
        for other in others {
            if self.same_builder("merge", &other.graph) {
                self.graph.borrow_mut().link(other.node, merged.node);
                merged.rekeyed_by = merged.rekeyed_by.or(other.rekeyed_by);
            }
        }
        merged
    }
}
