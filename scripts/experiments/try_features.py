#!/usr/bin/env python3
r"""Try settings of the K+1 GAN, and of classical classifiers, on features of a frozen network.

    scripts/experiments/try_features.py features/trashnet-efficientnet-lite0-160.npz --labels 24,60 \
        base noise_input_std=0.5 scale=unit+smooth=10+weight_entropy=0.3
    scripts/experiments/try_features.py features/trashnet-efficientnet-lite0-160.npz --labels 24,60 --classical

The file must hold ``x_train`` [N, F] and ``y_train`` [N]; test rows are not read. Every argument after the options is
one variant: settings joined by ``+`` (``base`` for none). Besides the settings of training there are settings of the
features, which are fitted to the pool without its labels, and of the trial:

``pca``      components, 0 for all features (128)
``scale``    ``overall``: features standardised, components divided by their overall deviation; ``unit``: each row
             scaled to length 1 before that; ``whiten``: each component divided by its own deviation; ``raw``:
             as ``overall``, but features not standardised
``smooth``   each row becomes the mean of itself and its k nearest rows of the pool, by cosine; the value is k (0)
``rounds``   number of times that ``smooth`` is applied (1)
``own``      factor of each row's own components, which are appended to the mean; 0: only the mean (0)
``pool``     rows of the pool, chosen by a fixed permutation (all)
``expand``   rows of each class that are labelled by label propagation before training (0)
``members``  models of each draw, whose class probabilities are averaged (1)

The draws start at seed 1000, so that no label draw of published rows is used. The score is the error on the unlabelled
rows of the pool, or, with ``--held-out N``, on N rows of the pool that nothing is fitted to. Prints mean, deviation,
the mean difference to the first variant with its standard error, CPU seconds of one model, the entropy of the shares
of predicted classes as a fraction of its maximum (1: even), and every draw's error.
"""

import argparse
import functools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.inference.metrics import softmax
from ssgan.settings.presets import parse, resolve
from ssgan.training.trainer import train

FIRST_SEED = 1000
FEATURE_SETTINGS = {"pca": 128, "scale": "overall", "smooth": 0, "rounds": 1, "own": 0.0, "pool": 0}
TRIAL_SETTINGS = {"expand": 0, "members": 1}
MAX_NEIGHBORS = 50
EXPAND_NEIGHBORS, EXPAND_STEPS = 20, 30
# Settings of the classical classifiers.
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
MIN_CONFIDENCE, ROUNDS, MAX_ROWS = 0.9, 10, 5000

Score = Callable[[np.ndarray], np.ndarray]


class Pool:
    """Features of a pool, and the rows that are scored.

    Parameters
    ----------
    path : str
        The file of features.
    held_out : int
        Number of rows to score, which are not used for fitting; 0: score the unlabelled rows of the pool.
    """

    def __init__(self, path: str, held_out: int) -> None:
        with np.load(path) as arrays:
            self.stored, self.stored_y = arrays["x_train"], arrays["y_train"].astype(np.int64)
        self.classes = int(self.stored_y.max()) + 1
        self.held_out = held_out

    def prepare(self, pca: int, scale: str, smooth: int, rounds: int, own: float, pool: int) -> None:
        """Set ``x`` [N, F] and ``y`` of the pool, and ``x_test`` and ``y_test`` of the held-out rows."""
        order, n = np.random.RandomState(1).permutation(len(self.stored_y)), self.held_out
        test, rows = order[:n], order[n : n + pool if pool else None]
        a, b = self.stored[rows].astype(np.float32), self.stored[test].astype(np.float32)
        mean, deviation = a.mean(axis=0), 1.0 if scale == "raw" else a.std(axis=0) + 1e-6
        a, b = (a - mean) / deviation, (b - mean) / deviation
        if pca:
            fit = PCA(min(pca, *a.shape), svd_solver="covariance_eigh" if len(a) > a.shape[1] else "full").fit(a)
            a, b = fit.transform(a), fit.transform(b) if n else b[:, : fit.n_components_]
            print(f"# {fit.n_components_} components hold {fit.explained_variance_ratio_.sum():.3f} of the variance")
        if scale == "unit":
            a, b = unit(a), unit(b)
        own_a, own_b, own_divisor = a, b, a.std()
        for _ in range(rounds if smooth else 0):
            neighbor_rows = [nearest(unit(a), unit(x), smooth) for x in (a, b)]
            a, b = ((x + a[rows].sum(axis=1)) / (smooth + 1) for x, rows in zip((a, b), neighbor_rows, strict=True))
        divisor = a.std(axis=0) if scale == "whiten" else a.std()
        self.x, self.x_test = (a / divisor).astype(np.float32), (b / divisor).astype(np.float32)
        if own:
            self.x = np.hstack([self.x, (own * own_a / own_divisor).astype(np.float32)])
            self.x_test = np.hstack([self.x_test, (own * own_b / own_divisor).astype(np.float32)])
        self.y, self.y_test = self.stored_y[rows], self.stored_y[test]
        self.nearest.cache_clear()
        self.graph.cache_clear()

    def score(self, score: Score, split: splits.Split) -> list[float]:
        """Return the error in percent of class scores, and the entropy of the predicted classes."""
        x, y = self.x_test, self.y_test
        if not self.held_out:
            rows = np.setdiff1d(np.arange(len(self.y)), split.indices)
            x, y = self.x[rows], self.y[rows]
        predicted = score(x).argmax(axis=1)
        share = np.bincount(predicted, minlength=self.classes) / len(predicted)
        share = share[share > 0]
        return [100.0 * float(np.mean(predicted != y)), float(-(share * np.log(share)).sum() / np.log(self.classes))]

    @functools.cache  # noqa: B019
    def nearest(self) -> np.ndarray:
        """Return the ``MOST_NEIGHBORS`` nearest rows of the pool of each of its rows, by cosine."""
        return nearest(unit(self.x), unit(self.x), MAX_NEIGHBORS)

    @functools.cache  # noqa: B019
    def graph(self, neighbors: int) -> Any:
        """Return the symmetric graph [N, N] of nearest rows of the pool."""
        near = self.nearest()[:, :neighbors]
        rows, ones = np.repeat(np.arange(len(near)), neighbors), np.ones(near.size, np.float32)
        graph = sparse.csr_matrix((ones, (rows, near.ravel())), shape=(len(near),) * 2)
        return graph.maximum(graph.T)

    def spread(self, split: splits.Split, neighbors: int, alpha: float, steps: int = 60) -> np.ndarray:
        """Spread labels over the graph (Zhou et al., 2004); return shares of classes [N, K]."""
        near = self.graph(neighbors)
        root = sparse.diags(np.asarray(near.sum(axis=1)).ravel() ** -0.5)
        walk, start = root @ near @ root, self.labels(split)
        shares = start
        for _ in range(steps):
            shares = alpha * (walk @ shares) + (1 - alpha) * start
        return shares

    def propagate(self, split: splits.Split, neighbors: int, steps: int) -> np.ndarray:
        """Propagate labels over the graph (Zhu & Ghahramani, 2002) for ``steps`` steps; return shares [N, K]."""
        near = self.graph(neighbors)
        walk, shares = sparse.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near, self.labels(split)
        for _ in range(steps):
            shares = walk @ shares
            shares[split.indices] = np.eye(self.classes)[split.y]
        return shares

    def labels(self, split: splits.Split) -> np.ndarray:
        """Return the given labels as shares [N, K]."""
        shares = np.zeros((len(self.y), self.classes), np.float32)
        shares[split.indices, split.y] = 1.0
        return shares

    def expand_labels(self, split: splits.Split, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Label the ``count`` most confident rows of each class by label propagation; return labels [N] and rows.

        Every class has the same total mass in this selection. Hidden labels are not used.
        """
        shares = self.propagate(split, EXPAND_NEIGHBORS, EXPAND_STEPS)
        p = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
        p /= p.mean(axis=0)
        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
        y = p.argmax(axis=1)
        y[split.indices] = split.y
        rows = [np.flatnonzero(y == c) for c in range(self.classes)]
        surest = [r[np.argsort(-p[r, c], kind="stable")[:count]] for c, r in enumerate(rows)]
        return y, np.unique(np.concatenate([split.indices, *surest]))


def unit(x: np.ndarray) -> np.ndarray:
    """Scale each row to length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nearest(pool: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of ``pool`` nearest to each row of ``x``, without copies, int [N, count]; rows have length 1."""
    table, neighbors = torch.from_numpy(pool), []
    for block in torch.from_numpy(x).split(1000):
        cosine = block @ table.T
        neighbors.append(cosine.masked_fill(cosine > 1 - 1e-6, -1).topk(count, dim=1).indices)
    return torch.cat([torch.zeros(0, count, dtype=torch.int64), *neighbors]).numpy()


def train_networks(pool: Pool, settings: dict[str, Any], labels: int, draws: int) -> tuple[np.ndarray, float]:
    """Train one variant; return the result of :meth:`Pool.score` for each draw, and the CPU seconds of one model."""
    expand, members = (int(settings.get(name, value)) for name, value in TRIAL_SETTINGS.items())
    values = {name: value for name, value in settings.items() if name not in FEATURE_SETTINGS | TRIAL_SETTINGS}
    results, start = [], time.process_time()
    for draw in range(FIRST_SEED, FIRST_SEED + draws):
        split = splits.make_splits(pool.y, labels, [draw])[0]
        y, rows = pool.expand_labels(split, expand) if expand else (pool.y, split.indices)
        data = Data(pool.x, y, pool.x[:0], y[:0], tuple(map(str, range(pool.classes))), normal=(0.0, 1.0))
        config = {**values, "labels": len(rows), "seed": draw, "seeds": members, "draw_seed": draw}
        model_splits = splits.make_splits(y, None, [draw] * members, rows)
        models = train(data, resolve("features", {"backbone": None, **config}), model_splits).models

        def score(x: np.ndarray, models: Any = models) -> np.ndarray:
            return np.mean([softmax(logits) for logits in models.logits(x)], axis=0)

        results.append(pool.score(score, split))
    return np.array(results), (time.process_time() - start) / draws / members


def self_training(x: np.ndarray, split: splits.Split, make: Callable[[], Any]) -> Any:
    """Fit a classifier repeatedly to the labels and its confident predictions; return it."""
    rows, labels = split.indices, split.y
    for _ in range(ROUNDS):
        model = make().fit(x[rows], labels)
        p = model.predict_proba(x)
        confident = np.setdiff1d(np.flatnonzero(p.max(axis=1) > MIN_CONFIDENCE), split.indices)[:MAX_ROWS]
        if len(confident) + len(split.indices) == len(rows):
            break
        rows, labels = np.r_[split.indices, confident], np.r_[split.y, p[confident].argmax(axis=1)]
    return model


def fit_classical(pool: Pool, labels: int, draws: int, only: str) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield name, results of :meth:`Pool.score` and seconds of each classical classifier that ``only`` matches.

    A graph method predicts a held-out row by the mean shares of its nearest rows of the pool.
    """
    label_splits = splits.make_splits(pool.y, labels, range(FIRST_SEED, FIRST_SEED + draws))
    links = nearest(unit(pool.x), unit(pool.x_test), MAX_NEIGHBORS)
    fits: dict[str, Callable[[splits.Split], Score]] = {}

    def add(name: str, fit: Callable[[np.ndarray, splits.Split], Any]) -> None:
        for kind, transform in (("plain", np.asarray), ("cosine", unit)):

            def scores(split: splits.Split, transform: Callable[[np.ndarray], np.ndarray] = transform) -> Score:
                model = fit(transform(pool.x), split)
                if isinstance(model, SVC):
                    return lambda x: np.eye(pool.classes)[model.predict(transform(x))]
                return lambda x: model.predict_proba(transform(x))

            fits[f"{name} {kind}"] = scores

    def add_graph(name: str, neighbors: int, spread: Callable[[splits.Split], np.ndarray]) -> None:
        def scores(split: splits.Split) -> Score:
            shares = spread(split)
            rest = np.setdiff1d(np.arange(len(pool.y)), split.indices)
            chosen = shares[links[:, :neighbors]].mean(axis=1) if pool.held_out else shares[rest]
            return lambda _: chosen

        fits[f"{name} k={neighbors}"] = scores

    def logistic(c: float, **options: Any) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=2000, **options)

    for c in STRENGTHS:
        add(f"logistic C={c}", lambda x, s, c=c: logistic(c).fit(x[s.indices], s.y))
    for c in (1.0, 10.0):
        add(f"svm rbf C={c}", lambda x, s, c=c: SVC(C=c).fit(x[s.indices], s.y))
        add(f"self-training C={c}", lambda x, s, c=c: self_training(x, s, lambda: logistic(c, class_weight="balanced")))
    for k in (k for k in (1, 3, 5) if k <= labels // pool.classes):
        add(f"knn k={k}", lambda x, s, k=k: KNeighborsClassifier(k).fit(x[s.indices], s.y))
    for k in (7, 10, 20, 50):
        for alpha in (0.8, 0.95, 0.99):
            add_graph(f"spreading alpha={alpha}", k, lambda s, k=k, alpha=alpha: pool.spread(s, k, alpha))
        for steps in (10, 30, 60):
            add_graph(f"propagation steps={steps}", k, lambda s, k=k, steps=steps: pool.propagate(s, k, steps))
    for name, fit in ((name, fit) for name, fit in fits.items() if re.search(only, name)):
        start = time.process_time()
        results = np.array([pool.score(fit(split), split) for split in label_splits])
        yield name, results, (time.process_time() - start) / draws


def format_line(name: str, labels: int, results: np.ndarray, first: np.ndarray, seconds: float) -> str:
    """Format the line of one variant."""
    errors, even = results.T
    gap = errors - first
    deviation, error_of_gap = (v.std(ddof=1) if len(v) > 1 else 0.0 for v in (errors, gap / len(gap) ** 0.5))
    return (
        f"{name:50s} labels {labels:4d}  {errors.mean():6.2f} +- {deviation:5.2f}  vs first {gap.mean():+6.2f} "
        f"+- {error_of_gap:4.2f}  {seconds:5.1f} s  even {even.mean():.3f}  {errors.round(1).tolist()}"
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse ``name=value``, a setting of the features, the trial or the training."""
    name, _, value = text.partition("=")
    if name in FEATURE_SETTINGS | TRIAL_SETTINGS:
        return name, value if name == "scale" else float(value) if name == "own" else int(value)
    return parse(text)


def main() -> None:
    """Try each variant on the same draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="file of features, .npz")
    parser.add_argument("--labels", default="40")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=0, help="rows to score; 0: the unlabelled rows of the pool")
    parser.add_argument("--classical", action="store_true", help="classical classifiers instead of networks")
    parser.add_argument("--only", default="", help="regular expression of the names of classical classifiers")
    parser.add_argument("variants", nargs="*", default=["base"])
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    pool = Pool(args.features, args.held_out)
    first: dict[int, np.ndarray] = {}
    for variant in args.variants:
        settings = {} if variant == "base" else dict(parse_setting(part) for part in variant.split("+"))
        pool.prepare(**{name: settings.get(name, value) for name, value in FEATURE_SETTINGS.items()})
        for labels in map(int, args.labels.split(",")):
            trials = [("", *train_networks(pool, settings, labels, args.draws))] if not args.classical else None
            for name, results, seconds in trials or fit_classical(pool, labels, args.draws, args.only):
                reference = first.setdefault(labels, results[:, 0])
                print(format_line(f"{variant} {name}".strip(), labels, results, reference, seconds), flush=True)


if __name__ == "__main__":
    main()
