//! Where results of a replay go besides its own log: to files, or to real topics.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use headwater_core::{
    BatchBuilder, Committed, Error, GroupId, Log, Offset, Positions, Producer, ProducerName, Result,
    TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::log::{EmbeddedLog, ObservedLog};
use headwater_streams::{Output, TopicRole, Topology};
use headwater_terminal::show::{KeyKind, json_line};

use super::store::{Place, Stored};
use crate::reading::each_record;

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 20;
/// A batch is closed at this size.
const BATCH_BYTES: usize = 256 << 10;

/// The topics of a replay that hold results.
async fn outputs(stored: &Stored, own: &dyn Log) -> Result<Vec<TopicSpec>> {
    let written = stored.report.as_ref().and_then(|report| report.get("outputs")?.as_object());
    let topics = own.topics().await?.into_iter();
    Ok(topics
        .filter(|spec| written.is_some_and(|written| written.contains_key(spec.name.as_str())))
        .collect())
}

pub(super) async fn json_lines(place: &Place, topology: &Topology, folder: &Path) -> Result<u64> {
    let own = ObservedLog::open(&place.folder)?;
    fs::create_dir_all(folder)
        .map_err(|e| Error::io(format!("cannot make folder. folder={}", folder.display()), e))?;
    let known = topology.outputs();
    let mut written = 0;
    for spec in outputs(&place.read()?, &own).await? {
        let path = folder.join(format!("{}.jsonl", spec.name));
        let failed = |e| Error::io(format!("cannot write file. file={}", path.display()), e);
        let mut file = BufWriter::new(fs::File::create(&path).map_err(failed)?);
        let output = known.iter().find(|output| output.topic() == Some(&spec.name));
        for partition in spec.topic_partitions() {
            each_record(&own, &partition, |record| {
                let kind = key_kind(output, record.key);
                written += 1;
                writeln!(file, "{}", json_line(&partition, &record, kind)).map_err(failed)
            })
            .await?;
        }
        file.flush().map_err(failed)?;
    }
    Ok(written)
}

fn key_kind(output: Option<&Output>, key: Option<&[u8]>) -> KeyKind {
    let window = output.zip(key).and_then(|(output, key)| output.key_window(key));
    if window.is_some() { KeyKind::Windowed } else { KeyKind::Plain }
}

pub(super) async fn to_topics(place: &Place, topology: &Topology, log: &Path) -> Result<u64> {
    let stored = place.read_finished()?;
    let own = ObservedLog::open(&place.folder)?;
    let topics = not_read_back(outputs(&stored, &own).await?, topology)?;
    let target = EmbeddedLog::open(log)?;
    let copied = Copy { own: &own, target: &target, group: group(&stored) };
    let appended = copied.all(&topics).await;
    target.close().await?;
    appended
}

/// Without the topics that the program reads: what lies there it would process once more, and all that comes of it is among the other topics.
fn not_read_back(topics: Vec<TopicSpec>, topology: &Topology) -> Result<Vec<TopicSpec>> {
    // Under any application id, those that it does not make itself have the same roles.
    let roles = topology.topics("replay")?;
    let is_read =
        |spec: &TopicSpec| matches!(roles.get(&spec.name), Some(TopicRole::Source | TopicRole::Intermediate));
    Ok(topics.into_iter().filter(|spec| !is_read(spec)).collect())
}

/// What is committed in the target outlives the replay. One that is deleted and begun again under its name is another one.
fn group(stored: &Stored) -> GroupId {
    GroupId(format!("replay-{}-{}", stored.name, stored.begun))
}

/// Copies partitions. How far it is, is committed in the target together with what was appended, under a group of the replay's own.
struct Copy<'a> {
    own: &'a ObservedLog,
    target: &'a EmbeddedLog,
    group: GroupId,
}

impl Copy<'_> {
    async fn all(&self, topics: &[TopicSpec]) -> Result<u64> {
        let there = self.target.topics().await?;
        let find = |name: &TopicName| there.iter().find(|spec| spec.name == *name);
        // All are checked before the first record is written.
        for spec in topics {
            if let Some(found) = find(&spec.name).filter(|found| found.partitions != spec.partitions) {
                return Err(Error::invalid(format!(
                    "a topic has another number of partitions than in the replay. topic={}, partitions={}, replayed={}",
                    spec.name, found.partitions, spec.partitions
                )));
            }
        }
        let mut producer = self.target.producer(&ProducerName(self.group.0.clone())).await?;
        let mut appended = 0;
        for spec in topics {
            if find(&spec.name).is_none() {
                self.target.create_topic(spec).await?;
            }
            for partition in spec.topic_partitions() {
                appended += self.partition(&partition, &mut *producer).await?;
            }
        }
        Ok(appended)
    }

    async fn partition(&self, partition: &TopicPartition, producer: &mut dyn Producer) -> Result<u64> {
        let begin = self.own.offsets(partition).await?.earliest;
        let committed = self.target.committed(&self.group, partition).await?;
        let mut next = committed.map_or(begin, |committed| committed.offset);
        let (mut batch, mut appended) = (BatchBuilder::default(), 0);
        loop {
            let fetched = self.own.read(partition, next, READ_BYTES).await?;
            let Some(last) = fetched.batches.last() else { return Ok(appended) };
            let end: Offset = last.next_offset();
            for read in &fetched.batches {
                let mut records = read.cursor();
                while let Some(record) = records.next().transpose()? {
                    if record.offset < next {
                        continue;
                    }
                    batch.push(record.timestamp, record.key, record.value, &record.headers.to_owned());
                    appended += 1;
                    if batch.size() >= BATCH_BYTES {
                        producer.append(partition, &mut batch)?;
                    }
                }
            }
            if !batch.is_empty() {
                producer.append(partition, &mut batch)?;
            }
            let position = Committed { offset: end, metadata: Vec::new().into() };
            let positions = Positions::new(self.group.clone(), vec![(partition.clone(), position)]);
            producer.commit(Some(&positions)).await?;
            next = end;
        }
    }
}
