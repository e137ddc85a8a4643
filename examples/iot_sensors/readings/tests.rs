//! Folders of files made for the purpose, and the folder that the repository carries.

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn read(files: &[(&str, &str)]) -> Result<Vec<(String, String, i64, f64)>, String> {
    let folder = folder(files);
    let merge = Merge::open(folder.path()).map_err(|error| error.to_string())?;
    merge
        .map(|next| match next {
            Ok(SensorReading { sensor, timestamp_ms, reading }) => {
                Ok((sensor, reading.group, timestamp_ms / civil::SECOND_MS, reading.value))
            }
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

fn row(sensor: &str, group: &str, seconds: i64, value: f64) -> (String, String, i64, f64) {
    (sensor.into(), group.into(), seconds, value)
}

#[test]
fn files_are_merged_by_time_then_by_sensor() {
    let merged = read(&[
        (
            "east/b.csv",
            "timestamp,value\n1970-01-01 00:00:00,1\n1970-01-01 00:00:02,-2.5\n1970-01-01 00:00:09,0",
        ),
        ("east/labels.json", "{}"),
        ("west/deep/a.csv", "timestamp,value\r\n1970-01-01 00:00:02,1e3\r\n\r\n1970-01-01 00:00:03,7\r\n"),
        ("empty.csv", "timestamp,value\n"),
    ])
    .unwrap();
    assert_eq!(
        merged,
        [
            row("b", "east", 0, 1.0),
            row("a", "deep", 2, 1_000.0),
            row("b", "east", 2, -2.5),
            row("a", "deep", 3, 7.0),
            row("b", "east", 9, 0.0),
        ]
    );
}

#[test]
fn a_clock_set_back_by_an_hour_keeps_the_order_of_the_file_and_is_counted() {
    let files = [
        ("g/a.csv", "timestamp,value\n1970-01-01 02:59:00,1\n1970-01-01 01:59:00,2\n1970-01-01 02:59:00,3\n"),
        ("g/b.csv", "timestamp,value\n1970-01-01 02:58:00,4\n1970-01-01 03:00:00,5\n"),
    ];
    let values: Vec<f64> = read(&files).unwrap().into_iter().map(|row| row.3).collect();
    assert_eq!(values, [4.0, 1.0, 2.0, 3.0, 5.0]);
}

#[test]
fn two_readings_of_one_time_keep_the_order_of_the_file() {
    let merged = read(&[("g/a.csv", "timestamp,value\n1970-01-01 00:00:01,2\n1970-01-01 00:00:01,1\n")]);
    assert_eq!(merged.unwrap(), [row("a", "g", 1, 2.0), row("a", "g", 1, 1.0)]);
}

#[test]
fn a_bad_line_is_named_and_ends_the_stream() {
    for (line, what) in [
        ("nothing", "a line is not `timestamp,value`"),
        ("1970-01-01,1", "a timestamp is not `YYYY-MM-DD HH:MM:SS`"),
        ("1970-01-01 00:00:02,warm", "a value is not a finite number"),
        ("1970-01-01 00:00:02,NaN", "a value is not a finite number"),
        ("1970-01-01 00:00:02,1,2", "a value is not a finite number"),
        ("1969-12-31 22:00:01,1", "the readings go back in time by more than an hour"),
    ] {
        let text = format!("timestamp,value\n1970-01-01 00:00:01,1\n1970-01-01 00:00:02,1\n{line}\n");
        let error = read(&[("g/a.csv", &text)]).unwrap_err();
        assert!(error.starts_with(what), "{error}");
        assert!(error.ends_with("g/a.csv, line=4"), "{error}");
    }
    let folder = folder(&[("g/a.csv", "timestamp,value\n1970-01-01 00:00:01,1\nx\n1970-01-01 00:00:03,1\n")]);
    let mut merge = Merge::open(folder.path()).unwrap();
    assert!(merge.next().unwrap().is_err());
    assert!(merge.next().is_none());
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let error = read(&[("g/a.csv", &format!("timestamp,value\n{}", "9".repeat(1 << 20)))]).unwrap_err();
    assert!(error.starts_with("a line is too long. bytes_max=1024. file="), "{error}");
}

#[test]
fn a_folder_that_is_no_input_says_why() {
    let error = read(&[("g/a.txt", "")]).unwrap_err();
    assert!(error.starts_with("the folder has no `*.csv` file."), "{error}");
    let error = read(&[("g/a.csv", "time,reading\n")]).unwrap_err();
    assert!(error.starts_with("the first line is not `timestamp,value`. file="), "{error}");
    let error = read(&[("g/a.csv", "")]).unwrap_err();
    assert!(error.starts_with("the first line is not `timestamp,value`. file="), "{error}");
    let error = read(&[("g/a.csv", "timestamp,value\n"), ("h/a.csv", "timestamp,value\n")]).unwrap_err();
    assert!(error.starts_with("two files name the same sensor"), "{error}");
    let error = Merge::open(Path::new("no/such/folder")).unwrap_err();
    assert!(error.to_string().ends_with("folder=no/such/folder") || error.source.is_some(), "{error}");
}

#[test]
fn the_example_data_is_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let mut merge = Merge::open(&folder).unwrap();
    let (mut readings, mut back, mut newest_ms) = (0, 0, i64::MIN);
    for next in &mut merge {
        let SensorReading { timestamp_ms, sensor, .. } = next.unwrap();
        if timestamp_ms < newest_ms {
            assert_eq!(sensor, "machine_temperature_system_failure");
            back += 1;
        }
        newest_ms = newest_ms.max(timestamp_ms);
        readings += 1;
    }
    // The twelfth reading after the step back is at the time from which it stepped back.
    assert_eq!((readings, back), (44_499, 11));
}
