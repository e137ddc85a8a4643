//! The `headwater` command: makes topics, writes and reads records, looks after groups, and looks into the files of a log.
//!
//! stdout has results only. Whatever goes wrong is said on stderr, with what to do. The exit codes are in [`EXIT_CODES`].

mod commands;
mod open;
mod template;

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use headwater_core::{Error, ErrorKind, SystemClock};
use headwater_terminal::{Colour, say};

use self::commands::{Command, Session};

/// Part of the help, because scripts depend on it.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the log could not do it: it is damaged, another process writes it, or the disk failed
  2  what was asked makes no sense: an option, a topic, an offset or a line of input
  3  `log verify` or `log dump` found damage

Quick start:
  headwater topics create readings --partitions 2
  echo 'oven=180' | headwater produce readings --key-separator =
  headwater consume readings --keys
  headwater topics describe readings

Looking is always possible: `topics list` and `describe`, `consume`, `groups list` and `describe`, `log dump` and
`verify` read a log while the program that owns it runs. Commands that write need it for themselves.";

/// Make topics, write and read records, and look after the log of a Headwater program
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Folder of the log
    #[arg(
        long,
        global = true,
        env = "HEADWATER_LOG",
        hide_env_values = true,
        value_name = "FOLDER",
        default_value = "headwater-data",
        help_heading = "Everywhere"
    )]
    log: PathBuf,
    /// Say nothing but results and errors: no progress, no notes
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// As much as a user may ask for on Linux (`/proc/sys/fs/pipe-max-size`).
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1 << 20;

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// What was asked: another folder, topic, number or line would do.
    Usage(Error),
    /// The log: it is damaged, in use, or of another version.
    Log(Error),
    /// Files of the log are not what was written: what whoever looked for that found.
    Damaged(String),
    /// Nobody takes the output.
    Output(io::Error),
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Error::invalid(message))
    }

    fn exit_code(&self) -> u8 {
        match self {
            // The reader has seen enough: `headwater consume readings | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Log(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Damaged(_) => 3,
        }
    }
}

impl From<Error> for Failure {
    /// A log that is open says `Invalid` of what it was asked.
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Invalid { Self::Usage(error) } else { Self::Log(error) }
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
            Self::Damaged(what) => f.write_str(what),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (input, output) = (io::stdin(), io::stdout());
    // While a commit waits for the disk, the next lines gather in the pipe. A smaller one does too.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&input, PIPE_BYTES);
    let mut session = Session {
        asks: input.is_terminal() && io::stderr().is_terminal(),
        shows: output.is_terminal(),
        quiet: arguments.quiet,
        clock: &SystemClock,
        input: &mut input.lock(),
        out: &mut BufWriter::new(output.lock()),
    };
    let done = run(&arguments, &mut session);
    // What was printed before an error is printed.
    let printed = session.out.flush();
    let Err(failure) = done.and_then(|()| Ok(printed?)) else { return ExitCode::SUCCESS };
    let code = failure.exit_code();
    if code != 0 {
        say("error", Colour::Red, &failure.to_string());
    }
    ExitCode::from(code)
}

fn run(arguments: &Arguments, session: &mut Session<'_>) -> Result<(), Failure> {
    futures::executor::block_on(commands::run(&arguments.command, &arguments.log, session))
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
    fn what_to_do_about_a_failure_decides_its_exit_code() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        for (failure, code) in [
            (Failure::from(Error::invalid("no such topic")), 2),
            (Failure::from(Error::corrupt("damaged")), 1),
            (Failure::from(Error::new(ErrorKind::Unavailable, "in use")), 1),
            (Failure::Damaged("1 damage".into()), 3),
            (Failure::from(pipe), 0),
            (Failure::from(io::Error::from(io::ErrorKind::StorageFull)), 1),
        ] {
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }
}
