//! What a task needs to go on where it stopped, and how that lies in the metadata of its committed positions.
//!
//! One committed position per input partition: the lowest offset of its lanes, as Kafka's tools expect it, and as
//! metadata one byte of version and the bincode of [`Metadata`]. Version 1 ended
//! before `passed`, and its clocks before `closing`.

use bytes::Bytes;
use headwater_core::{Committed, Error, Offset, Result, Serde, Timestamp, serdes};
use serde::{Deserialize, Serialize};

use crate::state::{Closing, Sent};

const VERSION: u8 = 2;
const WITHOUT_CLOSING: u8 = 1;

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
    /// Whether the task was in the middle of closing what was due; the same in all of its partitions.
    pub(crate) is_unfinished: bool,
    /// Stream time up to which punctuations were made; the same in all of its partitions.
    pub(crate) punctuated: i64,
}

/// As version 1 had it.
#[derive(Serialize, Deserialize)]
struct MetadataWithoutClosing {
    lanes: Vec<LanePosition>,
    stream_time: i64,
    clocks: Vec<ClockWithoutClosing>,
    by_lanes: bool,
}

#[derive(Serialize, Deserialize)]
struct ClockWithoutClosing {
    store: String,
    time: i64,
    closed: i64,
}

impl From<MetadataWithoutClosing> for Metadata {
    fn from(metadata: MetadataWithoutClosing) -> Self {
        let MetadataWithoutClosing { lanes, stream_time, clocks, by_lanes } = metadata;
        let clock = |clock| {
            let ClockWithoutClosing { store, time, closed } = clock;
            ClockPosition { store, time, closed, closing: None }
        };
        let clocks = clocks.into_iter().map(clock).collect();
        let (passed, is_unfinished, punctuated) = (i64::MIN, false, stream_time);
        Self { lanes, stream_time, clocks, by_lanes, passed, is_unfinished, punctuated }
    }
}

/// What an application commits in a source partition of which it has taken nothing yet, and which it shall read from `offset` on,
/// as if that was its beginning: a position for a group that is sent back. Positions of other partitions, and state, are the
/// caller's concern.
///
/// # Errors
/// Those of the encoding.
pub fn position_at(offset: Offset) -> Result<Committed> {
    Metadata::beginning(offset).commit()
}

/// Time of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockPosition {
    /// Name of its store.
    pub(crate) store: String,
    pub(crate) time: i64,
    /// See `StoreClock::closed`.
    pub(crate) closed: i64,
    pub(crate) closing: Option<ClosingPosition>,
}

/// What an operator is to close: see [`Closing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosingPosition {
    headers: Option<Vec<(String, Option<Vec<u8>>)>>,
    sent: Option<(i64, Vec<u8>, i64)>,
}

impl From<Closing> for ClosingPosition {
    fn from(Closing { trigger, sent }: Closing) -> Self {
        let owned = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.map(<[u8]>::to_vec));
        Self {
            headers: trigger.map(|headers| headers.iter().map(owned).collect()),
            sent: sent.map(|Sent { time, key, number }| (time.0, key, number)),
        }
    }
}

impl From<ClosingPosition> for Closing {
    fn from(ClosingPosition { headers, sent }: ClosingPosition) -> Self {
        let owned = |(name, value): (String, Option<Vec<u8>>)| (name, value.map(Bytes::from));
        Self {
            trigger: headers.map(|headers| headers.into_iter().map(owned).collect()),
            sent: sent.map(|(time, key, number)| Sent { time: Timestamp(time), key, number }),
        }
    }
}

impl Metadata {
    /// Of a source partition of which nothing was taken yet, and nothing before an offset is to be.
    pub(crate) fn beginning(offset: Offset) -> Self {
        Self {
            lanes: vec![LanePosition { number: 0, offset: offset.0, time: i64::MIN }],
            stream_time: i64::MIN,
            clocks: Vec::new(),
            by_lanes: false,
            passed: i64::MIN,
            is_unfinished: false,
            punctuated: i64::MIN,
        }
    }

    pub(crate) fn commit(&self) -> Result<Committed> {
        let mut bytes = vec![VERSION];
        serdes::Bincode.encode(self, &mut bytes)?;
        let offset = self.lanes.iter().map(|lane| lane.offset).min().unwrap_or(0);
        Ok(Committed { offset: Offset(offset), metadata: Bytes::from(bytes) })
    }

    pub(crate) fn of(committed: &Committed) -> Result<Self> {
        let decoded = match committed.metadata.split_first() {
            Some((&VERSION, rest)) => serdes::Bincode.decode(rest),
            Some((&WITHOUT_CLOSING, rest)) => {
                let decoded: Result<MetadataWithoutClosing> = serdes::Bincode.decode(rest);
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

    fn closing() -> ClosingPosition {
        let headers = vec![("a".to_owned(), Some(b"b".to_vec())), ("none".to_owned(), None)];
        ClosingPosition { headers: Some(headers), sent: Some((9, b"key".to_vec(), 1)) }
    }

    #[test]
    fn what_is_closed_comes_back() {
        let (none, closing) = (Closing::default(), closing());
        assert_eq!(ClosingPosition::from(Closing::from(closing.clone())), closing);
        assert_eq!(Closing::from(ClosingPosition::from(none.clone())), none);
    }

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
            clocks: vec![ClockPosition {
                store: "hourly".into(),
                time: 3,
                closed: 2,
                closing: Some(closing()),
            }],
            by_lanes: true,
            passed: 11,
            is_unfinished: true,
            punctuated: 4,
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
            clocks: vec![ClockPosition { store: "h".into(), time: 2, closed: 1, closing: None }],
            by_lanes: true,
            passed: i64::MIN,
            is_unfinished: false,
            punctuated: 3,
        };
        assert_eq!(Metadata::of(&committed).unwrap(), metadata);
    }
}
