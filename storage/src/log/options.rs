//! How an embedded log is set up, and what opening it found.

use std::{fmt, sync::Arc, time::Duration};

use headwater_core::{
    Clock, SystemClock,
    ledger::{COMMIT_BYTES_MAX, PRODUCER_EXPIRY},
};

use super::share::DiskShare;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the disk has it. Readers see nothing that a power cut could take back.
    #[default]
    Fsync,
    /// When the operating system has it; the disk follows this much later. A power cut takes at most that much, and a
    /// killed process nothing.
    Interval(Duration),
    /// When the operating system has it, which nobody makes write it but checkpoints. A killed process loses nothing. A power cut
    /// takes everything from some commit on behind the last checkpoint, and leaves the log good up to there.
    Os,
}

/// Settings of an [`EmbeddedLog`](super::EmbeddedLog).
#[derive(Clone)]
pub struct LogOptions {
    /// When a commit counts as done.
    pub durability: Durability,
    /// How much of the disk's time it takes at most. Less than all of it is for a log that is written beside another one whose commits must not
    /// wait: all that is written is synced at once, in small slices, whatever [`durability`](Self::durability) says, and waited behind each.
    /// Writes take longer then, and reads do not.
    pub disk_share: DiskShare,
    /// Size of a journal file. A larger commit gets a larger file.
    pub journal_segment_bytes: u64,
    /// A checkpoint is made whenever the journal has grown by this much, which bounds what opening must replay. What commits wrote to
    /// segments themselves (see [`filed_bytes_min`](Self::filed_bytes_min)) counts too; with [`Durability::Os`] an eighth of it, because there
    /// the disk is kept busy by checkpoints only, and one that waits for it may be late by four times this much.
    pub checkpoint_bytes: u64,
    /// A commit that brings at least so many bytes of a partition writes them to its segment first, and the journal says only where they
    /// are: they are written once, not twice. With [`Durability::Fsync`], where the segment must be synced before the journal, it
    /// takes 32 times as many, of four partitions at most; with [`Durability::Interval`] it is never done.
    pub filed_bytes_min: usize,
    /// How much of the newest records is kept in memory, over all partitions; of those that lie in files, a quarter. While a full disk keeps more from being
    /// written, commits are refused.
    pub tail_bytes_max: usize,
    /// How much may wait to be written before a commit has to wait itself.
    pub queue_bytes_max: usize,
    /// Largest sum of batches and positions in one commit; 1 GiB at most.
    pub commit_bytes_max: usize,
    /// How many segment files are kept open for reading, and as many for writing.
    pub open_files_max: usize,
    /// Memory for the last record of each key while a partition is compacted: 24 bytes a slot, of which three quarters are
    /// used. With less than its keys need, it is compacted in several passes (Kafka: `log.cleaner.dedupe.buffer.size`).
    pub cleaner_bytes_max: usize,
    /// How often records that are too old, or too many, are deleted, topics compacted, and idle producers looked for (Kafka:
    /// `log.retention.check.interval.ms`).
    pub retention_check: Duration,
    /// How long producers are known that nobody holds, after they were opened or have written for the last time: at least so
    /// long, and at most twice. Their numbers are not given to others (Kafka: `transactional.id.expiration.ms`,
    /// `producer.id.expiration.ms`).
    pub producer_expiry: Duration,
    /// Tells how old records are, and the time of those in topics that go by append time.
    pub clock: Arc<dyn Clock>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            disk_share: DiskShare::ALL,
            journal_segment_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            filed_bytes_min: 32 << 10,
            tail_bytes_max: 16 << 20,
            queue_bytes_max: 32 << 20,
            commit_bytes_max: COMMIT_BYTES_MAX,
            open_files_max: 128,
            cleaner_bytes_max: 64 << 20,
            retention_check: Duration::from_secs(5 * 60),
            producer_expiry: PRODUCER_EXPIRY,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("durability", &self.durability)
            .field("disk_share", &self.disk_share)
            .field("journal_segment_bytes", &self.journal_segment_bytes)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("filed_bytes_min", &self.filed_bytes_min)
            .field("tail_bytes_max", &self.tail_bytes_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("commit_bytes_max", &self.commit_bytes_max)
            .field("open_files_max", &self.open_files_max)
            .field("cleaner_bytes_max", &self.cleaner_bytes_max)
            .field("retention_check", &self.retention_check)
            .field("producer_expiry", &self.producer_expiry)
            .finish_non_exhaustive()
    }
}

/// What opening a log had to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Journal groups that were newer than the checkpoint. 0 after a clean close.
    pub groups_replayed: u64,
    /// Their bytes.
    pub bytes_replayed: u64,
    /// Bytes of a group that was being written when the process or the machine died.
    pub torn_bytes_cut: u64,
    /// Index files that were missing or wrong and were made again.
    pub indexes_rebuilt: u64,
    /// Copies of the checkpoint that were damaged or missing and were made again.
    pub checkpoints_rebuilt: u64,
}
