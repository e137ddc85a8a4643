//! Messages on stderr: stdout has results only.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use crate::Stderr;

/// Of the first word of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Something failed.
    Red = 31,
    /// Something is to be known.
    Yellow = 33,
}

/// Says something that is no result, on stderr. `eprintln!` panics when nobody reads that: `headwater topics list 2>&1 | head -1`.
pub fn say(kind: &str, colour: Colour, text: &str) {
    let plain = !io::stderr().is_terminal()
        || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|term| term == "dumb");
    let kind = if plain { kind.to_owned() } else { format!("\x1b[1;{}m{kind}\x1b[0m", colour as u8) };
    let _ = writeln!(Stderr, "{kind}: {text}");
}

/// Says what whoever uses a command should know, although it did what was asked.
pub fn warn(text: &str) {
    say("warning", Colour::Yellow, text);
}
