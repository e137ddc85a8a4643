"""Reads a folder of sensor files, `group/sensor.csv` with lines `timestamp,value`, for the oracles beside this file.

It shares no code with what it checks: other language, other calendar, other parser.
"""

import csv
import datetime
import pathlib

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def timestamp_ms(text):
    """`YYYY-MM-DD HH:MM:SS`, read as UTC, in milliseconds since 1970."""
    time = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)
    return round(time.timestamp() * 1000)


def read_folder(folder):
    """Yields (sensor, group, [(timestamp in ms, value), ...]) per file; readings in the order of the file."""
    paths = sorted(pathlib.Path(folder).resolve().rglob("*.csv"), key=lambda path: path.stem)
    if not paths:
        raise SystemExit(f"no *.csv file in {folder}")
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            readings = [(timestamp_ms(row["timestamp"]), float(row["value"])) for row in rows]
        yield path.stem, path.parent.name, readings
