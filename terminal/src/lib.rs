//! What commands show to people, and how people talk back: shared by the `headwater` command and by the programs that
//! `headwater::App` makes.
//!
//! [`Table`], [`Progress`] and [`Line`] are what is printed; [`show`] makes records readable; [`time`] reads and writes times and spans;
//! [`size`] and [`number`] are units; [`say`] and [`warn`] speak on stderr; [`Stop`] is Ctrl-C, [`give_way`] and [`stand_back`] let others go first. Nothing here knows a log.

mod line;
mod priority;
mod progress;
mod say;
pub mod show;
mod stop;
mod table;
pub mod time;
mod units;

pub use self::{
    line::{Line, Stderr},
    priority::{give_way, stand_back},
    progress::{Progress, bar},
    say::{Colour, say, warn},
    stop::Stop,
    table::Table,
    units::{bytes, number, size, span},
};
