//! Memory for what is read from files, used again: new memory would have to be made and zeroed for each read, which costs a third of
//! reading small records.

use std::sync::{Mutex, TryLockError};

use bytes::{Bytes, BytesMut};

/// How many chunks are kept at most, and how large.
const SPARE_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Chunks that were handed out last. Those that nobody has any more are handed out again.
#[derive(Debug, Default)]
pub(super) struct Chunks(Mutex<Vec<Bytes>>);

impl Chunks {
    /// Memory of `size` bytes in which anything may stand.
    pub(super) fn take(&self, size: usize) -> BytesMut {
        let unused = self.with(|spare| {
            let at = spare.iter().position(Bytes::is_unique)?;
            Some(spare.remove(at))
        });
        match unused.flatten().map(Bytes::try_into_mut) {
            Some(Ok(mut chunk)) => {
                chunk.resize(size, 0);
                chunk
            }
            _ => BytesMut::zeroed(size),
        }
    }

    /// Remembers a chunk for when it is not used any more.
    pub(super) fn lend(&self, chunk: BytesMut) -> Bytes {
        let chunk = chunk.freeze();
        if chunk.len() <= SPARE_BYTES_MAX {
            self.with(|spare| {
                if spare.len() >= SPARE_MAX {
                    // The one that was handed out first is used the longest, and may be for ever.
                    spare.remove(0);
                }
                spare.push(chunk.clone());
            });
        }
        chunk
    }

    /// `None` when another reader has them just now: nobody waits for memory.
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Bytes>) -> T) -> Option<T> {
        match self.0.try_lock() {
            Ok(mut spare) => Some(act(&mut spare)),
            Err(TryLockError::Poisoned(poisoned)) => Some(act(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(chunks: &Chunks, size: usize, with: u8) -> Bytes {
        let mut chunk = chunks.take(size);
        assert_eq!(chunk.len(), size);
        chunk.fill(with);
        chunks.lend(chunk)
    }

    #[test]
    fn what_somebody_has_is_never_handed_out_again() {
        let chunks = Chunks::default();
        let mut held: Vec<_> = (0..10).map(|number| filled(&chunks, 100, number)).collect();
        held.truncate(8);
        let slices: Vec<_> = held.drain(..).map(|chunk| chunk.slice(10..20)).collect();
        (20..30).for_each(|number| drop(filled(&chunks, 50, number)));
        assert!((0..).zip(&slices).all(|(number, slice)| slice.iter().all(|byte| *byte == number)));
    }

    #[test]
    fn memory_is_used_again_and_bounded() {
        let chunks = Chunks::default();
        let first = filled(&chunks, 1000, 1);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(filled(&chunks, 500, 2).as_ptr(), place);
        (0..100).for_each(|_| drop(filled(&chunks, SPARE_BYTES_MAX + 1, 3)));
        let used: Vec<_> = (0..100).map(|_| filled(&chunks, 10, 3)).collect();
        drop(used);
        let kept = chunks.0.lock().unwrap();
        assert!(kept.len() <= SPARE_MAX && kept.iter().all(|chunk| chunk.len() <= SPARE_BYTES_MAX));
    }
}
