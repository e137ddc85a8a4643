//! Opening a log of which some files are not what was written: lost, cut, longer, older, or with other bytes, as disks and
//! people make them.
//!
//! What is opened is an error or a log that serves records and positions that were written, unchanged, and the same ones when
//! it is closed and opened again. No checksum is made to hold here: damage comes from a disk and not from somebody who
//! wants to be believed.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use headwater_fuzz::{
    folder::{Files, Scratch},
    history::{self, History},
    served::{self, Exercise, Served, exercise},
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);
static HISTORY: LazyLock<History> = LazyLock::new(History::lived);

/// An observer waits for half a second until it takes damage for damage: it looks at one folder of so many.
const OBSERVED_OF: u32 = 256;

#[derive(Debug, Arbitrary)]
struct Input {
    moment: u8,
    damages: Vec<(u8, Damage)>,
    in_memory: bool,
    write: bool,
    clean: bool,
    observe: bool,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Damage {
    Lost,
    Cut {
        at: u16,
    },
    Longer {
        by: u16,
        seed: u8,
    },
    Flipped {
        at: u16,
        bit: u8,
    },
    Filled {
        at: u16,
        count: u16,
        with: u8,
    },
    /// With what no checksum knows.
    Garbage {
        at: u16,
        count: u8,
        seed: u32,
    },
    /// With other bytes of the same file.
    Copied {
        from: u16,
        to: u16,
        count: u16,
    },
    /// What it was at another moment.
    Older {
        moment: u8,
    },
    /// A file that was there at another moment is there.
    Back {
        moment: u8,
        file: u8,
    },
}

fuzz_target!(|input: Input| {
    let moment = usize::from(input.moment) % HISTORY.moments.len();
    let mut files = HISTORY.moments[moment].clone();
    input.damages.iter().take(4).for_each(|(file, damage)| damage.apply(*file, &mut files));
    SCRATCH.fill(&files);
    let folder = SCRATCH.log();
    if input.observe {
        for (topic, partition) in [("t", 0), ("t", 1), ("packed", 0), ("compact", 0), ("indexed", 0)] {
            served::dump(&folder, &history::partition(topic, partition));
        }
    }
    let sum = files.values().fold(0, |sum, bytes| crc32c::crc32c_append(sum, bytes));
    if sum % OBSERVED_OF == 0
        && let Some(served) = served::observe(&folder)
    {
        check(&served);
    }
    let tail_bytes_max = if input.in_memory { 1 << 20 } else { 0 };
    let how = Exercise { tail_bytes_max, write: input.write, clean: input.clean, observe: input.observe };
    exercise(&folder, how, check);
});

/// Whether all of it was written.
fn check(served: &Served) {
    for record in served.records() {
        assert!(HISTORY.records.contains(&record), "nobody wrote {record:?}");
    }
    for position in &served.positions {
        assert!(HISTORY.positions.contains(position), "nobody committed {position:?}");
    }
    for (partition, served) in &served.partitions {
        let offsets = served.records.iter().map(|record| record.offset);
        assert!(offsets.is_sorted_by(|one, next| one < next), "{partition}: records out of order");
    }
}

impl Damage {
    fn apply(self, file: u8, files: &mut Files) {
        let Some(path) = nth(files, file) else { return };
        let bytes = files.get_mut(&path).expect("it is there");
        let length = bytes.len();
        let place = |at: u16| usize::from(at) % length.max(1);
        match self {
            Self::Lost => drop(files.remove(&path)),
            Self::Cut { at } => bytes.truncate(place(at)),
            Self::Longer { by, seed } => {
                let by = usize::from(by % 3000);
                bytes.extend(noise(seed.into()).map(|byte| if seed == 0 { 0 } else { byte }).take(by));
            }
            Self::Flipped { at, bit } => {
                bytes.iter_mut().skip(place(at)).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Self::Filled { at, count, with } => {
                bytes.iter_mut().skip(place(at)).take(count.into()).for_each(|byte| *byte = with);
            }
            Self::Garbage { at, count, seed } => {
                let damaged = bytes.iter_mut().skip(place(at)).take(count.into());
                damaged.zip(noise(seed)).for_each(|(byte, noise)| *byte = noise);
            }
            Self::Copied { from, to, count } => {
                let from = place(from);
                let copy = bytes[from..length.min(from + usize::from(count))].to_vec();
                bytes.iter_mut().skip(place(to)).zip(copy).for_each(|(byte, copy)| *byte = copy);
            }
            Self::Older { moment } => {
                let moment = &HISTORY.moments[usize::from(moment) % HISTORY.moments.len()];
                if let Some(older) = moment.get(&path) {
                    bytes.clone_from(older);
                }
            }
            Self::Back { moment, file } => {
                let moment = &HISTORY.moments[usize::from(moment) % HISTORY.moments.len()];
                let back = nth(moment, file).expect("a log has files");
                files.entry(back.clone()).or_insert_with(|| moment[&back].clone());
            }
        }
    }
}

fn nth(files: &Files, file: u8) -> Option<PathBuf> {
    files.keys().nth(usize::from(file) % files.len().max(1)).cloned()
}

/// Bytes without end that nobody can choose: what makes a checksum hold cannot be found.
fn noise(seed: u32) -> impl Iterator<Item = u8> {
    (0_u32..).map(move |at| {
        let [first, ..] =
            crc32c::crc32c_append(!seed, &at.to_be_bytes()).wrapping_mul(0x9e37_79b1).to_be_bytes();
        first
    })
}
