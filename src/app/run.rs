//! `run`: the topology at work, until somebody ends it.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use clap::Args;
use headwater_core::{Error, Result};
use headwater_streams::{Metrics, Streams};
use headwater_terminal::{Line, Stop, number, time::duration};

use super::{App, Exit, Failure, Session, status::Status, topics::provide_sources};
use crate::Embedded;

/// The status line appears, and is drawn again, this often.
const REDRAW: Duration = Duration::from_millis(500);

/// How to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  app run
  app run --create-topics 4 --workers 2
  app run --once --log-format json 2> run.log

On a terminal it shows a line with its rate, how far it is behind, how old the newest records are when their results are durable, and when
it committed last; elsewhere it logs these. The first Ctrl-C (or SIGTERM) commits, writes state out and ends; the second ends it at
once, which costs a longer start and nothing else. RUST_LOG chooses what is logged.")]
pub(super) struct Run {
    /// Make source topics that are missing, with so many partitions
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    create_topics: Option<NonZeroU32>,
    /// End when everything there is has been processed
    #[arg(long)]
    once: bool,
    /// Time between two logs of the status, where there is no terminal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval)]
    status: Duration,
}

fn interval(text: &str) -> Result<Duration> {
    let interval = duration(text)?;
    if interval.is_zero() { Err(Error::invalid("at least a millisecond")) } else { Ok(interval) }
}

impl<A: Args + 'static> App<A> {
    pub(super) async fn run(&self, how: &Run, session: &mut Session<'_, A>) -> Result<Exit, Failure> {
        let stop = Stop::listen()?;
        let topology = self.build(session.args)?;
        let settings = self.settings_of(session);
        // A log that cannot be opened is no mistake of the command line.
        let mut embedded = Embedded::open(&session.config.log).map_err(Failure::Failed)?;
        if let Some(folder) = &session.config.state_dir {
            embedded = embedded.state_in(folder);
        }
        if let Some(hook) = &self.before_run {
            match stop.or(hook.call(&embedded, session.args)).await {
                Some(done) => done?,
                None => return Ok(embedded.close().await.map(|()| Exit::Done)?),
            }
        }
        provide_sources(&topology, how.create_topics, embedded.log(), session).await?;
        let began = Instant::now();
        let streams = embedded.start(topology, settings).await?;
        self.watch(how, session, &streams, &stop).await;
        let closed = streams.close().await;
        let metrics = closed.map_err(Failure::Failed)?;
        if !session.config.quiet {
            writeln!(session.out, "{}", summary(&metrics, began.elapsed()))?;
        }
        if let Some(hook) = &self.after_run {
            session.out.flush()?;
            hook.call(&embedded, &metrics, session.args).await?;
        }
        embedded.close().await.map_err(Failure::Failed)?;
        Ok(Exit::Done)
    }

    /// Shows what the application is doing, until it shall end or has ended.
    async fn watch(&self, how: &Run, session: &Session<'_, A>, streams: &Streams, stop: &Stop) {
        let watched = session.watched();
        let mut line = Line::begin(Duration::ZERO, !watched);
        let mut status = Status::new(&streams.metrics(), Instant::now());
        let mut tick = tokio::time::interval(if watched { REDRAW } else { how.status });
        // The first is at once, and there is nothing to say.
        tick.tick().await;
        let ended = async {
            if how.once {
                // Why it failed is told when it is closed.
                let _ = streams.caught_up().await;
            } else {
                streams.failed().await;
            }
        };
        let mut ended = std::pin::pin!(stop.or(ended));
        loop {
            tokio::select! {
                _ = &mut ended => return,
                _ = tick.tick() => {
                    let now = Instant::now();
                    status.see(&streams.metrics(), now);
                    if watched {
                        line.draw(&status.shown(now).to_string());
                    } else {
                        log(&status, now);
                    }
                }
            }
        }
    }
}

fn log(status: &Status, now: Instant) {
    let shown = status.shown(now);
    let [p50_ms, p99_ms] = shown.latency_millis.map_or([None; 2], |latency| latency.map(Some));
    tracing::info!(
        records = status.total().records,
        records_per_second = shown.records_per_second,
        lag = shown.lag,
        p50_ms,
        p99_ms,
        commits = status.total().commits,
        commit_age_ms = shown.committed.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        restored = status.total().restored,
        to_restore = shown.to_restore,
        "status"
    );
}

/// What came of a run.
fn summary(metrics: &Metrics, elapsed: Duration) -> String {
    let total = metrics.total();
    let per_second = u128::from(total.records) * 1_000_000 / elapsed.as_micros().max(1);
    let mut text = format!(
        "{} records processed in {:.2} s ({} per second), {} written, {} commits",
        number(total.records),
        elapsed.as_secs_f64(),
        number(u64::try_from(per_second).unwrap_or(u64::MAX)),
        number(total.written),
        number(total.commits),
    );
    for (count, what) in [
        (total.late, "late"),
        (total.null_keys, "without key"),
        (total.null_values, "without value"),
        (total.skipped, "skipped"),
        (total.dead_letters, "dead letters"),
        (total.restored, "restored from changelogs"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", number(count)));
        }
    }
    text
}
