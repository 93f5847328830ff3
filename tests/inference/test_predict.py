"""Predictions: equal for files and arrays and for any batch size, and which models of a run predict."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference import predict
from ssgan.inference.inputs import InputImage, InputSource
from ssgan.inference.models import open_run
from ssgan.settings.config import Config
from ssgan.training.experiment import run_experiment

CPU = torch.device("cpu")


def trained(data: Data, folder: Path, config: Config) -> Path:
    run = runs.create_run_folder(folder, data.name, config)
    run_experiment(data, config, run)
    return run


@pytest.fixture(scope="module")
def one_draw(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models that learned from the same labels."""
    config = tiny(seeds=3, seed=4, draw_seed=0, total_images=2000)
    return trained(few_digits, tmp_path_factory.mktemp("one") / "run", config)


@pytest.fixture(scope="module")
def draws(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models that learned from different labels."""
    return trained(few_digits, tmp_path_factory.mktemp("several") / "run", tiny(seeds=3, seed=4, total_images=2000))


@pytest.fixture(scope="module")
def pictures(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> list[InputSource]:
    """The test set as PNG files of full intensity 255."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate(few_digits.x_test):
        Image.fromarray((image * (255 / 16)).round().astype(np.uint8)).save(folder / f"{i:03}.png")
    return [InputSource(str(path)) for path in sorted(folder.iterdir())]


def diverge(run: Path, *places: int) -> None:
    state = torch.load(run / "checkpoint", weights_only=True)
    for place in places:
        state["average"]["sums"]["output.b"][place] = float("nan")
    torch.save(state, run / "checkpoint")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_predictions_of_picture_files_match_those_of_arrays(
    one_draw: Path, few_digits: Data, pictures: list[InputSource], tmp_path: Path
) -> None:
    out, models = tmp_path / "p.csv", open_run(one_draw, CPU)[0]
    summary = predict.write_predictions(predict.open_predictor(one_draw, device="cpu"), pictures, str(out), True)
    rows, mean = rows_of(out), models.probabilities(few_digits.x_test).mean(axis=0)
    assert list(rows[0]) == ["file", "class", "probability", "p_generated", "note", *(f"p({k})" for k in range(10))]
    assert [row["file"] for row in rows] == [one.name for one in pictures]
    assert [row["class"] for row in rows] == [few_digits.classes[k] for k in mean.argmax(axis=1)]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], mean.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose([[float(row[f"p({k})"]) for k in range(10)] for row in rows], mean, rtol=1e-5)
    generated = models.generated_probability(few_digits.x_test).mean(axis=0)
    np.testing.assert_allclose([float(row["p_generated"]) for row in rows], generated, rtol=1e-5)
    assert summary["unlike"] == sum(generated > 0.5)
    assert (summary["images"], summary["classified"], summary["unreadable"]) == (100, 100, [])
    assert [one["count"] for one in summary["per_class"]] == np.bincount(mean.argmax(axis=1), minlength=10).tolist()
    assert (summary["method"], summary["device"], summary["seeds"]) == ("gan", "cpu", [4, 5, 6])


def test_rows_do_not_depend_on_the_batch(one_draw: Path, few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreadable images keep their place: between batches, at their ends, and as the only image of a batch."""
    models = open_run(one_draw, CPU)[0]
    broken = {0, 3, 4, 5, 19}
    items = [InputImage(f"{i}", None if i in broken else few_digits.x_test[i], "why") for i in range(20)]
    whole = list(predict.predict(models, items))
    assert [row.file for row in whole] == [str(i) for i in range(20)]
    assert {i for i, row in enumerate(whole) if row.label is None} == broken
    assert whole[3] == predict.Prediction("3", None, None, None, "why", None)
    for rows in (1, 3, 7):
        monkeypatch.setattr(predict, "BATCH_IMAGES", rows)
        again = list(predict.predict(models, items))
        for ours, theirs in zip(again, whole, strict=True):
            assert (ours.file, ours.label, ours.note) == (theirs.file, theirs.label, theirs.note)
            assert ours.probability == (theirs.probability and pytest.approx(theirs.probability, rel=1e-4))


def test_predict_reads_at_most_one_batch_ahead(
    one_draw: Path, few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads no more images than fit into a batch before it yields their rows."""
    models, taken = open_run(one_draw, CPU)[0], 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield InputImage("x", few_digits.x_test[0])

    monkeypatch.setattr(predict, "BATCH_NUMBERS", 64 * 30)
    rows = predict.predict(models, endless())
    for done in range(1, 100):
        next(rows)
        assert taken == -(-done // 30) * 30


# Choice of models


def test_models_of_one_draw_predict_as_ensemble(one_draw: Path) -> None:
    predictor = predict.open_predictor(one_draw, device="cpu")
    assert predictor.models.seeds == [4, 5, 6]
    assert predictor[1:] == ("the mean of 3 models, which learned from the same labels", "")


def test_first_model_predicts_if_models_have_different_draws(draws: Path, few_digits: Data) -> None:
    predictor = predict.open_predictor(draws, device="cpu")
    assert predictor.models.seeds == [4]
    assert predictor[1:] == ("the model of seed 4", "3 models learned from different labels: --model picks another")
    expected = open_run(draws, CPU)[0].probabilities(few_digits.x_test)[:1]
    assert np.array_equal(predictor.models.probabilities(few_digits.x_test), expected)


@pytest.mark.parametrize("name", ["one_draw", "draws"])
def test_a_seed_can_be_picked(name: str, few_digits: Data, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    predictor = predict.open_predictor(run, 6, "cpu")
    assert predictor[1:] == ("the model of seed 6", "")
    expected = open_run(run, CPU)[0].probabilities(few_digits.x_test)[2:]
    assert np.array_equal(predictor.models.probabilities(few_digits.x_test), expected)
    with pytest.raises(UserError, match=r"seed 0 of .* is not there: choose from 4, 5, 6"):
        predict.open_predictor(run, 0, "cpu")


def test_diverged_models_are_excluded_from_prediction(few_digits: Data, tmp_path: Path) -> None:
    run = trained(few_digits, tmp_path / "run", tiny(seeds=3, draw_seed=0))
    diverge(run, 1)
    predictor = predict.open_predictor(run, device="cpu")
    assert predictor.models.seeds == [0, 2]
    assert predictor[1:] == (
        "the mean of 2 models, which learned from the same labels",
        "left out, because diverged: seed 1",
    )
    with pytest.raises(UserError, match=r"seed 1 of .* diverged: choose from 0, 2"):
        predict.open_predictor(run, 1, "cpu")
    diverge(run, 0)
    assert predict.open_predictor(run, device="cpu")[1:] == (
        "the model of seed 2",
        "left out, because diverged: seed 0, 1",
    )
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "diverged": [2]}))
    with pytest.raises(UserError, match=r"Every model of .* diverged, so there is none to predict with"):
        predict.open_predictor(run, device="cpu")


# Columns and notes


def test_supervised_model_has_no_p_generated_and_no_notes(few_digits: Data, tmp_path: Path) -> None:
    run = trained(few_digits, tmp_path / "run", tiny(method="supervised"))
    np.savez(tmp_path / "x.npz", x_test=few_digits.x_test)
    out = tmp_path / "p.json"
    predictor = predict.open_predictor(run, device="cpu")
    summary = predict.write_predictions(predictor, [InputSource(str(tmp_path / "x.npz"))], str(out))
    rows = json.loads(out.read_text())
    assert len(rows) == 100
    assert {(row["p_generated"], row["note"]) for row in rows} == {(None, None)}
    assert summary["unlike"] is None
    assert predictor.description == "the model of seed 0"


def test_an_image_unlike_all_classes_is_noted(one_draw: Path, few_digits: Data) -> None:
    """With every logit lowered by the median of logsumexp, half of the images are more likely generated than real."""
    models, x = open_run(one_draw, CPU)[0].select([5]), few_digits.x_test
    bias = models.averaged["output.b"]
    middle = float(torch.from_numpy(models.logits(x)).logsumexp(dim=2).median())
    lowered = dataclasses.replace(models, averaged={**models.averaged, "output.b": bias - middle})
    items = [InputImage("x", image) for image in x]
    rows, before = list(predict.predict(lowered, items)), list(predict.predict(models, items))
    assert {row.note for row in rows} == {"", "looks like none of the classes"}
    assert sum(row.note != "" for row in rows) == pytest.approx(50, abs=1)
    clear = [row for row in rows if abs(row.p_generated - 0.5) > 1e-6]  # type: ignore[operator]
    assert len(clear) >= 98  # all but those of the median itself
    assert [row.note != "" for row in clear] == [row.p_generated > 0.5 for row in clear]  # type: ignore[operator]
    assert [row.label for row in rows] == [row.label for row in before]


def test_image_with_non_finite_outputs_has_no_class(one_draw: Path, few_digits: Data) -> None:
    models = open_run(one_draw, CPU)[0].select([4])
    averaged = {**models.averaged, "output.b": torch.full_like(models.averaged["output.b"], float("inf"))}
    (row,) = predict.predict(
        dataclasses.replace(models, averaged=averaged), [InputImage("a.png", few_digits.x_test[0])]
    )
    assert row == predict.Prediction(
        "a.png", None, None, None, "a.png makes the outputs of the model non-finite.", None
    )


def test_columns_of_probabilities_name_their_class() -> None:
    fixed = ["file", "class", "probability", "p_generated", "note"]
    assert predict.columns(("a", "note"), True) == [*fixed, "p(a)", "p(note)"]
    assert predict.columns(("a", "b"), False) == fixed


def test_on_row_counts_rows_including_unreadable_files(
    one_draw: Path, pictures: list[InputSource], tmp_path: Path
) -> None:
    seen: list[int] = []
    predictor = predict.open_predictor(one_draw, device="cpu")
    found = [*pictures[:3], InputSource("gone.png")]
    summary = predict.write_predictions(predictor, found, str(tmp_path / "p.jsonl"), on_row=seen.append)
    assert seen == [1, 2, 3, 4]
    assert (summary["images"], summary["classified"]) == (4, 3)
    assert summary["unreadable"] == [{"file": "gone.png", "reason": "There is no file gone.png."}]
    nothing = predict.write_predictions(predictor, [InputSource("gone.png")], str(tmp_path / "n.csv"), True)
    assert (nothing["images"], nothing["classified"]) == (1, 0)
    assert set(rows_of(tmp_path / "n.csv")[0].values()) == {"gone.png", "", "There is no file gone.png."}
