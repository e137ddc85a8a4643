//! The journal: files of groups, written one after another and used again.
//!
//! ```text
//!  0  magic        8 bytes "HWJOURNL"
//!  8  version      u32   3, or 4 in mode `os`
//! 12  crc          u32   CRC-32C of 16..40; of version 4 with 8..12 in front
//! 16  sequence     u64   number of this segment, as in its name
//! 24  first group  u64   number of its first group
//! 32  salt         u64   random: goes into the checksum of each group
//! 40  zeros up to 64, then groups
//! ```
//!
//! A file is on disk with its header before it gets its name, and everything before it is on disk before it is begun. Not
//! so in mode `os`, where only headers and names are: of what a file of version 4 holds, and those of version 4 before it, nothing is
//! known to be on disk (`docs/decisions/0028-os-mode-and-the-disk.md`).
//!
//! Files are zeroed ahead of the writer, and used again after a checkpoint: overwriting is twice as fast to sync as
//! growing, and needs no room on the disk. A group is decided only when it has its room, and some is kept behind it, for
//! groups that make room. The salt is new with each use: what an earlier use left behind is no group of this one, nor are the bytes of a
//! record that somebody made to look like one.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut};
use headwater_core::{
    Error, ErrorKind, Result,
    checksum::{crc32c, crc32c_append},
};

use super::{
    fs::{DataFile, Open, write_error},
    group::{GROUP_HEADER_BYTES, GroupBuilder, Seed},
    layout::Layout,
    options::{Durability, LogOptions},
    scan::Scan,
};

pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;
/// Of these, what holds something.
const HEADER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"HWJOURNL";
/// How far ahead of the writer a new file is zeroed, and in what steps.
const ZERO_AHEAD_BYTES: u64 = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Room that is kept for groups that make room; less in small files.
const KEPT_BYTES_MAX: u64 = 64 << 10;
/// How many files wait to be used again.
const SPARES_MAX: usize = 4;

/// A point between two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Which file.
    pub(super) segment: u64,
    /// Where in the file.
    pub(super) byte: u64,
    /// Number of the group that follows.
    pub(super) group: u64,
}

/// What is known of the groups before a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They are on disk.
    Synced,
    /// They may be lost in a power cut, and so may be those in it.
    Unsynced,
}

impl Kind {
    /// Of the files that are written in a mode.
    pub(super) fn of(durability: Durability) -> Self {
        match durability {
            Durability::Fsync | Durability::Interval(_) => Kind::Synced,
            Durability::Os => Kind::Unsynced,
        }
    }

    fn version(self) -> u32 {
        match self {
            Kind::Synced => 3,
            Kind::Unsynced => 4,
        }
    }

    /// The checksum of a header.
    fn checksum(self, header: &[u8]) -> u32 {
        match self {
            Kind::Synced => crc32c(&header[16..HEADER_BYTES]),
            Kind::Unsynced => crc32c_append(crc32c(&header[8..12]), &header[16..HEADER_BYTES]),
        }
    }
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Journal {
    layout: Layout,
    segment_bytes: u64,
    kind: Kind,
    /// Files before this one, and their numbers, in which something is perhaps not on disk.
    unsynced: Vec<(u64, Arc<dyn DataFile>)>,
    file: Arc<dyn DataFile>,
    seed: Seed,
    position: Position,
    /// The file has been written up to here, if only with zeros.
    zeroed: u64,
    /// All groups below this number are on disk.
    durable: u64,
}

impl Journal {
    /// Begins segment `segment`. Everything before it must be on disk.
    pub(super) fn begin(layout: &Layout, segment_bytes: u64, segment: u64, group: u64) -> Result<Self> {
        Self::begin_with_room((layout, Kind::Synced), segment_bytes, Position { segment, byte: 0, group }, 0)
    }

    /// Begins segment `segment` of a log that does not wait for the disk.
    pub(super) fn begin_unsynced(
        layout: &Layout,
        segment_bytes: u64,
        segment: u64,
        group: u64,
    ) -> Result<Self> {
        Self::begin_with_room(
            (layout, Kind::Unsynced),
            segment_bytes,
            Position { segment, byte: 0, group },
            0,
        )
    }

    /// Begins the segment at `position`, with room for a group of `bytes`.
    fn begin_with_room(
        (layout, kind): (&Layout, Kind),
        segment_bytes: u64,
        position: Position,
        bytes: u64,
    ) -> Result<Self> {
        let Position { segment, group, .. } = position;
        let seed = Seed { segment, salt: RandomState::new().build_hasher().finish() };
        let room = SEGMENT_HEADER_BYTES + bytes + GROUP_HEADER_BYTES as u64 + kept_bytes(segment_bytes);
        let (file, zeroed) = begin_segment((layout, kind), seed, group, room)?;
        let position = Position { segment, byte: SEGMENT_HEADER_BYTES, group };
        let (layout, unsynced) = (layout.clone(), Vec::new());
        Ok(Self { layout, segment_bytes, kind, unsynced, file, seed, position, zeroed, durable: group })
    }

    /// Begins a segment behind all that there are, for what comes after a scan from segment `from`. What that read may still
    /// be in the memory of the system only, when just the process had died.
    pub(super) fn begin_behind(
        layout: &Layout,
        options: &LogOptions,
        from: u64,
        scan: &Scan,
    ) -> Result<Self> {
        sync_segments(layout, from, scan.end.segment)?;
        let begin = match Kind::of(options.durability) {
            Kind::Synced => Self::begin,
            Kind::Unsynced => Self::begin_unsynced,
        };
        begin(layout, options.journal_segment_bytes, scan.newest + 1, scan.end.group)
    }

    /// Goes on at `position`, behind which nothing is.
    pub(super) fn resume(layout: &Layout, segment_bytes: u64, position: Position) -> Result<Self> {
        let path = layout.journal_segment(position.segment);
        let found = SegmentFile::open(layout, position.segment)?.map(|segment| (segment.seed, segment.kind));
        let (seed, kind) = found.ok_or_else(|| {
            Error::corrupt(format!(
                "journal file is missing: restore it from a copy. file={}",
                path.display()
            ))
        })?;
        let open = || {
            let file = layout.fs.open(&path, Open::Write)?;
            let zeroed = file.len()?;
            Ok((file, zeroed))
        };
        let (file, zeroed) =
            open().map_err(|e| Error::io(format!("cannot open journal. file={}", path.display()), e))?;
        let durable = position.group;
        let (layout, unsynced) = (layout.clone(), Vec::new());
        Ok(Self { layout, segment_bytes, kind, unsynced, file, seed, position, zeroed, durable })
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Makes sure that a group of `bytes` can be written, and `kept` more behind it, without more of the disk than the
    /// journal has already. Begins the next segment when this one is full.
    ///
    /// # Errors
    /// `Full`: nothing has changed, and it may be asked again. After others the log must stop.
    pub(super) fn reserve(&mut self, bytes: u64, kept: Kept) -> Result<()> {
        let begun = self.position.byte > SEGMENT_HEADER_BYTES;
        let end = self.position.byte + bytes;
        let (limit, kept) = match kept {
            Kept::Yes => (self.segment_bytes, kept_bytes(self.segment_bytes)),
            Kept::No => (self.segment_bytes + kept_bytes(self.segment_bytes), 0),
        };
        if begun && end > limit {
            return self.roll(bytes);
        }
        match self.fill(end + GROUP_HEADER_BYTES as u64 + kept) {
            Err(error) if error.kind() == ErrorKind::Full && begun && self.has_spare()? => self.roll(bytes),
            filled => filled,
        }
    }

    fn roll(&mut self, bytes: u64) -> Result<()> {
        if self.kind == Kind::Synced {
            self.sync()?;
        }
        let Position { segment, byte, group } = self.position;
        let next = Position { segment: segment + 1, byte, group };
        let next = Self::begin_with_room((&self.layout, self.kind), self.segment_bytes, next, bytes)?;
        let before = std::mem::replace(self, next);
        if before.is_dirty() {
            self.durable = before.durable;
            self.unsynced = before.unsynced;
            self.unsynced.push((segment, before.file));
        }
        Ok(())
    }

    fn has_spare(&self) -> Result<bool> {
        Ok(!self.layout.numbered(&self.layout.journal(), "spare")?.is_empty())
    }

    /// Writes zeros up to `until`, and further when there is room.
    fn fill(&mut self, until: u64) -> Result<()> {
        if until <= self.zeroed {
            return Ok(());
        }
        let file_end = self.segment_bytes + GROUP_HEADER_BYTES as u64 + kept_bytes(self.segment_bytes);
        let ahead = (self.position.byte + ZERO_AHEAD_BYTES).min(file_end).max(until);
        match write_zeros(&*self.file, &mut self.zeroed, ahead) {
            Err(error) => match write_error(self.place("cannot write journal"), error) {
                full if full.kind() == ErrorKind::Full && until <= self.zeroed => Ok(()),
                error => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Writes a group. It is on disk after the next [`Journal::sync`].
    pub(super) fn write(&mut self, group: &mut GroupBuilder) -> Result<()> {
        let size = group.size() as u64;
        // Nothing to do when it was reserved.
        self.reserve(size, Kept::No)?;
        let Position { segment, byte, group: number } = self.position;
        let mut pieces: Vec<_> = group.close(self.seed, number, self.durable).map(IoSlice::new).collect();
        let end = byte + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let written = self.file.write_all_pieces_at(&mut pieces, byte);
        written.map_err(|e| Error::io(self.place("cannot write journal"), e))?;
        assert!(end <= self.zeroed, "a group is written where room was reserved");
        self.position = Position { segment, byte: byte + size, group: number + 1 };
        Ok(())
    }

    /// Everything written is on disk afterwards. After an error nothing is known any more: the log must stop.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.durable < self.position.group {
            let failed = |e| Error::io(self.place("cannot sync journal"), e);
            self.unsynced.iter().try_for_each(|(_, file)| file.sync_data()).map_err(failed)?;
            self.file.sync_data().map_err(failed)?;
            self.unsynced.clear();
            self.durable = self.position.group;
        }
        Ok(())
    }

    /// Whether something was written that is perhaps not on disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.durable < self.position.group
    }

    fn place(&self, what: &str) -> String {
        let Position { segment, byte, .. } = self.position;
        format!("{what}. file={}, byte={byte}", self.layout.journal_segment(segment).display())
    }

    /// Frees the segments before `segment`: a checkpoint that does not need them is on disk.
    pub(super) fn recycle_before(&mut self, segment: u64) -> Result<()> {
        self.unsynced.retain(|(unsynced, _)| *unsynced >= segment);
        let mut spares = self.layout.numbered(&self.layout.journal(), "spare")?.len();
        for old in self.layout.numbered(&self.layout.journal(), "journal")? {
            if old >= segment {
                break;
            }
            let path = self.layout.journal_segment(old);
            let size = self.layout.fs.size(&path).unwrap_or(u64::MAX);
            if spares < SPARES_MAX && size <= self.segment_bytes.saturating_mul(2) {
                self.layout.rename(&path, &self.layout.journal_spare(old))?;
                spares += 1;
            } else {
                self.layout.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Puts on disk what a scan from `from` to `end` read.
pub(super) fn sync_scanned(layout: &Layout, from: Position, end: Position) -> Result<()> {
    sync_segments(layout, from.segment, end.segment)
}

fn sync_segments(layout: &Layout, first: u64, last: u64) -> Result<()> {
    (first..=last).try_for_each(|segment| layout.sync_file(&layout.journal_segment(segment)))
}

/// Whether room for groups that make room is to be left behind a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// It is one of those.
    No,
}

fn kept_bytes(segment_bytes: u64) -> u64 {
    (segment_bytes / 8).clamp(GROUP_HEADER_BYTES as u64, KEPT_BYTES_MAX)
}

/// Writes zeros from `zeroed` up to `until`, and takes note of how far it came.
fn write_zeros(file: &dyn DataFile, zeroed: &mut u64, until: u64) -> std::io::Result<()> {
    while *zeroed < until {
        let count = usize::try_from(until - *zeroed).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all_at(&ZEROS[..count], *zeroed)?;
        *zeroed += count as u64;
    }
    Ok(())
}

/// Makes the file of a segment, from a spare one where there is one, and writes it up to `room`; returns how far it has
/// been written.
///
/// # Errors
/// `Full`: what was made waits as a spare file.
fn begin_segment(
    (layout, kind): (&Layout, Kind),
    seed: Seed,
    first_group: u64,
    room: u64,
) -> Result<(Arc<dyn DataFile>, u64)> {
    let Seed { segment, salt } = seed;
    let spare =
        layout.numbered(&layout.journal(), "spare")?.first().map(|spare| layout.journal_spare(*spare));
    let path = spare.unwrap_or_else(|| layout.journal_spare(segment));
    let mut header = Vec::with_capacity(128);
    header.put_slice(MAGIC);
    header.put_u32(kind.version());
    header.put_u32(0);
    header.put_u64(segment);
    header.put_u64(first_group);
    header.put_u64(salt);
    let crc = kind.checksum(&header);
    header[12..16].copy_from_slice(&crc.to_be_bytes());
    // With the zeros that mark the end of the journal.
    header.resize(64 + GROUP_HEADER_BYTES, 0);
    let what = format!("cannot begin journal file. file={}", path.display());
    let file = layout.fs.open(&path, Open::Create).map_err(|e| write_error(&what, e))?;
    let used = || Ok(file.len()? >= header.len() as u64);
    if kind == Kind::Unsynced && used().map_err(|e| Error::io(&*what, e))? {
        // All of its earlier use may wait in the memory of the system, and need not go to the disk.
        file.write_through(&header, 0).map_err(|e| Error::io(&*what, e))?;
    } else {
        file.write_all_at(&header, 0).map_err(|e| write_error(&what, e))?;
        file.sync_data().map_err(|e| Error::io(&*what, e))?;
    }
    let fill = || {
        let mut zeroed = file.len()?;
        write_zeros(&*file, &mut zeroed, room).map(|()| zeroed)
    };
    let zeroed = fill().map_err(|e| write_error(&what, e))?;
    layout.rename(&path, &layout.journal_segment(segment))?;
    layout.sync_folder(&layout.journal())?;
    Ok((file, zeroed))
}

/// A segment that is read.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DataFile>,
    pub(super) length: u64,
    pub(super) first_group: u64,
    pub(super) seed: Seed,
    pub(super) kind: Kind,
}

impl SegmentFile {
    /// Opens a segment and checks its header; `None` when there is no such file.
    pub(super) fn open(layout: &Layout, sequence: u64) -> Result<Option<Self>> {
        let path = layout.journal_segment(sequence);
        if !layout.exists(&path)? {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        let mut read = || {
            let file = layout.fs.open(&path, Open::Read)?;
            let length = file.len()?;
            if length >= SEGMENT_HEADER_BYTES {
                file.read_exact_at(&mut header, 0)?;
            }
            Ok((file, length))
        };
        let (file, length) =
            read().map_err(|e| Error::io(format!("cannot read journal. file={}", path.display()), e))?;
        let (kind, first_group, salt) = check_header(&header, sequence, &path)?;
        Ok(Some(Self { path, file, length, first_group, seed: Seed { segment: sequence, salt }, kind }))
    }
}

/// What is known of the groups before it, number of the first group, and the salt.
fn check_header(header: &[u8; HEADER_BYTES], sequence: u64, path: &Path) -> Result<(Kind, u64, u64)> {
    let mut fields = &header[8..];
    let (version, stored, found, first_group, salt) =
        (fields.get_u32(), fields.get_u32(), fields.get_u64(), fields.get_u64(), fields.get_u64());
    let kinds = [Kind::Synced, Kind::Unsynced];
    let known = kinds.into_iter().find(|kind| kind.version() == version);
    // Of a version that we do not know, either: those before had both.
    let mut of_it = kinds.into_iter().filter(|kind| known.is_none_or(|known| known == *kind));
    let holds = of_it.any(|kind| stored == kind.checksum(header));
    if &header[..8] != MAGIC || !holds || found != sequence {
        return Err(Error::corrupt(format!(
            "journal file has a bad header: restore it from a copy. file={}, byte=0, sequence={found}",
            path.display()
        )));
    }
    let kind = known.ok_or_else(|| {
        Error::invalid(format!(
            "journal is of another version: open it with the Headwater that wrote it. file={}, version={version}, known=3 and 4",
            path.display()
        ))
    })?;
    Ok((kind, first_group, salt))
}
