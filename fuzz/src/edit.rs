//! Changes of bytes, of which an input has some.

use arbitrary::Arbitrary;

/// Most edits and fills go to small buffers: a u16 reaches everything in them.
#[derive(Debug, Clone, Arbitrary)]
pub enum Edit<'a> {
    /// One byte is another.
    Set { at: u16, to: u8 },
    /// Four bytes are a number, as most fields are.
    Number { at: u16, to: i32 },
    /// Bytes are others.
    Overwrite { at: u16, by: &'a [u8] },
    /// Bytes come between.
    Insert { at: u16, bytes: &'a [u8] },
    /// Bytes are gone.
    Remove { at: u16, count: u16 },
}

/// Makes all `edits`; places are taken modulo the length.
pub fn apply(edits: &[Edit<'_>], bytes: &mut Vec<u8>) {
    for edit in edits {
        let place = |at: u16| usize::from(at) % (bytes.len() + 1);
        match *edit {
            Edit::Set { at, to } => overwrite(bytes, at, &[to]),
            Edit::Number { at, to } => overwrite(bytes, at, &to.to_be_bytes()),
            Edit::Overwrite { at, by } => overwrite(bytes, at, by),
            Edit::Insert { at, bytes: more } => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Remove { at, count } => {
                let at = place(at);
                bytes.drain(at..(at + usize::from(count)).min(bytes.len()));
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: u16, by: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = usize::from(at) % bytes.len();
    bytes[at..].iter_mut().zip(by).for_each(|(byte, by)| *byte = *by);
}
