"""Prints the alerts of every sensor of a folder of sensor files as JSON lines: the rule of the IoT example, again.

The rule is written out in `examples/iot_sensors/alerts.rs`. This keeps every value of the last hours and computes the
statistics anew for each hour, instead of merging.

    python3 tests/oracle/alerts.py examples/data > expected.jsonl
    python3 tests/oracle/alerts.py --count examples/data
"""

import argparse
import json
import pathlib
import sys

import series
import windows


def alerts_of(sensor, readings, rule):
    hours = {}  # start of the hour -> its values; at most rule.hours complete ones and the current one
    baseline, last_alert, suppressed = None, None, 0
    for at, value in readings:
        start = at - at % series.HOUR_MS
        if not hours or start > max(hours):
            hours[start] = []
            for old in sorted(hours)[: -rule.hours - 1]:
                del hours[old]
            baseline = summary_before(hours)
        if baseline and baseline["count"] >= rule.readings_min:
            deviation = max(baseline["stddev"], rule.deviation_min * abs(baseline["mean"]), 1e-9)
            score = abs(value - baseline["mean"]) / deviation
            if score > rule.k:
                if last_alert is not None and at - last_alert < rule.cool_down_hours * series.HOUR_MS:
                    suppressed += 1
                else:
                    yield {
                        "sensor": sensor,
                        "timestamp_ms": at,
                        "value": value,
                        "mean": baseline["mean"],
                        "stddev": baseline["stddev"],
                        "score": score,
                        "readings": baseline["count"],
                        "suppressed": suppressed,
                    }
                    last_alert, suppressed = at, 0
        if start in hours:
            hours[start].append(value)
            if start != max(hours):
                baseline = summary_before(hours)


def summary_before(hours):
    values = [value for start in sorted(hours)[:-1] for value in hours[start]]
    return windows.two_pass(values) if values else None


def labels_of(folder):
    """The labelled windows by sensor, from labels.json or combined_windows.json."""
    for name in ("labels.json", "combined_windows.json"):
        path = pathlib.Path(folder) / name
        if path.is_file():
            labels = json.loads(path.read_text(encoding="utf-8"))
            return {
                pathlib.PurePosixPath(file).stem: [tuple(map(series.timestamp_ms, pair)) for pair in pairs]
                for file, pairs in labels.items()
            }
    return {}


def print_counts(name, alerts, labels):
    times = [alert["timestamp_ms"] for alert in alerts]
    hit = sum(any(start <= at <= end for at in times) for start, end in labels)
    outside = sum(not any(start <= at <= end for start, end in labels) for at in times)
    counts = {"alerts": len(times), "faults_hit": hit, "faults": len(labels), "outside": outside}
    sys.stdout.write(json.dumps({"sensor": name, **counts}) + "\n")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--k", type=float, default=5.0)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--readings-min", type=int, default=24)
    parser.add_argument("--deviation-min", type=float, default=0.05)
    parser.add_argument("--cool-down-hours", type=float, default=6.0)
    parser.add_argument("--count", action="store_true", help="print counts per sensor instead of alerts")
    rule = parser.parse_args()
    labels, total = labels_of(rule.folder), {}
    for sensor, _, readings in series.read_folder(rule.folder):
        alerts = list(alerts_of(sensor, readings, rule))
        if rule.count:
            for name, count in print_counts(sensor, alerts, labels.get(sensor, [])).items():
                total[name] = total.get(name, 0) + count
        else:
            for alert in alerts:
                sys.stdout.write(json.dumps(alert, ensure_ascii=False) + "\n")
    if rule.count:
        sys.stdout.write(json.dumps({"sensor": "total", **total}) + "\n")


if __name__ == "__main__":
    main()
