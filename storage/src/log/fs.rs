//! The port to the file system: all that the log does with files goes through it, so that tests can put a disk
//! underneath that fails.
//!
//! Few methods, and each does one thing: a test that fails the n-th of them has failed everything that can fail. What is
//! made of several is a function over them, here or in `layout`, which also gives errors their words.

mod gentle;

use std::{
    ffi::OsString,
    fmt::Debug,
    fs::{self, File},
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use headwater_core::{Error, ErrorKind};

pub(super) use self::gentle::GentleFs;

/// The error of a write, or of making a name. Without room nothing is lost, and the same can be done again later. An error
/// of a sync is another matter, whatever it says.
pub(super) fn write_error(what: impl std::fmt::Display, error: io::Error) -> Error {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let text = format!("disk is full: free space there, or raise the quota. {what}");
        return Error::new(ErrorKind::Full, text).with_source(error);
    }
    Error::io(what.to_string(), error)
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// To read what is there.
    Read,
    /// To read and write what is there.
    Write,
    /// To read and write what is there; an empty one when there is none.
    Create,
    /// To read and write an empty one, whatever was there.
    Truncate,
}

/// Folders and the names in them.
pub(super) trait FileSystem: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DataFile>>;

    /// Whether there is a file or a folder of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Bytes of a file, without opening it.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes a folder, and those above it, where they are missing.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Puts created, renamed and removed names of a folder on disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Puts all that was written to the file system that `folder` is on onto disk, by whomever; `false` when it can only
    /// be done file by file.
    fn sync_all(&self, folder: &Path) -> io::Result<bool>;

    /// Gives a file or a folder another name, in place of what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes say where, and may be called from any thread.
pub(super) trait DataFile: Debug + Send + Sync {
    /// Reads some bytes from `at` on, at least one unless the file ends there.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes some of `bytes`, at least one, from `at` on. They are on disk after a sync.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Writes some of `pieces`, one behind the other and at least one byte, from `at` on.
    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        pieces.iter().find(|piece| !piece.is_empty()).map_or(Ok(0), |piece| self.write_at(piece, at))
    }

    /// Writes all of `bytes` from `at` on and puts them on disk, and as little as can be of what else was written to the
    /// file. After an error nothing is known of them.
    fn write_through(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_all(bytes, at, |bytes, at| self.write_at(bytes, at))?;
        self.sync_data()
    }

    /// Has the disk keep room for `bytes` from `at` on, which are about to be written; the file is as long as it was. A hint: where it is
    /// not followed, writing finds the room. What is kept behind the end is given back by [`DataFile::set_len`].
    fn keep_room(&self, at: u64, bytes: u64) -> io::Result<()> {
        let _ = (at, bytes);
        Ok(())
    }

    /// Cuts the file, or makes it longer with zeros. What is kept behind its end is given back.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Bytes in it.
    fn len(&self) -> io::Result<u64>;

    /// Puts on disk what was written to it, by whomever, and what is needed to find it again.
    fn sync_data(&self) -> io::Result<()>;
}

impl dyn DataFile + '_ {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before that.
    pub(super) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        until_all(bytes.len(), io::ErrorKind::UnexpectedEof, |done| {
            self.read_at(bytes.get_mut(done..).unwrap_or_default(), at + done as u64)
        })
    }

    /// Writes all of `bytes`. After an error some of them may be there.
    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_all(bytes, at, |bytes, at| self.write_at(bytes, at))
    }

    /// Writes all of `pieces`, one behind the other. After an error some of them may be there.
    pub(super) fn write_all_pieces_at(&self, mut pieces: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        // A write of empty pieces alone would be one of nothing.
        IoSlice::advance_slices(&mut pieces, 0);
        until_all(bytes, io::ErrorKind::WriteZero, |done| {
            let count = self.write_pieces_at(pieces, at + done as u64)?;
            IoSlice::advance_slices(&mut pieces, count);
            Ok(count)
        })
    }
}

/// Calls `step`, which does a part of what is left and gets what is done, until all `bytes` are done. A part of nothing is the
/// error `none`.
fn until_all(
    bytes: usize,
    none: io::ErrorKind,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        match step(done) {
            Ok(0) => return Err(none.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Calls `write`, which may write a part, until all of `bytes` are written.
fn write_all(
    bytes: &[u8],
    at: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    until_all(bytes.len(), io::ErrorKind::WriteZero, |done| {
        write(bytes.get(done..).unwrap_or_default(), at + done as u64)
    })
}

impl dyn FileSystem + '_ {
    /// A whole file, which is small.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Makes a whole file, in place of what was there. It is on disk after a sync.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn DataFile>> {
        let file = self.open(path, Open::Truncate)?;
        file.write_all_at(bytes, 0)?;
        Ok(file)
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RealFs;

impl FileSystem for RealFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DataFile>> {
        let write = how != Open::Read;
        let create = matches!(how, Open::Create | Open::Truncate);
        let file = File::options()
            .read(true)
            .write(write)
            .create(create)
            .truncate(how == Open::Truncate)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        path.metadata().map(|metadata| metadata.len())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn sync_all(&self, folder: &Path) -> io::Result<bool> {
        rustix::fs::syncfs(File::open(folder)?)?;
        Ok(true)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn sync_all(&self, _folder: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

impl DataFile for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    #[cfg(target_os = "linux")]
    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let first = pieces.get(..PIECES_MAX).unwrap_or(pieces);
        Ok(rustix::io::pwritev(self, first, at)?)
    }

    #[cfg(target_os = "linux")]
    fn write_through(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        write_through(self, bytes, at)
    }

    #[cfg(target_os = "linux")]
    fn keep_room(&self, at: u64, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, rustix::fs::FallocateFlags::KEEP_SIZE, at, bytes)?)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// No more are taken at once (Linux: `IOV_MAX`).
#[cfg(target_os = "linux")]
const PIECES_MAX: usize = 1024;

#[cfg(target_os = "linux")]
fn write_through(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    write_all(bytes, at, |bytes, at| {
        match pwritev2(file, &[IoSlice::new(bytes)], at, ReadWriteFlags::DSYNC) {
            // A file system that syncs whole files only.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all_at(bytes, at)?;
                file.sync_data()?;
                Ok(bytes.len())
            }
            written => Ok(written?),
        }
    })
}
