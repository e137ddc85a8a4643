//! The labelled faults: per sensor, the times in which something really was wrong, as people found out later.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::civil;
use super::readings::InputError;

/// No labels file is anywhere near as large; a larger one is refused instead of read into memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The names under which a folder's labels are looked for: ours first, then that of the whole benchmark.
const FILE_NAMES: [&str; 2] = ["labels.json", "combined_windows.json"];

/// A time in which a sensor, or what it measures, really was out of order. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FaultWindow {
    /// The first millisecond, UTC.
    pub(crate) start_ms: i64,
    /// The last millisecond, UTC.
    pub(crate) end_ms: i64,
}

impl FaultWindow {
    /// Whether `timestamp_ms` is in the window.
    pub(crate) fn contains(&self, timestamp_ms: i64) -> bool {
        (self.start_ms..=self.end_ms).contains(&timestamp_ms)
    }
}

/// The fault windows of all sensors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    by_sensor: BTreeMap<String, Vec<FaultWindow>>,
}

impl Labels {
    /// The labels of a folder of readings: `labels.json` or `combined_windows.json` in it. A folder without either
    /// has no labels.
    ///
    /// # Errors
    /// If the file cannot be read or is not a map from `group/sensor.csv` to pairs of times.
    pub(crate) fn of_folder(folder: &Path) -> Result<Labels, InputError> {
        match FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
            Some(path) => Labels::read(&path),
            None => Ok(Labels::default()),
        }
    }

    /// Reads one labels file.
    ///
    /// # Errors
    /// If the file cannot be read or is not a map from `group/sensor.csv` to pairs of times.
    pub(crate) fn read(path: &Path) -> Result<Labels, InputError> {
        let unreadable = |error| InputError::io("cannot read the labels", path, error);
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(InputError::new(format!(
                "the labels are too large. file={}, bytes_max={FILE_BYTES_MAX}",
                path.display()
            )));
        }
        Labels::parse(&text)
            .map_err(|what| InputError::new(format!("{what}. file={}; correct the labels", path.display())))
    }

    /// Labels that are known otherwise, for input that is not read from a folder.
    pub(crate) fn from_windows(windows: impl IntoIterator<Item = (String, Vec<FaultWindow>)>) -> Labels {
        Labels { by_sensor: windows.into_iter().collect() }
    }

    /// The fault windows of `sensor`, in the order of the file; none if it has none.
    pub(crate) fn of(&self, sensor: &str) -> &[FaultWindow] {
        self.by_sensor.get(sensor).map_or(&[], Vec::as_slice)
    }

    fn parse(text: &str) -> Result<Labels, String> {
        let files: BTreeMap<String, Vec<[String; 2]>> =
            serde_json::from_str(text).map_err(|error| format!("the labels are not readable: {error}"))?;
        let mut by_sensor: BTreeMap<String, Vec<FaultWindow>> = BTreeMap::new();
        for (file, pairs) in files {
            let windows = pairs.iter().map(parse_window).collect::<Result<Vec<_>, _>>()?;
            let sensor = Path::new(&file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let sensor = sensor.ok_or_else(|| format!("a label names no file. name={file:?}"))?;
            by_sensor.entry(sensor).or_default().extend(windows);
        }
        Ok(Labels { by_sensor })
    }
}

fn parse_window([start, end]: &[String; 2]) -> Result<FaultWindow, String> {
    let parse =
        |text: &String| civil::parse(text).ok_or_else(|| format!("a label is no time. text={text:?}"));
    let window = FaultWindow { start_ms: parse(start)?, end_ms: parse(end)? };
    if window.end_ms < window.start_ms {
        return Err(format!("a labelled window ends before it starts. start={start}, end={end}"));
    }
    Ok(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_found_by_the_name_of_the_sensor() {
        let text =
            r#"{"g/a.csv": [["1970-01-01 00:00:01.000000", "1970-01-01 00:00:02.500000"]], "g/b.csv": []}"#;
        let labels = Labels::parse(text).unwrap();
        let window = FaultWindow { start_ms: 1_000, end_ms: 2_500 };
        assert_eq!(labels.of("a"), [window]);
        assert_eq!((labels.of("b"), labels.of("c")), (&[][..], &[][..]));
        assert!(window.contains(1_000) && window.contains(2_500));
        assert!(!window.contains(999) && !window.contains(2_501));
        assert_eq!(labels, Labels::from_windows([("a".into(), vec![window]), ("b".into(), vec![])]));
    }

    #[test]
    fn bad_labels_say_what_is_wrong() {
        let error = |text| Labels::parse(text).unwrap_err();
        assert!(error("[]").starts_with("the labels are not readable: "), "{}", error("[]"));
        assert_eq!(error(r#"{"a": [["x", "y"]]}"#), r#"a label is no time. text="x""#);
        let backwards = r#"{"a": [["1970-01-02 00:00:00", "1970-01-01 00:00:00"]]}"#;
        assert!(error(backwards).starts_with("a labelled window ends before it starts."));
        assert_eq!(error(r#"{"": []}"#), r#"a label names no file. name="""#);
    }

    #[test]
    fn the_example_data_is_labelled() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
        let labels = Labels::of_folder(&folder).unwrap();
        assert_eq!(labels.by_sensor.values().map(Vec::len).sum::<usize>(), 16);
        assert_eq!(labels.of("machine_temperature_system_failure").len(), 4);
    }

    #[test]
    fn a_folder_without_labels_has_none_and_a_missing_file_is_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/realTraffic");
        assert_eq!(Labels::of_folder(&folder).unwrap(), Labels::default());
        let error = Labels::read(&folder.join("none.json")).unwrap_err().to_string();
        assert!(error.contains("none.json"), "{error}");
    }
}
