"""Prints the statistics of every sensor and UTC hour of a folder of sensor files as JSON lines.

    python3 tests/oracle/hourly.py examples/data > expected.jsonl
"""

import collections
import sys

import series
import windows


def main(folder):
    hours = collections.defaultdict(list)
    for sensor, _, readings in series.read_folder(folder):
        for at, value in readings:
            hours[sensor, at - at % series.HOUR_MS].append(value)
    windows.print_windows("sensor", hours)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: hourly.py FOLDER")
    main(sys.argv[1])
