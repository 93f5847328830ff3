"""`evaluate_run`: confusion counts, the models that are included, and refused data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.inference import evaluate
from ssgan.inference.metrics import expected_calibration_error
from ssgan.inference.models import DISTANCES, open_run
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import resolve
from ssgan.training.experiment import run_experiment

CPU = torch.device("cpu")
NAMES = ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf")


def save(data: Data, path: Path, **other: Any) -> str:
    shares = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(path, **{**shares, "classes": np.array(data.classes), "scale": data.scale, **other})
    return str(path)


@pytest.fixture(scope="module")
def named(few_digits: Data) -> Data:
    return dataclasses.replace(few_digits, classes=NAMES)


@pytest.fixture(scope="module")
def run(named: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of one draw; their data are in an .npz."""
    folder = tmp_path_factory.mktemp("scoring")
    return trained(named, folder, tiny(seeds=3, draw_seed=0, total_images=2000))


def trained(data: Data, folder: Path, config: Config) -> Path:
    source = {"data": save(data, folder / "data.npz"), "data_dir": None}
    run = runs.create_run_folder(folder / "run", data.name, config)
    run_experiment(data, config, run, source=source)
    return run


def diverge(run: Path, *places: int) -> None:
    """Set weights of some seeds in a checkpoint to NaN."""
    state = torch.load(run / "checkpoint", weights_only=True)
    for place in places:
        state["average"]["sums"]["output.b"][place] = float("nan")
    torch.save(state, run / "checkpoint")


def count_confusion(p: np.ndarray, y: np.ndarray) -> list[list[int]]:
    counts = [[0] * p.shape[1] for _ in range(p.shape[1])]
    for row, label in zip(p, y, strict=True):
        counts[label][int(row.argmax())] += 1
    return counts


def test_evaluating_on_gaussian_uses_the_distribution_of_the_run(tmp_path: Path) -> None:
    settings = {"labels": 0, "gaussian_mean": 3.0, "gaussian_std": 0.5, "total_images": 2000, "device": "cpu"}
    config = resolve("gaussian", settings)
    data = load("gaussian", options=Options.of(config))
    assert data.normal == (3.0, 0.5)
    run = runs.create_run_folder(tmp_path / "run", data.name, config)
    run_experiment(data, config, run)
    own, named = (evaluate.evaluate_run(run, data) for data in (None, "gaussian"))
    assert {name: named[name] for name in DISTANCES} == {name: own[name] for name in DISTANCES}


def test_confusion_and_class_scores_include_all_models(run: Path, named: Data) -> None:
    result = evaluate.evaluate_run(run, device="cpu")
    p = open_run(run, CPU)[0].probabilities(named.x_test)
    each = [count_confusion(one, named.y_test) for one in p]
    assert result["confusion"] == np.sum(each, axis=0).tolist()
    assert result["predictions_of"] == "3 models"
    assert [row["class"] for row in result["per_class"]] == list(NAMES)
    assert [row["count"] for row in result["per_class"]] == np.bincount(named.y_test, minlength=10).tolist()
    for k, row in enumerate(result["per_class"]):
        recalls = [one[k][k] / row["count"] for one in each]
        assert row["recall"] == pytest.approx(np.mean(recalls))
    assert sum(one["count"] for one in result["reliability"]) == 300
    rows = result["rows"]
    assert result["ece_mean"] == pytest.approx(np.mean([row["ece"] for row in rows]))
    assert result["nll_mean"] == pytest.approx(np.mean([row["nll"] for row in rows]))
    assert result["diverged"] == []
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_confusion_matrix_agrees_with_the_error(run: Path) -> None:
    result = evaluate.evaluate_run(run, device="cpu")
    right = sum(result["confusion"][k][k] for k in range(10))
    assert 100 - 100 * right / 300 == pytest.approx(result["error_mean"])


def test_confusion_of_ensemble_counts_only_ensemble_predictions(run: Path, named: Data) -> None:
    result = evaluate.evaluate_run(run, ensemble=True, device="cpu")
    mean = open_run(run, CPU)[0].probabilities(named.x_test).mean(axis=0)
    assert result["confusion"] == count_confusion(mean, named.y_test)
    assert result["predictions_of"] == "the ensemble of 3 models"
    assert result["ensemble"]["models"] == 3
    assert result["ensemble"]["error"] == pytest.approx(100 * np.mean(mean.argmax(axis=1) != named.y_test))
    assert result["ensemble"]["ece"] == pytest.approx(expected_calibration_error(mean, named.y_test))
    bins = [one for one in result["reliability"] if one["count"]]
    gap = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / 100
    assert gap == pytest.approx(result["ensemble"]["ece"], rel=1e-12)
    assert result["errors"] == evaluate.evaluate_run(run, device="cpu")["errors"]


def test_diverged_models_are_left_out_and_named(named: Data, tmp_path: Path) -> None:
    run = trained(named, tmp_path, tiny(seeds=3, draw_seed=0, seed=5))
    p = open_run(run, CPU)[0].probabilities(named.x_test)
    diverge(run, 1)
    result = evaluate.evaluate_run(run, ensemble=True, device="cpu")
    assert (result["diverged"], result["errors"][1]) == ([6], None)
    assert result["confusion"] == count_confusion((p[0] + p[2]) / 2, named.y_test)
    assert result["ensemble"]["models"] == 2
    assert evaluate.evaluate_run(run, device="cpu")["predictions_of"] == "2 models"
    diverge(run, 0, 2)
    for ensemble in (False, True):
        result = evaluate.evaluate_run(run, ensemble=ensemble, device="cpu")
        assert result["diverged"] == [5, 6, 7]
        assert [result[name] for name in ("confusion", "per_class", "reliability", "ece_mean")] == [None] * 4
    assert result["ensemble"] == {"models": 0, "error": None, "nll": None, "ece": None}


def test_other_data_are_scored_in_place_of_the_runs_own(run: Path, named: Data, digits: Data, tmp_path: Path) -> None:
    other = save(named, tmp_path / "other.npz", x_test=digits.x_test[100:150], y_test=digits.y_test[100:150])
    result = evaluate.evaluate_run(run, other, device="cpu")
    assert (result["dataset"], result["test_images"]) == ("other", 50)
    assert sum(map(sum, result["confusion"])) == 150


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"x_test": np.zeros((0, 8, 8), np.uint8), "y_test": np.zeros(0, np.int64)},
            "no test images to score: give --d",
        ),
        ({"classes": np.array([*NAMES, "dix"])}, r"11 classes of images \[8, 8\], but the models of .* know 10"),
        ({"classes": np.array([*NAMES[:8], "acht", "neuf"])}, "Class 8 of other is 'acht', but .* is 'huit'"),
        ({"scale": 255.0}, "other has full intensity 255, but the models of .* learned from images with 16"),
    ],
)
def test_refuses_incompatible_data(run: Path, named: Data, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        evaluate.evaluate_run(run, save(named, tmp_path / "other.npz", **change), device="cpu")
