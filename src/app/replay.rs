//! `replay`: the topology over a range of the past, beside the live application.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use clap::Args;
use headwater_core::{Error, Result};
use headwater_storage::log::{DiskShare, LogLock};
use headwater_streams::{
    Topology,
    replay::{
        Options, Position, Progress, Report, Watch,
        diff::{Diff, Limits},
    },
};
use headwater_terminal::{Line, Stop, bar, give_way, number, span, time::duration, time::rfc3339};
use serde_json::json;

use super::{App, Caller, Exit, Failure, Session};
use crate::{
    Replay, Replays, RunningReplay,
    position::{POSITION_HELP, parse_position},
};

/// Time between two logs of the progress, where there is no terminal.
const LOGGED: Duration = Duration::from_secs(10);
/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  app replay --from 7d --warm-up 1d --name last-week --diff
  app replay --from 2015-09-01 --until 2015-10-01 --close-windows
  app replay --from readings:0=1200,readings:1=900 --pace 60x
  app replay --resume last-week
  app replay --to jsonl=results

It reads the log whoever owns it, and writes into a folder of its own, replays/NAME in the log's folder: `headwater consume TOPIC --log
FOLDER/replays/NAME` prints what came out. Tables are read from their beginning, so that joins see them as they were. A time is that of
the records; --until is not in the range. While a process has the log open it holds itself back, so that the commits of that one do not wait
for the disk; --disk-share 100% is full speed. Ctrl-C stops it so that --resume goes on. With --diff the exit code is 1 when what it wrote
differs from what the live run wrote for the range.

TARGET is `folder` (its own, and no other), `jsonl=FOLDER` (also a file of JSON lines for each output topic), `nowhere` (its own folder is
deleted at the end) or `topics` (also the real topics, but those that the program reads; each record once: nobody else may have the log
open).";

/// What to replay, and how.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{POSITION_HELP}"))]
pub(super) struct ReplayArgs {
    /// Where it begins
    #[arg(long, value_name = "POSITION", default_value = "earliest", value_parser = parse_position)]
    from: Position,
    /// Where it ends; what lies there is not replayed
    #[arg(long, value_name = "POSITION", default_value = "end", value_parser = parse_position)]
    until: Position,
    /// Process so much before it, to fill windows and joins, without counting what comes out: 1d
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    warm_up: Duration,
    /// So many times as fast as it happened: 60x; without this as fast as it goes
    #[arg(long, value_name = "FACTOR", value_parser = pace)]
    pace: Option<f64>,
    /// How much of the disk's time it takes at most: 25%; 100% is all [default: 5% while a process has the log open, else 100%]
    #[arg(long, value_name = "SHARE")]
    disk_share: Option<DiskShare>,
    /// At the end, close the windows that are open, as if time went on
    #[arg(long)]
    close_windows: bool,
    /// What it is called; by the time unless said
    #[arg(long)]
    name: Option<String>,
    /// Go on with the replay of this name, with what was asked for then
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "until", "warm_up", "close_windows", "name"])]
    resume: Option<String>,
    /// Where results go besides its own folder
    #[arg(long, value_name = "TARGET", default_value = "folder")]
    to: Target,
    /// Compare what it wrote with what the live run wrote
    #[arg(long)]
    diff: bool,
    /// One JSON object at the end, for programs
    #[arg(long)]
    json: bool,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Folder,
    JsonLines(PathBuf),
    Nowhere,
    Topics,
}

impl Target {
    /// What would forbid to send results there is found before the work, not after it.
    fn check(&self, log: &Path) -> Result<()> {
        match self {
            Self::Topics => {
                // Free again at once: that it is free at the end, too, is up to whoever asks for this.
                LogLock::take(log).map(drop).map_err(|e| e.context("--to topics needs the log for itself"))
            }
            Self::JsonLines(folder) => fs::create_dir_all(folder)
                .map_err(|e| Error::io(format!("cannot make folder. folder={}", folder.display()), e)),
            Self::Folder | Self::Nowhere => Ok(()),
        }
    }
}

/// As it is said, for a shell.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("folder"),
            Self::JsonLines(folder) => f.write_str(&quoted(&format!("jsonl={}", folder.display()))),
            Self::Nowhere => f.write_str("nowhere"),
            Self::Topics => f.write_str("topics"),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "folder" => Ok(Self::Folder),
            "nowhere" => Ok(Self::Nowhere),
            "topics" => Ok(Self::Topics),
            _ => match text.strip_prefix("jsonl=").filter(|folder| !folder.is_empty()) {
                Some(folder) => Ok(Self::JsonLines(folder.into())),
                None => Err(Error::invalid("`folder`, `jsonl=FOLDER`, `nowhere` or `topics`")),
            },
        }
    }
}

fn pace(text: &str) -> Result<f64> {
    let factor = text.trim().trim_end_matches(['x', 'X']).parse::<f64>().ok();
    factor.filter(|factor| factor.is_finite() && *factor > 0.0).ok_or_else(|| {
        Error::invalid(format!("a number above 0, as in 60x or 0.5x. pace=`{}`", text.escape_debug()))
    })
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn replay(
        &self,
        how: &ReplayArgs,
        session: &mut Session<'_, A>,
    ) -> Result<Exit, Failure> {
        let stop = Stop::listen()?;
        // Says what to do when there is no log.
        session.observe()?;
        let topology = self.build(session.args)?;
        let replay = Replay::of(&topology).settings(self.settings_of(session)).log(&session.config.log);
        how.to.check(&session.config.log)?;
        let share = Share::of(how, &session.config.log)?;
        if share.holds_back() && session.caller == Caller::Main {
            // Before there are threads.
            give_way();
        }
        let replay = replay.options_said(session.said.words.clone()).disk_share(share.share);
        let running = start(how, replay).await?;
        let name = running.name().to_owned();
        let watched = session.watched();
        if !session.config.quiet && !how.json {
            writeln!(session.out, "{}{share}", running.plan())?;
            session.out.flush()?;
        }
        let report = follow(running, &stop, watched).await.map_err(Failure::Failed)?;
        // What is left to do has no place to stop at: Ctrl-C ends the process as it always does.
        drop(stop);
        if !report.finished {
            return stopped(&report, &name, how, session);
        }
        let replays = Replays::of(&session.config.log);
        let diff = match how.diff {
            true => Some(replays.diff(&name, &topology, Limits::default()).await),
            false => None,
        };
        // Whatever goes wrong from here on, what came of the work is told.
        let folder = replays.folder(&name)?.display().to_string();
        let told = diff.as_ref().and_then(|diff| diff.as_ref().ok());
        if how.json {
            let share = share.share.part();
            let object = json!({ "name": name, "folder": folder, "disk_share": share, "report": report, "diff": told });
            writeln!(session.out, "{object}")?;
        } else {
            writeln!(session.out, "{report}")?;
            if let Some(diff) = told {
                writeln!(session.out, "{diff}")?;
            }
        }
        session.out.flush()?;
        let diff = diff.transpose()?;
        let note = send_on(&replays, &name, &topology, &how.to).await?;
        if !how.json && !session.config.quiet {
            writeln!(session.out, "{note}")?;
        }
        // What could not be compared is not the same.
        let is_same = |diff: &Diff| diff.is_empty() && diff.computed == 0;
        Ok(if diff.as_ref().is_none_or(is_same) { Exit::Done } else { Exit::Different })
    }
}

/// How much of the disk a replay takes, and for whom it leaves the rest.
struct Share {
    share: DiskShare,
    /// The process that has the log open.
    holder: Option<String>,
}

impl Share {
    fn of(how: &ReplayArgs, log: &Path) -> Result<Self> {
        let holder = LogLock::holder(log)?;
        let default = if holder.is_some() { DiskShare::BESIDE_LIVE } else { DiskShare::ALL };
        Ok(Self { share: how.disk_share.unwrap_or(default), holder })
    }

    fn holds_back(&self) -> bool {
        !self.share.is_all()
    }
}

/// Nothing when it is all of it.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.holds_back() {
            return Ok(());
        }
        f.write_str("\nheld back")?;
        if let Some(pid) = &self.holder {
            write!(f, ", because process {pid} has the log open")?;
        }
        write!(f, ": {} of the disk's time, lowest priority; --disk-share 100% for full speed", self.share)
    }
}

async fn start(how: &ReplayArgs, replay: Replay) -> Result<RunningReplay> {
    let options = Options {
        from: how.from.clone(),
        until: how.until.clone(),
        warm_up: how.warm_up,
        pace: how.pace,
        close_windows: how.close_windows,
    };
    let replay = replay.options(options);
    match (&how.resume, &how.name) {
        (Some(name), _) => replay.name(name).resume().await,
        (None, Some(name)) => replay.name(name).start().await,
        (None, None) => replay.start().await,
    }
}

/// Runs it, and shows how far it is.
async fn follow(running: RunningReplay, stop: &Stop, watched: bool) -> Result<Report> {
    let watch = running.watch();
    let mut shown = Shown::new(&watch);
    let mut line = Line::begin(REDRAW, !watched);
    let mut tick = tokio::time::interval(if watched { REDRAW } else { LOGGED });
    tick.tick().await;
    let mut done = Box::pin(running.run_until(stop.asked()));
    loop {
        tokio::select! {
            report = &mut done => return report,
            _ = tick.tick() => {
                let text = shown.line(&watch.progress(), Instant::now());
                if watched {
                    line.draw(&text);
                } else {
                    tracing::info!("{text}");
                }
            }
        }
    }
}

/// How fast a phase goes.
struct Shown {
    phase: headwater_streams::replay::Phase,
    since: Instant,
    /// What had been read and taken when this process began with the phase.
    read: u64,
    records: u64,
}

impl Shown {
    fn new(watch: &Watch) -> Self {
        let Progress { phase, read, records, .. } = watch.progress();
        Self { phase, since: Instant::now(), read, records }
    }

    fn line(&mut self, progress: &Progress, now: Instant) -> String {
        if progress.phase != self.phase {
            *self = Self { phase: progress.phase, since: now, read: 0, records: 0 };
        }
        line(
            progress,
            progress.read.saturating_sub(self.read),
            progress.records.saturating_sub(self.records),
            now - self.since,
        )
    }
}

/// Fits in 100 columns. `read` and `records` were done in `elapsed`.
fn line(progress: &Progress, read: u64, records: u64, elapsed: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
    let part = if progress.to_read == 0 { 1.0 } else { progress.read as f64 / progress.to_read as f64 };
    let at = progress.reached.map_or_else(|| "-".to_owned(), rfc3339);
    let micros = elapsed.as_micros().max(1);
    let per_second = u64::try_from(u128::from(records) * 1_000_000 / micros).unwrap_or(u64::MAX);
    let left = u128::from(progress.to_read.saturating_sub(progress.read));
    let left = match u128::from(read) {
        0 => String::new(),
        read => {
            let micros = u64::try_from(left * micros / read).unwrap_or(u64::MAX);
            format!("  {} left", span(Duration::from_micros(micros)))
        }
    };
    format!(
        "{:<7} {} {:>3.0} %  {at}  {} records/s{left}",
        progress.phase.to_string(),
        bar(part),
        (part * 100.0).min(100.0),
        number(per_second)
    )
}

/// It was asked to end before its end.
fn stopped<A>(
    report: &Report,
    name: &str,
    how: &ReplayArgs,
    session: &mut Session<'_, A>,
) -> Result<Exit, Failure> {
    if how.json {
        writeln!(session.out, "{}", json!({ "name": name, "report": report, "diff": null }))?;
    } else {
        writeln!(session.out, "{report}")?;
    }
    if !session.config.quiet {
        let again = again(name, how, &session.said.line);
        headwater_terminal::warn(&format!("stopped before its end: `{again}` goes on"));
    }
    Ok(Exit::Stopped)
}

/// What to say so that it goes on, and at its end does what it would have done.
fn again(name: &str, how: &ReplayArgs, own: &[String]) -> String {
    let mut words = vec!["replay".to_owned(), "--resume".to_owned(), name.to_owned()];
    if how.to != Target::Folder {
        words.extend(["--to".to_owned(), how.to.to_string()]);
    }
    if let Some(share) = how.disk_share {
        words.extend(["--disk-share".to_owned(), share.to_string()]);
    }
    for (is_said, word) in [(how.diff, "--diff"), (how.json, "--json")] {
        words.extend(is_said.then(|| word.to_owned()));
    }
    words.extend(own.iter().map(|word| quoted(word)));
    words.join(" ")
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Sends what a finished replay wrote to where it shall go besides its folder; says where it is.
async fn send_on(replays: &Replays, name: &str, topology: &Topology, to: &Target) -> Result<String> {
    let sent = match to {
        Target::Folder => {
            let folder = replays.folder(name)?;
            return Ok(format!("replay {name}: `headwater consume TOPIC --log {}`", folder.display()));
        }
        Target::Nowhere => {
            replays.delete(name)?;
            return Ok(format!("replay {name} is deleted"));
        }
        Target::JsonLines(to) => replays
            .write_json_lines(name, topology, to)
            .await
            .map(|count| format!("replay {name}: {} records written to {}", number(count), to.display())),
        Target::Topics => replays
            .append_to_topics(name, topology)
            .await
            .map(|count| format!("replay {name}: {} records appended to real topics", number(count))),
    };
    sent.map_err(|e| {
        e.context(format!(
            "the replay is finished, but not all that it wrote was sent on: say `--resume {name}` with the same --to"
        ))
    })
}

#[cfg(test)]
mod tests {
    use headwater_core::Timestamp;
    use headwater_streams::replay::Phase;

    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_long_it_takes() {
        let progress = Progress {
            phase: Phase::Range,
            phases: vec![Phase::WarmUp, Phase::Range],
            read: 2_500,
            to_read: 10_000,
            records: 2_400,
            reached: Some(Timestamp(1_441_107_000_000)),
            from: None,
            until: None,
            is_finished: false,
        };
        assert_eq!(
            line(&progress, 2_500, 2_400, Duration::from_secs(2)),
            "range   [=====               ]  25 %  2015-09-01T11:30:00Z  1,200 records/s  6 s left"
        );
        let nothing = Progress { read: 0, to_read: 0, reached: None, phase: Phase::WarmUp, ..progress };
        assert_eq!(
            line(&nothing, 0, 0, Duration::ZERO),
            "warm-up [====================] 100 %  -  0 records/s"
        );
    }

    #[test]
    fn words_are_said_as_a_shell_takes_them() {
        for (word, said) in
            [("--above", "--above"), ("7,5", "7,5"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(word), said);
        }
        assert_eq!(Target::JsonLines("a b".into()).to_string(), "'jsonl=a b'");
    }

    #[test]
    fn paces_and_targets_are_understood() {
        for (text, factor) in [("60x", 60.0), ("0.5", 0.5), ("1X", 1.0)] {
            assert!((pace(text).unwrap() - factor).abs() < f64::EPSILON, "{text}");
        }
        for text in ["", "x", "0x", "-1x", "fast", "infx", "NaN"] {
            assert!(pace(text).is_err(), "{text}");
        }
        assert_eq!("jsonl=out".parse::<Target>().unwrap(), Target::JsonLines("out".into()));
        for text in ["jsonl", "jsonl=", "file", ""] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
