//! Where `tracing` goes: to stderr, as text or JSON.

use std::{
    env,
    io::{self, IsTerminal},
};

use headwater_terminal::Stderr;
use tracing_subscriber::EnvFilter;

use super::options::LogFormat;

/// Begins to write events of `level` and above, unless `RUST_LOG` says which, or the program has a subscriber of its own.
pub(super) fn begin(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt().with_writer(|| Stderr).with_env_filter(filter).with_ansi(colours);
    let _ = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}
