//! Reads batches from the journal: their headers are known, and their bodies are fetched.

use std::{io, sync::Arc};

use bytes::Bytes;
use headwater_core::{BATCH_HEADER_BYTES, Error, RecordBatch, Result, TopicPartition};

use super::{
    super::fs::{DataFile, Open},
    Observer,
    groups::BatchPlace,
    turns::Turns,
    view::Journaled,
};

/// Bodies are read at once when what lies between is no larger than they are, or than this.
const GAP_BYTES: u64 = 256;

impl Observer {
    /// Batches from the journal, if they are still there.
    pub(super) fn read_journal(
        &self,
        wanted: &Journaled,
        partition: &TopicPartition,
    ) -> Result<Vec<RecordBatch>> {
        let moved = |at: &BatchPlace, source: Option<io::Error>| {
            let text = format!(
                "batch is not in the journal any more. partition={partition}, file={}, byte={}",
                self.layout.journal_segment(at.segment).display(),
                at.byte
            );
            source.map_or_else(|| Error::corrupt(&text), |e| Error::corrupt(&text).with_source(e))
        };
        let Journaled { batches, open: (open, file) } = wanted;
        let mut file = (*open, Arc::clone(file));
        let mut bytes = self.reader.chunks().take(batches.iter().map(BatchPlace::size).sum());
        let (mut rest, mut turns) = (&mut bytes[..], Turns::default());
        for run in batches.chunk_by(near) {
            let Some(first) = run.first() else { continue };
            if file.0 != first.segment {
                let path = self.layout.journal_segment(first.segment);
                file = (
                    first.segment,
                    self.layout.fs.open(&path, Open::Read).map_err(|e| moved(first, Some(e)))?,
                );
            }
            let (whole, behind) = rest.split_at_mut(run.iter().map(BatchPlace::size).sum());
            turns.read(whole.len());
            self.read_run(&*file.1, run, whole).map_err(|e| moved(first, Some(e)))?;
            rest = behind;
        }
        let mut bytes = self.reader.chunks().lend(bytes);
        let whole =
            |at: &BatchPlace| RecordBatch::parse(bytes.split_to(at.size())).map_err(|_| moved(at, None));
        batches.iter().map(whole).collect()
    }

    /// Fills `whole` with the batches of a run, one behind the other.
    fn read_run(&self, file: &dyn DataFile, run: &[BatchPlace], mut whole: &mut [u8]) -> io::Result<()> {
        let (begin, read) = match run {
            [] => return Ok(()),
            // Straight to where it belongs.
            [only] => (only.byte, None),
            [first, .., last] => {
                let size = usize::try_from(last.body().end - first.byte).map_err(io::Error::other)?;
                let mut bytes = self.reader.chunks().take(size);
                file.read_exact_at(&mut bytes, first.byte)?;
                (first.byte, Some(self.reader.chunks().lend(bytes)))
            }
        };
        for at in run {
            let (batch, behind) = whole.split_at_mut(at.size());
            let (header, body) = batch.split_at_mut(BATCH_HEADER_BYTES);
            header.copy_from_slice(at.header.bytes());
            match &read {
                None => file.read_exact_at(body, at.byte)?,
                Some(read) => body.copy_from_slice(part(read, at.byte - begin, body.len())?),
            }
            whole = behind;
        }
        Ok(())
    }
}

fn part(read: &Bytes, at: u64, size: usize) -> io::Result<&[u8]> {
    let at = usize::try_from(at).map_err(io::Error::other)?;
    read.get(at..at + size).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Whether the body of `next` is read with that of `one`.
fn near(one: &BatchPlace, next: &BatchPlace) -> bool {
    let (one_body, next_body) = (one.body(), next.body());
    let gap = GAP_BYTES.max(next_body.end - next_body.start);
    one.segment == next.segment && (one_body.end..=one_body.end + gap).contains(&next_body.start)
}
