#!/usr/bin/env python3
"""Compare strategies of `ssgan suggest` with a fast classifier, scikit-learn's label spreading.

The first labels are typical or random; their number is doubled in each round. Images are drawn from the training
pool; a third is never suggested, and the error is measured on this third. `simulate_labeler.py` trains `ssgan` models
instead.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.semi_supervised import LabelSpreading

from ssgan.data import load
from ssgan.data.splits import draw
from ssgan.labeling.selection import draw_random, embed, select_typical, select_uncertain


def main() -> None:
    """Run the trials and append a line of JSON for each fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist", "fashion-mnist"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--pool", type=int, default=5000)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--most", type=int, default=160)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    whole = load(args.data)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        rows = np.random.RandomState(seed).permutation(len(whole.x_train))[: args.pool * 3 // 2]
        x, y_all = whole.x_train[rows].reshape(len(rows), -1) / whole.scale, whole.y_train[rows]
        vectors = PCA(min(50, x.shape[1]), random_state=0).fit_transform(x)
        embedded, y = embed(vectors[: args.pool]), y_all[: args.pool]
        for strategy in ("typical", "uncertain", "random", "balanced"):
            labeled, p_NK = np.zeros(0, np.int64), None
            budget = args.first
            while budget <= args.most:
                n = budget - len(labeled)
                if strategy == "balanced":
                    labeled = draw(y, budget, seed)
                elif strategy == "random":
                    labeled = np.concatenate([labeled, draw_random(len(y), n, labeled, seed).indices])
                elif strategy == "typical" or p_NK is None:
                    labeled = np.concatenate([labeled, select_typical(embedded, n, labeled, seed).indices])
                else:
                    chosen = select_uncertain(p_NK[None], embedded, n, labeled, seed=seed)
                    labeled = np.concatenate([labeled, chosen.indices])
                visible = np.full(len(y_all), -1)
                visible[labeled] = y[labeled]
                model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.8)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(vectors, visible)
                p_NK = np.nan_to_num(model.label_distributions_, nan=1 / len(model.classes_))
                error = 100 * float((model.classes_[p_NK.argmax(axis=1)] != y_all)[len(y) :].mean())
                p_NK = p_NK[: len(y)]
                class_count = len(np.unique(y[labeled]))
                row = {"data": args.data, "strategy": strategy, "seed": seed, "labels": budget, "classes": class_count}
                row |= {"error": error, "learner": "label-spreading", "pool": args.pool}
                print(json.dumps(row), flush=True)
                with args.out.open("a") as stream:
                    print(json.dumps(row), file=stream)
                budget *= 2


if __name__ == "__main__":
    main()
