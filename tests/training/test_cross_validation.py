"""Cross-validation on the labelled images: folds, no leak, the error estimate, and resumption."""

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures_on_disk import classes, grey, write
from running import last_object, status_of
from small_configs import tiny
from small_trainings import labeled_splits

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.splits import Split, fold_splits
from ssgan.errors import UserError
from ssgan.inference.metrics import binomial_interval
from ssgan.inference.models import Models, open_run
from ssgan.settings.config import Config
from ssgan.settings.presets import resolve
from ssgan.training import experiment, folds
from ssgan.training.experiment import run_experiment
from ssgan.training.folds import cross_validate, cut_folds
from ssgan.training.trainer import train


def split_of(y: np.ndarray) -> Split:
    return Split(10 * np.arange(len(y)), y)


# Assignment to folds


@given(
    y=st.lists(st.integers(0, 4), min_size=2, max_size=40).map(lambda values: np.array(values)),
    folds=st.integers(2, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_folds_are_a_stratified_partition_of_even_sizes(y: np.ndarray, folds: int, seed: int) -> None:
    assume(folds <= len(y))
    parts = fold_splits(split_of(y), folds, seed)
    assert len(parts) == folds
    assert sorted(np.concatenate([part.held_out for part in parts]).tolist()) == (10 * np.arange(len(y))).tolist()
    for part in parts:
        assert not np.intersect1d(part.indices, part.held_out).size
        assert len(part.indices) + len(part.held_out) == len(y)
        np.testing.assert_array_equal(part.y, y[part.indices // 10])
    for count in ([len(part.held_out) for part in parts], *_per_class(y, parts)):
        assert max(count) - min(count) <= 1


def _per_class(y: np.ndarray, parts: list[Split]) -> list[list[int]]:
    return [[int((y[part.held_out // 10] == label).sum()) for part in parts] for label in np.unique(y)]


def test_copies_of_an_image_stay_in_one_fold() -> None:
    y = np.array([0] * 8 + [1] * 8)
    same = [0, 0, 0, 1, 2, 3, 4, 5, *range(10, 17), 10]
    for seed in range(5):
        parts = fold_splits(split_of(y), 4, seed, same)
        of = {int(row) // 10: k for k, part in enumerate(parts) for row in part.held_out}
        assert len({of[row] for row in (0, 1, 2)}) == 1
        assert of[8] == of[15]
        assert set(of) == set(range(16))


def test_folds_depend_on_their_seed_alone() -> None:
    split = split_of(np.arange(30) % 3)
    first, again, other = (fold_splits(split, 3, seed) for seed in (0, 0, 1))
    assert [part.sha256 for part in first] == [part.sha256 for part in again]
    assert [part.sha256 for part in first] != [part.sha256 for part in other]


@pytest.mark.parametrize("folds", [0, 1, 5])
def test_invalid_numbers_of_folds_are_refused(folds: int) -> None:
    split = split_of(np.array([0, 0, 0, 1, 1]))
    fold_splits(split, 4, 0, [0, 0, 1, 2, 3])
    with pytest.raises(UserError, match=r"between 2 and 4, the number of different labelled images\.$"):
        fold_splits(split, folds, 0, [0, 0, 1, 2, 3])


def test_folds_partition_the_labels_of_the_final_model(few_digits: Data) -> None:
    drawn = splits.draw(few_digits.y_train, 30, 5)
    parts = cut_folds(few_digits, tiny(labels=30, folds=3, seed=2, draw_seed=5))
    assert sorted(np.concatenate([part.held_out for part in parts]).tolist()) == drawn.tolist()


def test_duplicate_labelled_images_count_once_per_class(few_digits: Data) -> None:
    x, rows = few_digits.x_train.copy(), splits.draw(few_digits.y_train, 20, 0)
    twins = rows[few_digits.y_train[rows] == 3]
    x[twins[0]] = x[twins[1]]
    three = few_digits.classes[3]
    with pytest.raises(UserError) as refused:
        cut_folds(dataclasses.replace(few_digits, x_train=x), tiny(folds=4))
    assert str(refused.value) == (
        f"The class '{three}' has one labelled image, not counting copies, and a model that never saw it cannot know "
        f"the class: folds need a second label of it."
    )
    cut_folds(few_digits, tiny(folds=4))


def test_unlabelled_copy_of_a_held_out_image_is_held_out_too(few_digits: Data) -> None:
    x, rows = few_digits.x_train.copy(), splits.draw(few_digits.y_train, 20, 0)
    other = int(np.setdiff1d(np.arange(300), rows)[0])
    x[other] = x[rows[0]]
    parts = cut_folds(dataclasses.replace(few_digits, x_train=x), tiny(folds=4))
    held = [{*part.held_out.tolist()} for part in parts]
    assert [other in rows_of for rows_of in held] == [int(rows[0]) in rows_of for rows_of in held]
    assert sum(map(len, held)) == 21


def test_folds_that_would_hold_out_a_whole_class_are_refused(few_digits: Data) -> None:
    """Both images of class 5 are copies, of class 3 and 4: if these are in one fold, its model has no class 5."""
    x, rows = few_digits.x_train.copy(), splits.draw(few_digits.y_train, 20, 0)
    three, four, five = (rows[few_digits.y_train[rows] == label] for label in (3, 4, 5))
    x[five] = x[[three[0], four[0]]]
    data = dataclasses.replace(few_digits, x_train=x)

    def refused(seed: int) -> bool:
        try:
            parts = cut_folds(data, tiny(folds=2, seed=seed, draw_seed=0))
        except UserError as mistake:
            return "A fold would hold every labelled image of the class '5', because some" in str(mistake)
        assert all(set(part.y.tolist()) == set(range(10)) for part in parts)
        return False

    assert {refused(seed) for seed in range(20)} == {True, False}


def test_labels_of_one_class_are_refused(few_digits: Data) -> None:
    y = np.where(few_digits.y_train == 3, 3, -1)
    with pytest.raises(UserError, match="of one class"):
        cut_folds(dataclasses.replace(few_digits, y_train=y), tiny(labels=None, folds=2))


# No leak from the held-out fold


def weights(found: Any, place: int) -> list[torch.Tensor]:
    return [value[place] for stack in found.trainer.stacks.values() for value in stack.parameters.values()]


@pytest.mark.parametrize("network", [{}, {"generator_norm": "virtual"}])
def test_held_out_images_do_not_change_the_weights(few_digits: Data, network: dict[str, Any]) -> None:
    config = tiny(labels=None, seeds=2, seed_strategy="loop", noise_input_std=0.0, noise_hidden_std=0.0, **network)
    parts = cut_folds(few_digits, tiny(labels=20, folds=2))
    indices, held_out = [part.indices for part in parts], [part.held_out for part in parts]
    x, y = few_digits.x_train.copy(), few_digits.y_train.copy()
    x[held_out[0]] = 16 - x[held_out[0]]
    y[held_out[0]] = (y[held_out[0]] + 1) % 10
    other = dataclasses.replace(few_digits, x_train=x, y_train=y)
    plain = train(few_digits, config, labeled_splits(few_digits, config, indices, held_out))
    changed = train(other, config, labeled_splits(other, config, indices, held_out))
    for ours, theirs in zip(weights(plain, 0), weights(changed, 0), strict=True):
        assert torch.equal(ours, theirs)
    # Control: the second model learned from the images that were held out from the first.
    pairs = zip(weights(plain, 1), weights(changed, 1), strict=True)
    assert not all(torch.equal(ours, theirs) for ours, theirs in pairs)
    # Control: images that are unlabelled instead of held out do change the weights.
    seen = [train(data, config, labeled_splits(data, config, indices)) for data in (few_digits, other)]
    pairs = zip(weights(seen[0], 0), weights(seen[1], 0), strict=True)
    assert not all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_invalid_held_out_rows_are_refused(few_digits: Data) -> None:
    for held_out, words in (([3], "not both"), ([300], "rows 0 to 299")):
        with pytest.raises(UserError, match=words):
            train(few_digits, tiny(), labeled_splits(few_digits, tiny(), [3, 4, 5], [np.array(held_out)]))


# The error estimate


def test_default_test_share_is_0_with_folds() -> None:
    assert (Config().test_share, Config(folds=5).test_share) == (0.2, 0.0)
    assert Config(folds=5, test_share=0.2).test_share == 0.2
    assert Config(folds=5).sha256 == Config().sha256  # the final model is the same
    for earlier, asked, share in (
        ({}, {"folds": 3}, 0.0),
        (Config().to_dict(), {"folds": 3}, 0.0),
        (Config(folds=5).to_dict(), {"folds": 0}, 0.2),
        (Config(test_share=0.3).to_dict(), {"folds": 3}, 0.3),
    ):
        earlier.pop("preset", None)
        assert resolve("digits", asked, earlier).test_share == share


def test_binomial_interval_is_the_wilson_interval() -> None:
    # Computed by hand: the roots of (p - w/n)^2 = z^2 p (1 - p) / n.
    z = 1.959963984540054
    for wrong, n in ((0, 10), (4, 100), (50, 100), (7, 7)):
        low, high = binomial_interval(wrong, n)
        middle = (wrong + z**2 / 2) / (n + z**2)
        half = z / (n + z**2) * (wrong * (n - wrong) / n + z**2 / 4) ** 0.5
        assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert binomial_interval(4, 100, 0.5)[1] < binomial_interval(4, 100)[1]


@pytest.fixture(scope="module")
def validated(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("run") / "folds"
    return cross_validate(few_digits, tiny(labels=30, folds=3, total_images=2000), folder), folder


def test_error_uses_the_out_of_fold_prediction_of_each_labelled_image(
    validated: tuple[dict[str, Any], Path], few_digits: Data
) -> None:
    found, folder = validated
    models, _ = open_run(folder, torch.device("cpu"))
    wrong, count = 0, 0
    for k, part in enumerate(cut_folds(few_digits, tiny(labels=30, folds=3))):
        assert models.split_sha256[k] == part.sha256
        predicted = models.probabilities(few_digits.x_train[part.held_out])[k].argmax(axis=1)
        missed = int((predicted != few_digits.y_train[part.held_out]).sum())
        assert found["errors"][k] == pytest.approx(100 * missed / len(part.held_out))
        wrong, count = wrong + missed, count + len(part.held_out)
    assert (found["folds"], found["labels"], found["labels_each"], found["wrong"]) == (3, 30, 20, wrong)
    assert found["error"] == pytest.approx(100 * wrong / count)
    assert found["interval"] == pytest.approx([100 * share for share in binomial_interval(wrong, 30)])
    matrix = np.array(found["confusion"])
    assert (matrix.sum(), np.trace(matrix)) == (30, 30 - wrong)
    assert found["diverged"] == []
    json.dumps(found, allow_nan=False)


def test_predictions_csv_is_sorted_by_the_probability_of_the_label(
    validated: tuple[dict[str, Any], Path], few_digits: Data
) -> None:
    found, folder = validated
    assert found["predictions"] == str(folder / "predictions.csv")
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(int(row["file"]) for row in rows) == splits.draw(few_digits.y_train, 30, 0).tolist()
    assert all(row["label"] == few_digits.classes[few_digits.y_train[int(row["file"])]] for row in rows)
    believed = [float(row["p_label"]) for row in rows]
    assert believed == sorted(believed)
    assert sum(row["label"] != row["class"] for row in rows) == found["wrong"]
    assert Counter(row["fold"] for row in rows) == {"0": 10, "1": 10, "2": 10}
    for row in rows:
        assert (row["label"] == row["class"]) == (row["p_label"] == row["probability"])


def test_diverged_fold_is_excluded_from_all_scores(
    validated: tuple[dict[str, Any], Path], few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = validated
    ours = Models.logits

    def broken(self: Models, x: np.ndarray, averaged: bool = True) -> np.ndarray:
        logits = ours(self, x, averaged)
        return logits * np.nan if self.seeds == [1] else logits

    monkeypatch.setattr(Models, "logits", broken)
    found = cross_validate(few_digits, tiny(labels=30, folds=3, total_images=2000), folder)
    assert (found["diverged"], found["labels"]) == ([1], 20)
    assert found["errors"] == [whole["errors"][0], None, whole["errors"][2]]
    assert found["calibration"]["labels"] == 20
    monkeypatch.setattr(Models, "logits", lambda self, x: ours(self, x) * np.nan)
    found = cross_validate(few_digits, tiny(labels=30, folds=3, total_images=2000), folder)
    assert (found["diverged"], found["error"], found["interval"], found["wrong"]) == ([0, 1, 2], None, None, None)
    assert found["calibration"] is None


# Resumption


class Killed(Exception):  # noqa: N818 - no error
    pass


def test_resumed_folds_give_the_same_report(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(labels=20, folds=2, checkpoint_every_seconds=0.0)

    def kill(report: Any) -> None:
        if report.step == 10:
            raise Killed

    with pytest.raises(Killed):
        cross_validate(few_digits, config, tmp_path / "killed", kill)
    assert not (tmp_path / "killed" / "report.json").exists()
    found = [cross_validate(few_digits, config, tmp_path / name) for name in ("killed", "whole")]
    for one in found:
        assert one.pop("run").startswith(str(tmp_path))
        assert one.pop("predictions").startswith(str(tmp_path))
    assert found[0] == found[1]
    sheets = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("killed", "whole")]
    assert sheets[0] == sheets[1]


def test_finished_folds_are_not_trained_again_and_an_empty_folder_is_used(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(labels=20, folds=2)
    (tmp_path / "folds").mkdir()
    first = cross_validate(few_digits, config, tmp_path / "folds")
    monkeypatch.setattr(experiment, "run_experiment", None)
    assert cross_validate(few_digits, config, tmp_path / "folds") == first


def test_folds_resumed_by_run_experiment_keep_their_held_out_rows(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(labels=20, folds=2, checkpoint_every_seconds=0.0)

    def kill(report: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        cross_validate(few_digits, config, tmp_path / "a", kill)
    run_experiment(few_digits, runs.read_config(tmp_path / "a"), tmp_path / "a")
    found = [cross_validate(few_digits, config, tmp_path / name) for name in "ab"]
    assert found[0]["nll"] == found[1]["nll"]


def test_fold_models_of_another_configuration_are_refused(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(labels=20, folds=2)
    cross_validate(few_digits, config, tmp_path / "folds")
    for other in (config.replace(seed=7, draw_seed=0), config.replace(noise_input_std=0.1)):
        with pytest.raises(UserError, match=r"\(delete .*folds to train it from the beginning\)\.$"):
            cross_validate(few_digits, other, tmp_path / "folds")
    (tmp_path / "folds" / "config.json").unlink()
    with pytest.raises(UserError, match=r"\(delete .*folds to train it from the beginning\)\.$"):
        cross_validate(few_digits, config, tmp_path / "folds")
    assert (tmp_path / "folds" / "checkpoint").exists()


# The command line

OPTIONS = ["--set", "total_images=1000", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]
OPTIONS += ["--set", "init_images=20", "--device", "cpu"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    return write(tmp_path / "photos", {**classes(each=6), **{f"unlabeled/{i}.png": grey(1000 + i) for i in range(20)}})


def test_train_with_folds_reports_the_cross_validation_error(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "photos", "--folds", "3", "--image-size", "6", "--out", "run", *OPTIONS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    text = "\n".join(lines)
    assert "held out" not in text
    assert "First 3 models, each without a fold of the labelled images" in lines
    assert "Now 1 model, from every labelled image" in lines
    assert "ssgan evaluate" not in text  # there is nothing to score on
    report = runs.read_report(Path("run"))
    found = report["folds"]
    assert (report["labels"], found["labels"], found["labels_each"]) == (12, 12, 8)
    assert report["error_mean"] is None
    low, high = found["interval"]
    assert (
        f"error {found['error']:.2f} % ({found['wrong']} of 12 wrong), 95 % interval {low:.2f} to {high:.2f} %" in lines
    )
    with Path("run/folds/predictions.csv").open(newline="") as stream:
        assert {row["file"] for row in csv.DictReader(stream)} == {
            f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)
        }
    assert runs.read_config(Path("run")).test_share == 0.0
    # The final run uses every label, so that it has nothing to score, but it predicts.
    for data in ([], ["--data", "photos"]):
        assert status_of("evaluate", "run", *data) == 2
        assert f"no test images to score (its folds measured {found['error']:.2f} %)" in capsys.readouterr().err
    assert status_of("predict", "run", "photos/unlabeled", "--out", "p.csv") == 0
    assert len(Path("p.csv").read_text().splitlines()) == 21


def test_folds_are_in_the_json_report_together_with_a_test_error(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--folds", "2", "--image-size", "6", "--set", "test_share=0.3", "--out", "run", "--json"]
    assert status_of("train", "photos", *options, *OPTIONS) == 0
    report = last_object(capsys.readouterr().out)
    assert report["folds"]["labels"] == report["labels"] == 8
    assert report["error_mean"] is not None
    # Resuming the finished run shows the folds again.
    assert status_of("train", "photos", "--out", "run", "--resume") == 0
    assert "2-fold cross-validation: models of 4 labels, each tested on those left out" in capsys.readouterr().out


def test_run_interrupted_after_the_folds_resumes_to_the_same_bits(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--folds", "2", "--image-size", "6", *OPTIONS]
    assert status_of("train", "photos", *options, "--out", "whole") == 0
    real = folds.cross_validate

    def stop(*arguments: Any) -> dict[str, Any]:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(folds, "cross_validate", stop)
    assert status_of("train", "photos", *options, "--out", "cut") == 130
    monkeypatch.undo()
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("SSGAN_DATA", str(photos.parent / "cache"))
    assert status_of("train", "photos", "--out", "cut", "--resume") == 0
    reports = [runs.read_report(Path(name)) for name in ("whole", "cut")]
    for one in reports:
        one["folds"] = {k: v for k, v in one["folds"].items() if k not in ("run", "predictions")}
    assert reports[0]["folds"] == reports[1]["folds"]
    whole, resumed = (runs.load_checkpoint(Path(name, "checkpoint"))["networks"] for name in ("whole", "cut"))
    for net in ("D", "G"):
        for name, value in whole[net]["parameters"].items():
            assert torch.equal(value, resumed[net]["parameters"][name]), name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--folds", "1"], "folds is 1, but must be 0 for none, or at least 2: each is left out in turn."),
        (["--folds", "many"], "folds is 'many', but must be an integer at least 0 and at most 4096."),
        (
            ["--folds", "13"],
            "folds is 13, but must lie between 2 and 12, the number of different labelled images.",
        ),
        (
            ["--folds", "2", "--labels", "4", "--seeds", "2"],
            "folds is 2, but the 2 models have different labelled images: set draw_seed, so that there is one draw to "
            "split into folds.",
        ),
        (
            ["--folds", "2", "--set", "seed_strategy=direct"],
            "seed_strategy is 'direct', which trains one model, but folds trains 2 side by side: choose loop or vmap.",
        ),
        (
            ["--folds", "2", "--labels", "3"],
            "The class 'cat' has one labelled image, not counting copies, and a model that never saw it cannot know "
            "the class: folds need a second label of it.",
        ),
    ],
)
def test_train_refuses_invalid_folds(
    options: list[str], sentence: str, photos: Path, mistake: Callable[..., str]
) -> None:
    status_of("data", "photos", "--image-size", "6", "--set", "test_share=0")  # fill the cache
    assert mistake("train", "photos", "--image-size", "6", *OPTIONS, *options) == sentence
