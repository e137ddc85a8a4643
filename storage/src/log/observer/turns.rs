//! Lets others have the processor now and then.
//!
//! Who looks has much to read at once, and seldom. The owner's threads hand each commit to each other in microseconds: one that comes
//! to stand behind a look on a processor would wait until it is over, because systems do not like to interrupt what has just begun.

use std::thread;

/// Others get a turn after about so much, which takes some twenty microseconds.
const TURN_BYTES: usize = 64 << 10;
/// What a read costs besides its bytes, as bytes.
const READ_BYTES: usize = 4 << 10;

/// What was done since the last turn of others.
#[derive(Debug, Default)]
pub(super) struct Turns(usize);

impl Turns {
    /// Takes note of a read of so many bytes. If nobody else wants the processor, it goes on at once.
    pub(super) fn read(&mut self, bytes: usize) {
        self.0 += READ_BYTES + bytes;
        if self.0 >= TURN_BYTES {
            self.0 = 0;
            thread::yield_now();
        }
    }
}
