//! One line on stderr that is drawn over itself, and everything else that goes there meanwhile.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Nobody reads faster.
const REDRAW: Duration = Duration::from_millis(100);

/// What stands on the last line of the terminal and will be drawn over; empty for nothing.
static DRAWN: Mutex<String> = Mutex::new(String::new());

fn drawn() -> MutexGuard<'static, String> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line on stderr that is drawn over itself, and gone when it is dropped. Shows nothing when stderr is no terminal, or nothing
/// shall be shown. There is one at a time.
#[derive(Debug)]
pub struct Line {
    shown: bool,
    next: Instant,
}

impl Line {
    /// Begins a line that stays empty for `patience`: work that is done before that shows nothing.
    #[must_use]
    pub fn begin(patience: Duration, quiet: bool) -> Self {
        Self { shown: !quiet && io::stderr().is_terminal(), next: Instant::now() + patience }
    }

    /// Whether somebody watches it.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Whether it is time to draw it again.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.shown && now >= self.next
    }

    /// Draws `text` over what was there. Nobody is told when that fails: the work goes on.
    pub fn draw(&mut self, text: &str) {
        if !self.shown {
            return;
        }
        self.next = Instant::now() + REDRAW;
        let mut drawn = drawn();
        let _ = write!(io::stderr(), "\r\x1b[K{text}");
        let _ = io::stderr().flush();
        text.clone_into(&mut drawn);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut drawn = drawn();
        if self.shown && !drawn.is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
            drawn.clear();
        }
    }
}

/// Writes whole lines to stderr, above the [`Line`] that may stand there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let drawn = drawn();
        let mut stderr = io::stderr().lock();
        if drawn.is_empty() {
            stderr.write_all(bytes)?;
        } else {
            stderr.write_all(b"\r\x1b[K")?;
            stderr.write_all(bytes)?;
            // Half a line would be drawn over.
            if bytes.ends_with(b"\n") {
                stderr.write_all(drawn.as_bytes())?;
            }
        }
        stderr.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
