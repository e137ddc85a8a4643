//! The settings of a topic, under Kafka's names.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Compression, Error, Result};

/// What becomes of old records (Kafka: `cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CleanupPolicy {
    /// They are deleted by age and size.
    #[default]
    Delete,
    /// The last record of each key is kept.
    Compact,
    /// Both: the last record of each key, until it is too old.
    CompactDelete,
}

impl CleanupPolicy {
    /// Whether the last record of each key is kept.
    #[must_use]
    pub fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactDelete)
    }

    /// Whether records are deleted by age and size.
    #[must_use]
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactDelete)
    }
}

/// What the timestamps of records say (Kafka: `message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// When it happened: what the producer says.
    #[default]
    CreateTime,
    /// When the log took it in.
    LogAppendTime,
}

/// In what form batches are kept (Kafka: `compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    /// Not compressed.
    Uncompressed,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl CompressionType {
    /// What batches are kept compressed with that their producer wants compressed so.
    #[must_use]
    pub fn of(self, wanted: Compression) -> Compression {
        match self {
            Self::Producer => wanted,
            Self::Uncompressed => Compression::None,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd => Compression::Zstd,
        }
    }
}

/// The words of a setting that is one of a few, as Kafka writes them.
macro_rules! words {
    ($type:ty, $key:literal, $($value:path => $word:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word),+ })
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text.trim() {
                    $($word => Ok($value),)+
                    text => Err(wrong($key, text, [$($word),+].join(" | "))),
                }
            }
        }
    };
}

words!(TimestampType, "message.timestamp.type",
    TimestampType::CreateTime => "CreateTime", TimestampType::LogAppendTime => "LogAppendTime");
words!(CompressionType, "compression.type",
    CompressionType::Producer => "producer", CompressionType::Uncompressed => "uncompressed",
    CompressionType::Lz4 => "lz4", CompressionType::Zstd => "zstd");

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        })
    }
}

impl FromStr for CleanupPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut policies: Vec<_> = text.split(',').map(str::trim).collect();
        policies.sort_unstable();
        match policies.as_slice() {
            ["delete"] => Ok(Self::Delete),
            ["compact"] => Ok(Self::Compact),
            ["compact", "delete"] => Ok(Self::CompactDelete),
            _ => Err(wrong("cleanup.policy", text, "delete | compact | compact,delete")),
        }
    }
}

/// Settings of a topic. Each has Kafka's name and Kafka's default, but for `retention.ms`: nothing is deleted by age
/// unless asked for, because topics are there to be replayed, and readings of last year must not be gone the moment they
/// are written.
///
/// ```
/// use headwater_core::TopicConfig;
/// let mut config = TopicConfig::default();
/// config.set("retention.ms", "86400000")?;
/// assert_eq!(config.retention_ms, Some(86_400_000));
/// assert!(config.set("retention.ms", "a day").is_err());
/// # Ok::<(), headwater_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`
    pub compression_type: CompressionType,
    /// `delete.retention.ms`: how long a tombstone is kept in a compacted topic, so that slow readers see it.
    pub delete_retention_ms: u64,
    /// `max.message.bytes`: largest batch, as it is kept.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`: compaction waits until more than this part of a partition's closed segments was written since
    /// the last; with 0, until something was.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records are not compacted.
    pub min_compaction_lag_ms: u64,
    /// `retention.bytes`: the oldest segments are deleted while the others hold at least so much; `None` (-1) for never.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: segments whose newest record is older are deleted; `None` (-1) for never.
    pub retention_ms: Option<u64>,
    /// `segment.bytes`: a new segment file is begun when the active one would grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a new segment file is begun when the active one's first record is older than this.
    pub segment_ms: u64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy::Delete,
            compression_type: CompressionType::Producer,
            delete_retention_ms: 24 * 60 * 60 * 1000,
            max_message_bytes: (1 << 20) + 12,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            retention_bytes: None,
            retention_ms: None,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

impl TopicConfig {
    /// The names of all settings, in order.
    pub const KEYS: [&'static str; 11] = [
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
    ];

    /// The value of the setting called `key`, as Kafka writes it; `None` when there is no such setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        Some(match key {
            "cleanup.policy" => self.cleanup_policy.to_string(),
            "compression.type" => self.compression_type.to_string(),
            "delete.retention.ms" => self.delete_retention_ms.to_string(),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "message.timestamp.type" => self.message_timestamp_type.to_string(),
            "min.cleanable.dirty.ratio" => self.min_cleanable_dirty_ratio.to_string(),
            "min.compaction.lag.ms" => self.min_compaction_lag_ms.to_string(),
            "retention.bytes" => limit_text(self.retention_bytes),
            "retention.ms" => limit_text(self.retention_ms),
            "segment.bytes" => self.segment_bytes.to_string(),
            "segment.ms" => self.segment_ms.to_string(),
            _ => return None,
        })
    }

    /// Changes the setting called `key`.
    ///
    /// # Errors
    /// `Invalid` when there is no such setting, or the value is not one of it; nothing is changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "cleanup.policy" => self.cleanup_policy = value.parse()?,
            "compression.type" => self.compression_type = value.parse()?,
            "delete.retention.ms" => self.delete_retention_ms = number(key, value, 0, TIME_MAX)?,
            "max.message.bytes" => self.max_message_bytes = number(key, value, 0, BYTES_MAX)?,
            "message.timestamp.type" => self.message_timestamp_type = value.parse()?,
            "min.cleanable.dirty.ratio" => self.min_cleanable_dirty_ratio = ratio(key, value)?,
            "min.compaction.lag.ms" => self.min_compaction_lag_ms = number(key, value, 0, TIME_MAX)?,
            "retention.bytes" => self.retention_bytes = limit(key, value)?,
            "retention.ms" => self.retention_ms = limit(key, value)?,
            // Kafka's smallest is 1 MiB since 4.0 and was 14 bytes before; small segments are of use in tests.
            "segment.bytes" => self.segment_bytes = number(key, value, 14, i32::MAX as u64)?,
            "segment.ms" => self.segment_ms = number(key, value, 1, TIME_MAX)?,
            _ => {
                let known = Self::KEYS.join(", ");
                return Err(Error::invalid(format!(
                    "a topic has no such setting. setting={}, known={known}",
                    key.escape_debug()
                )));
            }
        }
        Ok(())
    }

    /// Puts the setting called `key` back to its default.
    ///
    /// # Errors
    /// `Invalid` when there is no such setting.
    pub fn reset(&mut self, key: &str) -> Result<()> {
        let default = Self::default().get(key).unwrap_or_default();
        self.set(key, &default)
    }

    /// All settings and their values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        Self::KEYS.into_iter().filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Whether every value is one that [`TopicConfig::set`] takes: fields can be given any.
    ///
    /// # Errors
    /// `Invalid` with the first that is not.
    pub fn check(&self) -> Result<()> {
        self.entries().try_for_each(|(key, value)| Self::default().set(key, &value))
    }
}

const TIME_MAX: u64 = i64::MAX as u64;
/// No batch is larger: lengths in a batch are i32, and the log takes no commit above 1 GiB.
const BYTES_MAX: u64 = 1 << 30;

fn wrong(key: &str, value: &str, wanted: impl fmt::Display) -> Error {
    let value = value.escape_debug();
    Error::invalid(format!("not a value of this setting. setting={key}, value=`{value}`, wanted={wanted}"))
}

fn number<T: TryFrom<u64>>(key: &str, text: &str, min: u64, max: u64) -> Result<T> {
    let number = text.trim().parse::<u64>().ok().filter(|number| (min..=max).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| wrong(key, text, format_args!("{min} to {max}")))
}

/// Kafka writes "never" as -1.
fn limit(key: &str, text: &str) -> Result<Option<u64>> {
    if text.trim() == "-1" {
        return Ok(None);
    }
    number(key, text, 0, TIME_MAX).map(Some).map_err(|_| wrong(key, text, "-1 for never, or 0 and more"))
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".into(), |limit| limit.to_string())
}

fn ratio(key: &str, text: &str) -> Result<f64> {
    let ratio = text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| wrong(key, text, "0 to 1"))
}

impl Serialize for TopicConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries())
    }
}

impl<'de> Deserialize<'de> for TopicConfig {
    /// Settings that are not named have their defaults; one that is not known is an error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::default();
        for (key, value) in BTreeMap::<String, String>::deserialize(deserializer)? {
            config.set(&key, &value).map_err(de::Error::custom)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read_as_it_is_written() {
        let mut config = TopicConfig::default();
        config.check().unwrap();
        for (key, value) in [
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "zstd"),
            ("delete.retention.ms", "0"),
            ("max.message.bytes", "77"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("min.compaction.lag.ms", "9"),
            ("retention.bytes", "1048576"),
            ("retention.ms", "0"),
            ("segment.bytes", "14"),
            ("segment.ms", "1"),
        ] {
            assert_ne!(config.get(key).as_deref(), Some(value), "{key}");
            config.set(key, value).unwrap();
            assert_eq!(config.get(key).as_deref(), Some(value), "{key}");
        }
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TopicConfig>(&json).unwrap(), config);
        config.check().unwrap();
        TopicConfig::KEYS.into_iter().for_each(|key| config.reset(key).unwrap());
        assert_eq!(config, TopicConfig::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let mut config = TopicConfig::default();
        for (key, value) in [
            ("cleanup.policy", "keep"),
            ("cleanup.policy", "compact,compact"),
            ("compression.type", "gzip"),
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "4294967296"),
            ("message.timestamp.type", "logappendtime"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.cleanable.dirty.ratio", "1.1"),
            ("retention.ms", "-2"),
            ("retention.bytes", "1 GB"),
            ("segment.bytes", "0"),
            ("segment.bytes", "2147483648"),
            ("segment.ms", "0"),
            ("segment.ms", "99999999999999999999"),
            ("retention", "1"),
        ] {
            let error = config.set(key, value).unwrap_err().to_string();
            assert!(error.contains(&format!("setting={key}")), "{error}");
        }
        assert_eq!(config, TopicConfig::default());
        assert!(serde_json::from_str::<TopicConfig>(r#"{"new.setting":"1"}"#).is_err());
        assert_eq!(serde_json::from_str::<TopicConfig>("{}").unwrap(), config);
        assert!(TopicConfig { segment_bytes: 0, ..config }.check().is_err());
    }
}
