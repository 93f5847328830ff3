#!/usr/bin/env python3
"""Flip some labels and count how many of them `ssgan audit` lists first, with models of five folds."""

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
    """Give a share of the rows another class, drawn uniformly; return the labels and the flipped rows."""
    random = np.random.RandomState(seed)
    flipped = random.choice(rows, round(share * len(rows)), replace=False)
    noisy = y.copy()
    noisy[flipped] = (y[flipped] + random.randint(1, classes, len(flipped))) % classes
    return noisy, flipped


def spread_labels(data: Data, labeled: np.ndarray, seed: int) -> np.ndarray:
    """Return probabilities [N, K] of labelled images by label spreading on the other four of five folds."""
    x = data.x_train.reshape(len(data.x_train), -1) / data.scale
    vectors, p_NK = PCA(50, random_state=0).fit_transform(x), np.zeros((len(x), len(data.classes)))
    for rest, fold in StratifiedKFold(5, shuffle=True, random_state=seed).split(labeled, data.y_train[labeled]):
        visible = hide(data.y_train, labeled[rest])
        model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.8).fit(vectors, visible)
        p_NK[np.ix_(labeled[fold], model.classes_)] = np.nan_to_num(model.label_distributions_[labeled[fold]])
    return p_NK


def main() -> None:
    """Run the trials and append a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05, help="share of labels to flip")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--preset")
    parser.add_argument("--quick", action="store_true", help="use label spreading, which takes seconds")
    parser.add_argument("--images", type=int, help="length of each training")
    parser.add_argument("--pool", type=int, help="images of the pool, drawn by the seed")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = load(args.data)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        start = time.perf_counter()
        pool_rows = np.random.RandomState(seed).permutation(len(whole.x_train))[: args.pool]
        y = whole.y_train[pool_rows]
        labeled = draw(y, args.labels, seed)
        noisy, flipped = flip(y, labeled, args.share, len(whole.classes), seed)
        data = dataclasses.replace(whole, x_train=whole.x_train[pool_rows], y_train=hide(noisy, labeled))
        length_settings = {} if args.images is None else {"total_images": args.images}
        settings = {"labels": "all", "folds": 5, "device": "cpu", **length_settings}
        p_NK = np.zeros((len(y), len(whole.classes)))
        for k in range(args.rounds):
            if args.quick:
                p_NK[labeled] += spread_labels(data, labeled, seed + k)[labeled] / args.rounds
                continue
            config = resolve(args.preset or DATASET_PRESETS[args.data], {**settings, "seed": seed + 5 * k})
            with tempfile.TemporaryDirectory() as folder:
                parts, models = train_folds(data, config, Path(folder) / "folds")
            for rows, logits_nK in held_out_logits(data, parts, models):
                p_NK[rows] += softmax(logits_nK) / args.rounds
        ranking = find_mistakes(p_NK[labeled], noisy[labeled])
        is_flipped = np.isin(labeled, flipped)
        first = ranking.order[: round(0.1 * args.labels)]
        ranks = np.flatnonzero(is_flipped[ranking.order]) + 1
        row = {
            "data": args.data,
            "learner": "label-spreading" if args.quick else args.preset or DATASET_PRESETS[args.data],
            "images": args.images,
            "rounds": args.rounds,
            "seed": seed,
            "labels": args.labels,
            "flipped": len(flipped),
            "in_first_tenth": int(is_flipped[first].sum()),
            "likely": int(ranking.likely.sum()),
            "likely_flipped": int((ranking.likely & is_flipped).sum()),
            "ranks": ranks.tolist(),
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(json.dumps(row), flush=True)
        with args.out.open("a") as stream:
            print(json.dumps(row), file=stream)


if __name__ == "__main__":
    main()
