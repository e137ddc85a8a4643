//! Programs made by `App`, as they are run: their help, their options, what they do and how they fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "app/examples.rs"]
mod examples;
#[path = "app/help.rs"]
mod help;
#[path = "app/look.rs"]
mod look;
#[path = "app/options.rs"]
mod options;
#[path = "app/program.rs"]
mod program;
#[path = "app/replay.rs"]
mod replay;
#[path = "app/reset.rs"]
mod reset;
#[path = "app/run.rs"]
mod run;
