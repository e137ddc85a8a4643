//! What a topology writes: [`Topology::outputs`], for those who compare or show its results.

use std::{fmt, fmt::Write as _, sync::Arc};

use headwater_core::{SerdeRef, TopicName, serdes::KeyWindow};
use serde::{Deserialize, Serialize};

use super::{NodeKind, SinkTopic, TopicRef, Topology, effect::Carried};

/// What the records of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Things that happened: every record counts, and for one key their order.
    Events,
    /// Values that replace one another: the last one of a key is what holds.
    Updates,
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Events => "events",
            Self::Updates => "updates",
        })
    }
}

/// A topic that a topology writes, as [`Topology::outputs`] lists it. Cheap to clone.
#[derive(Clone)]
pub struct Output {
    topic: Option<TopicName>,
    kind: OutputKind,
    pub(crate) carried: Carried,
    key: ShownRef,
    value: ShownRef,
}

impl Output {
    /// Its topic; `None` where each record decides about its topic ([`KStream::to_each`](crate::KStream::to_each)).
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        self.topic.as_ref()
    }

    /// What its records are. Updates are what comes out of a table: [`KTable::to_stream`](crate::KTable::to_stream), or windows
    /// and sessions that do not wait until they are closed. They are no updates any more behind what may change keys or makes
    /// several records of one: the last record of a key says nothing about those before it then.
    #[must_use]
    pub fn kind(&self) -> OutputKind {
        self.kind
    }

    /// The same output, with records of another kind than the topology shows.
    #[must_use]
    pub fn with_kind(mut self, kind: OutputKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same output in this topic: one of those that records chose.
    #[must_use]
    pub fn in_topic(mut self, topic: TopicName) -> Self {
        self.topic = Some(topic);
        self
    }

    /// What is known of a topic that this one writes, or the other, or both: no more than of either.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.carried = self.carried.and(other.carried);
        self.kind = self.carried.kind();
        self
    }

    /// A key as people read it: what its serde shows ([`Serde::show`](headwater_core::Serde::show)), or as text, or as
    /// hexadecimal bytes. A windowed key is `key@[start,end)`, that of a session `key@[first,last]`.
    #[must_use]
    pub fn show_key(&self, key: Option<&[u8]>) -> String {
        let Some(bytes) = key else { return "null".to_owned() };
        let shown = show(&*self.key, bytes);
        // The serde that writes may not know the size of its windows.
        match (self.key.key_window(bytes), self.key_window(bytes)) {
            (Some(named), Some(known)) if named != known => match shown.strip_suffix(&named.to_string()) {
                Some(key) => format!("{key}{known}"),
                None => shown,
            },
            _ => shown,
        }
    }

    /// A value as people read it; see [`Output::show_key`].
    #[must_use]
    pub fn show_value(&self, value: Option<&[u8]>) -> String {
        value.map_or_else(|| "null".to_owned(), |bytes| show(&*self.value, bytes))
    }

    /// The window that the bytes of a key name.
    #[must_use]
    pub fn key_window(&self, key: &[u8]) -> Option<KeyWindow> {
        let named = self.key.key_window(key)?;
        let size_ms = self.carried.window.and_then(|window| window.size_ms);
        Some(match (named, size_ms) {
            (KeyWindow::From(start), Some(size_ms)) => KeyWindow::Span { start, end: start.plus_ms(size_ms) },
            _ => named,
        })
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = self.topic.as_ref().map_or("computed", TopicName::as_str);
        f.debug_struct("Output").field("topic", &topic).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Topology {
    /// The topics that it writes, those of the application itself left out, in the order of their first sink.
    ///
    /// ```
    /// use headwater_streams::{OutputKind, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// let words = builder.stream::<String, String>("words");
    /// words.filter(|_, word| word.len() > 10).to("long-words");
    /// words.group_by_key().count("counts").to_stream().to("counts-so-far");
    /// let outputs = builder.build()?.outputs();
    /// let kinds: Vec<_> = outputs.iter().map(|o| (o.topic().map(|t| t.as_str()), o.kind())).collect();
    /// assert_eq!(kinds, [(Some("long-words"), OutputKind::Events), (Some("counts-so-far"), OutputKind::Updates)]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn outputs(&self) -> Vec<Output> {
        let mut outputs: Vec<Output> = Vec::new();
        for (node, carried) in self.nodes.iter().zip(self.carried()) {
            let NodeKind::Sink { topic, build } = &node.kind else { continue };
            let topic = match topic {
                SinkTopic::Fixed(TopicRef::External(topic)) => Some(topic.clone()),
                SinkTopic::Fixed(TopicRef::Repartition(_)) => continue,
                SinkTopic::Computed => None,
            };
            let known = outputs.iter_mut().find(|known| known.topic.is_some() && known.topic == topic);
            if let Some(known) = known {
                known.carried = known.carried.and(carried);
                known.kind = known.carried.kind();
            } else if let Some((key, value)) = build.shown() {
                outputs.push(Output { topic, kind: carried.kind(), carried, key, value });
            }
        }
        outputs
    }
}

/// A serde of whatever type, to show what it wrote.
pub(crate) trait Shown: Send + Sync {
    fn show(&self, bytes: &[u8]) -> Option<String>;
    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow>;
}

pub(crate) type ShownRef = Arc<dyn Shown>;

pub(crate) fn shown<T: 'static>(serde: SerdeRef<T>) -> ShownRef {
    Arc::new(Erased(serde))
}

struct Erased<T>(SerdeRef<T>);

impl<T: 'static> Shown for Erased<T> {
    fn show(&self, bytes: &[u8]) -> Option<String> {
        self.0.show(bytes)
    }

    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow> {
        self.0.key_window(bytes)
    }
}

fn show(serde: &dyn Shown, bytes: &[u8]) -> String {
    if let Some(shown) = serde.show(bytes) {
        return shown;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().any(char::is_control) => text.escape_debug().to_string(),
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("0x".to_owned(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}
