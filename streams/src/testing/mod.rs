//! Runs a topology in a test: the production task and worker, on a log in memory, in the caller's thread.

mod driver;

use headwater_core::{Data, DefaultSerde, Timestamp};

pub use self::driver::TopologyTestDriver;
use crate::{KStream, StreamsBuilder};

/// Sends `words` through one stream and gives the values that come out; for the examples of operators.
///
/// # Panics
/// When the topology cannot be built or fails: it is a test.
///
/// ```
/// use headwater_streams::testing::example;
/// assert_eq!(example(|words| words, ["a", "b"]), ["a", "b"]);
/// ```
pub fn example<K: Data + DefaultSerde>(
    build: impl FnOnce(KStream<String, String>) -> KStream<K, String>,
    words: impl IntoIterator<Item = &'static str>,
) -> Vec<String> {
    let builder = StreamsBuilder::new();
    build(builder.stream("words")).to("results");
    let mut driver =
        TopologyTestDriver::new(builder.build().expect("the example builds")).expect("the example starts");
    for (timestamp, word) in (0..).zip(words) {
        driver
            .pipe("words", &"key".to_owned(), &word.to_owned(), Timestamp(timestamp))
            .expect("the example runs");
    }
    driver.read::<K, String>("results").expect("the results are text").into_iter().map(|r| r.value).collect()
}
