//! [`App`]: a topology becomes a program with a command line.
//!
//! Read in this order: here, `arguments` (what can be said, and where), `options` (command line, config file, environment), then the
//! commands, one file each: `run` (with `status`, what it shows), `replay`, `replays`, `describe`, `topics`, `lag`, `reset`; `logs` is where
//! `tracing` goes.

mod arguments;
mod describe;
mod lag;
mod logs;
mod options;
mod replay;
mod replays;
mod reset;
mod run;
mod status;
mod topics;

use std::{
    ffi::OsString,
    fmt,
    io::{self, BufWriter, IsTerminal, Write},
    process::ExitCode,
};

use clap::Args;
use futures::future::LocalBoxFuture;
use headwater_core::{Error, ErrorKind, Result};
use headwater_storage::log::ObservedLog;
use headwater_streams::{Metrics, Settings, StreamsBuilder, Topology};
use headwater_terminal::{Colour, say};

use self::{
    arguments::{Action, Arguments, Said},
    options::Config,
};
use crate::Embedded;

/// A topology as a program: `run`, `replay`, `describe`, `topics`, `lag`, `reset`, with options from the command line, a config file and the
/// environment.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use headwater::{App, prelude::*};
///
/// fn main() -> ExitCode {
///     App::new("word-count")
///         .about("Counts words")
///         .topology(|builder| {
///             builder
///                 .stream::<String, String>("lines")
///                 .flat_map_values(|_, line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
///                 .group_by("by-word", |_, word| word.clone())
///                 .count("counts")
///                 .to_stream()
///                 .to("word-counts");
///             Ok(())
///         })
///         .main()
/// }
/// ```
///
/// `word-count run --create-topics 4` runs it until Ctrl-C; `word-count --help` says the rest, and the guide `docs/app.md` shows it.
///
/// A program may have options of its own ([`App::args`]), and do something before and after a run ([`App::before_run`],
/// [`App::after_run`]).
pub struct App<A = NoArgs> {
    name: String,
    about: String,
    version: Option<&'static str>,
    topology: BuildTopology<A>,
    settings: ChangeSettings<A>,
    before_run: Option<Box<dyn BeforeRun<A>>>,
    after_run: Option<Box<dyn AfterRun<A>>>,
}

type BuildTopology<A> = Box<dyn Fn(&StreamsBuilder, &A) -> Result<()>>;
type ChangeSettings<A> = Box<dyn Fn(Settings, &A) -> Settings>;

/// The options of a program that has none of its own.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct NoArgs {}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It did what was asked: exit code 0.
    Done,
    /// It compared two things, and they differ: exit code 1.
    Different,
    /// It was asked to end before it was done, and can go on: exit code 1.
    Stopped,
}

impl App {
    /// A program called `name`, which is also its application id unless options say otherwise: it must be the legal name of a topic.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            about: format!("The stream processing application {name}"),
            name,
            version: None,
            topology: Box::new(|_, _| {
                Err(Error::invalid("the program has no topology: call `App::topology`"))
            }),
            settings: Box::new(|settings, _| settings),
            before_run: None,
            after_run: None,
        }
    }

    /// What it computes. Called once for each command; a topology that depends on nothing but constants needs no more.
    #[must_use]
    pub fn topology(self, build: impl Fn(&StreamsBuilder) -> Result<()> + 'static) -> Self {
        self.topology_with(move |builder, _| build(builder))
    }

    /// Gives the program options of its own, which every command takes. Call it before what uses them. They must not be called as those
    /// that every program has.
    ///
    /// ```no_run
    /// use headwater::{App, prelude::*};
    ///
    /// #[derive(clap::Args)]
    /// struct Threshold {
    ///     /// Readings above this are alerts
    ///     #[arg(long, default_value_t = 90.0)]
    ///     above: f64,
    /// }
    ///
    /// let app = App::new("alerts").args::<Threshold>().topology_with(|builder, args| {
    ///     let above = args.above;
    ///     builder.stream::<String, f64>("readings").filter(move |_, value| *value > above).to("alerts");
    ///     Ok(())
    /// });
    /// app.main();
    /// ```
    #[must_use]
    pub fn args<A: Args + 'static>(self) -> App<A> {
        let Self { name, about, version, .. } = self;
        App {
            name,
            about,
            version,
            topology: Box::new(|_, _| {
                Err(Error::invalid(
                    "the program has no topology: call `App::topology_with` behind `App::args`",
                ))
            }),
            settings: Box::new(|settings, _| settings),
            before_run: None,
            after_run: None,
        }
    }
}

impl<A: Args + 'static> App<A> {
    /// What the program is for, in a few words: the head of its help.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// What `--version` says: `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = Some(version);
        self
    }

    /// As [`App::topology`], with the program's own options.
    #[must_use]
    pub fn topology_with(mut self, build: impl Fn(&StreamsBuilder, &A) -> Result<()> + 'static) -> Self {
        self.topology = Box::new(build);
        self
    }

    /// Settings that are the program's own, such as its [`ErrorPolicy`](headwater_streams::ErrorPolicy). What is said on the command
    /// line, in the config file or in the environment counts more.
    #[must_use]
    pub fn settings(mut self, change: impl Fn(Settings, &A) -> Settings + 'static) -> Self {
        self.settings = Box::new(change);
        self
    }

    /// What `run` does before the topology starts: to make topics, or load data. Left where it is when the process is asked to end.
    #[must_use]
    pub fn before_run(mut self, hook: impl AsyncFn(&Embedded, &A) -> Result<()> + 'static) -> Self {
        self.before_run = Some(Box::new(hook));
        self
    }

    /// What `run` does after the topology has ended in good order: to report what came out.
    #[must_use]
    pub fn after_run(mut self, hook: impl AsyncFn(&Embedded, &Metrics, &A) -> Result<()> + 'static) -> Self {
        self.after_run = Some(Box::new(hook));
        self
    }

    /// Does what the command line says, and says how it went: all that `main` needs.
    ///
    /// Exit codes: 0 done, 1 it failed or what was compared differs, 2 what was asked makes no sense. Results go to stdout, everything
    /// else to stderr.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let arguments = match self.parse(std::env::args_os()) {
            Ok(arguments) => arguments,
            Err(error) => {
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let mut out = BufWriter::new(io::stdout().lock());
        let done = match runtime {
            Ok(runtime) => runtime.block_on(self.execute(&arguments, Caller::Main, &mut out)),
            Err(error) => Err(Failure::Failed(Error::io("cannot start", error))),
        };
        // What was printed before an error is printed.
        let printed = out.flush();
        match done.and_then(|exit| Ok(printed.map(|()| exit)?)) {
            Ok(exit) => exit.into(),
            Err(failure) => {
                let code = failure.exit_code();
                if code != 0 {
                    say("error", Colour::Red, &failure.to_string());
                }
                ExitCode::from(code)
            }
        }
    }

    /// Does what `arguments` say (the first is the name of the program), and writes results to `out`: [`App::main`] for tests. Runs on a
    /// tokio runtime that has time.
    ///
    /// ```
    /// use headwater::{App, Exit, prelude::*};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let app = App::new("copy").topology(|builder| {
    ///     builder.stream::<String, String>("in").to("out");
    ///     Ok(())
    /// });
    /// let mut out = Vec::new();
    /// assert_eq!(app.run_from(["copy", "describe"], &mut out).await?, Exit::Done);
    /// assert!(String::from_utf8_lossy(&out).contains("(topic in)"));
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when what is asked makes no sense, help included; those of the command.
    pub async fn run_from<T: Into<OsString> + Clone>(
        &self,
        arguments: impl IntoIterator<Item = T>,
        out: &mut dyn Write,
    ) -> Result<Exit> {
        let arguments = self.parse(arguments).map_err(|error| Error::invalid(error.render().to_string()))?;
        self.execute(&arguments, Caller::Program, out).await.map_err(|failure| match failure {
            Failure::Usage(error) | Failure::Failed(error) => error,
            Failure::Output(error) => Error::io("cannot write the output", error),
        })
    }

    async fn execute(
        &self,
        arguments: &Arguments<A>,
        caller: Caller,
        out: &mut dyn Write,
    ) -> Result<Exit, Failure> {
        let config = Config::resolve(&arguments.options, arguments.quiet, &self.name)?;
        // Where there is a line that says how it goes, nobody needs to read that.
        let goes_on = matches!(arguments.action, Action::Run(_) | Action::Replay(_));
        let level = if goes_on && !io::stderr().is_terminal() { "info" } else { "warn" };
        logs::begin(config.log_format, if config.quiet { "error" } else { level });
        let mut session = Session { config, caller, args: &arguments.own, said: &arguments.own_said, out };
        match &arguments.action {
            Action::Run(how) => self.run(how, &mut session).await,
            Action::Describe(how) => self.describe(how, &mut session),
            Action::Topics(how) => self.topics(how, &mut session).await,
            Action::Lag(how) => self.lag(how, &mut session).await,
            Action::Replay(how) => self.replay(how, &mut session).await,
            Action::Replays(what) => self.replays(what, &mut session).await,
            Action::Reset(how) => self.reset(how, &mut session).await,
        }
    }

    fn build(&self, args: &A) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        (self.topology)(&builder, args)?;
        builder.build()
    }

    /// The program's own settings, and over them those that were said.
    fn settings_of(&self, session: &Session<'_, A>) -> Settings {
        let settings = (self.settings)(Settings::new(&self.name), session.args);
        session.config.apply(settings)
    }
}

/// On whose behalf a command is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The process does nothing else.
    Main,
    /// It may do much else, and goes on.
    Program,
}

/// What a command works with.
struct Session<'a, A> {
    config: Config,
    caller: Caller,
    args: &'a A,
    /// What these were made of.
    said: &'a Said,
    out: &'a mut dyn Write,
}

impl<A> Session<'_, A> {
    /// The log, to look at it: whoever owns it meanwhile.
    fn observe(&self) -> Result<ObservedLog, Failure> {
        let folder = &self.config.log;
        let there = folder.join("format").try_exists();
        if there.map_err(|e| Error::io(format!("cannot look into folder. folder={}", folder.display()), e))? {
            return ObservedLog::open(folder).map_err(Failure::Failed);
        }
        Err(Failure::Usage(Error::invalid(format!(
            "there is no log here: pass its folder with --log, or set HEADWATER_LOG; `run` begins one. folder={}",
            folder.display()
        ))))
    }

    /// Whether a line that is drawn over itself can be seen and is wanted.
    fn watched(&self) -> bool {
        !self.config.quiet && io::stderr().is_terminal()
    }
}

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// What was asked: another option, topic or position would do.
    Usage(Error),
    /// The log, the state or the program itself.
    Failed(Error),
    /// Nobody takes the output.
    Output(io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            // The reader has seen enough: `iot topics | head -1`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Invalid { Self::Usage(error) } else { Self::Failed(error) }
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
            Self::Usage(error) | Self::Failed(error) => f.write_str(&error.report()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Different | Exit::Stopped => Self::from(1),
        }
    }
}

/// [`App::before_run`], whatever the type of its future.
trait BeforeRun<A> {
    fn call<'a>(&'a self, embedded: &'a Embedded, args: &'a A) -> LocalBoxFuture<'a, Result<()>>;
}

impl<A, F: AsyncFn(&Embedded, &A) -> Result<()>> BeforeRun<A> for F {
    fn call<'a>(&'a self, embedded: &'a Embedded, args: &'a A) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(self(embedded, args))
    }
}

/// [`App::after_run`], whatever the type of its future.
trait AfterRun<A> {
    fn call<'a>(
        &'a self,
        embedded: &'a Embedded,
        metrics: &'a Metrics,
        args: &'a A,
    ) -> LocalBoxFuture<'a, Result<()>>;
}

impl<A, F: AsyncFn(&Embedded, &Metrics, &A) -> Result<()>> AfterRun<A> for F {
    fn call<'a>(
        &'a self,
        embedded: &'a Embedded,
        metrics: &'a Metrics,
        args: &'a A,
    ) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(self(embedded, metrics, args))
    }
}

impl<A> fmt::Debug for App<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("name", &self.name).finish_non_exhaustive()
    }
}
