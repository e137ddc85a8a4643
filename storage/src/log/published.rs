//! How far the journal may be read by those who do not own the log.
//!
//! ```text
//!  0  segment  u64   of the point behind the last group that readers may see
//!  8  byte     u64
//! 16  group    u64   number of the group that will come there
//! 24  crc      u32   CRC-32C of 0..24
//! ```
//!
//! All integers are big-endian. A group says which groups were on disk when it was written, but nothing in the journal says
//! it of the newest ones. The owner writes it here after each sync, in mode `os` and `interval` after each write: as soon
//! as it shows a commit to its own readers. Never synced and worth nothing: without this file, readers see what the
//! headers of later groups vouch for.

use std::sync::Arc;

use bytes::{Buf, BufMut};

use headwater_core::checksum::crc32c;

use super::{
    fs::{DataFile, Open},
    journal::Position,
    layout::Layout,
};

const BYTES: usize = 28;
/// A read may meet a write: then it finds some of each.
const READS_MAX: usize = 16;

/// The owner's end.
#[derive(Debug)]
pub(super) struct Publisher {
    layout: Layout,
    /// `None` after an error.
    file: Option<Arc<dyn DataFile>>,
    last: Position,
}

impl Publisher {
    /// Takes over from the owner before. Everything before `position` is what readers may see.
    pub(super) fn begin(layout: &Layout, position: Position) -> Self {
        let opened = layout.fs.open(&layout.published(), Open::Create);
        let mut publisher = Self { layout: layout.clone(), file: None, last: position };
        match opened {
            Ok(file) => {
                publisher.file = Some(file);
                publisher.write(position);
            }
            Err(error) => publisher.give_up(&error),
        }
        publisher
    }

    /// Readers may see everything before `position`.
    pub(super) fn publish(&mut self, position: Position) {
        if position != self.last {
            self.last = position;
            self.write(position);
        }
    }

    fn write(&mut self, position: Position) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(&encode(position), 0) {
            self.give_up(&error);
        }
    }

    /// No reason to stop the log. What stands in the file must not hold readers back.
    fn give_up(&mut self, error: &std::io::Error) {
        let file = self.layout.published();
        tracing::warn!(file = %file.display(), %error, "those who look at the log from outside see new records later");
        self.file = None;
        let _ = self.layout.fs.remove_file(&file);
    }
}

/// What the owner published last; `None` when that is not known.
pub(super) fn read(layout: &Layout) -> Option<Position> {
    read_from(&*layout.fs.open(&layout.published(), Open::Read).ok()?)
}

fn read_from(file: &dyn DataFile) -> Option<Position> {
    (0..READS_MAX).find_map(|_| {
        let mut bytes = [0; BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        decode(&bytes)
    })
}

/// Looks again and again, and keeps the file open while something new comes. One look may miss what is in a file that has taken its name
/// meanwhile; the next one does not.
#[derive(Debug, Default)]
pub(super) struct Looks {
    file: Option<Arc<dyn DataFile>>,
    last: Option<Position>,
}

impl Looks {
    /// What is found now; `None` when that is not known.
    pub(super) fn look(&mut self, layout: &Layout) -> Option<Position> {
        let known = self.file.as_deref().and_then(read_from);
        if known.is_none() || known == self.last {
            // Nothing new, or a file that nobody writes any more.
            self.file = layout.fs.open(&layout.published(), Open::Read).ok();
            self.last = self.file.as_deref().and_then(read_from);
        } else {
            self.last = known;
        }
        self.last
    }
}

fn encode(position: Position) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.put_u64(position.segment);
    out.put_u64(position.byte);
    out.put_u64(position.group);
    out.put_u32(crc32c(&out));
    out
}

fn decode(mut bytes: &[u8]) -> Option<Position> {
    let crc = crc32c(bytes.get(..BYTES - 4)?);
    let position = Position { segment: bytes.get_u64(), byte: bytes.get_u64(), group: bytes.get_u64() };
    (bytes.get_u32() == crc).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fs::RealFs;

    const POSITION: Position = Position { segment: 2, byte: 3, group: 4 };

    /// Byte for byte, and back; any other byte is noticed.
    #[test]
    fn golden_bytes() {
        let bytes = encode(POSITION);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "000000000000000200000000000000030000000000000004e507cf66");
        assert_eq!(decode(&bytes), Some(POSITION));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn it_is_what_was_published_last() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Arc::new(RealFs));
        assert_eq!(read(&layout), None);
        let mut publisher = Publisher::begin(&layout, POSITION);
        assert_eq!(read(&layout), Some(POSITION));
        let next = Position { group: 5, ..POSITION };
        publisher.publish(next);
        assert_eq!(read(&layout), Some(next));
        drop(publisher);
        Publisher::begin(&layout, POSITION);
        assert_eq!(read(&layout), Some(POSITION), "whoever owns the log next begins where the log does");
        std::fs::write(layout.published(), "torn").unwrap();
        assert_eq!(read(&layout), None);
    }

    #[test]
    fn who_looks_again_and_again_finds_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), Arc::new(RealFs));
        let mut looks = Looks::default();
        assert_eq!(looks.look(&layout), None);
        let at = |group| Position { group, ..POSITION };
        let mut publisher = Publisher::begin(&layout, at(1));
        for group in [1, 2, 2, 3] {
            publisher.publish(at(group));
            assert_eq!(looks.look(&layout), Some(at(group)));
        }
        std::fs::remove_file(layout.published()).unwrap();
        assert_eq!(looks.look(&layout), None);
        let mut next = Publisher::begin(&layout, at(4));
        assert_eq!(looks.look(&layout), Some(at(4)));
        // Removed by its owner, who still had something to say; then there is another owner.
        next.publish(at(5));
        std::fs::remove_file(layout.published()).unwrap();
        Publisher::begin(&layout, at(6));
        assert_eq!([looks.look(&layout), looks.look(&layout)], [Some(at(5)), Some(at(6))]);
    }
}
