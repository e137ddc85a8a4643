//! `headwater log`: what stands in the files of a log, and whether it is what was written.

mod dump;
mod verify;

use std::path::Path;

use clap::Subcommand;
use headwater_core::ErrorKind;

use self::{dump::Dump, verify::Verify};
use super::Session;
use crate::{Failure, open::open_to_look};

/// What to do with the files of a log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogFiles {
    /// Show the batches of a segment file, or of all those of a partition
    Dump(Dump),
    /// Read everything, and compare it with what was written
    Verify(Verify),
}

pub(super) async fn run(files: &LogFiles, folder: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    match files {
        LogFiles::Dump(what) => dump::run(what, folder, session),
        LogFiles::Verify(what) => {
            let log = open_to_look(folder).map_err(damaged)?;
            verify::run(what, &log, session).await
        }
    }
}

/// What keeps a log from being opened is damage for whoever looks for damage.
fn damaged(failure: Failure) -> Failure {
    match failure {
        Failure::Log(error) if error.kind() == ErrorKind::Corrupt => Failure::Damaged(error.report()),
        failure => failure,
    }
}
