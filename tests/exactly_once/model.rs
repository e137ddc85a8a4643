//! What the program's outputs, changelogs and stores must hold: computed from the input with sorted maps, by the definitions of
//! the operators, and sharing nothing with the engine but the function from keys to partitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use headwater::core::partition_for_key;

use super::{
    input::{Input, Sent},
    program::{ADVANCE_MS, GRACE_MS, JOIN_GRACE_MS, JOIN_MS, PARTITIONS, WINDOW_MS, add, answered, enriched},
};

/// Timestamp, key, value: as bytes.
pub(super) type Raw = (i64, Vec<u8>, Option<Vec<u8>>);
/// Value and timestamp of each row, by its key in the changelog.
pub(super) type Rows = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

pub(super) fn partition(key: &[u8]) -> usize {
    partition_for_key(key, NonZeroU32::new(PARTITIONS).unwrap()).0 as usize
}

/// Divides what is sent to a topic among its partitions.
fn divide<K, V>(sent: &[Sent<K, V>], key: impl Fn(&K) -> Vec<u8>) -> Vec<Vec<&Sent<K, V>>> {
    let mut partitions = vec![Vec::new(); PARTITIONS as usize];
    for record in sent {
        partitions[partition(&key(&record.0))].push(record);
    }
    partitions
}

/// The order in which a task takes the records of its lanes: always from the lane whose time would be the lowest, and of
/// several from the first. `time` is that of a record; that of its lane never falls.
fn in_order<T>(lanes: Vec<Vec<T>>, time: impl Fn(&T) -> i64) -> Vec<T> {
    let mut all = Vec::new();
    for (number, lane) in lanes.into_iter().enumerate() {
        let mut highest = i64::MIN;
        for record in lane {
            highest = highest.max(time(&record));
            all.push((highest, number, record));
        }
    }
    // Stable, so each lane keeps its order.
    all.sort_by_key(|(highest, number, _)| (*highest, *number));
    all.into_iter().map(|(_, _, record)| record).collect()
}

/// Of one partition: the updates of its words, and its rows in the end.
#[derive(Default)]
pub(super) struct Counting {
    pub(super) counts: Vec<Raw>,
    pub(super) rows: Rows,
}

pub(super) fn counting(input: &Input) -> Vec<Counting> {
    // What each task of the first half sends, with the time it has reached then.
    let mut lanes = vec![vec![Vec::new(); PARTITIONS as usize]; PARTITIONS as usize];
    for (from, words) in divide(&input.words, |line| line.to_be_bytes().to_vec()).into_iter().enumerate() {
        let mut reached = i64::MIN;
        for (_, word, at) in words {
            reached = reached.max(*at);
            lanes[partition(word.as_bytes())][from].push((reached, word.as_bytes(), *at));
        }
    }
    lanes.into_iter().map(|lanes| count(in_order(lanes, |(reached, _, _)| *reached))).collect()
}

fn count(words: Vec<(i64, &[u8], i64)>) -> Counting {
    let (mut all, mut counting) = (BTreeMap::new(), Counting::default());
    for (_, word, at) in words {
        let (count, highest) = all.entry(word.to_vec()).or_insert((0u64, at));
        *count += 1;
        *highest = at.max(*highest);
        let value = count.to_be_bytes().to_vec();
        counting.counts.push((*highest, word.to_vec(), Some(value.clone())));
        counting.rows.insert(word.to_vec(), (value, *highest));
    }
    counting
}

/// A row that a join keeps: timestamp, key, value.
pub(super) type JoinRow = (i64, Vec<u8>, Vec<u8>);

/// Of one partition of the sensors: all outputs, and rows in the end.
#[derive(Default)]
pub(super) struct Sensing {
    pub(super) enriched: Vec<Raw>,
    pub(super) stats: Vec<Raw>,
    pub(super) closed: Vec<Raw>,
    pub(super) answers: Vec<Raw>,
    /// Deleted ones, too, without a value.
    pub(super) sensors: BTreeMap<Vec<u8>, (Option<Vec<u8>>, i64)>,
    /// Rows of all windows there ever were, by their keys in the changelog, and of those that are open in the end.
    pub(super) stats_rows: Rows,
    pub(super) stats_open: Rows,
    pub(super) closed_rows: Rows,
    pub(super) closed_open: Rows,
    /// All that the join ever kept, in the order in which it came.
    pub(super) left: Vec<JoinRow>,
    pub(super) right: Vec<JoinRow>,
    /// How many of the left ones met a command.
    pub(super) matched: usize,
    /// What the join still keeps in the end is not older.
    pub(super) kept_from: i64,
    pub(super) late: u64,
}

#[derive(Clone, Copy)]
enum Event {
    Reading(u64),
    Command(u64),
    Sensor(Option<u64>),
}

pub(super) fn sensing(input: &Input) -> Vec<Sensing> {
    let bytes = |key: &String| key.clone().into_bytes();
    let (commands, readings) = (divide(&input.commands, bytes), divide(&input.readings, bytes));
    let sensors = divide(&input.sensors, bytes);
    let of_partition = |number: usize| {
        let events = |(key, at): (&String, i64), event| (at, bytes(key), event);
        let commands = commands[number].iter().map(|(key, n, at)| events((key, *at), Event::Command(*n)));
        let readings = readings[number].iter().map(|(key, n, at)| events((key, *at), Event::Reading(*n)));
        let sensors = sensors[number].iter().map(|(key, row, at)| events((key, *at), Event::Sensor(*row)));
        let lanes = vec![commands.collect(), readings.collect(), sensors.collect()];
        sense(&in_order(lanes, |(at, _, _)| *at))
    };
    (0..PARTITIONS as usize).map(of_partition).collect()
}

fn sense(events: &[(i64, Vec<u8>, Event)]) -> Sensing {
    let mut sensing = Sensing::default();
    let mut tumbling = Windowed::new(WINDOW_MS);
    let mut hopping = Windowed::new(ADVANCE_MS);
    let mut join = Join::default();
    for (at, key, event) in events {
        match event {
            Event::Sensor(row) => {
                let row = row.map(|row| row.to_be_bytes().to_vec());
                sensing.sensors.insert(key.clone(), (row, *at));
            }
            Event::Reading(reading) => {
                let row = sensing.sensors.get(key).and_then(|(row, _)| row.as_deref());
                let row = row.map(|row| u64::from_be_bytes(row.try_into().unwrap()));
                let value = enriched(*reading, row).to_be_bytes().to_vec();
                sensing.enriched.push((*at, key.clone(), Some(value)));
                for start in tumbling.add(key, *reading, *at) {
                    let (stats, highest) = tumbling.rows[&(start, key.clone())];
                    sensing.stats.push((highest, windowed(key, start), Some(pair(stats))));
                }
                hopping.add(key, *reading, *at);
                join.left(key, *reading, *at, &mut sensing.answers);
            }
            Event::Command(command) => join.right(key, *command, *at, &mut sensing.answers),
        }
        tumbling.close();
        for (start, key, (count, _), highest) in hopping.close() {
            let value = count.to_be_bytes().to_vec();
            sensing.closed.push((highest, windowed(&key, start), Some(value)));
        }
        join.give_up(&mut sensing.answers);
    }
    sensing.late = tumbling.late + hopping.late + join.late;
    (sensing.stats_rows, sensing.stats_open) = tumbling.end(pair);
    (sensing.closed_rows, sensing.closed_open) = hopping.end(|(count, _)| count.to_be_bytes().to_vec());
    sensing.kept_from = join.kept_from();
    sensing.matched = join.lefts.iter().filter(|row| row.kept && row.matched).count();
    let kept = |row: Row| row.kept.then(|| (row.at, row.key, row.value.to_be_bytes().to_vec()));
    sensing.left = join.lefts.into_iter().filter_map(kept).collect();
    sensing.right = join.rights.into_iter().filter_map(kept).collect();
    sensing
}

/// Key in a topic.
fn windowed(key: &[u8], start: i64) -> Vec<u8> {
    [key, &start.to_be_bytes()].concat()
}

/// As the tuple's serde writes it: each part with its length in front.
fn pair((count, sum): (u64, u64)) -> Vec<u8> {
    [count, sum].iter().flat_map(|part| [&8u32.to_be_bytes()[..], &part.to_be_bytes()].concat()).collect()
}

type Stats = (u64, u64);

/// Windows of 8 seconds, of which one begins every `advance`.
struct Windowed {
    advance: i64,
    now: i64,
    late: u64,
    rows: BTreeMap<(i64, Vec<u8>), (Stats, i64)>,
    open: BTreeSet<(i64, Vec<u8>)>,
}

impl Windowed {
    fn new(advance: i64) -> Self {
        Self { advance, now: i64::MIN, late: 0, rows: BTreeMap::new(), open: BTreeSet::new() }
    }

    fn is_closed(&self, start: i64) -> bool {
        start + WINDOW_MS + GRACE_MS <= self.now
    }

    /// The windows that took the record.
    fn add(&mut self, key: &[u8], reading: u64, at: i64) -> Vec<i64> {
        self.now = self.now.max(at);
        let last = at - at.rem_euclid(self.advance);
        let starts = (0..WINDOW_MS / self.advance).rev().map(|back| last - back * self.advance);
        let (closed, taken): (Vec<i64>, Vec<i64>) = starts.partition(|start| self.is_closed(*start));
        self.late += closed.len() as u64;
        for start in &taken {
            let (stats, highest) = self.rows.entry((*start, key.to_vec())).or_insert(((0, 0), at));
            add(reading, stats);
            *highest = at.max(*highest);
            self.open.insert((*start, key.to_vec()));
        }
        taken
    }

    /// Rows whose time is over, in the order of time and key.
    fn close(&mut self) -> Vec<(i64, Vec<u8>, Stats, i64)> {
        let mut closed = Vec::new();
        while let Some((start, key)) = self.open.first().filter(|(start, _)| self.is_closed(*start)).cloned()
        {
            self.open.pop_first();
            let (stats, highest) = self.rows[&(start, key.clone())];
            closed.push((start, key, stats, highest));
        }
        closed
    }

    fn end(self, value: impl Fn(Stats) -> Vec<u8>) -> (Rows, Rows) {
        let row = |(start, key): &(i64, Vec<u8>), (stats, highest): &(Stats, i64)| {
            ([&windowed(key, *start)[..], &[0; 4]].concat(), (value(*stats), *highest))
        };
        let all = self.rows.iter().map(|(at, stats)| row(at, stats)).collect();
        let open = self.open.iter().map(|at| row(at, &self.rows[at])).collect();
        (all, open)
    }
}

struct Row {
    at: i64,
    key: Vec<u8>,
    value: u64,
    kept: bool,
    matched: bool,
}

/// A left join of readings with commands up to a second before or after.
#[derive(Default)]
struct Join {
    now: Option<i64>,
    late: u64,
    lefts: Vec<Row>,
    rights: Vec<Row>,
    /// Places in `lefts` and `rights`, by key and time.
    left_by_time: BTreeMap<Vec<u8>, BTreeSet<(i64, usize)>>,
    right_by_time: BTreeMap<Vec<u8>, BTreeSet<(i64, usize)>>,
    /// Left rows that met nobody and are not given up: time, key, place.
    alone: BTreeSet<(i64, Vec<u8>, usize)>,
}

impl Join {
    fn kept_from(&self) -> i64 {
        self.now.unwrap_or(0) - 2 * JOIN_MS - JOIN_GRACE_MS
    }

    /// Readings up to this meet nobody any more who has not met them yet.
    fn closed_until(&self) -> i64 {
        self.now.unwrap_or(0) - JOIN_MS - JOIN_GRACE_MS - 1
    }

    fn observe(&mut self, at: i64) {
        self.now = Some(self.now.map_or(at, |now| now.max(at)));
    }

    /// Places of rows of the other side that a record meets, in the order of time and arrival.
    fn met(&self, of: &BTreeMap<Vec<u8>, BTreeSet<(i64, usize)>>, key: &[u8], at: i64) -> Vec<usize> {
        let from = (at - JOIN_MS).max(self.kept_from());
        let Some(rows) = of.get(key).filter(|_| from <= at + JOIN_MS) else { return Vec::new() };
        rows.range((from, 0)..=(at + JOIN_MS, usize::MAX)).map(|(_, place)| *place).collect()
    }

    fn left(&mut self, key: &[u8], reading: u64, at: i64, out: &mut Vec<Raw>) {
        self.observe(at);
        let met = self.met(&self.right_by_time, key, at);
        for place in &met {
            let command = &self.rights[*place];
            out.push(answer(key, reading, Some(command.value), at.max(command.at)));
        }
        let (old, alone) = (at < self.kept_from(), met.is_empty());
        let given_up = !old && alone && at <= self.closed_until();
        self.late += u64::from(old && alone);
        if given_up {
            out.push(answer(key, reading, None, at));
        }
        let (place, kept) = (self.lefts.len(), !old && !given_up);
        self.lefts.push(Row { at, key: key.to_vec(), value: reading, kept, matched: !alone });
        if kept {
            self.left_by_time.entry(key.to_vec()).or_default().insert((at, place));
            if alone {
                self.alone.insert((at, key.to_vec(), place));
            }
        }
    }

    fn right(&mut self, key: &[u8], command: u64, at: i64, out: &mut Vec<Raw>) {
        self.observe(at);
        let mut met = self.met(&self.left_by_time, key, at);
        // Who was given up meets nobody.
        met.retain(|place| {
            let row = &self.lefts[*place];
            row.matched || row.at > self.closed_until()
        });
        for place in &met {
            let row = &mut self.lefts[*place];
            row.matched = true;
            self.alone.remove(&(row.at, key.to_vec(), *place));
            out.push(answer(key, row.value, Some(command), at.max(row.at)));
        }
        let kept = at >= self.kept_from();
        self.late += u64::from(!kept && met.is_empty());
        let place = self.rights.len();
        self.rights.push(Row { at, key: key.to_vec(), value: command, kept, matched: !met.is_empty() });
        if kept {
            self.right_by_time.entry(key.to_vec()).or_default().insert((at, place));
        }
    }

    /// Readings that met nobody until their window was over, in the order of time, key and arrival.
    fn give_up(&mut self, out: &mut Vec<Raw>) {
        while self.alone.first().is_some_and(|(at, _, _)| *at <= self.closed_until()) {
            if let Some((at, key, place)) = self.alone.pop_first() {
                out.push(answer(&key, self.lefts[place].value, None, at));
            }
        }
    }
}

fn answer(key: &[u8], reading: u64, command: Option<u64>, at: i64) -> Raw {
    (at, key.to_vec(), Some(answered(reading, command).to_be_bytes().to_vec()))
}
