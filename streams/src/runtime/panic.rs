//! A panic of user code, caught.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use headwater_core::Error;

/// What was caught; prints itself as what it said.
pub(crate) struct Panic(Box<dyn Any + Send>);

impl Panic {
    /// Goes on with it.
    pub(crate) fn resume(self) -> ! {
        resume_unwind(self.0)
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.downcast_ref::<&str>().copied();
        f.write_str(
            text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message"),
        )
    }
}

impl From<Box<dyn Any + Send>> for Panic {
    fn from(panic: Box<dyn Any + Send>) -> Self {
        Self(panic)
    }
}

/// The panic as the error of a record.
pub(crate) fn panicked(panic: &Panic) -> Error {
    Error::processing(format!("a processor panicked: {panic}"))
}

/// Runs `f`. What it was changing when it panicked is the caller's to undo or to drop.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(f)).map_err(Panic)
}
