#!/usr/bin/env python3
r"""Try settings on held-out training images; test images are not used.

    scripts/experiments/explore.py digits --preset digits --labels 50 --seeds 6 \
        base weight_entropy=0.1 learning_rate_d=1e-3+learning_rate_g=1e-3

Every argument after the options is one variant: settings joined by ``+`` (``base`` for none). A
third of the training pool, chosen by a fixed permutation, is held out and scored; the draws start at
seed 1000, so the label draws of published rows are not used either. Prints mean, deviation and
every seed's error, the mean over the seeds of the difference to the first variant, and spread and recall of
generated images.
"""

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from ssgan import load, train
from ssgan.data.dataset import Data
from ssgan.settings.presets import DATASET_PRESETS, parse, resolve

DIVERSITY = ("spread", "recall")


def development_split(data: Data) -> Data:
    """Split the pool into a smaller pool and a held-out third."""
    order = np.random.RandomState(1).permutation(len(data.y_train))
    held_out, pool = order[: len(order) // 3], order[len(order) // 3 :]
    x, y = data.x_train, data.y_train
    return dataclasses.replace(data, x_train=x[pool], y_train=y[pool], x_test=x[held_out], y_test=y[held_out])


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation; NaN for one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _diversity(rows: list[dict[str, Any]]) -> str:
    """Format the mean spread and recall of generated images; empty without a generator."""
    means = {name: np.mean([row[name] for row in rows if row.get(name) is not None] or [np.nan]) for name in DIVERSITY}
    return "".join(f"  {name} {mean:.3f}" for name, mean in means.items() if np.isfinite(mean))


def main() -> None:
    """Train each variant on the same draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--labels", default="50")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--root")
    parser.add_argument("--preset", help="base of the variants; by default the preset of the data")
    parser.add_argument("variants", nargs="*", default=["base"])
    args = parser.parse_intermixed_args()
    data = development_split(load(args.data, args.root))
    first: dict[int, np.ndarray] = {}
    for variant in args.variants:
        settings = {} if variant == "base" else dict(parse(part) for part in variant.split("+"))
        for labels in map(int, args.labels.split(",")):
            values = {"labels": labels, "seeds": args.seeds, "seed": 1000, **settings}
            start = time.perf_counter()
            run = train(data, resolve(args.preset or DATASET_PRESETS[args.data], values))
            seconds = time.perf_counter() - start
            errors = np.array([np.nan if e is None else e for e in run.errors])
            gap = errors - first.setdefault(labels, errors)
            print(
                f"{variant:50s} labels {labels:4d}  {errors.mean():6.2f} +- {_deviation(errors):5.2f}  "
                f"vs first {gap.mean():+6.2f} +- {_deviation(gap) / len(gap) ** 0.5:4.2f}  "
                f"ece {np.mean(run.ece):.3f}  {seconds:4.0f} s  {errors.round(1).tolist()}"
                f"{_diversity(run.report['rows'])}",
                flush=True,
            )


if __name__ == "__main__":
    main()
