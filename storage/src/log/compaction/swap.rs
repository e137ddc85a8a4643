//! How new files take the place of old ones: all of them or none, wherever a crash comes.
//!
//! 1. The new segment is written beside the old ones, as `<base>.log.cleaned`, with indexes, and is on disk.
//! 2. A marker `<base>-<next>.swap`, which is empty, says that it takes the place of all segments from `base` to before
//!    `next`. As soon as its name is on disk, that is how it is.
//! 3. The journal thread gives the new segment its name, `<base>.log`, which takes it from the old one, shows it to
//!    readers, and removes the others.
//! 4. When that is on disk, the marker goes, and that is on disk before anything else begins.
//!
//! Recovery does 3 and 4 again where it finds a marker and a segment that covers all of those offsets, and removes what it
//! finds of a 1 that was not finished. Whoever reads the files from outside finds at each moment segments that hold all
//! offsets: no batch of the new one lies across the beginning of an old one that may still be there.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use headwater_core::{Error, Offset, Result, ledger::Place};

use crate::log::{
    fs::{Open, write_error},
    index::{Front, Indexed, Window},
    layout::{Layout, index_file, log_file, time_index_file},
    shared::Shared,
    span::{FileSpan, Segment},
};

/// What the names of new files end with.
const NEW: &str = "cleaned";
/// What the name of a marker ends with.
const MARKER: &str = "swap";

/// What is to take the place of segments.
#[derive(Debug, Clone)]
pub(in crate::log) struct Swap {
    pub(in crate::log) place: Place,
    pub(in crate::log) replaced: Vec<Segment>,
    pub(in crate::log) by: Segment,
    /// The offset after its last record.
    pub(in crate::log) next: Offset,
}

/// What became of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Swapped {
    Done,
    /// The old segments went away meanwhile.
    Gone,
    /// Somebody makes an index again: nothing was done, and it can be asked for when that has ended.
    Busy,
}

/// The name of a file until it takes the place of `path`.
pub(super) fn new_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(NEW);
    PathBuf::from(name)
}

pub(super) fn new_indexes(folder: &Path, base: Offset) -> [PathBuf; 2] {
    [new_file(&index_file(folder, base)), new_file(&time_index_file(folder, base))]
}

fn marker(folder: &Path, range: &Range<Offset>) -> PathBuf {
    folder.join(format!("{:020}-{:020}.{MARKER}", range.start.0, range.end.0))
}

/// Decides that the new segment of these offsets, which is on disk, takes the place of the old ones; `false` when the
/// partition is gone.
pub(super) fn commit(shared: &Shared, place: Place, range: &Range<Offset>) -> Result<bool> {
    let Some(files) = shared.visible().files(place) else { return Ok(false) };
    // A marker without its segment would speak of a swap that was done.
    shared.layout.sync_folder(&files.folder)?;
    let path = marker(&files.folder, range);
    let Some(made) = shared.while_there(place, |_| shared.layout.fs.open(&path, Open::Truncate)) else {
        return Ok(false);
    };
    made.map_err(|e| write_error(format_args!("cannot make marker. file={}", path.display()), e))?;
    shared.layout.sync_folder(&files.folder).map(|()| true)
}

impl Swap {
    /// Gives the new files their names.
    ///
    /// # Errors
    /// Nothing was done.
    pub(in crate::log) fn rename(&self, layout: &Layout, folder: &Path) -> Result<()> {
        take_name(layout, folder, self.by.base)
    }

    /// Whether the segments that it replaces are those of `files`.
    pub(in crate::log) fn fits(&self, files: &FileSpan) -> bool {
        let first = files.segments.partition_point(|segment| segment.base < self.by.base);
        let found = files.segments.get(first..first + self.replaced.len());
        let same = |(one, other): (&Segment, &Segment)| (one.base, one.length) == (other.base, other.length);
        found.is_some_and(|found| found.iter().zip(&self.replaced).all(same))
            && files.end_of(first + self.replaced.len() - 1) == self.next
    }
}

/// An index that does not fit is found out and made again, and so is one that is missing.
fn take_name(layout: &Layout, folder: &Path, base: Offset) -> Result<()> {
    let path = log_file(folder, base);
    layout.rename(&new_file(&path), &path)?;
    indexes_take_names(layout, folder, base);
    Ok(())
}

fn indexes_take_names(layout: &Layout, folder: &Path, base: Offset) {
    for path in [index_file(folder, base), time_index_file(folder, base)] {
        if layout.fs.rename(&new_file(&path), &path).is_err() {
            let _ = layout.fs.remove_file(&path);
        }
    }
}

/// What swaps have left in a folder.
#[derive(Debug, Default)]
struct Left {
    new: Vec<PathBuf>,
    swaps: Vec<Range<Offset>>,
    bases: BTreeSet<Offset>,
}

impl Left {
    fn list(layout: &Layout, folder: &Path) -> Result<Self> {
        let mut left = Self::default();
        for name in layout.names(folder)? {
            left.note(folder, name);
        }
        left.swaps.sort_unstable_by_key(|range| range.start);
        Ok(left)
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.swaps.is_empty()
    }

    /// Removes the files that never got their names. They are the compaction's own: nobody else looks for them.
    fn remove_new(&self, layout: &Layout) -> Result<()> {
        self.new.iter().try_for_each(|path| remove(layout, path))
    }

    fn note(&mut self, folder: &Path, name: OsString) {
        let path = folder.join(name);
        let (stem, extension) = (path.file_stem(), path.extension());
        let (stem, extension) =
            (stem.and_then(|stem| stem.to_str()), extension.and_then(|extension| extension.to_str()));
        let number = |text: &str| text.parse().ok().map(Offset);
        match (stem, extension) {
            (_, Some(NEW)) | (Some("cleaner"), Some("new")) => self.new.push(path),
            (Some(stem), Some("log")) => self.bases.extend(number(stem)),
            (Some(stem), Some(MARKER)) => {
                let range = stem.split_once('-').and_then(|(from, to)| Some(number(from)?..number(to)?));
                self.swaps.extend(range.filter(|range| marker(folder, range) == path));
            }
            _ => {}
        }
    }

    /// Removes the segments that swaps have replaced.
    fn remove_replaced(
        &self,
        layout: &Layout,
        folder: &Path,
        is_dead: impl Fn(&Range<Offset>, Offset) -> bool,
    ) -> Result<()> {
        for range in &self.swaps {
            let inner = self.bases.iter().filter(|base| **base > range.start && **base < range.end);
            for base in inner.filter(|base| is_dead(range, **base)) {
                layout.remove_segment(folder, *base)?;
            }
        }
        Ok(())
    }

    fn remove_markers(&self, layout: &Layout, folder: &Path) -> Result<()> {
        self.swaps.iter().try_for_each(|range| remove(layout, &marker(folder, range)))
    }
}

/// Removes a file that may be gone.
pub(super) fn remove(layout: &Layout, path: &Path) -> Result<()> {
    let removed = layout.remove_if_there(path);
    removed.map_err(|e| write_error(format_args!("cannot remove. file={}", path.display()), e))
}

/// Ends what there is of swaps in the folder of a partition while the log is open: what readers see says which were done.
pub(super) fn tidy(shared: &Shared, place: Place) -> Result<()> {
    let layout = &shared.layout;
    let Some(files) = shared.visible().files(place) else { return Ok(()) };
    let folder = &files.folder;
    let left = Left::list(layout, folder)?;
    // The journal thread need not wait for that.
    left.remove_new(layout)?;
    if left.swaps.is_empty() {
        return Ok(());
    }
    let removed = shared.while_there(place, |live| {
        let is_dead = |_: &_, base| live.segments.iter().all(|segment| segment.base != base);
        left.remove_replaced(layout, folder, is_dead)
    });
    if removed.transpose()?.is_none() {
        return Ok(());
    }
    layout.sync_folder(folder)?;
    shared.while_there(place, |_| left.remove_markers(layout, folder)).transpose()?;
    layout.sync_folder(folder)
}

/// Ends what there is of swaps in the folder of a partition when a log is opened.
///
/// # Errors
/// `Unavailable`: the same can be done again.
pub(in crate::log) fn resolve(layout: &Layout, folder: &Path) -> Result<()> {
    let left = Left::list(layout, folder)?;
    if left.is_empty() {
        return Ok(());
    }
    let mut done = Vec::new();
    for range in &left.swaps {
        let path = log_file(folder, range.start);
        if covers(layout, &new_file(&path), range)? {
            take_name(layout, folder, range.start)?;
        }
        if covers(layout, &path, range)? {
            // They may be those of what had the name before.
            indexes_take_names(layout, folder, range.start);
            done.push(range.clone());
        }
    }
    tracing::info!(folder = %folder.display(), done = done.len(), "compaction was interrupted: what it began is ended");
    left.remove_replaced(layout, folder, |range, _| done.contains(range))?;
    left.remove_new(layout)?;
    layout.sync_folder(folder)?;
    left.remove_markers(layout, folder)?;
    layout.sync_folder(folder)
}

/// The swaps in the folder of a partition of which the new segment has its name, and that were not ended.
///
/// # Errors
/// `Unavailable` when the disk fails.
pub(in crate::log) fn begun(layout: &Layout, folder: &Path) -> Result<Vec<Range<Offset>>> {
    let swaps = Left::list(layout, folder)?.swaps.into_iter();
    let begun =
        swaps.map(|range| Ok(covers(layout, &log_file(folder, range.start), &range)?.then_some(range)));
    begun.filter_map(Result::transpose).collect()
}

/// Whether there is a segment at `path` that holds exactly these offsets, without gaps.
fn covers(layout: &Layout, path: &Path, range: &Range<Offset>) -> Result<bool> {
    let look = || {
        let log = match layout.fs.open(path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            log => log?,
        };
        let segment = Indexed { log: &*log, base: range.start, length: log.len()? };
        let (mut window, mut byte, mut next) = (Window::default(), 0, range.start);
        while let Some(front) = window.get(&segment, byte)?.and_then(Front::read) {
            if front.base != next {
                break;
            }
            (byte, next) = (byte + front.size, front.last.next());
        }
        Ok(byte == segment.length && next == range.end)
    };
    look().map_err(|e| Error::io(format!("cannot read segment. file={}", path.display()), e))
}
