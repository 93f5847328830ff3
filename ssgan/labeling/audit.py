"""Find labels that are likely to be wrong, by models that were trained without the labelled image."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import files, runs, table_files
from ssgan.data.checks import find_copies
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.image_array import ReadProgress
from ssgan.data.splits import hide
from ssgan.errors import UserError
from ssgan.inference.features import apply_backbone
from ssgan.inference.metrics import softmax
from ssgan.settings.config import Config
from ssgan.training.folds import FOLDS_FOLDER, cut_folds, held_out_logits, train_folds
from ssgan.training.monitor import TrainingProgress
from ssgan.training.timing import StepProgress

__all__ = [
    "AUDIT_FOLDER",
    "COLUMNS",
    "FOLDS",
    "Audit",
    "Mistake",
    "Mistakes",
    "audit_run",
    "find_mistakes",
    "write_mistakes",
]

AUDIT_FOLDER = "audit"
FOLDS = 5  # if the run has none
COLUMNS = ("path", "given", "suggested", "margin", "reason")


class Mistakes(NamedTuple):
    """Labels in the order in which they are likely to be wrong.

    Attributes
    ----------
    order : ndarray of int64, shape [N]
        All labelled images: first those that are likely to be wrong and have a margin above 0, then the others; both
        by margin.
    suggested : ndarray of int64, shape [N]
        The class that the probabilities suggest.
    margin : ndarray of float64, shape [N]
        Probability of the suggested class minus that of the given one.
    likely : ndarray of bool, shape [N]
        Whether another class reaches its threshold, and the given one does not or is less probable.
    thresholds : ndarray of float64, shape [K]
        NaN for a class without a label.
    """

    order: np.ndarray
    suggested: np.ndarray
    margin: np.ndarray
    likely: np.ndarray
    thresholds: np.ndarray


class Mistake(NamedTuple):
    """A label that may be wrong; ``margin`` and ``suggested`` are None if no model judged the image."""

    row: int
    path: str
    given: str
    suggested: str | None
    margin: float | None
    reason: str
    twin: bool  # whether a copy of it has another label
    likely: bool = False  # whether it is likely to be wrong by the threshold of its class


@dataclasses.dataclass(frozen=True)
class Audit:
    """The result of :func:`audit_run`.

    Attributes
    ----------
    data : Data
        With the labels that were audited.
    source : str
        Location of the data.
    labels_csv : Path or None
        The table of labels of the run.
    mistakes : list of Mistake
    labels, models : int
        Number of labels that were audited, and of models that judged them.
    likely : int
        Number of mistakes that are likely by the thresholds.
    thresholds : dict of str to float
    diverged : int
        Number of models that diverged and were not used.
    """

    data: Data
    source: str
    labels_csv: Path | None
    mistakes: list[Mistake]
    labels: int
    models: int
    likely: int
    thresholds: dict[str, float]
    diverged: int


def find_mistakes(p_NK: np.ndarray, y_N: np.ndarray) -> Mistakes:
    """Rank labels by how likely they are wrong, from probabilities of models that were trained without them.

    The threshold of a class is the mean probability of the class over the images with this label. A label is likely to
    be wrong if, among the classes whose probability reaches their threshold, another one is the most probable. The
    suggested class is then that one, otherwise the most probable of all. (Northcutt et al., Confident learning, 2021,
    section 3.1.)

    Parameters
    ----------
    p_NK : ndarray, shape [N, K]
    y_N : ndarray of int, shape [N]
    """
    count, classes = p_NK.shape
    given_N = p_NK[np.arange(count), y_N]
    thresholds = np.array([given_N[y_N == k].mean() if (y_N == k).any() else np.nan for k in range(classes)])
    reaches_NK = p_NK >= np.where(np.isnan(thresholds), np.inf, thresholds)
    confident_N = np.where(reaches_NK, p_NK, -1).argmax(axis=1)
    likely_N = reaches_NK.any(axis=1) & (confident_N != y_N)
    suggested_N = np.where(likely_N, confident_N, p_NK.argmax(axis=1))
    margin_N = p_NK[np.arange(count), suggested_N] - given_N
    # If the best class is the given one, the margin to the next says how certain the label is.
    others_NK = p_NK.copy()
    others_NK[np.arange(count), y_N] = -np.inf
    ranked_by_N = np.where(suggested_N == y_N, others_NK.max(axis=1) - given_N, margin_N)
    is_unlikely_N = ~(likely_N & (margin_N > 0))
    return Mistakes(np.lexsort((-ranked_by_N, is_unlikely_N)), suggested_N, margin_N, likely_N, thresholds)


def audit_run(
    run: Path,
    folds: int | None = None,
    rounds: int = 1,
    root: Path | None = None,
    device: str | None = None,
    progress: ReadProgress | None = None,
    on_report: Callable[[TrainingProgress], None] | None = None,
    on_training: Callable[[Config, Path], None] = lambda config, folder: None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> Audit:
    """Find the labels of a run that are contradicted by models trained without them.

    Those are the models of the run's folds, if it has any; others are trained with its settings into ``audit/``,
    where a later audit finds them. Probabilities are means over rounds.

    Parameters
    ----------
    run : Path
        A finished run.
    folds : int, optional
        By default those of the run, else five.
    rounds : int
        Number of times that the labels are cut into folds, each time differently.
    root : Path, optional
        Folder of downloaded sets.
    device : str, optional
        By default that of the run.
    progress, on_report, on_step : callable, optional
        As :func:`ssgan.data.load` and :func:`ssgan.training.experiment.run_experiment` take them.
    on_training : callable, optional
        Called with the settings and the folder of each round before its models are trained or opened.

    Raises
    ------
    UserError
        If the run has no labels to audit, has not finished, or its data are not what they were.
    """
    if rounds < 1:
        raise UserError(f"The number of rounds is {rounds}, but must be at least 1.")
    config, report = runs.read_config(run), runs.read_report(run)
    if config.unconditional:
        raise UserError(f"{run} is a GAN without classes (labels is 0), so it has no labels to audit.")
    configs = [_round_config(config, folds, k, device) for k in range(rounds)]
    uses_own_folds = config.folds > 0 and configs[0].folds == config.folds
    data, source, labels_csv = _load_data(run, config, report, root, progress, with_tests=not uses_own_folds)
    seen = apply_backbone(data, config, progress, device=device)
    for one in configs:
        cut_folds(seen, one)  # a mistake is found before anything is trained
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    models = diverged = 0
    labeled: set[int] = set()
    for k, one in enumerate(configs):
        folder = run / FOLDS_FOLDER if one.folds == config.folds and not k else run / AUDIT_FOLDER / f"{one.folds}-{k}"
        folder.parent.mkdir(exist_ok=True)
        on_training(one, folder)
        parts, fold_models = train_folds(seen, one, folder, on_report, report.get("source"), on_step)
        for rows, logits_NK in held_out_logits(seen, parts, fold_models):
            p_NK = softmax(logits_NK)
            labeled.update(rows.tolist())
            if not np.isfinite(p_NK).all():
                diverged += 1
                continue
            models += 1
            for row, p_K in zip(rows.tolist(), p_NK, strict=True):
                sums[row] = sums.get(row, 0) + p_K
                counts[row] = counts.get(row, 0) + 1
    if not models:
        raise UserError(f"Every model of the folds of {run} diverged, so none can judge the labels.")
    rows = np.array(sorted(sums), np.int64)
    p_NK = np.stack([sums[row] / counts[row] for row in rows.tolist()])
    audited = _with_labels(data, np.array(sorted(labeled), np.int64), keep_tests=source not in DATASETS)
    found = find_mistakes(p_NK, audited.y_train[rows])
    mistakes = _list_mistakes(audited, rows, p_NK, found)
    thresholds = {name: float(t) for name, t in zip(data.classes, found.thresholds, strict=True) if not np.isnan(t)}
    return Audit(
        data=audited,
        source=source,
        labels_csv=labels_csv,
        mistakes=mistakes,
        labels=len(labeled),
        models=models,
        likely=int(found.likely.sum()),
        thresholds=thresholds,
        diverged=diverged,
    )


def _load_data(
    run: Path,
    config: Config,
    report: dict[str, Any],
    root: Path | None,
    progress: ReadProgress | None,
    with_tests: bool,
) -> tuple[Data, str, Path | None]:
    """Load the data of a run; return their location and their table, too.

    ``with_tests`` puts labelled pictures that were held out for testing into the pool; the folds of the run lack them.
    """
    source, run_root, options = runs.data_source(run, report, config, root)
    data = load(source, run_root, options, progress)
    if data.sha256 != report["dataset_sha256"]:
        raise UserError(f"{data.name} has changed since {run} was trained: train again, and audit that run.")
    if with_tests and data.file_counts.get("tested", {}).get("held out") and not isinstance(config.labels, int):
        data = load(source, run_root, dataclasses.replace(options, test_share=0.0), progress)
    return data, source, options.labels_csv


def _round_config(config: Config, folds: int | None, number: int, device: str | None) -> Config:
    """Return the settings of a round; those of the run itself if the round is its own folds."""
    changes: dict[str, Any] = {} if device is None else {"device": device}
    folds = folds or config.folds or FOLDS
    if folds == config.folds and not number:
        return config.replace(**changes) if changes else config
    changes |= {"folds": folds, "seed": config.seed + number * folds, "test_share": 0.0, "tensorboard": False}
    if isinstance(config.labels, int):
        changes |= {"seeds": 1, "draw_seed": config.draw_seeds[0]}
    if config.seed_strategy == "direct":
        changes["seed_strategy"] = "loop"
    return config.replace(**changes)


def _with_labels(data: Data, rows: np.ndarray, keep_tests: bool) -> Data:
    """Return data with labels for only these rows of the pool, with or without a test set."""
    data = dataclasses.replace(data.source, y_train=hide(data.y_train, rows))
    if keep_tests:
        return data
    none = slice(0, 0)
    return dataclasses.replace(data, x_test=data.x_test[none], y_test=data.y_test[none], files_test=())


def _list_mistakes(data: Data, rows: np.ndarray, p_NK: np.ndarray, found: Mistakes) -> list[Mistake]:
    """List copies with two labels, and then the labels that the probabilities contradict."""
    names = [*data.files_train] or [f"x_train[{row}]" for row in range(len(data.x_train))]
    place_of = {names[row]: place for place, row in enumerate(rows.tolist())}
    row_of: Mapping[str, int] = {name: row for row, name in enumerate(names)}
    tests = [*data.files_test] or [f"x_test[{row}]" for row in range(len(data.x_test))]
    label_of = dict(zip([*names, *tests], [*data.y_train.tolist(), *data.y_test.tolist()], strict=True))

    def describe(name: str, twin_reason: str | None = None) -> Mistake:
        row, given, place = row_of.get(name, -1), data.classes[label_of[name]], place_of.get(name)
        suggested, margin, reason = None, None, twin_reason or ""
        if place is not None:
            p_K, best = p_NK[place], int(found.suggested[place])
            suggested, margin = data.classes[best], float(f"{found.margin[place]:.6g}")
            p, q = f"{p_K[best]:.2f}", f"{p_K[label_of[name]]:.2f}"
            found_by = f"predict {suggested} ({p}), not {given} ({q})"
            if margin < 0:
                found_by = (
                    f"give {suggested} {p}, which reaches the threshold of that class, and {given} {q}, which does not"
                )
            reason = reason or f"models that never saw it {found_by}"
        path = str(row) if not data.files_train and row >= 0 else name
        likely = place is not None and bool(found.likely[place])
        return Mistake(row, path, given, suggested, margin, reason, twin_reason is not None, likely)

    twins: dict[str, list[str]] = {}
    for name, first in find_copies(data).two_labels:
        twins.setdefault(first, []).append(name)
    mistakes = []
    listed = set()
    for first, others in twins.items():
        for name in (first, *others):
            other = others[0] if name == first else first
            reason = f"the same image as {other}, whose label is {data.classes[label_of[other]]}"
            mistakes.append(describe(name, reason))
            listed.add(name)
    for place in found.order.tolist():
        name = names[rows[place]]
        is_contradicted = found.likely[place] or found.margin[place] > 0
        if is_contradicted and name not in listed:
            mistakes.append(describe(name))
    return mistakes


def write_mistakes(mistakes: Sequence[Mistake], out: str) -> None:
    """Write a row for each label that may be wrong.

    Raises
    ------
    UserError
        If the file cannot be made.
    """
    with table_files.open_table(out, COLUMNS) as write:
        for one in mistakes:
            write([files.path_to_text(one.path), *one[2:6]])
