#!/usr/bin/env python3
"""Run the semi-supervised examples of scikit-learn's gallery: `scripts/experiments/gallery.py`.

Compares SSGANClassifier, with its defaults and five seeds, with the estimators of the examples on the same data and
labelled rows. The error is measured on the unlabelled rows, or on the folds of the example. The newsgroups example is
skipped, since it downloads its texts. Each error is a row of `results/rows/gallery.jsonl`, which each run rewrites.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import datasets
from sklearn.model_selection import StratifiedKFold
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC
from sklearn.utils import shuffle

import results
from ssgan import SSGANClassifier, runs
from ssgan.devices import processor_name
from ssgan.files import write_atomic

ROWS = results.ROWS / "gallery.jsonl"
SEEDS = 5


class Example(NamedTuple):
    """An example of the gallery: its name, its data with -1 for unlabelled rows, and its estimators by name.

    ``folds`` are pairs of training and test rows; without them the unlabelled rows are the test rows.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    y_true: np.ndarray
    estimators: dict[str, Callable[[], Any]]
    folds: list[tuple[np.ndarray, np.ndarray]] | None = None


def examples() -> Iterator[Example]:
    """Make the data of each example as the gallery does."""
    digits = datasets.load_digits()
    order = np.arange(len(digits.data))
    np.random.RandomState(2).shuffle(order)
    x, y_true = digits.data[order[:340]], digits.target[order[:340]]
    spreading = {"LabelSpreading(gamma=0.25, max_iter=20)": lambda: LabelSpreading(gamma=0.25, max_iter=20)}
    yield Example("plot_label_propagation_digits", x, np.where(np.arange(340) < 40, y_true, -1), y_true, spreading)

    x, y_true = datasets.make_circles(n_samples=200, shuffle=False)
    y = np.full(200, -1)
    y[0], y[-1] = y_true[0], y_true[-1]
    knn = {"LabelSpreading(kernel='knn', alpha=0.8)": lambda: LabelSpreading(kernel="knn", alpha=0.8)}
    yield Example("plot_label_propagation_structure", x, y, y_true, knn)

    iris = datasets.load_iris()
    hidden = np.random.RandomState(0).rand(len(iris.target))
    svc = {
        "SelfTrainingClassifier(SVC(gamma=0.5))": lambda: SelfTrainingClassifier(SVC(gamma=0.5, probability=True)),
        "LabelSpreading()": LabelSpreading,
    }
    for share in (0.3, 0.5):
        y = np.where(hidden < share, -1, iris.target)
        yield Example(
            f"plot_semi_supervised_versus_svm_iris, {share:.0%} unlabelled", iris.data[:, :2], y, iris.target, svc
        )

    x, y_true = shuffle(*datasets.load_breast_cancer(return_X_y=True), random_state=42)
    base = {
        "SelfTrainingClassifier(SVC(gamma=0.001))": lambda: SelfTrainingClassifier(
            SVC(probability=True, gamma=0.001, random_state=42)
        )
    }
    y = np.where(np.arange(len(y_true)) < 50, y_true, -1)
    folds = list(StratifiedKFold(n_splits=3).split(x, y))
    yield Example("plot_self_training_varying_threshold", x, y, y_true, base, folds)


def mean_error(example: Example, make: Callable[[], Any]) -> float:
    """Return the error in percent of an estimator on an example."""
    unlabeled = np.flatnonzero(example.y < 0)
    all_rows = np.arange(len(example.y))
    errors = []
    for train_rows, test_rows in example.folds or [(all_rows, unlabeled)]:
        estimator = make().fit(example.x[train_rows], example.y[train_rows])
        errors.append(np.mean(estimator.predict(example.x[test_rows]) != example.y_true[test_rows]))
    return 100.0 * float(np.mean(errors))


def main() -> None:
    """Measure every estimator on every example."""
    torch.set_num_threads(1)
    rows = []
    for example in examples():
        estimators: dict[str, list[Callable[[], Any]]] = {name: [make] for name, make in example.estimators.items()}
        estimators["SSGANClassifier()"] = [
            lambda seed=seed: SSGANClassifier(random_state=seed, device="cpu") for seed in range(SEEDS)
        ]
        for name, makes in estimators.items():
            for seed, make in enumerate(makes):
                cpu = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    error = mean_error(example, make)
                row = {
                    **{"dataset": example.name, "labels": int((example.y >= 0).sum()), "method": name, "seed": seed},
                    **{"error": error, "cpu_seconds": time.process_time() - cpu, "device_name": processor_name(1)},
                    **runs.provenance(),
                }
                rows.append(row)
                print(f"{example.name}: {name}, seed {seed}: {error:.2f} %", flush=True)
    write_atomic(ROWS, "".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
