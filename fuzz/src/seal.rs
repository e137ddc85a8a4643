//! Checksums and lengths that hold, whatever they are of: the layouts are drawn at the head of `core/src/batch/mod.rs` and
//! of `journal.rs`, `group.rs` and `checkpoint.rs` in `storage/src/log/`.

/// Bytes before the first group of a journal file.
pub const JOURNAL_HEADER_BYTES: usize = 64;
/// Bytes before the front of a group.
pub const GROUP_HEADER_BYTES: usize = 32;
const CHECKPOINT_HEADER_BYTES: usize = 16;

/// Makes a batch of bytes that are at least as long as its header: length, version and checksum hold.
///
/// # Panics
/// When they are shorter.
pub fn seal_batch(bytes: &mut [u8]) {
    put_u32(bytes, 8, length(bytes.len() - 12));
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    put_u32(bytes, 17, crc);
}

/// The header of journal file `segment`, whose first group is number `first_group`.
#[must_use]
pub fn journal_header(segment: u64, first_group: u64, salt: u64) -> Vec<u8> {
    let mut header = [&b"HWJOURNL"[..], &3_u32.to_be_bytes(), &[0; 4]].concat();
    [segment, first_group, salt].iter().for_each(|field| header.extend_from_slice(&field.to_be_bytes()));
    let crc = crc32c::crc32c(&header[16..]);
    put_u32(&mut header, 12, crc);
    header.resize(JOURNAL_HEADER_BYTES, 0);
    header
}

/// What the header of a group says.
#[derive(Debug, Clone, Copy)]
pub struct GroupHeader {
    /// How many bytes bodies take; as many as they do when it says nothing.
    pub bodies: Option<u32>,
    pub number: u64,
    pub durable: u64,
}

/// Appends a group with the checksum that it has in journal file `segment`.
///
/// # Panics
/// When it is larger than any input.
pub fn put_group(
    out: &mut Vec<u8>,
    (segment, salt): (u64, u64),
    header: GroupHeader,
    (front, bodies): (&[u8], &[u8]),
) {
    let begin = out.len();
    out.extend_from_slice(b"HWG2");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length(front.len()).to_be_bytes());
    out.extend_from_slice(&header.bodies.unwrap_or(length(bodies.len())).to_be_bytes());
    out.extend_from_slice(&header.number.to_be_bytes());
    out.extend_from_slice(&header.durable.to_be_bytes());
    out.extend_from_slice(front);
    let seed = crc32c::crc32c_append(crc32c::crc32c(&segment.to_be_bytes()), &salt.to_be_bytes());
    let crc = crc32c::crc32c_append(seed, &out[begin + 8..]);
    put_u32(out, begin + 4, crc);
    out.extend_from_slice(bodies);
    out.resize(begin + (out.len() - begin).next_multiple_of(8), 0);
}

/// Makes the checksum of a checkpoint hold, if it is long enough to have one.
pub fn seal_checkpoint(bytes: &mut [u8]) {
    if bytes.len() >= CHECKPOINT_HEADER_BYTES {
        let crc = crc32c::crc32c(&bytes[CHECKPOINT_HEADER_BYTES..]);
        put_u32(bytes, 12, crc);
    }
}

/// A big-endian number; 0 where there are no bytes.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("inputs are far below 4 GiB")
}
