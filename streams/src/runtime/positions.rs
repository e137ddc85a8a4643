//! What a task needs to go on where it stopped, and how that lies in the metadata of its committed positions.
//!
//! One committed position per input partition: the lowest offset of its lanes, as Kafka's tools expect it, and as
//! metadata one byte of version and the bincode of [`Metadata`]. Version 1 had no `passed`.

use bytes::Bytes;
use headwater_core::{Committed, Error, Offset, Result, Serde, Timestamp, serdes};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 2;
const WITHOUT_PASSED: u8 = 1;

/// Position and time of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LanePosition {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) time: i64,
}

/// Commits with the offset of an input partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) lanes: Vec<LanePosition>,
    /// Of the task; the same in all of its partitions.
    pub(crate) stream_time: i64,
    /// Time of each operator that has a clock; the same in all of the task's partitions.
    pub(crate) clocks: Vec<ClockPosition>,
    /// Whether the partition was read by lanes; the positions mean something else when it was not.
    pub(crate) by_lanes: bool,
    /// How far time has passed behind the end of the input, or `i64::MIN`; the same in all of the task's partitions.
    pub(crate) passed: i64,
}

/// As version 1 had it.
#[derive(Serialize, Deserialize)]
struct MetadataWithoutPassed {
    lanes: Vec<LanePosition>,
    stream_time: i64,
    clocks: Vec<ClockPosition>,
    by_lanes: bool,
}

impl From<MetadataWithoutPassed> for Metadata {
    fn from(metadata: MetadataWithoutPassed) -> Self {
        let MetadataWithoutPassed { lanes, stream_time, clocks, by_lanes } = metadata;
        Self { lanes, stream_time, clocks, by_lanes, passed: i64::MIN }
    }
}

/// What an application commits in a source partition of which it has taken nothing yet, and which it shall read from `offset` on,
/// as if that was its beginning: a position for a group that is sent back. Positions of other partitions, and state, are the
/// caller's concern.
///
/// # Errors
/// Those of the encoding.
pub fn position_at(offset: Offset) -> Result<Committed> {
    let lane = LanePosition { number: 0, offset: offset.0, time: Timestamp::MIN.0 };
    let (stream_time, passed) = (Timestamp::MIN.0, i64::MIN);
    Metadata { lanes: vec![lane], stream_time, clocks: Vec::new(), by_lanes: false, passed }.commit()
}

/// Time of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockPosition {
    /// Name of its store.
    pub(crate) store: String,
    pub(crate) time: i64,
    /// See `StoreClock::closed`.
    pub(crate) closed: i64,
}

impl Metadata {
    pub(crate) fn commit(&self) -> Result<Committed> {
        let mut bytes = vec![VERSION];
        serdes::Bincode.encode(self, &mut bytes)?;
        let offset = self.lanes.iter().map(|lane| lane.offset).min().unwrap_or(0);
        Ok(Committed { offset: Offset(offset), metadata: Bytes::from(bytes) })
    }

    pub(crate) fn of(committed: &Committed) -> Result<Self> {
        let decoded = match committed.metadata.split_first() {
            Some((&VERSION, rest)) => serdes::Bincode.decode(rest),
            Some((&WITHOUT_PASSED, rest)) => {
                let decoded: Result<MetadataWithoutPassed> = serdes::Bincode.decode(rest);
                decoded.map(Self::from)
            }
            version => {
                return Err(Error::invalid(format!(
                    "a committed position was written by another version of Headwater. version={:?}, known={VERSION}",
                    version.map(|(version, _)| version)
                )));
            }
        };
        decoded.map_err(|e| Error::corrupt("metadata of a committed position cannot be read").with_source(e))
    }

    pub(crate) fn stream_time(&self) -> Timestamp {
        Timestamp(self.stream_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_without_a_past_knows_no_time() {
        let committed = position_at(Offset(7)).unwrap();
        assert_eq!(committed.offset, Offset(7));
        assert_eq!(Metadata::of(&committed).unwrap().stream_time(), Timestamp::MIN);
    }

    #[test]
    fn comes_back_and_is_versioned() {
        let lane = |number, offset| LanePosition { number, offset, time: 5 };
        let metadata = Metadata {
            lanes: vec![lane(0, 9), lane(1, 7)],
            stream_time: -1,
            clocks: vec![ClockPosition { store: "hourly".into(), time: 3, closed: 2 }],
            by_lanes: true,
            passed: 11,
        };
        let committed = metadata.commit().unwrap();
        assert_eq!(committed.offset, Offset(7));
        assert_eq!(Metadata::of(&committed).unwrap(), metadata);
        let newer = Committed { offset: Offset(0), metadata: Bytes::from_static(&[9, 0]) };
        assert!(Metadata::of(&newer).unwrap_err().to_string().contains("another version"));
    }
    #[test]
    fn what_an_earlier_version_committed_is_read() {
        let bytes = b"\x01\x01\x00\x05\x0a\x06\x01\x01h\x04\x02\x01";
        let committed = Committed { offset: Offset(5), metadata: Bytes::from_static(bytes) };
        let metadata = Metadata {
            lanes: vec![LanePosition { number: 0, offset: 5, time: 5 }],
            stream_time: 3,
            clocks: vec![ClockPosition { store: "h".into(), time: 2, closed: 1 }],
            by_lanes: true,
            passed: i64::MIN,
        };
        assert_eq!(Metadata::of(&committed).unwrap(), metadata);
    }
}
