"""Fit classical baselines on the label draw of the networks: scikit-learn's classifiers over principal components.

A classifier gets images and the labelled rows of a :class:`~ssgan.data.splits.Split`, and no other labels. Test images
are only predicted: no classifier and no feature is fitted to them.

**Features.** Pixels / ``scale``, projected on the first 50 principal components (all of them, if there are fewer) of
the pool, without its labels and without the rows held out. A few labelled images are too few to fit hundreds of pixels,
while the pool shows along which directions images vary; 50 components keep 82 % of the variance of MNIST. They are not
whitened and pixels are not standardised, because both amplify directions and pixels that hardly vary, and all methods
here use Euclidean distances or norms. For images with many pixels, the components are fitted to a random subset of the
pool that fits into memory.

**Features of a backbone** are not projected; each row is divided by its length, so that all methods compare angles.

**Settings** are fixed. Values other than scikit-learn's defaults were chosen by the error on hidden labels of *pool*
rows that were held out of the fit, on ``digits`` and on MNIST (8,000 images to learn from), with 20 to 100 labels and
draws from 100 up; no test label was used. One number is fitted to the labelled images by cross-validation, the
temperature of the support vector machine.

=================== ================================================================================================
logistic-regression L2, ``C=10``: the error is about that of ``C=1``, which is underconfident on ``digits``.
svm                 One RBF machine for each class against the rest, ``C=10``, ``gamma="scale"``. The softmax of the
                    margins has a temperature (Guo et al., *On Calibration of Modern Neural Networks*, 2017) that
                    minimises the NLL of margins by 5-fold cross-validation, fewer if a class has fewer labels: it
                    changes no prediction, and was better than Platt's sigmoids, which few labels fit badly.
                    If a class has one label, there is no temperature and no probability.
knn                 The nearest labelled image; 3 neighbours were worse, up to 100 labels. There is no probability.
label-spreading     7 neighbours, ``alpha=0.8``: with scikit-learn's 0.2 labels do not reach all of a large pool;
                    with 0.99 (Zhou et al., *Learning with Local and Global Consistency*, 2004) the error was about 1
                    point higher, except for MNIST with 20 labels.
label-propagation   7 neighbours, stopped after 30 steps. In a large pool its limit is almost constant, with spikes at
                    the labels (Nadler et al., *Statistical Analysis of Semi-Supervised Learning*, 2009): on
                    MNIST that is worse than logistic regression.
self-training       Logistic regression as above, whose probabilities need no images for calibration, takes up what
                    it is more than 90 % sure of (with the default of 75 %, 2 to 4 points worse on MNIST, up to 1 better
                    on ``digits``), in at most 10 rounds. Classes have the same weight in its loss
                    (``class_weight="balanced"``), or the class that grows first takes over.
=================== ================================================================================================

On features of a backbone other settings were best, by the error on hidden labels of pool rows of CIFAR-10 and TrashNet
with 24 to 60 labels and draws from 1000 up (docs/notes/features.md): ``C=1`` for logistic regression and self-training,
and for the graph methods 10 neighbours, with ``alpha=0.95`` for label spreading.

The two graph methods spread the labels over the graph of nearest neighbours; a test image gets the mean class
probabilities of its neighbours. If no label reaches an image, scikit-learn divides 0 by 0 (its issue 34351); here all
labelled classes are then equally likely, and ``unreached_tests`` and a warning of the row give the number of such test
images. The probabilities add up to 1 and are often exactly 0; ``ece`` shows whether they are calibrated.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.neighbors import FEATURE_NEIGHBORS, PIXEL_NEIGHBORS, NeighborKernel, fit_components, unit_rows
from ssgan.data.splits import Split
from ssgan.devices import processor_name
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.inference.metrics import best_temperature, expected_calibration_error, negative_log_likelihood, softmax

__all__ = ["BASELINES", "UNLABELED_CAP", "Baseline", "BaselineResult", "baseline_row", "fit_baseline"]


UNLABELED_CAP = 60_000
FOLDS = 5
# Settings that depend on the images and their labels.
DATA_SETTINGS = ("components", "pca_rows", "unlabeled_used", "temperature_folds", "unreached_tests")
LOGISTIC = {"C": 10.0, "max_iter": 1000}


class BaselineResult(NamedTuple):
    """Predictions of a classifier for the T test images.

    Attributes
    ----------
    method : str
    predicted : ndarray of int64, shape [T]
        Class indices.
    probabilities : ndarray of float64, shape [T, K], or None
        They are finite, sum to 1, are 0 for a class without labels, and are largest at ``predicted``. None if the
        method has none.
    settings : dict
        Plain types: the settings of the estimator and of the features, the number of unlabelled images that it
        learned from (``unlabeled_used``; 0 for supervised methods), and that of images, labelled ones included, for
        the principal components (``pca_rows``); for a graph method the number of test images that no label reaches
        (``unreached_tests``).
    seconds : float
        Time from the images to the predictions.
    """

    method: str
    predicted: np.ndarray
    probabilities: np.ndarray | None
    settings: dict[str, Any]
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """Sentences about predictions without information."""
        if not (unreached := self.settings.get("unreached_tests")):
            return []
        return [
            f"{self.method}: no label reaches {unreached:,} of {counted(len(self.predicted), 'test image')}; the "
            f"probability of every labelled class is the same there."
        ]


class FitTask(NamedTuple):
    """Features [n, F] of the labelled, unlabelled and test images, and the labels, 0 to C - 1 without gaps.

    ``rows`` are those of labelled and then of unlabelled images in the pool.
    """

    labeled: np.ndarray
    y: np.ndarray
    unlabeled: np.ndarray
    test: np.ndarray
    seed: int
    of_backbone: bool = False
    rows: np.ndarray = np.zeros(0, np.int64)

    @property
    def logistic(self) -> dict[str, float]:
        """Settings of logistic regression."""
        return {**LOGISTIC, **({"C": 1.0} if self.of_backbone else {})}

    @property
    def graph(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of all training images and their labels, -1 for unlabelled ones, as scikit-learn takes them.

        Features of a backbone are in the order of the pool, which is the same for every draw of labels.
        """
        hidden = np.full(len(self.unlabeled), -1)
        x, y = np.concatenate([self.labeled, self.unlabeled]), np.concatenate([self.y, hidden])
        if not self.of_backbone:
            return x, y
        order = np.argsort(self.rows, kind="stable")
        return x[order], y[order]


class BaselineScores(NamedTuple):
    """Scores [T, C] whose largest entry is the prediction, whether they are probabilities, and the settings."""

    scores: np.ndarray
    are_probabilities: bool
    settings: dict[str, Any]


class Baseline(NamedTuple):
    """A function that fits a classifier and scores test images, and whether it uses unlabelled images."""

    fit: Callable[[FitTask], BaselineScores]
    uses_unlabeled: bool


def fit_baseline(
    name: str,
    x_pool: np.ndarray,
    scale: float,
    split: Split,
    x_test: np.ndarray,
    classes: int,
    seed: int = 0,
    unlabeled_cap: int = UNLABELED_CAP,
    of_backbone: bool = False,
) -> BaselineResult:
    """Fit a classifier to the labelled rows of a pool, some also to its other rows, and predict test images.

    Parameters
    ----------
    name : str
        One of :data:`BASELINES`.
    x_pool, x_test : ndarray
        Images [N, ...] and [T, ...] with values from 0 to ``scale``.
    scale : float
        The value of full intensity.
    split : Split
        The labelled rows of the pool, their labels, and the rows held out.
    classes : int
        K.
    seed : int
        Seed of the random subsets of a large pool, and of the folds for the temperature.
    unlabeled_cap : int
        Most unlabelled images to learn from, a random subset of the pool: memory grows with their number, and the
        time of the graph methods with its square.
    of_backbone : bool
        Whether ``x_pool`` and ``x_test`` are features of a backbone, [N, F] and [T, F].

    Raises
    ------
    UserError
        For an unknown name, and if split and images do not fit or have fewer than two classes.
    """
    _check_input(name, x_pool, split, x_test, classes)
    start = time.perf_counter()
    random = np.random.RandomState(seed)
    seen = np.setdiff1d(np.arange(len(x_pool)), split.held_out)
    project, settings = fit_components(x_pool, scale, seen, random) if not of_backbone else (unit_rows, {})
    baseline = BASELINES[name]
    unlabeled = np.setdiff1d(seen, split.indices)
    if not baseline.uses_unlabeled:
        unlabeled = unlabeled[:0]
    elif len(unlabeled) > unlabeled_cap:
        unlabeled = np.sort(random.permutation(unlabeled)[:unlabeled_cap])
    present, y = np.unique(split.y, return_inverse=True)
    test_rows = np.arange(len(x_test))
    arrays = (project(x_pool, split.indices), y, project(x_pool, unlabeled), project(x_test, test_rows))
    task = FitTask(*arrays, seed, of_backbone, np.concatenate([split.indices, unlabeled]))
    scores, are_probabilities, estimator_settings = baseline.fit(task)
    probabilities = None
    if are_probabilities:
        probabilities = np.zeros((len(x_test), classes))
        probabilities[:, present] = scores
    settings = {**estimator_settings, **settings, "unlabeled_used": len(unlabeled)}
    seconds = time.perf_counter() - start
    return BaselineResult(name, present[scores.argmax(axis=1)], probabilities, settings, seconds)


def baseline_row(data: Data, split: Split, result: BaselineResult, seed: int, draw_seed: int | None) -> dict[str, Any]:
    """Return the result row, with the keys of a row of :func:`ssgan.training.experiment.summarize`.

    The settings of a method are fixed like those of a preset, so they are not ``settings`` of the row: ``estimator``
    holds them, with those that depend on the images.

    ``error_raw`` and the keys of a training are None; so are ``ece`` and ``nll`` of a method without probabilities.
    ``nll`` is also None if the class of a test image has probability 0, because it is infinite. ``warnings`` is present
    only if there are any.

    Parameters
    ----------
    data : Data
        Its test labels score the predictions.
    split : Split
    result : BaselineResult
    seed : int
        As in :func:`fit_baseline`.
    draw_seed : int or None
        Seed of the draw of labelled images; None if they were not drawn.
    """
    from threadpoolctl import threadpool_info

    p, y = result.probabilities, data.y_test
    fixed = {name: value for name, value in result.settings.items() if name not in DATA_SETTINGS}
    identity = {"method": result.method, "settings": fixed}
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    return {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "labels": len(split.indices),
        "method": result.method,
        "preset": None,
        "settings": {},
        "estimator": result.settings,
        **data.backbone_entries,
        "config_sha256": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        "device": "cpu",
        "device_name": processor_name(threads),
        "images": None,
        "images_per_second": None,
        "seconds": result.seconds,
        **runs.provenance(),
        "seed": seed,
        "draw_seed": draw_seed,
        "split_sha256": split.sha256,
        "stack": [seed],
        "error": float(100.0 * np.mean(result.predicted != y)),
        "error_raw": None,
        "ece": None if p is None else expected_calibration_error(p, y),
        "nll": None if p is None or not p[np.arange(len(y)), y].all() else negative_log_likelihood(p, y),
        "diverged": None,
        "collapsed": None,
        **({"warnings": result.warnings} if result.warnings else {}),
    }


def _check_input(name: str, x_pool: np.ndarray, split: Split, x_test: np.ndarray, classes: int) -> None:
    """Check that method, split and images fit together."""
    if name not in BASELINES:
        words = f"Unknown classical method {name!r}: choose from {', '.join(BASELINES)}."
        raise UserError(words + did_you_mean(name, BASELINES))
    rows = np.concatenate([split.indices, split.held_out])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(x_pool):
        raise UserError(
            f"The split names rows {rows.min()} to {rows.max()}, but the pool has rows 0 to {len(x_pool) - 1}: was "
            f"it drawn from other data?"
        )
    present = np.unique(split.y)
    if len(present) < 2:
        raise UserError(
            f"The split has labels of {len(present)} of {classes} classes, but a classifier needs at least 2: label "
            f"images of more classes."
        )
    if not 0 <= present[0] <= present[-1] < classes:
        raise UserError(
            f"The split holds labels {present[0]} to {present[-1]}, but with {classes} classes they must lie in 0 to "
            f"{classes - 1}: was it drawn from other data?"
        )
    if not len(x_test) or x_test.shape[1:] != x_pool.shape[1:]:
        raise UserError(
            f"x_test is of shape {list(x_test.shape)}, but must hold at least one image of shape "
            f"{list(x_pool.shape[1:])}, as the pool does."
        )


def _logistic_regression(task: FitTask) -> BaselineScores:
    """Fit logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(**task.logistic).fit(task.labeled, task.y)
    return BaselineScores(model.predict_proba(task.test), True, task.logistic)


def _svm(task: FitTask) -> BaselineScores:
    """Fit a support vector machine, with a temperature if each class has two labels."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    settings = {"C": 10.0, "kernel": "rbf", "gamma": "scale"}
    model = OneVsRestClassifier(SVC(**settings))
    margins = _margins(model.fit(task.labeled, task.y).decision_function(task.test))
    folds = min(FOLDS, int(np.bincount(task.y).min()))
    if folds < 2:
        return BaselineScores(margins, False, {**settings, "temperature_folds": None})
    cv = StratifiedKFold(folds, shuffle=True, random_state=task.seed)
    decision = cross_val_predict(model, task.labeled, task.y, cv=cv, method="decision_function")
    temperature = best_temperature(_margins(decision), task.y)
    return BaselineScores(softmax(margins / temperature), True, {**settings, "temperature_folds": folds})


def _margins(decision: np.ndarray) -> np.ndarray:
    """Return the margins [n, C] of a one-vs-rest decision, which has a single column for two classes."""
    return decision if decision.ndim == 2 else np.stack([-decision, decision], axis=1)


def _knn(task: FitTask) -> BaselineScores:
    """Predict by the nearest labelled image."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=1).fit(task.labeled, task.y)
    return BaselineScores(model.predict_proba(task.test), False, {"n_neighbors": 1})


def _label_spreading(task: FitTask) -> BaselineScores:
    """Fit label spreading."""
    from sklearn.semi_supervised import LabelSpreading

    settings = {"kernel": "knn", "n_neighbors": PIXEL_NEIGHBORS, "alpha": 0.8, "max_iter": 100}
    if task.of_backbone:
        settings |= {"n_neighbors": FEATURE_NEIGHBORS, "alpha": 0.95}
    return _fit_graph(LabelSpreading, settings, task)


def _label_propagation(task: FitTask) -> BaselineScores:
    """Fit label propagation."""
    from sklearn.semi_supervised import LabelPropagation

    neighbors = FEATURE_NEIGHBORS if task.of_backbone else PIXEL_NEIGHBORS
    return _fit_graph(LabelPropagation, {"kernel": "knn", "n_neighbors": neighbors, "max_iter": 30}, task)


def _fit_graph(estimator: Callable[..., Any], settings: dict[str, Any], task: FitTask) -> BaselineScores:
    """Spread the labels over the graph of neighbours; test images that no label reaches get equal probabilities."""
    from sklearn.exceptions import ConvergenceWarning

    x, y = task.graph
    changes: dict[str, Any] = {"n_neighbors": min(settings["n_neighbors"], len(x))}
    if task.of_backbone:
        changes["kernel"] = NeighborKernel(changes["n_neighbors"])
    # scikit-learn's tolerance is for the sum over all images.
    model = estimator(**{**settings, **changes}, tol=1e-6 * len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    with np.errstate(invalid="ignore"):  # 0 / 0 if no label reaches an image
        shares = model.predict_proba(task.test)
    # A later scikit-learn may return zeros for such a row.
    unreached = ~(np.isfinite(shares).all(axis=1) & (shares.sum(axis=1) > 0))
    shares[unreached] = 1 / shares.shape[1]
    return BaselineScores(shares, True, {**settings, "tol_per_image": 1e-6, "unreached_tests": int(unreached.sum())})


def _self_training(task: FitTask) -> BaselineScores:
    """Fit self-training around logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import SelfTrainingClassifier

    if not len(task.unlabeled):
        return _logistic_regression(task)
    settings = {"threshold": 0.9, "max_iter": 10}
    base = {**task.logistic, "class_weight": "balanced"}
    # On rows of length 1 logistic regression is never confident enough to pseudo-label an image.
    scale = np.sqrt(task.labeled.shape[1]) if task.of_backbone else 1.0
    x, y = task.graph
    model = SelfTrainingClassifier(LogisticRegression(**base), **settings).fit(scale * x, y)
    return BaselineScores(
        model.predict_proba(scale * task.test), True, {**settings, "base": {"logistic-regression": base}}
    )


BASELINES = {
    "logistic-regression": Baseline(_logistic_regression, uses_unlabeled=False),
    "svm": Baseline(_svm, uses_unlabeled=False),
    "knn": Baseline(_knn, uses_unlabeled=False),
    "label-spreading": Baseline(_label_spreading, uses_unlabeled=True),
    "label-propagation": Baseline(_label_propagation, uses_unlabeled=True),
    "self-training": Baseline(_self_training, uses_unlabeled=True),
}
