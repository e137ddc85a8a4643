//! How a log is opened: to look at it, which is always possible, or to write to it, which one process can.

use std::path::Path;

use headwater_core::{Error, Result};
use headwater_storage::log::{EmbeddedLog, ObservedLog, RecoveryReport};
use headwater_terminal::warn;

use crate::Failure;

/// What a command needs of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read what is there.
    Look,
    /// To change a log that is there.
    Write,
    /// To change it, and to begin one where there is none.
    Create,
}

/// Opens the log in `folder` to read it, whoever writes it meanwhile.
pub(crate) fn open_to_look(folder: &Path) -> Result<ObservedLog, Failure> {
    check_there(folder)?;
    ObservedLog::open(folder).map_err(Failure::Log)
}

/// Opens the log in `folder` for itself.
pub(crate) fn open_to_write(folder: &Path, access: Access) -> Result<EmbeddedLog, Failure> {
    // The engine would make a log in any folder, which nobody who mistypes its name wants.
    if access != Access::Create {
        check_there(folder)?;
    }
    let log = EmbeddedLog::open(folder).map_err(Failure::Log)?;
    if let Some(warning) = warning(log.recovery()) {
        warn(&warning);
    }
    Ok(log)
}

/// Whether there is a log.
fn check_there(folder: &Path) -> Result<(), Failure> {
    let there = folder.join("format").try_exists();
    if there.map_err(|e| Error::io(format!("cannot look into folder. folder={}", folder.display()), e))? {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "there is no log here: pass its folder with --log, or set HEADWATER_LOG; `headwater topics create` begins one. folder={}",
        folder.display()
    )))
}

/// Opening a log after a crash finishes what the crash left. Whoever works on it should know if that took something.
fn warning(recovery: &RecoveryReport) -> Option<String> {
    let bytes = recovery.torn_bytes_cut;
    (bytes > 0).then(|| {
        format!(
            "the last write was never finished and is cut: nobody was told that it was written. bytes={bytes}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lost_is_a_warning() {
        let replayed =
            RecoveryReport { groups_replayed: 3, bytes_replayed: 900, ..RecoveryReport::default() };
        assert_eq!(warning(&replayed), None);
        let torn = RecoveryReport { torn_bytes_cut: 17, ..replayed };
        assert!(warning(&torn).is_some_and(|warning| warning.ends_with("bytes=17")));
    }
}
