#!/usr/bin/env python3
"""Train the published grid of a data set and add its rows: `scripts/results.py digits`.

One line of `results/digits.jsonl` for each seed. A cell that is there with today's settings is not
trained again, so the script can be stopped between cells and started again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ssgan import load, runs, screen
from ssgan.config import DATASET_PRESETS, Config, resolve
from ssgan.experiment import run_experiment

RESULTS = Path(__file__).resolve().parents[1] / "results"
# Each cell: settings beyond the preset of the data set.
GRIDS: dict[str, list[dict[str, Any]]] = {
    "digits": [
        *({"method": m, "labels": n, "seeds": 10} for m in ("gan", "supervised") for n in (20, 50, 100)),
        *({"method": "gan", "labels": 50, "seeds": 5, "generator_norm": norm} for norm in ("virtual", "none")),
    ],
}


def done(path: Path, config: Config) -> bool:
    """Whether the rows of this cell are there."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return any(row["config_sha256"] == config.sha256 and row["stack"] == config.all_seeds for row in rows)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=sorted(GRIDS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--part", default="1/1", help="2/3: the second of three parts, to run beside the others")
    args = parser.parse_args()
    data, path = load(args.data), RESULTS / f"{args.data}.jsonl"
    part, parts = map(int, args.part.split("/"))
    for cell in GRIDS[args.data][part - 1 :: parts]:
        config = resolve(DATASET_PRESETS[args.data], {**cell, "device": args.device})
        words = " ".join(f"{k}={v}" for k, v in cell.items())
        if done(path, config):
            print(f"{words}: there already")
            continue
        print(f"{words} ...", flush=True)
        with tempfile.TemporaryDirectory() as scratch, screen.following() as on_report:
            folder = runs.claim(Path(scratch) / "run", data.name, config)
            report = run_experiment(data, config, folder, on_report)
        runs.append_rows(path, report["rows"])
        print(f"  error {screen.plus_minus(report['error_mean'], report['error_std'])} %", flush=True)
    print(f"Now write them into the README: {sys.executable} scripts/readme.py", file=sys.stderr)


if __name__ == "__main__":
    main()
