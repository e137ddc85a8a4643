//! Options that every command takes, and the three places they come from: the command line, a config file, the environment.

use std::{
    env,
    ffi::OsString,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use headwater_core::{Error, Result, TopicName};
use headwater_streams::Settings;
use headwater_terminal::{bytes, time::duration};
use serde::{Deserialize, Deserializer, de};

/// Where the log is when nobody says it.
const LOG: &str = "headwater-data";

/// One place where options are said: the first that says one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args, Deserialize)]
// Its name would be taken: programs have structs of options, too.
#[group(skip)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Layer {
    /// Folder of the log, and of all else unless it is said [default: headwater-data] [env: HEADWATER_LOG]
    #[arg(long, global = true, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// Names positions, internal topics and state [default: the program's name] [env: HEADWATER_APPLICATION_ID]
    #[arg(long, global = true, value_name = "ID")]
    application_id: Option<String>,
    /// Threads that share the tasks [env: HEADWATER_WORKERS]
    #[arg(long, global = true, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Folder of the state: it lies in one below, called by the application id [default: state in the log's folder] [env:
    /// HEADWATER_STATE_DIR]
    #[arg(long, global = true, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Time between commits under load: 100ms, 1s; 0 for after every turn [env: HEADWATER_COMMIT_INTERVAL]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    #[serde(deserialize_with = "said_duration")]
    commit_interval: Option<Duration>,
    /// Memory for all stores together: 512MB, 2GiB [env: HEADWATER_MEMORY]
    #[arg(long, global = true, value_name = "BYTES", value_parser = memory)]
    #[serde(deserialize_with = "said_memory")]
    memory: Option<usize>,
    /// What logs on stderr look like [default: text] [env: HEADWATER_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
}

/// The options of the command line.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Options {
    #[command(flatten)]
    layer: Layer,
    /// File with these options, in TOML [default: see below] [env: HEADWATER_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What logs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// What was said, all places taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) log: PathBuf,
    pub(super) application_id: String,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) log_format: LogFormat,
    pub(super) quiet: bool,
    workers: Option<NonZeroUsize>,
    commit_interval: Option<Duration>,
    memory: Option<usize>,
}

impl Config {
    /// # Errors
    /// `Invalid` when a place says what makes no sense; the message names the place.
    pub(super) fn resolve(said: &Options, quiet: bool, name: &str) -> Result<Self> {
        let environment = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
        Self::of(said, quiet, name, &environment, Path::new(""))
    }

    /// `here` is where config files are looked for.
    fn of(
        said: &Options,
        quiet: bool,
        name: &str,
        environment: &dyn Fn(&str) -> Option<OsString>,
        here: &Path,
    ) -> Result<Self> {
        let named = said.config.clone().or_else(|| environment("HEADWATER_CONFIG").map(PathBuf::from));
        let file = match named {
            Some(path) => Layer::of_file(&path)?,
            None => Layer::of_file_here(name, here)?,
        };
        let layer = said.layer.clone().or(file).or(Layer::of_environment(environment)?);
        let application_id = layer.application_id.unwrap_or_else(|| name.to_owned());
        // Checked before it becomes a part of names of topics and folders.
        TopicName::new(&application_id).map_err(|e| e.context("application id"))?;
        Ok(Self {
            log: layer.log.unwrap_or_else(|| LOG.into()),
            application_id,
            state_dir: layer.state_dir,
            log_format: layer.log_format.unwrap_or_default(),
            quiet,
            workers: layer.workers,
            commit_interval: layer.commit_interval,
            memory: layer.memory,
        })
    }

    /// What was said counts more than the program's own settings.
    pub(super) fn apply(&self, own: Settings) -> Settings {
        Settings {
            application_id: self.application_id.clone(),
            workers: self.workers.map_or(own.workers, NonZeroUsize::get),
            commit_interval: self.commit_interval.unwrap_or(own.commit_interval),
            memory_bytes: self.memory.unwrap_or(own.memory_bytes),
            ..own
        }
    }
}

impl Layer {
    /// What this place does not say, `next` may.
    fn or(self, next: Self) -> Self {
        Self {
            log: self.log.or(next.log),
            application_id: self.application_id.or(next.application_id),
            workers: self.workers.or(next.workers),
            state_dir: self.state_dir.or(next.state_dir),
            commit_interval: self.commit_interval.or(next.commit_interval),
            memory: self.memory.or(next.memory),
            log_format: self.log_format.or(next.log_format),
        }
    }

    /// The first of the files that a program looks for by itself.
    fn of_file_here(name: &str, here: &Path) -> Result<Self> {
        let named = [format!("{name}.toml"), "headwater.toml".to_owned()];
        let found = named.iter().map(|file| here.join(file)).find(|path| path.is_file());
        found.map_or_else(|| Ok(Self::default()), |path| Self::of_file(&path))
    }

    fn of_file(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::invalid(format!("there is no such config file. file={}", path.display()))
            }
            _ => Error::io(format!("cannot read config file. file={}", path.display()), error),
        })?;
        let said: Self = toml::from_str(&text).map_err(|error| {
            let message = error.to_string();
            Error::invalid(format!(
                "config file makes no sense. file={}\n{}",
                path.display(),
                message.trim_end()
            ))
        })?;
        let folder = path.parent().unwrap_or(path);
        let beside = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Ok(Self { log: beside(said.log), state_dir: beside(said.state_dir), ..said })
    }

    fn of_environment(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let environment = Environment(environment);
        Ok(Self {
            log: environment.path("HEADWATER_LOG"),
            application_id: environment.parsed("HEADWATER_APPLICATION_ID", |text| Ok(text.to_owned()))?,
            workers: environment.parsed("HEADWATER_WORKERS", workers)?,
            state_dir: environment.path("HEADWATER_STATE_DIR"),
            commit_interval: environment.parsed("HEADWATER_COMMIT_INTERVAL", duration)?,
            memory: environment.parsed("HEADWATER_MEMORY", memory)?,
            log_format: environment.parsed("HEADWATER_LOG_FORMAT", log_format)?,
        })
    }
}

/// Variables by their names.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    fn path(&self, variable: &str) -> Option<PathBuf> {
        (self.0)(variable).map(PathBuf::from)
    }

    fn parsed<T>(&self, variable: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
        let Some(value) = (self.0)(variable) else { return Ok(None) };
        let text = value.to_str().ok_or_else(|| Error::invalid("not text"));
        text.and_then(parse).map(Some).map_err(|e| e.context(format!("environment variable {variable}")))
    }
}

fn workers(text: &str) -> Result<NonZeroUsize> {
    let text = text.trim();
    text.parse().map_err(|_| {
        Error::invalid(format!("not a number of threads, at least 1. text=`{}`", text.escape_debug()))
    })
}

fn log_format(text: &str) -> Result<LogFormat> {
    LogFormat::from_str(text.trim(), true)
        .map_err(|_| Error::invalid(format!("text or json. text=`{}`", text.escape_debug())))
}

fn memory(text: &str) -> Result<usize> {
    let count = bytes(text)?;
    usize::try_from(count)
        .map_err(|_| Error::invalid(format!("more memory than this machine can have. bytes={count}")))
}

fn said_duration<'de, D: Deserializer<'de>>(said: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(said)?;
    duration(&text).map(Some).map_err(de::Error::custom)
}

fn said_memory<'de, D: Deserializer<'de>>(said: D) -> Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "bytes: a number, or text like \"512MB\"")]
    enum Said {
        Number(usize),
        Text(String),
    }
    match Said::deserialize(said)? {
        Said::Number(count) => Ok(Some(count)),
        Said::Text(text) => memory(&text).map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(said: &Options, variables: &[(&str, &str)], here: &Path) -> Result<Config> {
        let environment = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        };
        Config::of(said, false, "app", &environment, here)
    }

    fn refused(config: Result<Config>) -> String {
        config.expect_err("it makes no sense").to_string()
    }

    #[test]
    fn without_a_word_there_are_defaults() {
        let config = config(&Options::default(), &[], Path::new("nowhere")).unwrap();
        assert_eq!((config.log.to_str(), config.application_id.as_str()), (Some("headwater-data"), "app"));
        let own = Settings { workers: 3, ..Settings::new("other") };
        assert_eq!(config.apply(own.clone()), Settings { application_id: "app".into(), ..own });
    }

    #[test]
    fn the_command_line_counts_more_than_the_file_and_that_more_than_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = "log = \"from-file\"\nworkers = 2\nmemory = \"64MB\"\ncommit-interval = \"5ms\"\n";
        fs::write(folder.path().join("app.toml"), file).unwrap();
        fs::write(folder.path().join("headwater.toml"), "workers = 99\nnonsense = 1\n").unwrap();
        let environment = [
            ("HEADWATER_LOG", "from-environment"),
            ("HEADWATER_WORKERS", "3"),
            ("HEADWATER_STATE_DIR", "state-from-environment"),
            ("HEADWATER_APPLICATION_ID", "id-from-environment"),
            ("HEADWATER_LOG_FORMAT", "json"),
        ];
        let layer = Layer { log: Some("from-line".into()), ..Layer::default() };
        let said = Options { layer, config: None };
        let config = config(&said, &environment, folder.path()).unwrap();
        let settings = config.apply(Settings::new("app"));
        assert_eq!(config.log, Path::new("from-line"));
        assert_eq!(config.state_dir.as_deref(), Some(Path::new("state-from-environment")));
        assert_eq!((settings.workers, settings.memory_bytes), (2, 64_000_000));
        assert_eq!(settings.commit_interval, Duration::from_millis(5));
        assert_eq!(
            (config.application_id.as_str(), config.log_format),
            ("id-from-environment", LogFormat::Json)
        );
    }

    #[test]
    fn paths_in_a_file_begin_at_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headwater.toml");
        fs::write(&file, "log = \"data\"\nstate-dir = \"/fast/state\"\nmemory = 1000000\n").unwrap();
        let variables = [("HEADWATER_CONFIG", file.to_str().unwrap())];
        let config = config(&Options::default(), &variables, Path::new("nowhere")).unwrap();
        assert_eq!((config.log, config.memory), (folder.path().join("data"), Some(1_000_000)));
        assert_eq!(config.state_dir, Some("/fast/state".into()));
    }

    #[test]
    fn what_a_file_says_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.toml");
        for (text, named) in [
            ("worker = 2\n", "unknown field `worker`"),
            ("workers = 0\n", "workers = 0"),
            ("commit-interval = \"soon\"\n", "not a span of time"),
            ("memory = \"much\"\n", "not a number of bytes"),
            ("memory = true\n", "bytes: a number, or text"),
            ("log-format = \"xml\"\n", "unknown variant `xml`"),
            ("workers 2\n", "TOML parse error at line 1"),
        ] {
            fs::write(&file, text).unwrap();
            let error = refused(config(&Options::default(), &[], folder.path()));
            assert!(error.contains(named) && error.contains(file.to_str().unwrap()), "{text}: {error}");
        }
        let said = Options { config: Some(folder.path().join("missing.toml")), ..Options::default() };
        assert!(refused(config(&said, &[], folder.path())).contains("there is no such config file"));
    }

    #[test]
    fn what_the_environment_says_wrong_is_named() {
        for (variable, value) in [
            ("HEADWATER_WORKERS", "many"),
            ("HEADWATER_WORKERS", "0"),
            ("HEADWATER_COMMIT_INTERVAL", "5"),
            ("HEADWATER_MEMORY", "-1"),
            ("HEADWATER_LOG_FORMAT", "xml"),
        ] {
            let error = refused(config(&Options::default(), &[(variable, value)], Path::new("nowhere")));
            assert!(error.starts_with(&format!("environment variable {variable}: ")), "{error}");
        }
        let error =
            refused(config(&Options::default(), &[("HEADWATER_APPLICATION_ID", "a/b")], Path::new("")));
        assert!(error.starts_with("application id: "), "{error}");
    }
}
