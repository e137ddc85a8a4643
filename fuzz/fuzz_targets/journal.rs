//! Opening and replaying journals: of any bytes, of groups of any entries behind checksums that hold, and of groups and
//! checkpoints that a log wrote, changed behind their checksums.
//!
//! What is opened is an error or a log that serves the same when it is closed and opened again. Records may be any: whoever
//! makes checksums hold can write what he likes.
#![no_main]

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use headwater_fuzz::{
    checkpoint::Checkpoint,
    edit::{Edit, apply},
    entry::{Entry, Large},
    folder::{Files, Scratch},
    history,
    seal::{
        GROUP_HEADER_BYTES, GroupHeader, JOURNAL_HEADER_BYTES, journal_header, put_group, seal_checkpoint,
        u64_at,
    },
    served::{Exercise, exercise},
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

const SALT: u64 = 0x5a17_5a17_5a17_5a17;

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);
/// A new log.
static EMPTY: LazyLock<Files> = LazyLock::new(history::empty);
/// A log whose owner was killed: there are segments, a checkpoint, and a journal to replay.
static KILLED: LazyLock<Files> = LazyLock::new(history::killed);

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    journal: Journal<'a>,
    in_memory: bool,
    write: bool,
    clean: bool,
    observe: bool,
}

#[derive(Debug, Arbitrary)]
enum Journal<'a> {
    /// Files as they come.
    Bytes { first: &'a [u8], second: Option<&'a [u8]> },
    /// Behind the header of a file: what looks like a group.
    Behind { header: bool, bytes: &'a [u8] },
    /// Groups of any entries.
    Groups { killed: bool, groups: Vec<Group<'a>>, torn: Option<u16> },
    /// The groups of a log, with other entries.
    Changed { changes: Vec<(u8, Part, Vec<Edit<'a>>)> },
    /// The checkpoint of a log, with other contents.
    Checkpoint { edits: Vec<Edit<'a>>, both: bool, killed: bool },
    /// Another checkpoint, and groups behind it.
    Other { checkpoint: Box<Checkpoint<'a>>, both: bool, killed: bool, groups: Vec<Group<'a>> },
}

/// What of a group is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Part {
    Front,
    Bodies,
}

#[derive(Debug, Arbitrary)]
struct Group<'a> {
    entries: Vec<Entry<'a>>,
    /// That header and front contradict each other.
    bodies: Option<u8>,
    /// What becomes of the bodies, which the checksum of the group does not cover.
    edits: Vec<Edit<'a>>,
    number: Option<Large>,
    durable: Large,
    /// It begins another file.
    rolls: bool,
}

fuzz_target!(|input: Input<'_>| {
    let mut files;
    match input.journal {
        Journal::Bytes { first, second } => {
            files = EMPTY.clone();
            let (segment, ..) = position(&files);
            files.insert(journal_file(segment), first.to_vec());
            files.extend(second.map(|second| (journal_file(segment + 1), second.to_vec())));
        }
        Journal::Behind { header, bytes } => {
            files = EMPTY.clone();
            let (segment, _, group) = position(&files);
            let mut journal = if header { journal_header(segment, group, SALT) } else { Vec::new() };
            journal.extend_from_slice(bytes);
            files.insert(journal_file(segment), journal);
        }
        Journal::Groups { killed, groups, torn } => {
            files = if killed { KILLED.clone() } else { EMPTY.clone() };
            put_groups(&mut files, &groups, torn);
        }
        Journal::Changed { changes } => {
            files = KILLED.clone();
            change_groups(&mut files, &changes);
        }
        Journal::Checkpoint { edits, both, killed } => {
            files = if killed { KILLED.clone() } else { EMPTY.clone() };
            let mut checkpoint = files[Path::new("checkpoint")].clone();
            apply(&edits, &mut checkpoint);
            seal_checkpoint(&mut checkpoint);
            put_checkpoint(&mut files, checkpoint, both);
        }
        Journal::Other { checkpoint, both, killed, groups } => {
            files = if killed { KILLED.clone() } else { EMPTY.clone() };
            if !groups.is_empty() {
                put_groups(&mut files, &groups, None);
            }
            let checkpoint = checkpoint.bytes(&files[Path::new("checkpoint")]);
            put_checkpoint(&mut files, checkpoint, both);
        }
    }
    SCRATCH.fill(&files);
    let tail_bytes_max = if input.in_memory { 1 << 20 } else { 0 };
    let how = Exercise { tail_bytes_max, write: input.write, clean: input.clean, observe: input.observe };
    exercise(&SCRATCH.log(), how, |_| {});
});

fn put_checkpoint(files: &mut Files, checkpoint: Vec<u8>, both: bool) {
    if both {
        files.insert("checkpoint.copy".into(), checkpoint.clone());
    }
    files.insert("checkpoint".into(), checkpoint);
}

fn journal_file(segment: u64) -> PathBuf {
    format!("journal/{segment:020}.journal").into()
}

/// Journal file, byte and group behind the checkpoint.
fn position(files: &Files) -> (u64, usize, u64) {
    let checkpoint = &files[Path::new("checkpoint")];
    let byte = usize::try_from(u64_at(checkpoint, 24)).expect("journals of ours are small");
    (u64_at(checkpoint, 16), byte, u64_at(checkpoint, 32))
}

/// The groups take the place of all behind the checkpoint.
fn put_groups(files: &mut Files, groups: &[Group<'_>], torn: Option<u16>) {
    let (mut segment, byte, mut number) = position(files);
    files.retain(|path, _| path.extension().is_none_or(|e| e != "journal") || *path <= journal_file(segment));
    let journal = files.get_mut(&journal_file(segment)).expect("a log has one");
    journal.truncate(byte);
    let mut salt = u64_at(journal, 32);
    let mut journal = std::mem::take(journal);
    for group in groups {
        if group.rolls {
            files.insert(journal_file(segment), std::mem::take(&mut journal));
            (segment, salt) = (segment + 1, SALT);
            journal = journal_header(segment, number, salt);
        }
        let (mut front, mut bodies) = (Vec::new(), Vec::new());
        group.entries.iter().for_each(|entry| entry.put(&mut front, &mut bodies));
        apply(&group.edits, &mut bodies);
        let header = GroupHeader {
            bodies: group.bodies.map(u32::from),
            number: group.number.map_or(number, |number| number.0),
            durable: group.durable.0,
        };
        put_group(&mut journal, (segment, salt), header, (&front, &bodies));
        number += 1;
    }
    if let Some(torn) = torn {
        let length = journal.len().saturating_sub(torn.into()).max(JOURNAL_HEADER_BYTES);
        journal.truncate(length);
    }
    journal.resize(journal.len() + GROUP_HEADER_BYTES, 0);
    files.insert(journal_file(segment), journal);
}

/// Changes the fronts and bodies of groups behind the checkpoint, where they stand.
fn change_groups(files: &mut Files, changes: &[(u8, Part, Vec<Edit<'_>>)]) {
    let (mut segment, mut at, _) = position(files);
    let mut count = 0_u8;
    while let Some(journal) = files.get(&journal_file(segment)) {
        let salt = u64_at(journal, 32);
        let mut changed = journal[..at].to_vec();
        while journal.get(at..at + 4) == Some(b"HWG2") {
            let field = |from: usize| u64_at(journal, at + from);
            let begin = at + GROUP_HEADER_BYTES;
            #[expect(clippy::cast_possible_truncation, reason = "it is the lower half")]
            let (front, bodies) = ((field(8) >> 32) as usize, field(8) as u32 as usize);
            let mut parts = [begin..begin + front, begin + front..begin + front + bodies]
                .map(|range| journal[range].to_vec());
            for (part, bytes) in [Part::Front, Part::Bodies].into_iter().zip(&mut parts) {
                let of_it = changes.iter().filter(|(group, of, _)| *group == count && *of == part);
                of_it.for_each(|(.., edits)| apply(edits, bytes));
            }
            let header = GroupHeader { bodies: None, number: field(16), durable: field(24) };
            put_group(&mut changed, (segment, salt), header, (&parts[0], &parts[1]));
            at += (GROUP_HEADER_BYTES + front + bodies).next_multiple_of(8);
            count = count.wrapping_add(1);
        }
        changed.resize(changed.len() + GROUP_HEADER_BYTES, 0);
        files.insert(journal_file(segment), changed);
        (segment, at) = (segment + 1, JOURNAL_HEADER_BYTES);
    }
}
