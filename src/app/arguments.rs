//! What can be said on the command line of an [`App`].

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource,
};

use super::{
    App, describe::Describe, lag::Lag, options::Options, replay::ReplayArgs, replays::ReplaysArgs,
    reset::ResetTo, run::Run, topics::Topics,
};

/// Part of the help, because scripts depend on it.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed: the log is damaged or in use, the disk or the program itself failed; what was compared differs, or a replay was stopped
  2  what was asked makes no sense: an option, a topic, a position

Options are looked for on the command line, then in the config file, then in the environment. The file is the one of --config
or HEADWATER_CONFIG; without these it is NAME.toml here, or headwater.toml, if there is one. It has the names of the long options
(relative paths begin at its folder):

  log = \"headwater-data\"
  workers = 4
  commit-interval = \"100ms\"
  memory = \"512MB\"";

/// Everything that was said.
#[derive(Debug, Parser)]
#[group(skip)]
pub(super) struct Arguments<A: Args> {
    #[command(flatten)]
    pub(super) options: Options,
    /// Say nothing but results and errors: no status, no notes
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) own: A,
    #[arg(skip)]
    pub(super) own_said: Said,
    #[command(subcommand)]
    pub(super) action: Action,
}

/// The program's own options as they were said, for a replay that goes on with them.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The words of each, by its id; those that it has by itself, too.
    pub(super) words: BTreeMap<String, Vec<String>>,
    /// The words of those that were said.
    pub(super) line: Vec<String>,
}

impl Said {
    fn of(own: &[Arg], matches: &ArgMatches) -> Self {
        let mut said = Self::default();
        for arg in own {
            let id = arg.get_id().as_str();
            // A group of arguments is no argument.
            let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
            let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let words = words(arg, &values);
            if matches.value_source(id) == Some(ValueSource::CommandLine) {
                said.line.extend(words.iter().cloned());
            }
            said.words.insert(id.to_owned(), words);
        }
        said
    }
}

/// How an option is said.
fn words(arg: &Arg, values: &[String]) -> Vec<String> {
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => return values.to_owned(),
    };
    let times = match arg.get_action() {
        ArgAction::SetTrue => usize::from(values.iter().any(|value| value == "true")),
        ArgAction::SetFalse => usize::from(values.iter().any(|value| value == "false")),
        ArgAction::Count => values.first().and_then(|count| count.parse().ok()).unwrap_or(0),
        _ => return values.iter().flat_map(|value| [name.clone(), value.clone()]).collect(),
    };
    vec![name; times]
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run the topology until Ctrl-C or SIGTERM
    Run(Run),
    /// Run the topology over a range of the past, and compare
    Replay(ReplayArgs),
    /// Show and delete replays
    #[command(subcommand)]
    Replays(ReplaysArgs),
    /// Print the plan of the topology, or draw it
    Describe(Describe),
    /// Show the topics of the program, and what is in them
    Topics(Topics),
    /// Show how far the program is behind in what it reads
    Lag(Lag),
    /// Begin again at a position, without state
    Reset(ResetTo),
}

impl<A: Args + 'static> App<A> {
    pub(super) fn parse<T: Into<OsString> + Clone>(
        &self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Arguments<A>, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let called = arguments.first().and_then(|path| Path::new(path).file_stem()?.to_str());
        let mut command = self.command(called.unwrap_or(&self.name));
        let matches = command.try_get_matches_from_mut(&arguments)?;
        let parsed = Arguments::from_arg_matches(&matches);
        let mut parsed: Arguments<A> = parsed.map_err(|error| error.format(&mut command))?;
        let own = A::augment_args(clap::Command::new("own"));
        parsed.own_said = Said::of(&own.get_arguments().cloned().collect::<Vec<_>>(), &matches);
        Ok(parsed)
    }

    /// The program's own options may be said before and behind the command, as all others. It is called as `called`.
    fn command(&self, called: &str) -> clap::Command {
        let own = A::augment_args(clap::Command::new("own"));
        let own: Vec<clap::Id> = own.get_arguments().map(|arg| arg.get_id().clone()).collect();
        let command = Arguments::<A>::command().mut_args(|arg| {
            if !own.contains(arg.get_id()) || arg.is_positional() || arg.is_required_set() {
                return arg;
            }
            let heading = arg.get_help_heading().map(ToOwned::to_owned);
            arg.global(true).help_heading(heading.unwrap_or_else(|| "This program".to_owned()))
        });
        let after_help = EXIT_CODES.replace("NAME", &self.name);
        let command = command.name(self.name.clone()).about(self.about.clone()).after_help(after_help);
        let command = command.mut_subcommands(|command| named(command, called));
        match self.version {
            Some(version) => command.version(version),
            None => command,
        }
    }
}

/// The examples in the help of a command begin with `app`: here the program gets its name.
fn named(command: clap::Command, called: &str) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.map(|help| help.replace("\n  app ", &format!("\n  {called} ")));
    let command = command.mut_subcommands(|command| named(command, called));
    match help {
        Some(help) => command.after_help(help),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use crate::App;

    #[derive(clap::Args)]
    struct Options {
        /// Its struct is called as ours is
        #[arg(long)]
        other: bool,
    }

    #[derive(clap::Args)]
    struct Own {
        /// Readings above this are alerts
        #[arg(long, default_value_t = 90.0)]
        above: f64,
    }

    #[test]
    fn the_arguments_are_consistent() {
        App::new("app").command("app").debug_assert();
        App::new("app").args::<Own>().command("app").debug_assert();
        App::new("app").args::<Options>().command("app").debug_assert();
    }

    #[test]
    fn own_options_stand_before_and_behind_the_command() {
        let app = App::new("app").args::<Own>();
        for arguments in [["app", "--above", "7", "describe"], ["app", "describe", "--above", "7"]] {
            let above = app.parse(arguments).expect("it parses").own.above;
            assert!((above - 7.0).abs() < f64::EPSILON);
        }
    }
}
