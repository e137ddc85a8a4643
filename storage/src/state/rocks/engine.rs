//! How RocksDB is set up. What is not set here is at RocksDB's default, on purpose.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, LogLevel, LruCacheOptions, Options, WriteBufferManager,
    WriteOptions,
};

use super::RocksOptions;

/// Bits per key of the bloom filters: about 1 % of the look-ups of absent keys read a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// A part of the cache is at least so large. RocksDB makes 64 parts of half a megabyte or more, and what is larger than a part is never
/// kept: the filter of a file of 64 MiB with small rows takes more than 2 MiB, and was read and checked anew for each look-up.
const CACHE_PART_BYTES_MIN: usize = 32 << 20;
/// There are at most two to the power of this many parts: RocksDB's default.
const CACHE_PART_BITS_MAX: u32 = 6;
/// Files that RocksDB keeps open per task. By default it keeps all, and a process with many tasks would meet the
/// usual limit of 1,024 open files; 64 leave room for a dozen tasks below it, and a file beyond costs an `open`.
const OPEN_FILES_MAX: i32 = 64;
/// RocksDB's own log, a file per opening, of which it would keep 1,000.
const LOG_FILES_MAX: usize = 2;
/// Size of each of these.
const LOG_FILE_BYTES_MAX: usize = 1 << 20;
/// RocksDB has seven levels unless told otherwise.
const LEVELS: usize = 7;
/// Levels whose files are short-lived: compressing them costs time at each write and saves no space that lasts.
const LEVELS_PLAIN: usize = 2;

/// One in so many keys of an index is written whole, the others as what they differ in from the one before. By default all are whole,
/// and the index of a file whose rows compress well takes 8 MiB and more, several times over while it is made.
const INDEX_RESTART_INTERVAL: i32 = 16;
/// One in so many parts of the memory is left for merging: what is read ahead, index and filter of the new file. RocksDB counts none of it.
const MERGING_PART: usize = 2;
/// More than this is not left for merging: files do not grow with the memory, and there is one merge at a time.
const MERGING_BYTES_MAX: usize = 256 << 20;

/// Where writes are limited: how often there is something to write again, in microseconds. By default ten times a second, which would write a
/// tenth of a second's bytes at once.
const REFILL_MICROS: i64 = 10_000;
/// What a memtable takes at a time. RocksDB's own megabyte is much for a store of few rows, and when it is freed, small rows
/// settle in its place, so that the next one makes the process larger.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// So much is flushed when it was applied, though nobody asked for it, or half of the cache: files large enough that they are not
/// merged all the time.
const UNFLUSHED_BYTES_MAX: usize = 32 << 20;
/// Waiting flushes and compactions are served in their order, but for one of so many times: RocksDB's default.
const FAIRNESS: i32 = 10;
/// Where writes are limited, files are synced when they have grown by so much: what the system gathers it writes at once.
const SYNC_BYTES: u64 = 128 << 10;

/// What all tasks of a process share: memory, and how much is written in a second.
pub(super) struct Memory {
    cache: Cache,
    memtables: WriteBufferManager,
    /// What a task may apply before it is flushed, in bytes.
    pub(super) unflushed_bytes_max: usize,
    /// With the limit of writes, which copies share.
    limits: Options,
}

impl Memory {
    pub(super) fn new(options: RocksOptions) -> Self {
        let bytes = options.memory_bytes;
        let cached = bytes - (bytes / MERGING_PART).min(MERGING_BYTES_MAX);
        let mut parts = LruCacheOptions::default();
        parts.set_capacity(cached);
        parts.set_num_shard_bits(cache_part_bits(cached));
        let cache = Cache::new_lru_cache_opts(&parts);
        // Memtables are charged to the cache, so that there is one limit and not two, and leave a quarter of it for blocks. RocksDB flushes
        // by itself at seven eighths of their limit; a task does it before, at the end of what it writes or when it has applied half
        // of the cache. Writers are not stalled at the limit: it is their own flush that frees it.
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(cached / 4 * 3, false, cache.clone());
        let mut limits = Options::default();
        if let Some(rate) = options.write_bytes_per_second {
            let rate = i64::try_from(rate.get()).unwrap_or(i64::MAX);
            limits.set_ratelimiter(rate, REFILL_MICROS, FAIRNESS);
            limits.set_bytes_per_sync(SYNC_BYTES);
        }
        let unflushed_bytes_max = (cached / 2).min(UNFLUSHED_BYTES_MAX);
        Self { cache, memtables, unflushed_bytes_max, limits }
    }

    /// What holds for the database of a task as a whole.
    pub(super) fn database_options(&self) -> Options {
        let mut options = self.family_options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Without a WAL this is what makes a write that touches several stores all or nothing.
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&self.memtables);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_keep_log_file_num(LOG_FILES_MAX);
        options.set_max_log_file_size(LOG_FILE_BYTES_MAX);
        options.set_log_level(LogLevel::Warn);
        options
    }

    /// What holds for each store.
    pub(super) fn family_options(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        // Else they lie outside the cache, and outside its limit.
        table.set_cache_index_and_filter_blocks(true);
        table.set_index_block_restart_interval(INDEX_RESTART_INTERVAL);
        let mut levels = [DBCompressionType::Lz4; LEVELS];
        levels[..LEVELS_PLAIN].fill(DBCompressionType::None);
        let mut options = self.limits.clone();
        options.set_block_based_table_factory(&table);
        options.set_compression_per_level(&levels);
        options.set_arena_block_size(ARENA_BLOCK_BYTES);
        options
    }
}

/// How many bits of a hash choose the part of a cache.
fn cache_part_bits(bytes: usize) -> i32 {
    let bits = (bytes / CACHE_PART_BYTES_MIN).max(1).ilog2().min(CACHE_PART_BITS_MAX);
    i32::try_from(bits).unwrap_or(0)
}

/// The log is the journal of the state, a second one would only be written twice.
pub(super) fn without_wal() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_parts_that_hold_the_filter_of_a_large_file() {
        assert_eq!([1 << 20, 16 << 20, 63 << 20].map(cache_part_bits), [0, 0, 0]);
        assert_eq!([128 << 20, 1 << 30, 1 << 40].map(cache_part_bits), [2, 5, 6]);
    }
}
