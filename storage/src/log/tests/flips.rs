//! Every bit of a file, flipped.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use headwater_core::RecordBatch;

use super::*;

const SEGMENT_BYTES: u64 = 64 << 10;

/// A closed log with one partition, whose first segment is full and whose second is not; timestamps rise.
fn closed(segment_bytes: u64, value_bytes: usize) -> (TempDir, [PathBuf; 2]) {
    let folder = disk::folder();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 1, segment_bytes);
    let mut producer = producer(&log, "p");
    let (mut bytes, mut number) = (0, 0_u64);
    while bytes < segment_bytes + segment_bytes / 4 {
        let mut batch = BatchBuilder::default();
        for _ in 0..2 {
            let value: Vec<u8> =
                (0..value_bytes).map(|at| (number * 31 + at as u64 * 7).to_le_bytes()[0]).collect();
            batch.push(
                Timestamp(1000 + i64::try_from(number).unwrap()),
                Some(b"key"),
                Some(&value),
                &Headers::new(),
            );
            number += 1;
        }
        bytes += batch.size() as u64;
        producer.append(&tp("t", 0), &mut batch).unwrap();
        block_on(producer.commit(None)).unwrap();
    }
    drop(producer);
    block_on(log.close()).unwrap();
    let partition = folder.path().join("topics/t/0");
    let bases = numbered(&partition, "log");
    assert_eq!(bases.len(), 2);
    let files = [0, 1].map(|index| partition.join(format!("{:020}", bases[index])));
    (folder, files)
}

/// All batches, by their place.
fn batches(log: &EmbeddedLog) -> Vec<RecordBatch> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    loop {
        let next = batches.last().map_or(Offset(0), RecordBatch::next_offset);
        let fetched = block_on(log.read(&tp("t", 0), next, 1 << 20)).unwrap();
        if fetched.batches.is_empty() {
            return batches;
        }
        batches.extend(fetched.batches);
    }
}

fn flip(file: &File, bit: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

#[test]
fn every_bit_of_a_segment_is_noticed_and_its_place_said() {
    let (folder, [path, _]) = closed(SEGMENT_BYTES, 1000);
    let path = path.with_extension("log");
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    let batches = batches(&log);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > SEGMENT_BYTES - 3000, "{length}");
    let (mut end, mut flipped) = (0, 0);
    for batch in &batches {
        let (begin, base) = (end, batch.base_offset());
        end += batch.bytes().len() as u64;
        if end > length {
            break;
        }
        for bit in begin * 8..end * 8 {
            flip(&file, bit);
            let error = match block_on(log.read(&tp("t", 0), base, 0)) {
                Ok(_) => panic!("bit {bit} of the batch at {base} was not noticed"),
                Err(error) => error,
            };
            flip(&file, bit);
            flipped += 1;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error:?}");
            let text = error.to_string();
            let place = format!("partition=t-0, offset={base}, file={}", path.display());
            assert!(text.contains(&place), "bit {bit}: {text}");
        }
    }
    assert_eq!(flipped, length * 8);
    assert_eq!(self::batches(&log), batches, "it was damaged, and is whole again");
    println!("{flipped} bits");
}

/// Reads by offset and by time that need the indexes of both segments.
fn answers(log: &EmbeddedLog, end: u64) -> Vec<(Offset, Option<Offset>)> {
    let step = usize::try_from(end / 13).unwrap();
    let look = |at: u64| {
        let fetched = block_on(log.read(&tp("t", 0), Offset(at), 0)).unwrap();
        let time = Timestamp(1000 + i64::try_from(at).unwrap());
        let found = block_on(log.offset_at(&tp("t", 0), time)).unwrap();
        (fetched.batches[0].base_offset(), found.map(|found| found.offset))
    };
    (0..end).step_by(step).map(look).collect()
}

/// Lost, cut, overwritten, and each bit flipped: indexes are of no use then, and do no harm.
#[test]
fn indexes_that_are_damaged_in_any_way_are_made_again() {
    let (folder, files) = closed(16 << 10, 300);
    let open = || EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    let end = batches(&open()).last().unwrap().next_offset().0;
    let expected = answers(&open(), end);
    assert!(expected.iter().all(|(base, found)| found.is_some_and(|found| found >= *base)));
    let mut damages = 0;
    for path in
        files.iter().flat_map(|path| ["index", "timeindex"].map(|extension| path.with_extension(extension)))
    {
        let good = fs::read(&path).unwrap();
        assert!(!good.is_empty(), "{}", path.display());
        let flipped = (0..good.len() * 8).map(|bit| {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            Some(bad)
        });
        let filled = [0, 0xff, 0x55].map(|byte| Some(vec![byte; good.len()]));
        let longer = [Some([&good[..], &[0; 24]].concat()), Some([&good[..], &[0xff; 5]].concat())];
        let cut = (0..good.len()).map(|length| Some(good[..length].to_vec()));
        for bad in flipped.chain(filled).chain(longer).chain(cut).chain([None]) {
            match &bad {
                Some(bad) => fs::write(&path, bad).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let log = open();
            assert_eq!(answers(&log, end), expected, "{} as {bad:?}", path.display());
            drop(log);
            damages += 1;
            fs::write(&path, &good).unwrap();
        }
    }
    println!("{damages} damages");
}
