"""The statistics of the readings of one window, in two passes with exact sums: not how a stream computes them."""

import json
import math
import sys


def two_pass(values):
    """count, mean, min, max and population standard deviation of a list that is not empty."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return {
        "count": len(values),
        "mean": mean,
        "min": min(values),
        "max": max(values),
        "stddev": math.sqrt(variance),
    }


def print_windows(key, windows):
    """Prints {(name, window start): [value, ...]} as JSON lines in the order of name and time."""
    for (name, start_ms), values in sorted(windows.items()):
        line = {key: name, "window_start_ms": start_ms, **two_pass(values)}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
