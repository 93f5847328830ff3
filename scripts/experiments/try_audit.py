#!/usr/bin/env python3
"""Flip some labels and measure how many of them `ssgan audit` lists first, by the models of five folds."""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold
from sklearn.semi_supervised import LabelSpreading

from ssgan.data import load
from ssgan.data.dataset import Data
from ssgan.data.splits import draw, hide
from ssgan.inference.metrics import softmax
from ssgan.labeling.audit import find_mistakes
from ssgan.settings.presets import DATASET_PRESETS, resolve
from ssgan.training.folds import held_out_logits, train_folds


def flip(y: np.ndarray, rows: np.ndarray, share: float, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give a share of the rows another class, drawn evenly; return the labels and the flipped rows."""
    random = np.random.RandomState(seed)
    flipped = random.choice(rows, round(share * len(rows)), replace=False)
    changed = y.copy()
    changed[flipped] = (y[flipped] + random.randint(1, classes, len(flipped))) % classes
    return changed, flipped


def spread_labels(data: Data, labeled: np.ndarray, seed: int) -> np.ndarray:
    """Return probabilities [N, K] of labelled images by label spreading without their fold of five."""
    x = data.x_train.reshape(len(data.x_train), -1) / data.scale
    vectors, p_NK = PCA(50, random_state=0).fit_transform(x), np.zeros((len(x), len(data.classes)))
    for rest, fold in StratifiedKFold(5, shuffle=True, random_state=seed).split(labeled, data.y_train[labeled]):
        known = hide(data.y_train, labeled[rest])
        model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.8).fit(vectors, known)
        p_NK[np.ix_(labeled[fold], model.classes_)] = np.nan_to_num(model.label_distributions_[labeled[fold]])
    return p_NK


def main() -> None:
    """Run the trials and append a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are flipped")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--preset")
    parser.add_argument("--quick", action="store_true", help="models of label spreading, in seconds")
    parser.add_argument("--images", type=int, help="length of each training")
    parser.add_argument("--pool", type=int, help="images of the pool, drawn by the seed")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = load(asked.data)
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        started = time.perf_counter()
        drawn = np.random.RandomState(seed).permutation(len(whole.x_train))[: asked.pool]
        y = whole.y_train[drawn]
        labeled = draw(y, asked.labels, seed)
        noisy, flipped = flip(y, labeled, asked.share, len(whole.classes), seed)
        data = dataclasses.replace(whole, x_train=whole.x_train[drawn], y_train=hide(noisy, labeled))
        length = {} if asked.images is None else {"total_images": asked.images}
        settings = {"labels": "all", "folds": 5, "device": "cpu", **length}
        p_NK = np.zeros((len(y), len(whole.classes)))
        for k in range(asked.rounds):
            if asked.quick:
                p_NK[labeled] += spread_labels(data, labeled, seed + k)[labeled] / asked.rounds
                continue
            config = resolve(asked.preset or DATASET_PRESETS[asked.data], {**settings, "seed": seed + 5 * k})
            with tempfile.TemporaryDirectory() as folder:
                parts, models = train_folds(data, config, Path(folder) / "folds")
            for rows, logits_nK in held_out_logits(data, parts, models):
                p_NK[rows] += softmax(logits_nK) / asked.rounds
        found = find_mistakes(p_NK[labeled], noisy[labeled])
        is_flipped = np.isin(labeled, flipped)
        first = found.order[: round(0.1 * asked.labels)]
        ranks = np.flatnonzero(is_flipped[found.order]) + 1
        row = {
            "data": asked.data,
            "learner": "label-spreading" if asked.quick else asked.preset or DATASET_PRESETS[asked.data],
            "images": asked.images,
            "rounds": asked.rounds,
            "seed": seed,
            "labels": asked.labels,
            "flipped": len(flipped),
            "in_first_tenth": int(is_flipped[first].sum()),
            "likely": int(found.likely.sum()),
            "likely_flipped": int((found.likely & is_flipped).sum()),
            "ranks": ranks.tolist(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(json.dumps(row), flush=True)
        with asked.out.open("a") as stream:
            print(json.dumps(row), file=stream)


if __name__ == "__main__":
    main()
