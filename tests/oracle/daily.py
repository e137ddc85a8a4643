"""Prints the statistics of every group and UTC day of a folder of sensor files as JSON lines.

    python3 tests/oracle/daily.py examples/data > expected.jsonl
"""

import collections
import sys

import series
import windows


def main(folder):
    days = collections.defaultdict(list)
    for _, group, readings in series.read_folder(folder):
        for at, value in readings:
            days[group, at - at % series.DAY_MS].append(value)
    windows.print_windows("group", days)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: daily.py FOLDER")
    main(sys.argv[1])
