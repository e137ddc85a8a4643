//! Sensor readings: what one is, and a folder of CSV files, one sensor each, as one stream in the order of time.
//!
//! A file `group/sensor.csv` has a header `timestamp,value` and then one reading per line, in the order in which the
//! sensor recorded them. The files are merged line by line: only the next reading of each file is in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::civil;

const HEADER: &str = "timestamp,value";

/// A longer line is no reading; it is refused before it is in memory.
const LINE_BYTES_MAX: u64 = 1_024;

/// So many files are open at once at most, and so many heads are held.
const FILES_MAX: usize = 900;

/// So deep below the folder files are looked for.
const DEPTH_MAX: usize = 8;

/// How far a file may step back in time: real clocks are set back by an hour. Anything further is a file whose lines
/// are not in order, and is refused.
const STEP_BACK_MAX_MS: i64 = civil::HOUR_MS;

/// What one reading says: the value on the topic, as JSON. The key is the sensor, the timestamp the reading's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The group that the sensor belongs to.
    pub(crate) group: String,
    /// What it measured; always finite.
    pub(crate) value: f64,
}

/// One reading with the sensor that made it and the time at which it did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SensorReading {
    /// The sensor, the key on the topic.
    pub(crate) sensor: String,
    /// The reading's time in milliseconds since 1970, UTC.
    pub(crate) timestamp_ms: i64,
    /// The value on the topic.
    pub(crate) reading: Reading,
}

/// Why the input cannot be read: what happened, in which file and line, and what to do.
#[derive(Debug)]
pub(crate) struct InputError {
    message: String,
    source: Option<io::Error>,
}

impl InputError {
    pub(crate) fn new(message: String) -> InputError {
        InputError { message, source: None }
    }

    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> InputError {
        let message = format!("{what}: {source}. file={}", path.display());
        InputError { message, source: Some(source) }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// All readings of a folder in the order of time; readings of the same time in the order of their sensors' names.
///
/// A file's own order is kept even where its clock was set back (by an hour at most): such a reading comes when the
/// file has it, with the earlier time that the file says.
#[derive(Debug)]
pub(crate) struct Merge {
    /// In the order of their names, so that an index stands for a name.
    files: Vec<SensorFile>,
    /// The next reading's time and the file's index, for every file that is not at its end.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    failed: bool,
}

impl Merge {
    /// Opens every `*.csv` below `folder`.
    ///
    /// # Errors
    /// If the folder or a file cannot be read, if there is no file or there are more than [`FILES_MAX`], if two have
    /// the same name, or if a file's first lines are not a header and a reading.
    pub(crate) fn open(folder: &Path) -> Result<Merge, InputError> {
        let root = folder.canonicalize().map_err(|e| InputError::io("cannot open the folder", folder, e))?;
        let mut paths = Vec::new();
        find_files(&root, DEPTH_MAX, &mut paths)?;
        if paths.is_empty() {
            let folder = folder.display();
            return Err(InputError::new(format!("the folder has no `*.csv` file. folder={folder}")));
        }
        let mut files = paths.iter().map(|path| SensorFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        files.sort_by(|left, right| left.sensor.cmp(&right.sensor));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].sensor == pair[1].sensor) {
            return Err(InputError::new(format!(
                "two files name the same sensor; rename one. files={}, {}",
                pair[0].path.display(),
                pair[1].path.display()
            )));
        }
        let mut merge = Merge { files, heads: BinaryHeap::new(), failed: false };
        for index in 0..merge.files.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, index: usize) -> Result<(), InputError> {
        if self.files[index].advance()? {
            self.heads.push(Reverse((self.files[index].timestamp_ms, index)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<SensorReading, InputError>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let Reverse((_, index)) = self.heads.pop()?;
        let next = self.files[index].head();
        match self.advance(index) {
            Ok(()) => Some(Ok(next)),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// One file and the reading it is at.
#[derive(Debug)]
struct SensorFile {
    path: PathBuf,
    sensor: String,
    group: String,
    lines: BufReader<File>,
    line: Vec<u8>,
    line_number: u64,
    timestamp_ms: i64,
    value: f64,
    /// The latest time so far; the step back is measured from it, so that small steps do not add up.
    newest_ms: Option<i64>,
}

impl SensorFile {
    fn open(path: &Path) -> Result<SensorFile, InputError> {
        let unreadable = |error| InputError::io("cannot open the file", path, error);
        let file = File::open(path).map_err(unreadable)?;
        let mut file = SensorFile {
            path: path.to_owned(),
            sensor: name(path.file_stem()),
            group: name(path.parent().and_then(Path::file_name)),
            lines: BufReader::new(file),
            line: Vec::new(),
            line_number: 0,
            timestamp_ms: 0,
            value: 0.0,
            newest_ms: None,
        };
        match file.next_line()? {
            Some(HEADER) => Ok(file),
            _ => Err(file.error(&format!("the first line is not `{HEADER}`"))),
        }
    }

    fn head(&self) -> SensorReading {
        let reading = Reading { group: self.group.clone(), value: self.value };
        SensorReading { sensor: self.sensor.clone(), timestamp_ms: self.timestamp_ms, reading }
    }

    /// Goes to the next reading; false at the end.
    fn advance(&mut self) -> Result<bool, InputError> {
        let (timestamp_ms, value) = loop {
            match self.next_line()? {
                None => return Ok(false),
                Some("") => {}
                Some(line) => match parse_line(line) {
                    Ok(reading) => break reading,
                    Err(what) => return Err(self.error(what)),
                },
            }
        };
        let newest_ms = self.newest_ms.unwrap_or(timestamp_ms);
        if newest_ms - timestamp_ms > STEP_BACK_MAX_MS {
            return Err(
                self.error("the readings go back in time by more than an hour; sort the file by time")
            );
        }
        self.newest_ms = Some(newest_ms.max(timestamp_ms));
        (self.timestamp_ms, self.value) = (timestamp_ms, value);
        Ok(true)
    }

    /// The next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<&str>, InputError> {
        self.line.clear();
        let read = (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| InputError::io("cannot read the file", &self.path, error))? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.line_number += 1;
        if read == LINE_BYTES_MAX && !self.line.ends_with(b"\n") {
            return Err(self.error(&format!("a line is too long. bytes_max={LINE_BYTES_MAX}")));
        }
        match str::from_utf8(&self.line) {
            Ok(line) => Ok(Some(line.trim_end_matches(['\r', '\n']))),
            Err(_) => Err(self.error("a line is not UTF-8")),
        }
    }

    fn error(&self, what: &str) -> InputError {
        InputError::new(format!("{what}. file={}, line={}", self.path.display(), self.line_number))
    }
}

fn parse_line(line: &str) -> Result<(i64, f64), &'static str> {
    let (timestamp, value) = line.split_once(',').ok_or("a line is not `timestamp,value`")?;
    let timestamp_ms = civil::parse(timestamp).ok_or("a timestamp is not `YYYY-MM-DD HH:MM:SS`")?;
    match value.parse::<f64>() {
        // JSON has neither infinity nor not-a-number, and one of them would spoil every mean.
        Ok(value) if value.is_finite() => Ok((timestamp_ms, value)),
        _ => Err("a value is not a finite number"),
    }
}

/// Adds the `*.csv` files of `folder` and of the folders below. Linked folders are not followed: they may go in circles.
fn find_files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let unreadable = |error| InputError::io("cannot list the folder", folder, error);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if depth > 0 {
                find_files(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "csv") && path.is_file() {
            found.push(path);
        }
        if found.len() > FILES_MAX {
            let folder = folder.display();
            return Err(InputError::new(format!("too many files. files_max={FILES_MAX}, folder={folder}")));
        }
    }
    Ok(())
}

fn name(part: Option<&std::ffi::OsStr>) -> String {
    part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
#[path = "readings/tests.rs"]
mod tests;
