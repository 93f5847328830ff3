"""What a finished training says, seed by seed: rows with all that a report shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.classical import Outcome, row
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.files import write_atomic
from ssgan.grids import ENSEMBLE, Cell, Grid
from ssgan.inference.metrics import Diversity, best_temperature, confusion, reliability, softmax
from ssgan.inference.models import METRICS, Models, score, usable
from ssgan.training.experiment import settings_beyond_preset

__all__ = ["failed_rows", "row_of_classical", "rows_of_stack"]

NOT_FINITE = "The model's logits are not finite, though its weights are."


def rows_of_stack(
    data: Data,
    cell: Cell,
    splits: Sequence[Split],
    models: Models,
    report: Mapping[str, Any],
    beside: Path,
) -> list[dict[str, Any]]:
    """The rows of a stack: that of its ensemble first, where its models share their labels, then one for each seed.

    Each has the ``confusion`` matrix, the bins of ``reliability`` and the names of the ``classes``; that of a model
    also ``temperature``, which :func:`best_temperature` fits to the labelled images that it was trained
    on, and with it ``ece_scaled`` and ``nll_scaled``; that of the first seed its ``samples``, copied there.

    Parameters
    ----------
    data : Data
    cell : Cell
    splits : sequence of Split
        Of each model.
    models : Models
    report : mapping
        Of the run.
    beside : Path
        The file of rows; paths are relative to its folder.
    """
    averaged = cell.ablation is None or not cell.ablation.last
    logits_SNK = models.logits(data.x_test, averaged)
    p_SNK = softmax(logits_SNK)
    found, run = [], Path(report["run"])
    scores = score(p_SNK, data.y_test)
    for i, (seed, split, fine) in enumerate(zip(models.seeds, splits, usable(p_SNK), strict=True)):
        one = {**report["rows"][i], **{name: values[i] for name, values in scores.items()}, **_label(cell)}
        if fine:
            labeled_NK = models.only([seed]).logits(data.x_train[split.indices], averaged)[0]
            one |= {**_looked_at(p_SNK[i], data), **_scaled(logits_SNK[i], data.y_test, labeled_NK, split.y)}
        elif one["diverged"] is None:
            one["failed"] = NOT_FINITE
        found.append({**one, "run": _relative(run, beside)})
    if averaged and (run / "samples.png").exists():
        found[0]["samples"] = _copied(run / "samples.png", beside)
    if cell.ablation is None and len(models.seeds) > 1 and len(set(models.split_sha256)) == 1:
        p_NK = models.ensemble(p_SNK)
        if p_NK is not None:
            found.insert(0, _of_ensemble(p_NK, found, data))
    return found


def row_of_classical(grid: Grid, cell: Cell, split: Split, outcome: Outcome, seed: int) -> dict[str, Any]:
    """The row of a classical method, with its confusion matrix, and its reliability where it has probabilities."""
    data = grid.data
    found = row(data, split, outcome, seed, grid.draws[cell.labels, seed])
    matrix = confusion(data.y_test, outcome.predicted, len(data.classes)).tolist()
    found |= {"classes": list(data.classes), "confusion": matrix}
    if outcome.probabilities is not None:
        found["reliability"] = reliability(outcome.probabilities.clip(0, 1), data.y_test)
    return found


def failed_rows(grid: Grid, cell: Cell, seeds: Sequence[int], why: str) -> list[dict[str, Any]]:
    """Rows of a training that gave nothing, with the reason."""
    config, data = cell.config, grid.data
    given: dict[str, Any] = (
        {} if config is None else {"preset": config.preset, "settings": settings_beyond_preset(config)}
    )
    if config is not None:
        given |= {"config_sha256": config.sha256, "images": config.steps * config.images_per_step}
    return [
        {
            **{"dataset": data.name, "dataset_sha256": data.sha256, "labels": cell.count, "method": cell.method},
            **given,
            "seed": seed,
            "draw_seed": grid.draws[cell.labels, seed],
            "split_sha256": grid.splits[cell.labels, seed].sha256,
            "stack": [*seeds],
            "error": None,
            "failed": why,
            **_label(cell),
            **runs.provenance(),
        }
        for seed in seeds
    ]


def _label(cell: Cell) -> dict[str, Any]:
    return {} if cell.ablation is None else {"ablation": cell.ablation.name}


def _looked_at(p_NK: np.ndarray, data: Data) -> dict[str, Any]:
    matrix = confusion(data.y_test, p_NK.argmax(axis=1), len(data.classes)).tolist()
    return {"classes": list(data.classes), "confusion": matrix, "reliability": reliability(p_NK, data.y_test)}


def _scaled(test_NK: np.ndarray, y_N: np.ndarray, labeled_NK: np.ndarray, y_labeled: np.ndarray) -> dict[str, float]:
    temperature = best_temperature(labeled_NK, y_labeled)
    p_NK = softmax(test_NK / temperature)
    return {"temperature": temperature, **{f"{name}_scaled": METRICS[name](p_NK, y_N) for name in ("ece", "nll")}}


def _of_ensemble(p_NK: np.ndarray, rows: Sequence[Mapping[str, Any]], data: Data) -> dict[str, Any]:
    """The row of models that share their labels, under the seed of the first; those that diverged are no members."""
    first = rows[0]
    of_one = {"temperature", "ece_scaled", "nll_scaled", *Diversity._fields}
    kept = {key: value for key, value in first.items() if key not in of_one}
    alone = dict.fromkeys(("error_raw", "images_per_second", "seconds", "diverged", "collapsed", "samples", "failed"))
    scores = {name: values[0] for name, values in score(p_NK[None], data.y_test).items()}
    members = [row["seed"] for row in rows if row["diverged"] is None and row.get("failed") is None]
    return {
        **kept,
        **alone,
        "method": first["method"] + ENSEMBLE,
        "members": members,
        **scores,
        **_looked_at(p_NK, data),
    }


def _copied(samples: Path, beside: Path) -> str:
    """Copy a picture of samples into a folder beside the file of rows; its path from there."""
    place = beside.with_name(f"{beside.stem}-samples") / f"{samples.parent.name}.png"
    place.parent.mkdir(exist_ok=True)
    write_atomic(place, samples.read_bytes())
    return _relative(place, beside)


def _relative(path: Path, beside: Path) -> str:
    return path.relative_to(beside.parent).as_posix()
