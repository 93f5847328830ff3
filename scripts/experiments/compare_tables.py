#!/usr/bin/env python3
"""Compare SSGANClassifier with scikit-learn's classifiers on tables: `scripts/experiments/compare_tables.py`.

A fixed, stratified 30 % of each table is the test set. The rest is the pool, in which each draw labels 3 or 10 rows of
each class. Columns are standardised on the pool. Draws 0 to 9 become rows of `results/rows/tables.jsonl`; existing rows
are not computed again. With `--choose` nothing is written: the draws start at seed 1000, the error is measured on the
hidden labels of the pool, and no test row is read. `--set field=value` changes a setting.
"""

import argparse
import hashlib
import statistics
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

import results
from ssgan import SSGANClassifier, runs
from ssgan.data import splits
from ssgan.data.splits import Split
from ssgan.devices import processor_name
from ssgan.files import read_json_lines
from ssgan.settings.presets import parse

PER_CLASS = (3, 10)
TEST_SHARE = 0.3
FIRST_CHOOSING_DRAW = 1000
ROWS = results.ROWS / "tables.jsonl"


class Table(NamedTuple):
    """A table, split into a pool and a test set."""

    name: str
    x_pool: np.ndarray
    x_test: np.ndarray
    y_pool: np.ndarray
    y_test: np.ndarray

    @property
    def sha256(self) -> str:
        """SHA-256 of the arrays."""
        digest = hashlib.sha256()
        for array in self[1:]:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def tables() -> Iterator[Table]:
    """Load four tables of scikit-learn, and generate one."""
    synthetic = datasets.make_classification(1000, 10, n_informative=5, n_redundant=2, n_classes=3, random_state=0)
    arrays = {name: getattr(datasets, f"load_{name}")(return_X_y=True) for name in ("iris", "wine", "breast_cancer")}
    arrays |= {"digits as rows": datasets.load_digits(return_X_y=True), "make_classification": synthetic}
    for name, (x, y) in arrays.items():
        yield Table(name, *train_test_split(x, y, test_size=TEST_SHARE, stratify=y, random_state=0))


def estimators(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Make the estimators to compare."""
    options = {"random_state": seed, "device": "cpu"}
    overrides = {key: settings[key] for key in settings if key != "total_images"} or None
    options |= {"settings": overrides, "total_images": settings.get("total_images")}
    return {
        "gan": SSGANClassifier(**options),
        "supervised": SSGANClassifier("supervised", **options),
        "label-spreading": make_pipeline(StandardScaler(), LabelSpreading(kernel="knn", max_iter=100)),
        "self-training": make_pipeline(StandardScaler(), SelfTrainingClassifier(LogisticRegression(max_iter=1000))),
    }


def measure(table: Table, method: str, estimator: Any, split: Split, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Fit an estimator and return the row of its error on rows x [n, F] with labels y [n]."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(table.x_pool, splits.hide(table.y_pool, split.indices))
        predicted = estimator.predict(x)
    seconds = time.perf_counter() - start
    config = getattr(estimator, "config_", None)
    description = " ".join(repr(estimator).split())
    return {
        "dataset": table.name,
        "dataset_sha256": table.sha256,
        "labels": len(split.indices),
        "labels_per_class": len(split.indices) // len(np.unique(table.y_pool)),
        "method": method,
        "preset": None if config is None else config.preset,
        "settings": {},
        "estimator": type(estimator).__name__ if config is not None else description,
        "config_sha256": hashlib.sha256(description.encode()).hexdigest() if config is None else config.sha256,
        "device": "cpu",
        "device_name": processor_name(torch.get_num_threads()),
        "images": None if config is None else config.steps * config.images_per_step,
        "images_per_second": None,
        "seconds": seconds,
        **runs.provenance(),
        "split_sha256": split.sha256,
        "error": float(100 * np.mean(predicted != y)),
        **dict.fromkeys(("error_raw", "ece", "nll", "diverged", "collapsed")),
    }


def main() -> None:
    """Measure the missing rows, or trial draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="trial draws, scored on the pool; nothing is written")
    parser.add_argument("--methods", default="gan,supervised,label-spreading,self-training")
    parser.add_argument("--tables", default="", help="names of tables, separated by commas; by default all")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of the trial")
    args = parser.parse_args()
    if args.set and not args.choose:
        parser.error("--set is for trials: add --choose")
    torch.set_num_threads(1)
    settings = dict(parse(assignment) for assignment in args.set)
    first = FIRST_CHOOSING_DRAW if args.choose else 0
    old_rows = [] if args.choose or not ROWS.exists() else [line.value for line in read_json_lines(ROWS)]
    old_keys = {(row["dataset"], row["labels"], row["method"], row["draw_seed"]) for row in old_rows}
    for table in tables():
        if args.tables and table.name not in args.tables.split(","):
            continue
        classes = len(np.unique(table.y_pool))
        for per_class in PER_CLASS:
            errors: dict[str, list[float]] = {}
            for draw in range(first, first + args.draws):
                rows = splits.draw(table.y_pool, per_class * classes, draw)
                split = Split(rows, table.y_pool[rows].astype(np.int64))
                hidden = np.setdiff1d(np.arange(len(table.y_pool)), rows)
                scored_arrays = (table.x_test, table.y_test)
                if args.choose:
                    scored_arrays = (table.x_pool[hidden], table.y_pool[hidden])
                for method in args.methods.split(","):
                    if (table.name, len(rows), method, draw) in old_keys:
                        continue
                    row = measure(table, method, estimators(draw, settings)[method], split, *scored_arrays)
                    row |= {"seed": draw, "draw_seed": draw, "stack": [draw]}
                    errors.setdefault(method, []).append(row["error"])
                    if not args.choose:
                        runs.append_rows(ROWS, [row])
            for method, values in errors.items():
                print(f"{table.name}, {per_class} a class, {method}: {statistics.mean(values):.2f}", flush=True)


if __name__ == "__main__":
    main()
