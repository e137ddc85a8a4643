//! The records behind some of the keys that are not equal: partitions are read once more for them.

use std::{
    collections::BTreeMap,
    ops::ControlFlow::{self, Break, Continue},
};

use headwater_core::{Partition, RecordRef, Result};

use super::{
    Class, Example, ShownRecord, Sides,
    bounds::Border,
    digest::Digester,
    parts::Unit,
    tally::{Found, Side},
};
use crate::{Output, OutputKind};

/// How many records of a key are remembered to find the first that differs. Where more are the same, the last ones are shown.
const SEQUENCE_MAX: usize = 1 << 16;
/// How much of a value is shown, in characters.
const SHOWN_MAX: usize = 240;
/// How many headers are shown.
const HEADERS_MAX: usize = 16;

/// Keys to be shown: the first of each class, by partition and offset.
pub(super) struct Candidates {
    each_max: usize,
    found: Vec<(usize, Found)>,
}

impl Candidates {
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max, found: Vec::new() }
    }

    /// Takes a key of the unit at place `at`, unless there are enough before it.
    pub(super) fn offer(&mut self, at: usize, found: Found) {
        let place = |(at, found): &(usize, Found)| (*at, found.first, found.key);
        let new = (at, found);
        let of_class = || self.found.iter().enumerate().filter(|(_, (_, other))| other.class == found.class);
        if of_class().count() < self.each_max {
            self.found.push(new);
            return;
        }
        if let Some((last, held)) = of_class().max_by_key(|(_, held)| place(held))
            && place(&new) < place(held)
        {
            self.found[last] = new;
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (at, found) in other.found {
            self.offer(at, found);
        }
    }

    /// The keys of each unit, in their order.
    pub(super) fn by_unit(mut self) -> BTreeMap<usize, Vec<Found>> {
        self.found.sort_by_key(|(at, found)| (*at, found.first, found.key));
        let mut units = BTreeMap::<usize, Vec<Found>>::new();
        for (at, found) in self.found {
            units.entry(at).or_default().push(found);
        }
        units
    }
}

/// Reads what is to be shown of the keys that were found in a unit.
pub(super) async fn show(
    digester: &Digester<'_>,
    unit: &Unit<'_>,
    found: Vec<Found>,
) -> Result<Vec<Example>> {
    let mut wanted = Wanted { digester, unit, keys: found.into_iter().map(Key::new).collect() };
    wanted.find_places().await?;
    wanted.read_records().await?;
    Ok(wanted.keys.into_iter().map(Key::into_example).collect())
}

struct Key {
    found: Found,
    /// The first records, to find where the sides part.
    live: Vec<u64>,
    /// How many records are the same, where that is known.
    same: Option<u32>,
    /// Which of the key's records are shown.
    places: Sides<Option<u32>>,
    shown: String,
    border: Option<Border>,
    records: Sides<Option<ShownRecord>>,
}

impl Key {
    /// The last record of each side, until it is known better.
    fn new(found: Found) -> Self {
        let places =
            Sides { live: found.count.live.checked_sub(1), replayed: found.count.replayed.checked_sub(1) };
        let records = Sides::default();
        Self { found, live: Vec::new(), same: None, places, shown: String::new(), border: None, records }
    }

    /// Whether the first difference is what is shown, and not the last records.
    fn is_by_sequence(&self, kind: OutputKind) -> bool {
        kind == OutputKind::Events || self.found.class == Class::Intermediate
    }

    fn show_from(&mut self, same: u32) {
        let count = self.found.count;
        self.same = Some(same);
        self.places = Sides {
            live: (same < count.live).then_some(same),
            replayed: (same < count.replayed).then_some(same),
        };
    }

    fn into_example(self) -> Example {
        let reason = self.border.filter(|_| self.found.class == Class::NotComparable).map(Border::reason);
        Example {
            class: self.found.class,
            key: self.shown,
            reason,
            counts: self.found.count,
            same: self.same,
            records: self.records,
        }
    }
}

struct Wanted<'a> {
    digester: &'a Digester<'a>,
    unit: &'a Unit<'a>,
    keys: Vec<Key>,
}

impl Wanted<'_> {
    /// Finds, for keys that are compared by their sequence, the first record that differs.
    async fn find_places(&mut self) -> Result<()> {
        let kind = self.digester.output.kind();
        let by_sequence = |key: &Key| key.is_by_sequence(kind);
        if !self.keys.iter().any(by_sequence) {
            return Ok(());
        }
        self.visit(Side::Live, |key, place, full, _| {
            if by_sequence(key) && (place as usize) < SEQUENCE_MAX {
                key.live.push(full);
            }
            Continue(())
        })
        .await?;
        self.visit(Side::Replayed, |key, place, full, _| {
            let parted =
                by_sequence(key) && key.same.is_none() && key.live.get(place as usize) != Some(&full);
            if parted && (place as usize) < SEQUENCE_MAX {
                key.show_from(place);
            }
            Continue(())
        })
        .await?;
        for key in &mut self.keys {
            let replayed = key.found.count.replayed;
            if by_sequence(key) && key.same.is_none() && (replayed as usize) < SEQUENCE_MAX {
                // All that the replay has is the same.
                key.show_from(replayed);
            }
            key.live = Vec::new();
        }
        Ok(())
    }

    async fn read_records(&mut self) -> Result<()> {
        let output = self.digester.output;
        for side in Side::BOTH {
            let mut left = self.keys.iter().filter(|key| key.places.of(side).is_some()).count();
            if left == 0 {
                continue;
            }
            self.visit(side, |key, place, _, (partition, record, border)| {
                if *key.places.of(side) == Some(place) {
                    key.shown = cut(output.show_key(record.key));
                    key.border = key.border.or(border);
                    *key.records.of_mut(side) = Some(shown(output, partition, &record));
                    left -= 1;
                }
                if left == 0 { Break(()) } else { Continue(()) }
            })
            .await?;
        }
        Ok(())
    }

    /// Shows all records of the keys on one side to `visit`: their key, their place among its records, and their hash.
    async fn visit(
        &mut self,
        side: Side,
        mut visit: impl FnMut(&mut Key, u32, u64, (Partition, RecordRef<'_>, Option<Border>)) -> ControlFlow<()>
        + Send,
    ) -> Result<()> {
        let Self { digester, unit, keys } = self;
        let mut places: BTreeMap<([u64; 2], bool), Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            places.entry((key.found.key, key.found.border)).or_default().push(at);
        }
        let mut passed = vec![0_u32; keys.len()];
        for part in unit.of(side) {
            let flow = part
                .each(&mut |record| {
                    let Some(digest) = digester.digest(&record) else { return Continue(()) };
                    let Some(keys_at) = places.get(&(digest.key, digest.border.is_some())) else {
                        return Continue(());
                    };
                    for at in keys_at {
                        let place = passed[*at];
                        passed[*at] = place.saturating_add(1);
                        let about = (part.partition.partition, record, digest.border);
                        visit(&mut keys[*at], place, digest.full, about)?;
                    }
                    Continue(())
                })
                .await?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn shown(output: &Output, partition: Partition, record: &RecordRef<'_>) -> ShownRecord {
    let text = |bytes: &[u8]| cut(String::from_utf8_lossy(bytes).escape_debug().to_string());
    let headers = record.headers.iter().take(HEADERS_MAX);
    ShownRecord {
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        value: cut(output.show_value(record.value)),
        headers: headers
            .map(|(name, value)| (text(name), value.map_or_else(|| "null".to_owned(), text)))
            .collect(),
    }
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(SHOWN_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}
