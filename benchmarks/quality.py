"""Both encoders and the popularity baselines on one dataset, averaged over seeds.

Run from the checkout: ``python -m benchmarks.quality DATA --out FOLDER``. A run that is there is
not fitted again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ENCODERS = ("history", "table")
METRICS = ("hr", "ndcg", "recall")


def train(*arguments: str) -> str:
    """Run c2rec-train and return what it prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "c2rec.train.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Fit, evaluate and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="a dataset folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--valid-days", default="3")
    parser.add_argument("--test-days", default="5")
    options = parser.parse_args()
    figures: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for encoder in ENCODERS:
        for seed in options.seeds:
            run, started = options.out / f"{encoder}-{seed}", time.perf_counter()
            train(
                *("fit", options.data, "--out", str(run), "--encoder", encoder),
                *("--seed", str(seed), "--valid-days", options.valid_days),
                *("--test-days", options.test_days),
            )
            print(f"{run}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
            document = json.loads(train("evaluate", str(run), "--json"))
            figures.setdefault(f"C2Rec, {encoder}", []).append(document["channels"])
            for name, baseline in document["baselines"].items():
                figures.setdefault(name, []).append(baseline)
    heads = [f"{channel} {metric}" for channel in ("offline", "online") for metric in METRICS]
    print("| | " + " | ".join(heads) + " |")
    print("| --- |" + " --- |" * len(heads))
    for name, rows in figures.items():
        cells = []
        for channel in ("offline", "online"):
            for metric in METRICS:
                values = [row[channel][metric] for row in rows]
                spread = f" ({min(values):.4f}–{max(values):.4f})" if len(set(values)) > 1 else ""
                cells.append(f"{statistics.mean(values):.4f}{spread}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
