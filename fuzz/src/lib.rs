//! What the fuzz targets of Headwater's log share: how their inputs become records, files and damage, and how what a log
//! serves is compared. See `make fuzz`.

pub mod checkpoint;
pub mod edit;
pub mod entry;
pub mod folder;
pub mod history;
pub mod record;
pub mod seal;
pub mod served;
