//! The `headwater` command: looks into the log of a program.
//!
//! Exit codes: 0 it did what was asked, 1 the log could not be read, 2 what was asked makes no sense. Whatever goes
//! wrong is said on stderr, with what to do; stdout has results only.

mod commands;
mod show;
mod table;
mod time;

use std::{
    fmt,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use headwater_core::Error;
use headwater_storage::log::{EmbeddedLog, RecoveryReport};

use self::commands::Command;

/// Looks into the log of a Headwater program: its topics, and the records in them.
#[derive(Debug, Parser)]
#[command(name = "headwater", version)]
struct Arguments {
    /// Folder of the log. The program that writes it must not be running.
    #[arg(
        long,
        global = true,
        env = "HEADWATER_LOG",
        value_name = "FOLDER",
        default_value = "headwater-data"
    )]
    log: PathBuf,
    #[command(subcommand)]
    command: Command,
}

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// What was asked: another folder, topic or number would do.
    Usage(Error),
    /// The log: it is damaged, in use, or of another version.
    Log(Error),
    /// Nobody takes the output.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Log(error) => f.write_str(&error.report()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse(), &mut BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `headwater consume readings | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {failure}"));
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let log = open(&arguments.log)?;
    if let Some(warning) = warning(log.recovery()) {
        say(&warning);
    }
    futures::executor::block_on(commands::run(&arguments.command, &log, out))?;
    Ok(out.flush()?)
}

/// Opens a log that is there. The engine would make one in any folder, which nobody who wants to look wants.
fn open(folder: &Path) -> Result<EmbeddedLog, Failure> {
    let there = folder.join("format").try_exists();
    if there.map_err(|e| Error::io(format!("cannot look into folder. folder={}", folder.display()), e))? {
        return Ok(EmbeddedLog::open(folder)?);
    }
    Err(Failure::Usage(Error::invalid(format!(
        "there is no log here: pass its folder with --log, or set HEADWATER_LOG. folder={}",
        folder.display()
    ))))
}

/// Opening a log after a crash finishes what the crash left. Whoever only looks should know if that took something.
fn warning(recovery: &RecoveryReport) -> Option<String> {
    let bytes = recovery.torn_bytes_cut;
    (bytes > 0).then(|| {
        format!("warning: the last write was never finished and is cut: nobody was told that it was written. bytes={bytes}")
    })
}

/// On stderr. `eprintln!` panics when nobody reads that: `headwater topics list 2>&1 | head -1`.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_what_is_lost_is_a_warning() {
        let replayed =
            RecoveryReport { groups_replayed: 3, bytes_replayed: 900, ..RecoveryReport::default() };
        assert_eq!(warning(&replayed), None);
        let torn = RecoveryReport { torn_bytes_cut: 17, ..replayed };
        assert!(warning(&torn).is_some_and(|warning| warning.ends_with("bytes=17")));
    }
}
