//! Operators on tables: one file each.

mod aggregate;
mod change_serde;
mod filter;
mod group_by;
mod join;
mod map_values;
mod source;
mod to_stream;

pub use self::group_by::KGroupedTable;
