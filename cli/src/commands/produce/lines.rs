//! Lines of an input, as many as are at hand, within bounds.

use std::io::{self, Read};

use headwater_core::{Error, Result};

/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// JSON writes a byte in at most so many.
const BYTES_A_BYTE: usize = 6;

/// Reads an input and gives out its lines, without their ends.
pub(super) struct Lines<'a> {
    input: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// What was given out.
    taken: usize,
    /// Where to look for the end of the next line.
    searched: usize,
    ended: bool,
    number: u64,
    bytes_taken: u64,
    line_bytes_max: usize,
}

impl<'a> Lines<'a> {
    /// Lines that become records of at most `record_bytes_max` bytes.
    pub(super) fn new(input: &'a mut dyn Read, record_bytes_max: u32) -> Self {
        // There is more to a line than the bytes of its record.
        let line_bytes_max =
            (record_bytes_max as usize).saturating_mul(BYTES_A_BYTE).saturating_add(READ_BYTES);
        Self {
            input,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            ended: false,
            number: 0,
            bytes_taken: 0,
            line_bytes_max,
        }
    }

    /// The next line that is here already.
    ///
    /// # Errors
    /// `Invalid` when what is here of it is longer than any line can be.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        let Some((end, next)) = self.find() else {
            if self.buffer.len() - self.taken > self.line_bytes_max {
                self.number += 1;
                return Err(Error::invalid(format!(
                    "the line is too long for a record of this topic. bytes_max={}",
                    self.line_bytes_max
                )));
            }
            return Ok(None);
        };
        self.number += 1;
        self.bytes_taken += (next - self.taken) as u64;
        let line = self.buffer.get(self.taken..end).unwrap_or_default();
        (self.taken, self.searched) = (next, next);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Whether [`Lines::next`] has one without waiting.
    pub(super) fn has_whole_line(&mut self) -> bool {
        self.find().is_some()
    }

    /// Waits for more input; `false` when there is none.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            // A terminal would wait for somebody to say so again.
            return Ok(false);
        }
        self.buffer.drain(..self.taken);
        (self.searched, self.taken) = (self.searched - self.taken, 0);
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(!self.ended || self.taken < self.buffer.len())
    }

    /// The number of the line that was given out last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of all lines that were given out, their ends included.
    pub(super) fn bytes_taken(&self) -> u64 {
        self.bytes_taken
    }

    /// Where the next line ends, and where the one behind it begins.
    fn find(&mut self) -> Option<(usize, usize)> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            // Found again at once if it is asked for again.
            self.searched = end;
            return Some((end, end + 1));
        }
        let length = self.buffer.len();
        self.searched = length;
        // The last line may have no end.
        (self.ended && self.taken < length).then_some((length, length))
    }
}
