#!/usr/bin/env python3
"""Count the classes among the first images of `ssgan suggest`, by number of eigenvectors and choice of clusters.

    scripts/experiments/try_typical.py digits mnist cifar10 fashion-mnist

Pools are those of `simulate_labeler.py --choose`: seeds from 1000, without the held-out third.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from simulate_labeler import FIRST_CHOOSING_SEED, TASKS, draw_pool
from sklearn.cluster import AgglomerativeClustering, KMeans

from ssgan.data import load
from ssgan.inference.features import apply_backbone
from ssgan.labeling.selection import embed, select_typical, typicality
from ssgan.labeling.suggest import pool_vectors
from ssgan.settings.presets import resolve

DIMENSIONS, COUNTS = (10, 20), (10, 20)


def largest_clusters(x: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Choose as `suggest` does: n clusters, one image of each."""
    return select_typical(x, n, (), seed).indices


def far_clusters(x: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Choose n of 2n clusters, each farthest from the earlier ones, without small ones."""
    cluster_of = KMeans(2 * n, n_init=4, random_state=seed).fit_predict(x)
    sizes = np.bincount(cluster_of)
    centers = np.stack([x[cluster_of == k].mean(axis=0) for k in range(len(sizes))])
    chosen = [int(sizes.argmax())]
    while len(chosen) < n:
        distances = np.linalg.norm(centers[:, None] - centers[chosen], axis=2).min(axis=1)
        distances[sizes < len(x) / (8 * n)] = -1
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return np.array([_most_typical(x, np.flatnonzero(cluster_of == k)) for k in chosen])


def merged_clusters(x: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Merge 4n clusters into n by average linkage, and choose from the largest part of each."""
    cluster_of = KMeans(4 * n, n_init=4, random_state=seed).fit_predict(x)
    sizes = np.bincount(cluster_of)
    centers = np.stack([x[cluster_of == k].mean(axis=0) for k in range(len(sizes))])
    group_of = AgglomerativeClustering(n, linkage="average").fit_predict(centers)
    chosen = [max(np.flatnonzero(group_of == g), key=lambda k: sizes[k]) for g in range(n)]
    return np.array([_most_typical(x, np.flatnonzero(cluster_of == k)) for k in chosen])


def _most_typical(x: np.ndarray, members: np.ndarray) -> int:
    return int(members[typicality(x[members]).argmax()])


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "n clusters": largest_clusters,
    "far ones of 2n": far_clusters,
    "4n merged to n": merged_clusters,
}


def main() -> None:
    """Print the mean number of classes for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=[name for name in TASKS if name != "trashnet"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.data:
        task, full_data = TASKS[name], load(name)
        full_data = apply_backbone(full_data, resolve(task.preset, {**task.settings, "labels": 10, "device": "cpu"}))
        classes: dict[tuple[int, int, str], list[int]] = {}
        for seed in range(FIRST_CHOOSING_SEED, FIRST_CHOOSING_SEED + args.seeds):
            data = draw_pool(full_data, task.pool, seed, choose=True)
            vectors = pool_vectors(data, np.arange(len(data.x_train)))
            for dimensions in DIMENSIONS:
                embedded = embed(vectors, dimensions)
                for n in COUNTS:
                    for method, choose in METHODS.items():
                        class_count = len(np.unique(data.y_train[choose(embedded, n, seed)]))
                        classes.setdefault((n, dimensions, method), []).append(class_count)
        for (n, dimensions, method), counts in sorted(classes.items()):
            print(
                f"{name}, {n} images, {dimensions} eigenvectors, {method}: {np.mean(counts):.1f} {counts}", flush=True
            )


if __name__ == "__main__":
    main()
