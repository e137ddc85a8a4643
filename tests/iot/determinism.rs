//! One result, whatever the workers, the turns and the speed of tasks.

use super::{InputOrder, PLAIN, Run, run};

fn readings(outputs: &[(String, Vec<super::Raw>)], topic: &str) -> usize {
    outputs.iter().filter(|(name, _)| name.starts_with(topic)).map(|(_, records)| records.len()).sum()
}

#[test]
fn the_backlog_gives_the_same_records_in_every_output_partition() {
    let (expected, metrics) = run(&PLAIN);
    let total = metrics.total();
    assert_eq!(total.late, 0);
    // Every reading makes one hourly and one daily update: none was lost on the way.
    let count = readings(&expected, super::topology::HOURLY);
    assert_eq!((readings(&expected, super::topology::DAILY), total.records), (count, 2 * count as u64));
    assert!(
        expected.iter().filter(|(_, records)| !records.is_empty()).count() > 6,
        "several partitions are in use"
    );

    let variants = [
        Run { workers: 2, ..PLAIN },
        Run { workers: 4, ..PLAIN },
        Run { workers: 1, turn_records_max: 1, ..PLAIN },
        Run { workers: 2, turn_records_max: 7, ..PLAIN },
        Run { workers: 4, turn_records_max: 1, ..PLAIN },
        Run { workers: 4, turn_records_max: 7, ..PLAIN },
        Run { workers: 2, slow: true, ..PLAIN },
        Run { workers: 4, slow: true, turn_records_max: 7, ..PLAIN },
    ];
    for variant in variants {
        let name = format!(
            "{} workers, turns of {}, one task {}",
            variant.workers,
            variant.turn_records_max,
            if variant.slow { "slow" } else { "as fast as the others" }
        );
        let (outputs, metrics) = run(&variant);
        assert_eq!(metrics.total().late, 0, "{name}");
        for ((partition, records), (_, wanted)) in outputs.iter().zip(&expected) {
            let differs = records.iter().zip(wanted).position(|(a, b)| a != b);
            assert_eq!((differs, records.len()), (None, wanted.len()), "{partition} with {name}");
        }
        println!("same {count} + {count} + alerts: {name}");
    }
}

/// What Kafka Streams does: the records of several upstream tasks as they arrive.
#[test]
fn without_lanes_a_backlog_loses_most_of_itself() {
    let (_, lanes) = run(&Run { workers: 2, ..PLAIN });
    let total = lanes.total().records / 2;
    assert_eq!(lanes.total().late, 0);
    for workers in [1, 2] {
        let (_, arrival) = run(&Run { workers, order: InputOrder::Arrival, ..PLAIN });
        let late = arrival.total().late;
        println!(
            "arrival order, {workers} workers: {late} of {total} readings dropped as late; with lanes: 0"
        );
        assert!(late > 0, "the backlog is long enough to show the difference");
    }
}
