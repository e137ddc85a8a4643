//! Topologies as data: a list of operators, each of which takes streams made before it, and what it becomes in the DSL.

use std::{collections::BTreeSet, task::Poll, time::Duration};

use headwater_core::{Headers, Record, Result, Timestamp};
use headwater_streams::{
    Concurrency, Emit, JoinWindows, KStream, KeyValueHandle, Processor, ProcessorContext, Punctuate,
    Punctuation, SessionWindows, StreamsBuilder, TimeWindows, Topology,
};
use proptest::prelude::*;

pub(super) const SOURCES: [&str; 3] = ["a", "b", "c"];
/// Names the task that wrote a record: two tasks that write to one partition have no order between them.
pub(super) const WRITER: &str = "writer";

/// A stream made before, counted from the newest back. Beyond the oldest it begins again.
type Of = u8;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Filter(Of, u64),
    MapValues(Of),
    /// To another key, without bringing keys together.
    Map(Of),
    /// To one of so many keys, through a topic.
    Rekey(Of, u64),
    Repartition(Of),
    Split(Of, u64),
    Merge(Of, Of),
    Count(Of),
    Reduce(Of),
    Aggregate(Of),
    Windows {
        of: Of,
        size: i64,
        advance: i64,
        grace: i64,
        emit: Sent,
    },
    Sessions {
        of: Of,
        gap: i64,
        grace: i64,
        emit: Sent,
    },
    /// The stream is a table, grouped by another key and aggregated.
    Regroup(Of, u64),
    JoinTable {
        of: Of,
        table: Of,
        left: bool,
    },
    Join {
        of: Of,
        with: Of,
        kind: Kind,
        before: i64,
        after: i64,
        grace: i64,
    },
    /// Ordered calls, so many at a time.
    Call(Of, usize),
    /// A processor with a store, and punctuations by stream time.
    Meter(Of, i64),
    /// Windows that are sent once per commit. Nothing follows: how often that is depends on the run.
    OnCommit {
        of: Of,
        size: i64,
        grace: i64,
    },
    /// Calls that are sent on as they end. Nothing follows: their order depends on the run.
    CallUnordered(Of, usize),
}

/// [`Emit`], but for the one that depends on commits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    Update,
    Close,
    Change,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Inner,
    Left,
    Outer,
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) sources: usize,
    pub(super) ops: Vec<Op>,
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    (1..=SOURCES.len(), prop::collection::vec(ops(), 1..9)).prop_map(|(sources, ops)| Plan { sources, ops })
}

fn ops() -> impl Strategy<Value = Op> {
    let of = || prop_oneof![3 => Just(0), 2 => 1..4u8, 1 => 0..12u8];
    let sent = || prop::sample::select(vec![Sent::Update, Sent::Close, Sent::Change]);
    let kind = prop::sample::select(vec![Kind::Inner, Kind::Left, Kind::Outer]);
    let windows = (1..20i64).prop_flat_map(|size| (Just(size), (size + 3) / 4..=size));
    prop_oneof![
        1 => (of(), 2..4u64).prop_map(|(of, rest)| Op::Filter(of, rest)),
        1 => of().prop_map(Op::MapValues),
        1 => of().prop_map(Op::Map),
        3 => (of(), 1..4u64).prop_map(|(of, keys)| Op::Rekey(of, keys)),
        1 => of().prop_map(Op::Repartition),
        1 => (of(), 2..4u64).prop_map(|(of, rest)| Op::Split(of, rest)),
        2 => (of(), of()).prop_map(|(of, with)| Op::Merge(of, with)),
        1 => of().prop_map(Op::Count),
        1 => of().prop_map(Op::Reduce),
        1 => of().prop_map(Op::Aggregate),
        2 => (of(), windows, 0..15i64, sent()).prop_map(|(of, (size, advance), grace, emit)| {
            Op::Windows { of, size, advance, grace, emit }
        }),
        2 => (of(), 1..12i64, 0..15i64, sent())
            .prop_map(|(of, gap, grace, emit)| Op::Sessions { of, gap, grace, emit }),
        1 => (of(), 1..4u64).prop_map(|(of, keys)| Op::Regroup(of, keys)),
        2 => (of(), of(), any::<bool>()).prop_map(|(of, table, left)| Op::JoinTable { of, table, left }),
        2 => (of(), of(), kind, 0..8i64, 0..8i64, 0..8i64).prop_map(|(of, with, kind, before, after, grace)| {
            Op::Join { of, with, kind, before, after, grace }
        }),
        1 => (of(), 1..4usize).prop_map(|(of, calls)| Op::Call(of, calls)),
        1 => (of(), 1..12i64).prop_map(|(of, every)| Op::Meter(of, every)),
        1 => (of(), 1..12i64, 0..9i64).prop_map(|(of, size, grace)| Op::OnCommit { of, size, grace }),
        1 => (of(), 1..4usize).prop_map(|(of, calls)| Op::CallUnordered(of, calls)),
    ]
}

/// A stream, whether its partitions follow its keys, and the place in the plan of the sub-topology that it is in.
#[derive(Clone)]
struct Made {
    stream: KStream<String, u64>,
    keyed: bool,
    part: usize,
}

impl Made {
    fn with(&self, stream: KStream<String, u64>) -> Self {
        Self { stream, ..self.clone() }
    }
}

/// Writes a plan into a builder.
struct Writing {
    made: Vec<Made>,
    /// Number of the operator, which names what it makes.
    number: usize,
    names: usize,
    /// What a sub-topology was united with.
    united: Vec<usize>,
    /// Which sub-topology sends to which.
    sends: Vec<(usize, usize)>,
}

impl Plan {
    /// The topology; tasks that have records of a key that `slow` picks take their time.
    pub(super) fn topology(&self, slow: fn(&str, u64) -> bool) -> Topology {
        let builder = StreamsBuilder::new();
        let mut writing = Writing {
            made: Vec::new(),
            number: 0,
            names: 0,
            united: (0..self.sources).collect(),
            sends: Vec::new(),
        };
        for (part, topic) in SOURCES.into_iter().take(self.sources).enumerate() {
            let stream = builder.stream::<String, u64>(topic);
            let stream = stream.filter(move |key, value| {
                if slow(key, *value) {
                    // Gives the processor away, so that other tasks overtake this one.
                    (0..5).for_each(|_| std::thread::yield_now());
                }
                true
            });
            writing.made.push(Made { stream, keyed: true, part });
        }
        for (number, op) in self.ops.iter().enumerate() {
            writing.number = number;
            writing.write(op, &builder);
        }
        for (number, made) in writing.made.iter().enumerate() {
            made.stream.process(&[], || Sign).to(&format!("out-{number}"));
        }
        builder.build().unwrap()
    }
}

/// How the records of a topic of [`Plan::topology`] are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    InOrder,
    AsASet,
    ByLastValue,
    NotAtAll,
}

impl Compared {
    pub(super) fn of(topic: &str) -> Self {
        match topic {
            _ if topic.starts_with("out-") || topic.starts_with("late-") => Self::InOrder,
            _ if topic.starts_with("any-") => Self::AsASet,
            _ if topic.starts_with("last-") || topic.ends_with("-changelog") => Self::ByLastValue,
            _ => Self::NotAtAll,
        }
    }
}

/// Depends on the order of its arguments, and so on that of the records.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    a.wrapping_mul(31).wrapping_add(b) % 1_000_003
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn emit(sent: Sent) -> Emit {
    match sent {
        Sent::Update => Emit::OnUpdate,
        Sent::Close => Emit::OnClose,
        Sent::Change => Emit::OnChange,
    }
}

impl Writing {
    fn get(&self, of: Of) -> Made {
        self.made[self.made.len() - 1 - usize::from(of) % self.made.len()].clone()
    }

    fn add(&mut self, made: Made) {
        self.made.push(made);
    }

    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}-{}", self.names)
    }

    /// A new sub-topology behind another one.
    fn behind(&mut self, part: usize) -> usize {
        self.united.push(self.united.len());
        self.sends.push((part, self.united.len() - 1));
        self.united.len() - 1
    }

    fn root(&self, mut part: usize) -> usize {
        while self.united[part] != part {
            part = self.united[part];
        }
        part
    }

    /// Whether records go from one sub-topology to another.
    fn leads(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![self.root(from)]);
        while let Some(part) = next.pop() {
            if part == self.root(to) {
                return true;
            }
            if seen.insert(part) {
                let sends = self.sends.iter().filter(|(from, _)| self.root(*from) == part);
                next.extend(sends.map(|(_, to)| self.root(*to)));
            }
        }
        false
    }

    fn through_a_topic(&mut self, made: &Made) -> Made {
        let (name, part) = (self.name("r"), self.behind(made.part));
        Made { stream: made.stream.repartition(&name), keyed: true, part }
    }

    /// With all records of a key in one task.
    fn keyed(&mut self, of: Of) -> Made {
        let made = self.get(of);
        if made.keyed { made } else { self.through_a_topic(&made) }
    }

    /// Two streams in one sub-topology. One that is made of the other cannot be in its sub-topology, so both leave theirs.
    fn unite(&mut self, a: Made, b: Made) -> (Made, Made) {
        let is_one = self.root(a.part) == self.root(b.part);
        let (a, b) = if !is_one && (self.leads(a.part, b.part) || self.leads(b.part, a.part)) {
            (self.through_a_topic(&a), self.through_a_topic(&b))
        } else {
            (a, b)
        };
        let (one, other) = (self.root(a.part), self.root(b.part));
        self.united[other] = one;
        (a, b)
    }

    fn write(&mut self, op: &Op, builder: &StreamsBuilder) {
        match *op {
            Op::Filter(of, rest) => {
                let made = self.get(of);
                self.add(made.with(made.stream.filter(move |_, value| value % rest != 0)));
            }
            Op::MapValues(of) => {
                let made = self.get(of);
                self.add(made.with(made.stream.map_values(|key, value| mix(value, key.len() as u64))));
            }
            Op::Map(of) => {
                let made = self.get(of);
                let stream = made.stream.map(|key: String, value| (format!("{key}{}", value % 2), value));
                self.add(Made { keyed: false, ..made.with(stream) });
            }
            Op::Rekey(of, keys) => {
                let made = self.get(of);
                let stream = made.stream.select_key(move |_, value| format!("k{}", value % keys));
                let made = self.through_a_topic(&made.with(stream));
                self.add(made);
            }
            Op::Repartition(of) => {
                let made = self.get(of);
                let made = self.through_a_topic(&made);
                self.add(made);
            }
            Op::Split(of, rest) => {
                let made = self.get(of);
                let split = made.stream.split();
                self.add(made.with(split.branch(move |_, value| value % rest == 0)));
                self.add(made.with(split.otherwise()));
            }
            Op::Merge(of, with) => {
                let (made, other) = (self.get(of), self.get(with));
                let (made, other) = self.unite(made, other);
                let keyed = made.keyed && other.keyed;
                self.add(Made { keyed, ..made.with(made.stream.merge(&other.stream)) });
            }
            Op::Call(..) | Op::CallUnordered(..) | Op::Meter(..) | Op::OnCommit { .. } => {
                self.write_own(op, builder);
            }
            Op::Count(_) | Op::Reduce(_) | Op::Aggregate(_) | Op::Regroup(..) => self.write_rows(op),
            Op::Windows { .. } | Op::Sessions { .. } => self.write_windows(op),
            Op::JoinTable { .. } | Op::Join { .. } => self.write_join(op),
        }
    }

    fn write_own(&mut self, op: &Op, builder: &StreamsBuilder) {
        match *op {
            Op::Call(of, calls) => {
                let (made, name) = (self.get(of), self.name("call"));
                let stream =
                    made.stream.map_async(&name, Concurrency::ordered(calls), |_, value| async move {
                        later(value % 5).await;
                        Ok(mix(value, 7))
                    });
                let part = self.behind(made.part);
                self.add(Made { stream, keyed: true, part });
            }
            Op::Meter(of, every) => {
                let made = self.keyed(of);
                let store = builder.key_value_store::<String, u64>(&self.name("meter"));
                let handle = store.clone();
                let meter = move || Meter { store: handle.clone(), every };
                let stream = made.stream.process::<String, u64, _>(&[&store], meter);
                self.add(Made { keyed: false, ..made.with(stream) });
            }
            Op::CallUnordered(of, calls) => {
                let (made, name) = (self.get(of), self.name("call"));
                let call = |_, value| async move {
                    later(value % 5).await;
                    Ok(mix(value, 7))
                };
                let answers = made.stream.map_async(&name, Concurrency::unordered(calls), call);
                answers.process(&[], || Sign).to(&format!("any-{}", self.number));
            }
            Op::OnCommit { of, size, grace } => {
                let made = self.keyed(of);
                let windows = TimeWindows::tumbling(ms(size)).grace(ms(grace));
                let windowed = made.stream.group_by_key().windowed_by(windows).emit(Emit::OnCommit);
                let add = |_: &String, value, all: &mut u64| *all = mix(*all, value);
                let table = windowed.aggregate(&self.name("windows"), || 0, add);
                table.to_stream().to(&format!("last-{}", self.number));
            }
            _ => unreachable!("the others are written elsewhere"),
        }
    }

    fn write_rows(&mut self, op: &Op) {
        let name = self.name("rows");
        let (made, table) = match *op {
            Op::Count(of) => {
                let made = self.keyed(of);
                let table = made.stream.group_by_key().count(&name);
                (made, table)
            }
            Op::Reduce(of) => {
                let made = self.keyed(of);
                let table = made.stream.group_by_key().reduce(&name, mix);
                (made, table)
            }
            Op::Regroup(of, keys) => {
                let made = self.keyed(of);
                let topic = self.name("regroup");
                let table = made.stream.to_table(&format!("{name}-before"));
                let grouped = table.group_by(&topic, move |_, value| (format!("k{}", value % keys), *value));
                let (add, subtract) = (|_: &String, value, all: &mut u64| *all = mix(*all, value), {
                    |_: &String, value: u64, all: &mut u64| *all = mix(*all, value + 1)
                });
                let part = self.behind(made.part);
                (Made { part, ..made }, grouped.aggregate(&name, || 0, add, subtract))
            }
            Op::Aggregate(of) => {
                let made = self.keyed(of);
                let add = |_: &String, value, all: &mut u64| *all = mix(*all, value);
                let table = made.stream.group_by_key().aggregate(&name, || 1, add);
                (made, table)
            }
            _ => unreachable!("the others are written elsewhere"),
        };
        self.add(made.with(table.to_stream().map_values(|_, row| row.unwrap_or(0))));
    }

    fn write_windows(&mut self, op: &Op) {
        let (name, late) = (self.name("windows"), format!("late-{}", self.number));
        let on_late = move |stream: KStream<String, u64>| stream.process(&[], || Sign).to(&late);
        let add = |_: &String, value, all: &mut u64| *all = mix(*all, value);
        let (made, stream) = match *op {
            Op::Windows { of, size, advance, grace, emit: sent } => {
                let made = self.keyed(of);
                let windows = TimeWindows::hopping(ms(size), ms(advance)).grace(ms(grace));
                let windowed = made.stream.group_by_key().windowed_by(windows).emit(emit(sent));
                let stream = windowed.on_late(on_late).aggregate(&name, || 0, add).to_stream();
                (made, stream.map(|at, value| (format!("{}@{}", at.key, at.window.start), value)))
            }
            Op::Sessions { of, gap, grace, emit: sent } => {
                let made = self.keyed(of);
                let windows = SessionWindows::gap(ms(gap)).grace(ms(grace));
                let windowed = made.stream.group_by_key().windowed_by(windows).emit(emit(sent));
                let join = |_: &String, other, all: &mut u64| *all = mix(*all, other);
                let stream = windowed.on_late(on_late).aggregate(&name, || 0, add, join).to_stream();
                (
                    made,
                    stream.map(|at, value| (format!("{}@{}", at.key, at.window.start), value.unwrap_or(0))),
                )
            }
            _ => unreachable!("the others are written elsewhere"),
        };
        self.add(Made { keyed: false, ..made.with(stream) });
    }

    fn write_join(&mut self, op: &Op) {
        let name = self.name("join");
        match *op {
            Op::JoinTable { of, table, left } => {
                let (made, other) = (self.keyed(of), self.keyed(table));
                let (made, other) = self.unite(made, other);
                let table = other.stream.to_table(&name);
                let stream = if left {
                    made.stream.left_join_table(&table, |_, value, row| mix(value, row.copied().unwrap_or(1)))
                } else {
                    made.stream.join_table(&table, |_, value, row| mix(value, *row))
                };
                self.add(made.with(stream));
            }
            Op::Join { of, with, kind, before, after, grace } => {
                let (made, other) = (self.keyed(of), self.keyed(with));
                let (made, other) = self.unite(made, other);
                let windows = JoinWindows::within(ms(after)).before(ms(before)).grace(ms(grace));
                let (left, right) = (&made.stream, &other.stream);
                let or = |value: Option<&u64>| value.copied().unwrap_or(1);
                let stream = match kind {
                    Kind::Inner => left.join(right, &name, windows, |_, l, r| mix(*l, *r)),
                    Kind::Left => left.left_join(right, &name, windows, move |_, l, r| mix(*l, or(r))),
                    Kind::Outer => left.outer_join(right, &name, windows, move |_, l, r| mix(or(l), or(r))),
                };
                self.add(made.with(stream));
            }
            _ => unreachable!("the others are written elsewhere"),
        }
    }
}

/// Not ready the first `turns` times that it is asked.
async fn later(turns: u64) {
    let mut left = turns;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Context<'a> = ProcessorContext<'a, String, u64>;

/// Says on each record which task sends it.
struct Sign;

impl Processor<String, u64, String, u64> for Sign {
    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let headers: Headers = record.headers.clone().with(WRITER, cx.task_id().to_string());
        cx.forward(Record { headers, ..record })
    }
}

/// Folds the values of each key, and says now and then what the fold of all is.
struct Meter {
    store: KeyValueHandle<String, u64>,
    every: i64,
}

impl Processor<String, u64, String, u64> for Meter {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(ms(self.every), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let mut fold = |key: &String| {
            cx.store(&self.store).update(key, record.timestamp, |all| {
                *all = Some(mix(all.unwrap_or(0), record.value));
                all.unwrap_or(0)
            })
        };
        let value = fold(&record.key)?;
        fold(&"all".to_owned())?;
        cx.forward(record.with_value(value))
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let all = cx.store(&self.store).get(&"all".to_owned())?.copied();
        cx.forward(Record::new("all".to_owned(), all.unwrap_or(0), time))
    }
}
