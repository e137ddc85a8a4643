//! A word count, windows, a table and joins over a backlog, in a process that is killed with `kill -9` again and again: outputs,
//! changelogs and stores equal a recomputation that knows nothing of the engine, record for record.
//!
//! `HEADWATER_KILLS` says how many kills; the backlog grows with them, to more than a million records for 200.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "exactly_once/compare.rs"]
mod compare;
#[path = "exactly_once/input.rs"]
mod input;
#[path = "exactly_once/model.rs"]
mod model;
#[path = "exactly_once/process.rs"]
mod process;
#[path = "exactly_once/program.rs"]
mod program;

use std::{env, path::Path};

use headwater::Embedded;

use self::{
    input::{Input, Random},
    process::{CHILD, Run, run},
};

/// A kill falls into about so many records of the backlog.
const RECORDS_PER_KILL: u64 = 5_250;
/// So many, at least, also for a few kills.
const RECORDS_MIN: u64 = 200_000;
const SEED: u64 = 0x5eed_0021;
/// Before one in so many kills that hit the work, another one hits the way there: recovery and restore.
const EARLY_EVERY: u64 = 4;

/// What happened to the process until it was done.
#[derive(Default)]
struct Story {
    kills: u64,
    early_kills: u64,
    starts: u64,
    commits: u64,
    /// Changelog records replayed, by all starts and by the one that had most to replay.
    restored: u64,
    restored_max: u64,
    /// Offsets committed in all partitions that the program reads.
    progress: u64,
}

impl Story {
    fn add(&mut self, run: &Run) {
        self.starts += 1;
        self.commits += run.commits;
        self.restored += run.restored;
        self.restored_max = self.restored_max.max(run.restored);
        assert!(run.first.is_none_or(|first| first >= self.progress), "positions moved back");
        self.progress = self.progress.max(run.last);
    }
}

/// Kills the process at `kills` moments spread over the work, and lets it get done then.
fn killed(folder: &Path, kills: u64, work: u64, random: &mut Random) -> Story {
    let mut story = Story::default();
    while story.kills < kills {
        if story.kills % EARLY_EVERY == 1 {
            let early = run(folder, Some(0), random.below(20_000_000));
            assert!(early.killed, "it cannot be done before it begins");
            story.early_kills += 1;
            story.add(&early);
        }
        // Somewhere in its part of the work; where a turn of the loop is, or a commit, only chance knows. A fifth of the work is
        // left for the last run: a kill that comes late must not come too late.
        let part = work * 4 / 5 / (kills + 1);
        let target = part * (story.kills + 1) / 2 + random.below(part) + part * story.kills / 2;
        let before = story.progress;
        let killed = run(folder, Some(target), random.below(3_000_000));
        story.add(&killed);
        assert!(killed.killed, "it was done after {} of {kills} kills", story.kills);
        assert!(killed.commits > 0 && killed.last > before, "nothing was committed since the kill before");
        assert!(killed.last < work, "the kill came after the last commit");
        story.kills += 1;
    }
    let last = run(folder, None, 0);
    assert!(!last.killed && last.commits > 0, "the last kill left nothing to do");
    story.add(&last);
    assert_eq!(story.progress, work, "every partition was read to its end");
    story
}

#[test]
fn killed_at_any_moment_it_counts_every_record_exactly_once() {
    if let Some(folder) = env::var_os(CHILD) {
        return process::child(Path::new(&folder));
    }
    let kills = env::var("HEADWATER_KILLS").map_or(25, |kills| kills.parse().unwrap());
    println!("seed {SEED:#x}, {kills} kills");
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(SEED);
    let input = Input::random((kills * RECORDS_PER_KILL).max(RECORDS_MIN), &mut random);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let embedded = Embedded::open(folder.path()).unwrap();
    runtime.block_on(program::create_topics(&embedded)).unwrap();
    runtime.block_on(input.write(&embedded)).unwrap();
    runtime.block_on(embedded.close()).unwrap();

    let story = killed(folder.path(), kills, input.records() + input.words.len() as u64, &mut random);

    runtime.block_on(async {
        let embedded = Embedded::open(folder.path()).unwrap();
        compare::nothing_is_left_to_do(&embedded).await;
        let looked = compare::logs(&embedded, &input).await;
        embedded.close().await.unwrap();
        let rows = compare::stores(folder.path(), &input);
        println!(
            "{} kills at work and {} before it, {} starts, {} commits; {} records, {} outputs and {} left out as late",
            story.kills,
            story.early_kills,
            story.starts,
            story.commits,
            input.records(),
            looked.outputs,
            looked.late
        );
        println!(
            "changelogs of {} records, replayed {} in all and {} at most; {rows} rows of state",
            looked.changelogs, story.restored, story.restored_max
        );
        assert!(story.restored_max < looked.changelogs / 3, "more than a suffix was replayed");
    });
}
