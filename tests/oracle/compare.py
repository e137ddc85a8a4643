"""Compares two files of JSON lines, windows or alerts, both ways; exits with 1 on any difference.

A line is known by its `sensor` or `group` and its `window_start_ms` or `timestamp_ms`. Every other field of the
expected line must be in the actual one: whole numbers and text equal, other numbers to within the tolerance, which is
relative. For `mean` and `stddev` it is relative to no less than a millionth of the window's largest value, because that
is what rounding is relative to when a window hardly varies.

    python3 tests/oracle/compare.py --expected x.jsonl --actual y.jsonl --tolerance 1e-9

`--last` takes the last line of each key from the actual file (a topic of updates) instead of refusing a second one.
`--subset` does not report lines that only the actual file has.
"""

import argparse
import json
import math
import sys

NAMES = ("sensor", "group")
TIMES = ("window_start_ms", "timestamp_ms")
SHOWN = 20


def read(path, last):
    lines, problems = {}, []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            line = json.loads(text)
            name = next((line[field] for field in NAMES if field in line), None)
            time = next((line[field] for field in TIMES if field in line), None)
            if name is None or time is None:
                problems.append(f"{path}, line {number}: no name or no time: {text.strip()}")
            elif (name, time) in lines and not last:
                problems.append(f"{path}, line {number}: a second line for {name} at {time}")
            lines[name, time] = line
    return lines, problems


def differences(expected, actual, tolerance):
    """Yields (field, expected, actual, relative error) of the fields of one line that differ."""
    size = max((abs(expected[field]) for field in ("min", "max", "value") if field in expected), default=0.0)
    for field, want in expected.items():
        got = actual.get(field)
        if isinstance(want, float) and isinstance(got, (int, float)) and not isinstance(got, bool):
            floor = 1e-6 * size if field in ("mean", "stddev") else 0.0
            scale = max(abs(want), abs(got), floor)
            error = abs(want - got) / scale if scale else 0.0
            if not (math.isfinite(error) and error <= tolerance):
                yield field, want, got, error
        elif want != got or isinstance(want, bool) != isinstance(got, bool):
            yield field, want, got, math.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expected", required=True)
    parser.add_argument("--actual", required=True)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--subset", action="store_true")
    arguments = parser.parse_args()
    expected, problems = read(arguments.expected, False)
    actual, more = read(arguments.actual, arguments.last)
    problems += more
    if not expected:
        problems.append(f"{arguments.expected}: nothing is expected")
    missing = sorted(expected.keys() - actual.keys())
    extra = [] if arguments.subset else sorted(actual.keys() - expected.keys())
    problems += [f"missing: {name} at {time}" for name, time in missing]
    problems += [f"extra: {name} at {time}" for name, time in extra]
    equal, differing = 0, 0
    for key in sorted(expected.keys() & actual.keys()):
        found = list(differences(expected[key], actual[key], arguments.tolerance))
        equal, differing = equal + (not found), differing + bool(found)
        for field, want, got, error in found:
            problems.append(f"differs: {key[0]} at {key[1]}: {field} expected={want!r} actual={got!r} error={error:.3g}")
    for problem in problems[:SHOWN]:
        sys.stdout.write(problem + "\n")
    if len(problems) > SHOWN:
        sys.stdout.write(f"... and {len(problems) - SHOWN} more\n")
    sys.stdout.write(
        f"expected={len(expected)} actual={len(actual)} equal={equal} differing={differing} "
        f"missing={len(missing)} extra={len(extra)} tolerance={arguments.tolerance:g}: "
        f"{'DIFFERENT' if problems else 'same'}\n"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
