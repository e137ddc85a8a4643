//! Loads readings into their topic, exactly once: each commit holds readings and how many there are, so a loader that
//! was killed goes on behind the last one that is there.

use std::{path::PathBuf, time::Instant};

use headwater::{
    Embedded,
    core::{
        BatchBuilder, Committed, GroupId, Headers, Log, Offset, Partition, Positions, Producer, ProducerName,
        SerdeRef, TopicName, TopicPartition, TopicSpec, partition_for_key,
    },
    prelude::*,
};

use super::{
    generate::{Generator, Load},
    labels::Labels,
    readings::{InputError, Merge, Reading, SensorReading},
    report::Progress,
    topology::READINGS,
};

/// Partitions of the topic.
pub(crate) const PARTITIONS: u32 = 4;
/// Readings per commit.
const COMMIT_READINGS: u64 = 20_000;
/// A batch is closed at this size.
const BATCH_BYTES: usize = 64 << 10;

/// Where readings come from.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A folder of CSV files, one per sensor.
    Folder(PathBuf),
    /// The generator.
    Generated(Load),
}

/// Readings of any input, the earliest first.
type Readings = Box<dyn Iterator<Item = Result<SensorReading, InputError>>>;

impl Input {
    fn open(&self) -> Result<Readings> {
        match self {
            Input::Folder(folder) => Ok(Box::new(Merge::open(folder).map_err(input_error)?)),
            Input::Generated(load) => Ok(Box::new(Generator::new(*load).map(Ok))),
        }
    }

    /// The labelled faults that belong to it.
    pub(crate) fn labels(&self) -> Result<Labels> {
        match self {
            Input::Folder(folder) => Labels::of_folder(folder).map_err(input_error),
            Input::Generated(load) => Ok(load.labels()),
        }
    }

    /// Tells one input from another, so that two are never mixed in one topic.
    fn name(&self) -> String {
        match self {
            Input::Folder(folder) => format!("readings of {}", folder.display()),
            Input::Generated(load) => format!("generated readings {load:?}"),
        }
    }
}

/// Appends the readings that are not in the topic yet. Returns how many there are, and how many were loaded now.
pub(crate) async fn load(embedded: &Embedded, input: &Input) -> Result<(u64, u64)> {
    embedded.create_topic(READINGS, PARTITIONS).await?;
    let mut loader = Loader::open(embedded, input).await?;
    let before = loader.loaded;
    let mut progress = Progress::stderr("loading", 0);
    let start = Instant::now();
    for reading in input.open()?.skip(usize::try_from(before).unwrap_or(usize::MAX)) {
        loader.push(&reading.map_err(input_error)?)?;
        if loader.loaded.is_multiple_of(COMMIT_READINGS) {
            loader.commit().await?;
            progress.update(loader.loaded - before, start.elapsed());
        }
    }
    loader.commit().await?;
    progress.finish(loader.loaded - before, start.elapsed());
    Ok((loader.loaded, loader.loaded - before))
}

struct Loader {
    producer: Box<dyn Producer>,
    topic: TopicSpec,
    batches: Vec<BatchBuilder>,
    serde: SerdeRef<Reading>,
    value: Vec<u8>,
    group: GroupId,
    source: String,
    loaded: u64,
}

impl Loader {
    async fn open(embedded: &Embedded, input: &Input) -> Result<Self> {
        let topic = TopicSpec::new(READINGS, PARTITIONS)?;
        let group = GroupId("sensor-loader".to_owned());
        let source = input.name();
        let committed = embedded.log().committed(&group, &position_of(&topic.name)).await?;
        if let Some(other) = committed.as_ref().filter(|committed| committed.metadata != source.as_bytes()) {
            return Err(Error::invalid(format!(
                "this log holds {}, not {source}: name another folder with --log, or delete this one",
                String::from_utf8_lossy(&other.metadata)
            )));
        }
        let mut batches = Vec::new();
        batches.resize_with(PARTITIONS as usize, BatchBuilder::default);
        Ok(Self {
            producer: embedded.log().producer(&ProducerName("sensor-loader".to_owned())).await?,
            topic,
            batches,
            serde: serdes::json(),
            value: Vec::new(),
            group,
            source,
            loaded: committed.map_or(0, |committed| committed.offset.0),
        })
    }

    fn push(&mut self, reading: &SensorReading) -> Result<()> {
        self.value.clear();
        self.serde.encode(&reading.reading, &mut self.value)?;
        let key = reading.sensor.as_bytes();
        let partition = partition_for_key(key, self.topic.partitions);
        let batch = &mut self.batches[partition.0 as usize];
        batch.push(Timestamp(reading.timestamp_ms), Some(key), Some(&self.value), &Headers::new());
        if batch.size() >= BATCH_BYTES {
            self.producer.append(&TopicPartition::new(self.topic.name.clone(), partition), batch)?;
        }
        self.loaded += 1;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        for (partition, batch) in self.topic.topic_partitions().zip(&mut self.batches) {
            if !batch.is_empty() {
                self.producer.append(&partition, batch)?;
            }
        }
        let position =
            Committed { offset: Offset(self.loaded), metadata: self.source.clone().into_bytes().into() };
        let committed = vec![(position_of(&self.topic.name), position)];
        self.producer.commit(Some(&Positions::new(self.group.clone(), committed))).await?;
        Ok(())
    }
}

/// The loader reads no topic; its position, a number of readings, is kept with the topic that it writes.
fn position_of(topic: &TopicName) -> TopicPartition {
    TopicPartition::new(topic.clone(), Partition(0))
}

fn input_error(error: InputError) -> Error {
    Error::invalid("cannot read the readings").with_source(error)
}
