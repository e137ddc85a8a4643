//! How long an application takes to start again, with a store of ten million keys: from opening its folder until it runs and has
//! committed one more record.
//!
//! `make bench BENCH_ARGS="--bench restart"`. The store sums up values per key, 8 bytes each, in one task with default settings on the
//! embedded log (`Fsync`). It is filled in a process of its own, a hundred thousand records at a time, each committed before the next. Of
//! the memory, half is for rows at hand and half for RocksDB: 256 MiB, 2 GiB, and 4 GiB, which has room for all rows. That process is then
//! closed, and writes its state out, or killed with SIGKILL when all is committed. State that has room is written when its changelog is ten million
//! records ahead: with 4 GiB there is one key less, so that all of them are left to restore, about as many as there can be.
//!
//! Files are in the page cache, as they are after a crash of a process. What comes out of the restored store is compared with what
//! went in. Arguments: `--smoke` for a run of CI with 100,000 keys, and parts of the names of the cases that shall run (`"2 GiB, killed"`).

use std::{
    fmt,
    io::{BufRead, BufReader, IsTerminal, Read, Write, stderr, stdin},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt, executor::block_on, future::ready};
use headwater::prelude::*;
use headwater_benches::{Killed, say};

const TARGET: Duration = Duration::from_secs(5);
const KEYS: u64 = 10_000_000;
const KEYS_SMOKE: u64 = 100_000;
/// Records that are sent together.
const SENT: u64 = 100_000;
/// A prime, with which keys come in an order that is not that of their bytes.
const STRIDE: u64 = 6_700_417;
/// The value of records that ask for the sum of their key; more than any sum without one.
const QUESTION: u64 = 1_000_000;
/// How many keys are looked at when the clock has stopped.
const QUESTIONS: u64 = 1_000;
/// What the child says when there is nothing that it has not committed.
const COMMITTED: &str = "committed";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Closed,
    Killed,
}

impl Ending {
    const ALL: [Self; 2] = [Self::Closed, Self::Killed];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Killed => "killed",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    memory_bytes: usize,
    ending: Ending,
    keys: u64,
}

impl Case {
    /// All that are measured, with so many keys.
    fn all(keys: u64) -> Vec<Self> {
        let case = |memory_bytes, ending| Self { memory_bytes, ending, keys };
        let budgets = [256 << 20, 2 << 30];
        let mut cases: Vec<_> = budgets
            .into_iter()
            .flat_map(|memory_bytes| Ending::ALL.map(|ending| case(memory_bytes, ending)))
            .collect();
        cases.push(Self { keys: keys - 1, ..case(4 << 30, Ending::Killed) });
        cases
    }

    /// The key that comes as number `at`.
    fn key(self, at: u64) -> u64 {
        at * STRIDE % self.keys
    }

    fn settings(self) -> Settings {
        Settings { memory_bytes: self.memory_bytes, ..Settings::new("restarted") }
    }

    /// As the child is told it, and back.
    fn arguments(self) -> [String; 3] {
        [self.memory_bytes.to_string(), self.ending.name().to_owned(), self.keys.to_string()]
    }

    fn parse(arguments: &[String]) -> Option<Self> {
        let [memory_bytes, ending, keys] = arguments else { return None };
        let ending = Ending::ALL.into_iter().find(|known| known.name() == ending)?;
        Some(Self { memory_bytes: memory_bytes.parse().ok()?, ending, keys: keys.parse().ok()? })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.memory_bytes >> 20;
        let (number, unit) = if mebibytes < 1024 { (mebibytes, "MiB") } else { (mebibytes >> 10, "GiB") };
        write!(f, "{number} {unit}, {}", self.ending.name())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [command, folder, case @ ..] = &arguments[..]
        && command == "fill"
    {
        let case = Case::parse(case).ok_or_else(|| Error::invalid("no such case"))?;
        return block_on(fill_and_end(&PathBuf::from(folder), case));
    }
    let (flags, chosen): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|a| a.starts_with("--"));
    let keys = if flags.iter().any(|a| a == "--smoke") { KEYS_SMOKE } else { KEYS };
    say(&format!(
        "{:<16} {:>12} {:>12} {:>12} {:>14} {:>14} {:>14}",
        "memory, ended", "keys", "restored", "log open, s", "running, s", "ready, s", "target, s"
    ))?;
    for case in Case::all(keys) {
        let name = case.to_string();
        if chosen.is_empty() || chosen.iter().any(|part| name.contains(part)) {
            measure(case)?;
        }
    }
    Ok(())
}

fn measure(case: Case) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    Filling::start(folder.path(), case)?.end(case)?;
    let restart = block_on(restart(folder.path(), case))?;
    let verdict = if restart.ready <= TARGET { "met" } else { "missed" };
    say(&format!(
        "{:<16} {:>12} {:>12} {:>12.3} {:>14.2} {:>14.2} {:>6} {verdict}",
        case.to_string(),
        case.keys,
        restart.restored,
        restart.open.as_secs_f64(),
        restart.running.as_secs_f64(),
        restart.ready.as_secs_f64(),
        TARGET.as_secs(),
    ))
}

/// When what was done, from the beginning of the restart on.
struct Restart {
    /// The log is open.
    open: Duration,
    /// The application is running.
    running: Duration,
    /// One more record is processed and committed.
    ready: Duration,
    /// Changelog records that were replayed.
    restored: u64,
}

async fn restart(folder: &Path, case: Case) -> Result<Restart> {
    let start = Instant::now();
    let embedded = Embedded::open(folder)?;
    let open = start.elapsed();
    let streams = embedded.start(topology()?, case.settings()).await?;
    // When it has failed instead, waiting for the record says why.
    streams.states().any(|state| ready(state == StreamsState::Running || state.is_final())).await;
    let running = start.elapsed();
    embedded.send("values", &[question(case, 0)]).await?;
    streams.caught_up().await?;
    let restart =
        Restart { open, running, ready: start.elapsed(), restored: streams.metrics().total().restored };
    check_sums(&embedded, &streams, case).await?;
    streams.close().await?;
    embedded.close().await?;
    Ok(restart)
}

/// Asks for more keys, and compares all answers with what was sent before the end.
async fn check_sums(embedded: &Embedded, streams: &Streams, case: Case) -> Result<()> {
    let asked: Vec<u64> = (0..QUESTIONS).map(|n| n * (case.keys / QUESTIONS)).collect();
    let questions: Vec<_> = asked.iter().skip(1).map(|at| question(case, *at)).collect();
    embedded.send("values", &questions).await?;
    streams.caught_up().await?;
    let answers = embedded.read_all::<u64, u64>("answers").await?;
    let is_right =
        |(answer, at): (&Record<u64, u64>, &u64)| (answer.key, answer.value) == (case.key(*at), QUESTION + 1);
    if answers.len() != asked.len() || !answers.iter().zip(&asked).all(is_right) {
        return Err(Error::invalid(format!("the store is not what it was before the end. case={case}")));
    }
    Ok(())
}

fn question(case: Case, at: u64) -> Record<u64, u64> {
    Record::new(case.key(at), QUESTION, Timestamp(0))
}

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream::<u64, u64>("values")
        .group_by_key()
        .reduce("sums", |sum, value| sum + value)
        .to_stream()
        .filter(|_, sum| sum.is_some_and(|sum| sum >= QUESTION))
        .to("answers");
    builder.build()
}

/// What the child does: it fills the store, and is closed, or waits for somebody to kill it.
async fn fill_and_end(folder: &Path, case: Case) -> Result<()> {
    let embedded = Embedded::open(folder)?;
    embedded.create_topic("values", 1).await?;
    let streams = embedded.start(topology()?, case.settings()).await?;
    let mut progress = Progress::new(case);
    let mut at = 0;
    while at < case.keys {
        let until = (at + SENT).min(case.keys);
        let records: Vec<_> = (at..until).map(|at| Record::new(case.key(at), 1u64, Timestamp(0))).collect();
        embedded.send("values", &records).await?;
        streams.caught_up().await?;
        at = until;
        progress.show(at)?;
    }
    if case.ending == Ending::Closed {
        streams.close().await?;
        return embedded.close().await;
    }
    say(COMMITTED)?;
    // Until whoever would kill it has ended itself.
    stdin().read_to_end(&mut Vec::new()).map_err(|e| Error::io("cannot wait for the end", e))?;
    Ok(())
}

/// How many records are committed: a line that is drawn anew, or one for each tenth where nobody looks at a terminal.
struct Progress {
    case: Case,
    begun: Instant,
    is_terminal: bool,
    tenths: u64,
}

impl Progress {
    fn new(case: Case) -> Self {
        Self { case, begun: Instant::now(), is_terminal: stderr().is_terminal(), tenths: 0 }
    }

    fn show(&mut self, at: u64) -> Result<()> {
        let (tenths, records) = (at * 10 / self.case.keys, self.case.keys);
        let line = format!(
            "filling ({}): {at} of {records} records committed, {} s",
            self.case,
            self.begun.elapsed().as_secs()
        );
        let written = if self.is_terminal {
            // Taken away when it is full: the row of the table stands there then.
            let line = if at < records { line } else { String::new() };
            write!(stderr(), "\r\x1b[K{line}")
        } else if tenths > self.tenths {
            writeln!(stderr(), "{line}")
        } else {
            Ok(())
        };
        self.tenths = tenths;
        written.map_err(|e| Error::io("cannot write to standard error", e))
    }
}

/// This program once more, filling a folder. Killed when it is dropped.
struct Filling(Killed);

impl Filling {
    fn start(folder: &Path, case: Case) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let mut command = Command::new(program);
        command.arg("fill").arg(folder).args(case.arguments());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        child
            .map(|child| Self(Killed(child)))
            .map_err(|e| Error::io("cannot start the process that fills the store", e))
    }

    /// Lets it close, or kills it when it has committed everything.
    fn end(mut self, case: Case) -> Result<()> {
        let mut said = String::new();
        if let Some(out) = self.0.0.stdout.take() {
            let read = BufReader::new(out).read_line(&mut said);
            read.map_err(|e| Error::io("cannot hear the process that fills the store", e))?;
        }
        let is_killed = case.ending != Ending::Closed;
        if is_killed && said.trim_end() == COMMITTED {
            self.0.0.kill().map_err(|e| Error::io("cannot kill the process that fills the store", e))?;
        }
        let status =
            self.0.0.wait().map_err(|e| Error::io("cannot wait for the process that fills the store", e))?;
        if status.success() == is_killed || is_killed != (said.trim_end() == COMMITTED) {
            return Err(Error::invalid(format!("filling the store failed. case={case}, status={status}")));
        }
        Ok(())
    }
}
