//! A source of which much is read and nothing taken.

use std::sync::Arc;

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Headers, Log, ProducerName, Timestamp,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    StreamsBuilder,
    replay::{Options, Position},
};

use crate::world::{live, partition, plan, settings, start};

/// More than is read in one turn lies before, between and behind what is taken.
#[test]
fn much_that_is_not_taken_is_read_bit_by_bit() {
    let log = live(&[("in", 1)]);
    let mut producer = block_on(log.producer(&ProducerName("input".into()))).unwrap();
    let value = vec![0; (1 << 20) - 4_096];
    for n in 0..150 {
        let mut batch = BatchBuilder::default();
        let (time, value) = if n % 50 == 10 { (5, &value[..8]) } else { (50, &value[..]) };
        batch.push(Timestamp(time), Some(b"k"), Some(value), &Headers::new());
        producer.append(&partition("in", 0), &mut batch).unwrap();
    }
    block_on(producer.commit(None)).unwrap();
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").to("out");
    let topology = builder.build().unwrap();
    let options = Options { until: Position::Time(Timestamp(6)), ..Options::default() };
    let plan = plan(&topology, &options, &log).unwrap();
    let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
    let run = start(&topology, settings(), &plan, (&log, &own, &state)).unwrap();
    let watch = run.watch();
    let report = block_on(run.finish()).unwrap();
    assert_eq!((report.sources["in"], report.outputs["out"]), (3, 3));
    assert_eq!((watch.progress().read, watch.progress().to_read), (150, 150));
    assert_eq!(block_on(own.offsets(&partition("out", 0))).unwrap().end.0, 3);
}
