//! What nodes make of what comes, and so what a stream carries: events or updates of rows, and how far around a record's
//! time the records lie that it depends on.

use std::collections::BTreeMap;

use super::{NodeId, NodeKind, SinkTopic, TopicRef, Topology};
use crate::{Emit, JoinWindows, OutputKind, SessionWindows, TimeWindows};

/// What a node makes of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Effect {
    /// A record stays what it was: the same key, perhaps another value, or none.
    #[default]
    Keeps,
    /// Keys may be others.
    Rekeys,
    /// A record becomes any number of them.
    Multiplies,
    /// Records come in another order each time.
    Shuffles,
    /// A record sets the row of its key.
    SetsRows,
    /// What is not wanted of a table is deleted, if it was there.
    FiltersRows,
    /// A record is added to the row of its key, whatever its time.
    Aggregates,
    /// Changes of rows become records.
    Updates,
    /// A record meets a row of a table.
    LooksUp,
    /// A record is added to the rows of its windows.
    Windowed { size_ms: i64, grace_ms: i64, emit: Emit },
    /// A record is added to the row of its session.
    Sessions { gap_ms: i64, grace_ms: i64, emit: Emit },
    /// Records meet that lie up to `apart_ms` from each other; `alone`: those that meet nobody are sent, too.
    Joins { apart_ms: i64, grace_ms: i64, alone: bool },
}

impl Effect {
    pub(crate) fn windowed(windows: TimeWindows, emit: Emit) -> Self {
        let (size_ms, grace_ms) = windows.spans_ms();
        Self::Windowed { size_ms, grace_ms, emit }
    }

    pub(crate) fn sessions(windows: SessionWindows, emit: Emit) -> Self {
        let (gap_ms, grace_ms) = windows.spans_ms();
        Self::Sessions { gap_ms, grace_ms, emit }
    }

    pub(crate) fn joins(windows: JoinWindows, alone: bool) -> Self {
        let (apart_ms, grace_ms) = windows.spans_ms();
        Self::Joins { apart_ms, grace_ms, alone }
    }
}

/// How far from a result the records lie on which it depends, in milliseconds: from its timestamp, or from the ends of its
/// window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reach {
    /// Before it; `i64::MAX` when it may depend on all that ever was.
    pub(crate) back_ms: i64,
    /// After it.
    pub(crate) ahead_ms: i64,
    /// How much longer than `ahead_ms` it may be until time has passed and the result is sent; 0 when it does not wait.
    pub(crate) waits_ms: i64,
}

impl Reach {
    fn max(self, other: Self) -> Self {
        Self {
            back_ms: self.back_ms.max(other.back_ms),
            ahead_ms: self.ahead_ms.max(other.ahead_ms),
            waits_ms: self.waits_ms.max(other.waits_ms),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            back_ms: self.back_ms.saturating_add(other.back_ms),
            ahead_ms: self.ahead_ms.saturating_add(other.ahead_ms),
            waits_ms: self.waits_ms.saturating_add(other.waits_ms),
        }
    }
}

/// What is known of a window that is named in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedWindow {
    /// The size; `None` for sessions.
    pub(crate) size_ms: Option<i64>,
    /// Around the window.
    pub(crate) reach: Reach,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    kind: OutputKind,
    /// Whether how many records there are depends on when commits happen.
    per_commit: bool,
    /// Whether records may carry the headers of the record that moved time.
    pub(crate) borrowed_headers: bool,
    /// Whether records of a key may come in any order.
    pub(crate) shuffled: bool,
    /// Whether it was read from its beginning, before the range: a table's source.
    whole: bool,
    /// Whether a processor of the user's, with stores, is before it.
    pub(crate) remembers: bool,
    /// Around a record's timestamp.
    pub(crate) reach: Reach,
    /// As long as the key is the one that the windows gave.
    pub(crate) window: Option<KeyedWindow>,
}

impl Carried {
    fn source(whole: bool) -> Self {
        Self {
            kind: OutputKind::Events,
            per_commit: false,
            borrowed_headers: false,
            shuffled: false,
            whole,
            remembers: false,
            reach: Reach::default(),
            window: None,
        }
    }

    /// An event topic's sequence says nothing where the number of records is a matter of when commits happen.
    pub(crate) fn kind(&self) -> OutputKind {
        if self.per_commit { OutputKind::Updates } else { self.kind }
    }

    /// What two streams carry that become one: no more may be said of it than of both.
    pub(super) fn and(self, other: Self) -> Self {
        let updates = self.kind == OutputKind::Updates && other.kind == OutputKind::Updates;
        let window = self.window.zip(other.window).filter(|(a, b)| a.size_ms == b.size_ms);
        Self {
            kind: if updates { OutputKind::Updates } else { OutputKind::Events },
            per_commit: self.per_commit || other.per_commit,
            borrowed_headers: self.borrowed_headers || other.borrowed_headers,
            shuffled: self.shuffled || other.shuffled,
            whole: self.whole && other.whole,
            remembers: self.remembers || other.remembers,
            reach: self.reach.max(other.reach),
            window: window.map(|(a, b)| KeyedWindow { size_ms: a.size_ms, reach: a.reach.max(b.reach) }),
        }
    }

    /// What was read from its beginning lacks nothing that lies further back.
    fn reaching(&self, reach: Reach) -> Reach {
        let reach = self.reach.plus(reach);
        Reach { back_ms: if self.whole { 0 } else { reach.back_ms }, ..reach }
    }

    /// It may depend on all that ever was.
    fn on_everything(mut self) -> Self {
        self.reach.back_ms = i64::MAX;
        if let Some(window) = &mut self.window {
            window.reach.back_ms = i64::MAX;
        }
        self
    }

    fn in_windows(mut self, emit: Emit, size_ms: Option<i64>, around: (Reach, Reach)) -> Self {
        self.window = Some(KeyedWindow { size_ms, reach: self.reaching(around.0) });
        self.reach = self.reaching(around.1);
        self.kind = if emit == Emit::OnClose { OutputKind::Events } else { OutputKind::Updates };
        self.per_commit |= emit == Emit::OnCommit;
        self.borrowed_headers |= emit == Emit::OnClose;
        self
    }

    /// What comes out of a node. `rows_whole`: whether the rows that it looks up were filled from their source's beginning.
    fn through(mut self, effect: Effect, has_stores: bool, rows_whole: bool) -> Self {
        match effect {
            Effect::Keeps | Effect::SetsRows => self,
            Effect::Rekeys => {
                self.kind = OutputKind::Events;
                self.window = None;
                self.remembers |= has_stores;
                self
            }
            Effect::Multiplies => Self { kind: OutputKind::Events, ..self },
            Effect::Shuffles => Self { shuffled: true, ..self },
            Effect::FiltersRows => {
                if self.whole {
                    self
                } else {
                    self.on_everything()
                }
            }
            Effect::Aggregates => {
                // A row whose key has a window holds nothing from outside of it.
                self.reach = self.reaching(Reach { back_ms: i64::MAX, ..Reach::default() });
                self
            }
            Effect::Updates => Self { kind: OutputKind::Updates, ..self },
            Effect::LooksUp => {
                if rows_whole {
                    self
                } else {
                    self.on_everything()
                }
            }
            Effect::Windowed { size_ms, grace_ms, emit } => {
                let waits_ms = waits(emit == Emit::OnClose, size_ms, grace_ms);
                let window = Reach { waits_ms, ..Reach::default() };
                // It lies in the window.
                let time = Reach { back_ms: size_ms - 1, ahead_ms: size_ms - 1, waits_ms };
                self.in_windows(emit, Some(size_ms), (window, time))
            }
            Effect::Sessions { gap_ms, grace_ms, emit } => {
                let waits_ms = waits(emit == Emit::OnClose, gap_ms, grace_ms);
                let window = Reach { back_ms: gap_ms, ahead_ms: gap_ms, waits_ms };
                // A session may have begun at any time.
                let time = Reach { back_ms: i64::MAX, ..window };
                self.in_windows(emit, None, (window, time))
            }
            Effect::Joins { apart_ms, grace_ms, alone } => {
                let ahead_ms = if alone { apart_ms } else { 0 };
                let waits_ms = waits(alone, apart_ms, grace_ms);
                self.reach = self.reaching(Reach { back_ms: apart_ms, ahead_ms, waits_ms });
                self.kind = OutputKind::Events;
                self.borrowed_headers |= alone;
                self.window = None;
                self
            }
        }
    }
}

/// How long after its span a result may wait that is sent when time has passed span and grace. Time only moves with records, so
/// it may stop before the end of what is read; by no more, it is assumed, than span and grace.
fn waits(closes: bool, span_ms: i64, grace_ms: i64) -> i64 {
    if closes { span_ms.saturating_add(grace_ms).saturating_add(grace_ms) } else { 0 }
}

impl Topology {
    /// What each node sends on; for a sink, what it writes.
    pub(super) fn carried(&self) -> Vec<Carried> {
        let mut arriving: Vec<Option<Carried>> = vec![None; self.nodes.len()];
        let mut carried = Vec::with_capacity(self.nodes.len());
        let mut written = BTreeMap::new();
        let mut filled_whole = BTreeMap::new();
        // Parents come before their children, and tables before those that look into them.
        for (at, node) in self.nodes.iter().enumerate() {
            let stores: &[usize] =
                if let NodeKind::Processor { stores, .. } = &node.kind { stores } else { &[] };
            let rows_whole = stores.iter().all(|store| filled_whole.get(store) == Some(&true));
            let arrived = match &node.kind {
                NodeKind::Source { topic, .. } => written.get(topic).copied(),
                NodeKind::Processor { .. } | NodeKind::Sink { .. } => arriving[at],
            };
            let arrived = arrived.unwrap_or_else(|| Carried::source(self.fills_only_tables(NodeId(at))));
            let out = arrived.through(node.effect, !stores.is_empty(), rows_whole);
            if matches!(node.effect, Effect::SetsRows | Effect::Aggregates) {
                filled_whole.extend(stores.iter().map(|store| (*store, out.whole)));
            }
            if let NodeKind::Sink { topic: SinkTopic::Fixed(topic), .. } = &node.kind {
                written
                    .entry(topic)
                    .and_modify(|so_far: &mut Carried| *so_far = so_far.and(out))
                    .or_insert(out);
            }
            for child in &node.children {
                let so_far = &mut arriving[child.0];
                *so_far = Some(so_far.map_or(out, |so_far| so_far.and(out)));
            }
            carried.push(out);
        }
        carried
    }

    /// Whether all that comes from a source becomes rows of tables, be it through steps that keep nothing, or a repartition: a
    /// replay reads such a source from its beginning.
    fn fills_only_tables(&self, node: NodeId) -> bool {
        let children = &self.nodes[node.0].children;
        let fills = |child: &NodeId| {
            let node = &self.nodes[child.0];
            match &node.kind {
                NodeKind::Processor { .. } if node.effect == Effect::SetsRows => true,
                NodeKind::Processor { stores, .. } => stores.is_empty() && self.fills_only_tables(*child),
                NodeKind::Sink { topic: SinkTopic::Fixed(topic @ TopicRef::Repartition(_)), .. } => {
                    let reads = |kind: &NodeKind| matches!(kind, NodeKind::Source { topic: read, .. } if read == topic);
                    let reader = self.nodes.iter().position(|node| reads(&node.kind));
                    reader.is_some_and(|reader| self.fills_only_tables(NodeId(reader)))
                }
                NodeKind::Sink { .. } | NodeKind::Source { .. } => false,
            }
        };
        !children.is_empty() && children.iter().all(fills)
    }
}
