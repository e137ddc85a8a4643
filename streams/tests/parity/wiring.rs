//! What topologies are written with: a builder, records of text, and what functions of the user saw.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex},
};

use headwater_streams::{KStream, KTable, StreamsBuilder};

/// A key or a value; `None` is Kafka's null.
pub(crate) type Text = Option<String>;
pub(crate) type Texts = KStream<Text, Text>;

/// Place, key and value.
type Seen = (&'static str, Text, Text);

#[derive(Default)]
pub(crate) struct Wiring {
    pub(crate) builder: StreamsBuilder,
    pub(crate) notes: Notes,
}

/// What functions of the user saw. In a vector their places stand beside the topics, without timestamps.
#[derive(Default, Clone)]
pub(crate) struct Notes {
    places: Arc<Mutex<BTreeSet<&'static str>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Notes {
    pub(crate) fn is_place(&self, place: &str) -> bool {
        self.places.lock().unwrap().contains(place)
    }

    pub(crate) fn take(&self) -> Vec<Seen> {
        mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Wiring {
    pub(crate) fn stream(&self, topic: &str) -> Texts {
        self.builder.stream(topic)
    }

    pub(crate) fn table(&self, topic: &str) -> KTable<Text, String> {
        self.builder.table(topic, &format!("{topic}-table"))
    }

    /// Writes down what a function of the user is called with.
    pub(crate) fn seen(&self, place: &'static str) -> impl Fn(&Text, &Text) + Send + Sync + 'static {
        self.notes.places.lock().unwrap().insert(place);
        let seen = Arc::clone(&self.notes.seen);
        move |key, value| seen.lock().unwrap().push((place, key.clone(), value.clone()))
    }
}

/// Without the records that have no value. Kafka's aggregates and joins drop them silently, ours never: who does not
/// want them says so (DESIGN.md, difference 7). What happens to them otherwise has scenarios of its own.
pub(crate) fn with_values(stream: &Texts) -> Texts {
    stream.filter(|_, value| value.is_some())
}

/// Java's text of something that may be null.
pub(crate) fn shown(text: &Text) -> &str {
    text.as_deref().unwrap_or("null")
}

/// Two values in one.
pub(crate) fn both(left: &Text, right: &Text) -> Text {
    Some(format!("{}-{}", shown(left), shown(right)))
}

/// A letter each.
pub(crate) fn letters(text: &Text) -> Vec<Text> {
    text.iter().flat_map(|text| text.chars()).map(|letter| Some(letter.to_string())).collect()
}

/// One after the other.
pub(crate) fn concat(left: Text, right: &Text) -> Text {
    left.map(|left| left + shown(right))
}

/// The value with an exclamation mark.
pub(crate) fn loud(text: &Text) -> Text {
    Some(format!("{}!", shown(text)))
}

pub(crate) fn begins_with(text: &Text, letter: char) -> bool {
    text.as_ref().is_some_and(|text| text.starts_with(letter))
}

pub(crate) fn first_letter(text: &str) -> String {
    text.chars().take(1).collect()
}
