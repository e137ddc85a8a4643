//! Codecs: what goes in comes out, and no frame does harm.

use std::io::Write;

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;
use crate::{
    BatchBuilder, ErrorKind, Headers, ProducerStamp, RecordBatch, Timestamp,
    batch::tests::{from_hex, kafka, records, resealed},
};

const CODECS: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

fn packed(codec: Compression, records: &[u8]) -> Vec<u8> {
    codec.pack(records).unwrap().unwrap()[BATCH_HEADER_BYTES..].to_vec()
}

/// A small batch whose records are worth compressing.
fn small(codec: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    for at in 0..4 {
        builder.push(Timestamp(at), Some(b"key"), Some(&[b'v'; 40]), &Headers::new().with("h", "value"));
    }
    let batch = builder.finish_compressed(ProducerStamp::NONE, codec).unwrap();
    assert_eq!(batch.compression(), codec);
    batch
}

/// The batch with another frame, behind a length and a checksum that hold.
fn with_frame(batch: &RecordBatch, frame: &[u8]) -> Result<RecordBatch> {
    RecordBatch::parse(resealed([&batch.bytes()[..BATCH_HEADER_BYTES], frame].concat()))
}

#[test]
fn words_are_those_of_kafkas_configuration() {
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        assert_eq!(codec.to_string().parse::<Compression>().unwrap(), codec);
        let json = serde_json::to_string(&codec).unwrap();
        assert_eq!(json, format!("\"{codec}\""));
        assert_eq!(serde_json::from_str::<Compression>(&json).unwrap(), codec);
    }
    assert_eq!(serde_json::from_str::<Compression>("\"uncompressed\"").unwrap(), Compression::None);
    for (word, expected) in
        [("gzip", "gzip is not built in"), ("snappy", "snappy is not built in"), ("LZ4", "LZ4")]
    {
        let error = word.parse::<Compression>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(serde_json::from_str::<Compression>(&format!("\"{word}\"")).is_err());
    }
}

#[test]
fn more_than_one_block_comes_back() {
    // Larger than a block of either codec, and half of it random.
    let mut random = 42u64;
    let records: Vec<u8> = (0..700_000)
        .map(|at| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if at % 1000 < 500 { random.to_be_bytes()[0] } else { 7 }
        })
        .collect();
    for codec in CODECS {
        assert_eq!(codec.unpack(&packed(codec, &records)).unwrap(), records, "{codec}");
    }
}

#[test]
fn what_does_not_get_smaller_stays_as_it_is() {
    for codec in CODECS {
        assert!(codec.pack(b"abc").unwrap().is_none());
        let mut builder = BatchBuilder::default();
        builder.push(Timestamp(1), None, Some(b"abc"), &Headers::new());
        let expected = builder.mark();
        let batch = builder.finish_compressed(ProducerStamp::NONE, codec).unwrap();
        assert_eq!(batch.compression(), Compression::None);
        assert_eq!(records(&batch).unwrap()[0].value.as_deref(), Some(&b"abc"[..]));
        builder.rewind(expected);
    }
}

/// What Kafka's reader asks of a frame: version 01, independent blocks of at most 64 KiB, no checksum, an end mark.
#[test]
fn lz4_frames_are_those_of_kafka() {
    let ours = packed(Compression::Lz4, &[7; 1000]);
    let kafkas = kafka("lz4");
    assert_eq!(ours[..7], kafkas[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + 7]);
    assert_eq!(ours[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert!(ours.ends_with(&[0; 4]));
}

/// Frames that the C libraries made, with all that is optional: checksums of blocks and content, stated lengths.
#[test]
fn frames_of_other_writers_are_read() {
    for (codec, frame) in [
        (
            Compression::Lz4,
            "04224d187c40f0000000000000001c0b0000001f000100d75000000000002d17a3e4000000007d05db4a",
        ),
        (Compression::Zstd, "28b52ffd04004d000010000001006b0a60015d50a3d7"),
    ] {
        let frame = from_hex(frame);
        assert_eq!(codec.unpack(&frame).unwrap(), [0; 240], "{codec}");
        // The checksum of the content is its last four bytes.
        let damaged = [&frame[..frame.len() - 1], &[0]].concat();
        assert_eq!(codec.unpack(&damaged).unwrap_err().kind(), ErrorKind::Corrupt, "{codec}");
    }
}

#[test]
fn blocks_that_depend_on_one_another_are_refused() {
    let mut frame = FrameEncoder::with_frame_info(FrameInfo::new().block_mode(BlockMode::Linked), Vec::new());
    frame.write_all(&[7; 200_000]).unwrap();
    let error = Compression::Lz4.unpack(&frame.finish().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.report().contains("depend"), "{}", error.report());
}

/// Block by block, with the room for each found by trying.
#[test]
fn lz4_blocks_of_every_size_and_kind_come_back() {
    let mut content: Vec<u8> = (0..3_000_000u32).flat_map(|at| (at / 1000).to_be_bytes()).collect();
    content.extend_from_slice(&vec![0; 9_000_000]);
    content.extend((0..300_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        let settings =
            FrameInfo::new().block_mode(BlockMode::Independent).block_size(size).content_checksum(true);
        let mut frame = FrameEncoder::with_frame_info(settings, Vec::new());
        frame.write_all(&content).unwrap();
        assert!(Compression::Lz4.unpack(&frame.finish().unwrap()).unwrap() == content);
    }
}

/// A few kilobytes that want to be more than there is room for.
#[test]
fn bombs_are_refused() {
    let zeros = vec![0; DECOMPRESSED_BYTES_MAX + 1];
    let mut lz4 =
        FrameEncoder::with_frame_info(FrameInfo::new().block_mode(BlockMode::Independent), Vec::new());
    lz4.write_all(&zeros).unwrap();
    // One with the length of its content in front, which must not be believed, and one without it.
    let known = zstd::bulk::compress(&zeros, 1).unwrap();
    let unknown = zstd::stream::encode_all(&zeros[..], 1).unwrap();
    assert!(known.len() < 8000 && unknown.len() < 8000);
    for (codec, bomb) in
        [(Compression::Lz4, lz4.finish().unwrap()), (Compression::Zstd, known), (Compression::Zstd, unknown)]
    {
        let batch = with_frame(&small(codec), &bomb).unwrap();
        let mut cursor = batch.cursor();
        let error = cursor.advance().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.report().contains("67108864 bytes"), "{}", error.report());
        assert!(!cursor.advance().unwrap(), "a cursor that failed is at its end");
    }
    // What is too large to be read again is not compressed.
    assert!(CODECS.iter().all(|codec| codec.pack(&zeros).unwrap().is_none()));
}

#[test]
fn memory_grows_up_to_its_limit_and_not_beyond() {
    let mut out = Vec::new();
    grow(&mut out, DECOMPRESSED_BYTES_MAX / 3 * 2).unwrap();
    out.resize(out.capacity(), 0);
    grow(&mut out, 1).unwrap();
    assert_eq!(out.capacity(), DECOMPRESSED_BYTES_MAX);
    out.resize(out.capacity(), 0);
    assert!(grow(&mut out, 1).is_err());
    assert_eq!(out.capacity(), DECOMPRESSED_BYTES_MAX);
}

/// A frame that says it holds 1 GiB, and holds 4 bytes.
#[test]
fn a_length_that_lies_is_not_believed() {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend_from_slice(&(1u32 << 30).to_le_bytes());
    frame.extend_from_slice(&[0x21, 0, 0, 1, 2, 3, 4]);
    assert_eq!(zstd_safe::get_frame_content_size(&frame).unwrap(), Some(1 << 30));
    assert_eq!(Compression::Zstd.unpack(&frame).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_count_that_no_decompressed_record_backs_is_refused() {
    for codec in CODECS {
        let mut bytes = small(codec).bytes().to_vec();
        bytes[57..61].copy_from_slice(&1000i32.to_be_bytes());
        bytes[23..27].copy_from_slice(&999i32.to_be_bytes());
        let mut cursor = RecordBatch::parse(resealed(bytes.clone())).unwrap().cursor();
        assert_eq!(cursor.advance().unwrap_err().kind(), ErrorKind::Corrupt);
        // Beyond what any batch can hold it is refused before that.
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        assert_eq!(RecordBatch::parse(resealed(bytes)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    for codec in CODECS {
        let good = small(codec);
        for bit in 0..good.bytes().len() * 8 {
            let mut bytes = good.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Base offset and leader epoch lie outside the checksum, by Kafka's design.
            if let Ok(batch) = RecordBatch::parse(Bytes::from(bytes.clone())) {
                assert!((0..64).contains(&bit) || (96..128).contains(&bit), "{codec}, bit {bit}");
                let base = batch.base_offset();
                assert_eq!(records(&batch).unwrap(), records(&good.clone().at_offset(base)).unwrap());
            }
            // With a checksum that holds there are other records or an error, and no panic.
            if let Ok(batch) = RecordBatch::parse(resealed(bytes)) {
                let _ = records(&batch);
            }
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_noticed() {
    for codec in CODECS {
        let good = small(codec);
        let frame = &good.bytes()[BATCH_HEADER_BYTES..];
        for length in 0..frame.len() {
            let error = with_frame(&good, &frame[..length]).and_then(|batch| records(&batch)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{codec}, {length}");
        }
        let longer = [frame, &[0]].concat();
        let error = with_frame(&good, &longer).and_then(|batch| records(&batch)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{codec}");
    }
}

proptest! {
    /// Behind checksums that hold: an error or some bytes, never a panic, never more than the limit.
    #[test]
    fn a_damaged_frame_does_no_harm(
        content in prop::collection::vec(prop_oneof![Just(7u8), any::<u8>()], 100..3000),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for codec in CODECS {
            let Some(packed) = codec.pack(&content).unwrap() else { continue };
            let mut frame = packed[BATCH_HEADER_BYTES..].to_vec();
            for (at, byte) in &damage {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            for frame in [&frame[..], &frame[..cut.index(frame.len())]] {
                if let Ok(records) = codec.unpack(frame) {
                    prop_assert!(records.capacity() <= DECOMPRESSED_BYTES_MAX);
                }
            }
        }
    }

    /// As above, and the head of an LZ4 frame is right: what follows is not noticed by its checksum.
    #[test]
    fn hostile_lz4_blocks_do_no_harm(blocks in prop::collection::vec(any::<Vec<u8>>(), 0..5), stored in any::<u8>()) {
        let mut frame = packed(Compression::Lz4, &[7; 1000])[..7].to_vec();
        for (at, block) in blocks.iter().enumerate() {
            let length = u32::try_from(block.len()).unwrap() | (u32::from(stored >> at) & 1) << 31;
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(block);
        }
        frame.extend_from_slice(&[0; 4]);
        if let Ok(records) = Compression::Lz4.unpack(&frame) {
            prop_assert!(records.len() <= blocks.len() * (64 << 10));
        }
    }
}
