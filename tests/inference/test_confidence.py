"""Temperature scaling fitted to held-out labels, and the flagging of outliers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import status_of
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.inference import predict
from ssgan.inference.confidence import FLAGGED_LIMIT, LEAST_LABELS, Confidence, calibrate, flagged_share
from ssgan.inference.evaluate import evaluate_run
from ssgan.inference.inputs import InputImage, InputSource
from ssgan.inference.metrics import best_temperature, expected_calibration_error, negative_log_likelihood, softmax
from ssgan.inference.models import open_run
from ssgan.settings.config import Config
from ssgan.training.experiment import run_experiment
from ssgan.training.folds import cross_validate, cut_folds

CPU = torch.device("cpu")


# Fitting the temperature


def ninety_percent_correct(margin: float, count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels and folds of two classes; in every fold 10 % of the predictions are wrong."""
    return np.tile([margin, 0.0], (count, 1)), (np.arange(count) % 10 == 9).astype(int), np.arange(count) // 10 % 4


def test_temperature_matches_hand_computed_value() -> None:
    """With 8 / T = log 9, p is 0.9: at that temperature the NLL is the entropy of 0.9 and the ECE is 0."""
    result = calibrate(*ninety_percent_correct(8.0))
    assert result["temperature"] == pytest.approx(8 / np.log(9), rel=1e-3)
    assert (result["fitted_on"], result["labels"], result["reason"]) == ("folds", 40, None)
    p = 1 / (1 + np.exp(-8))
    assert result["nll"] == pytest.approx(-0.9 * np.log(p) - 0.1 * np.log(1 - p))
    assert result["ece"] == pytest.approx(p - 0.9)
    assert result["nll_scaled"] == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), rel=1e-4)
    assert result["ece_scaled"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("factor", [5.0, 1.7])
def test_the_temperature_of_overconfident_logits_is_found(factor: float) -> None:
    random = np.random.RandomState(0)
    logits = random.normal(0, 1.5, (2000, 4))
    y = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from the softmax of the logits
    result = calibrate(factor * logits, y, np.arange(2000) % 5)
    assert result["temperature"] == pytest.approx(factor, rel=0.1)
    assert result["nll_scaled"] < result["nll"]
    assert result["ece_scaled"] < 0.03 < result["ece"]


def test_scaled_scores_of_each_fold_use_temperature_of_other_folds() -> None:
    random = np.random.RandomState(1)
    logits, folds = random.normal(0, 4, (60, 3)), np.arange(60) % 3
    y = (logits / 4 + random.gumbel(size=(60, 3))).argmax(axis=1)
    p = np.zeros((60, 3))
    for k in range(3):
        p[folds == k] = softmax(logits[folds == k] / best_temperature(logits[folds != k], y[folds != k]))
    result = calibrate(logits, y, folds)
    assert result["nll_scaled"] == pytest.approx(negative_log_likelihood(p, y))
    assert result["ece_scaled"] == pytest.approx(expected_calibration_error(p, y))
    assert result["temperature"] == best_temperature(logits, y)


def test_a_temperature_that_does_not_lower_the_nll_of_new_images_is_not_used() -> None:
    """One fold has all errors; the temperature fitted to the other folds makes the model as confident as possible."""
    logits, y, _ = ninety_percent_correct(4.0)
    folds = np.where(y == 1, 0, 1 + np.arange(40) % 3)
    result = calibrate(logits, y, folds)
    assert result["temperature"] is None
    assert result["nll_scaled"] > result["nll"]
    assert result["reason"].startswith("a temperature would not lower the NLL of images it was not fitted to (from 0.4")


@pytest.mark.parametrize(
    ("count", "folds", "wrong", "reason"),
    [
        (LEAST_LABELS - 1, 4, True, "fitting a temperature needs 20 labels, and there are only 19"),
        (40, 1, True, "the models of all folds but one diverged"),
        (40, 4, False, "the folds predicted all 40 labels correctly, so there is no best temperature"),
    ],
)
def test_no_temperature_with_too_few_labels_folds_or_errors(count: int, folds: int, wrong: bool, reason: str) -> None:
    logits, y, _ = ninety_percent_correct(4.0, count)
    result = calibrate(logits, y if wrong else np.zeros_like(y), np.arange(count) % folds)
    assert (result["temperature"], result["reason"], result["nll_scaled"]) == (None, reason, None)
    json.dumps(result, allow_nan=False)


def test_a_temperature_at_the_limit_is_not_used() -> None:
    """Predictions worse than chance have the lowest NLL at the highest temperature."""
    logits, y, folds = ninety_percent_correct(8.0)
    result = calibrate(logits, 1 - y, folds)
    assert (result["temperature"], result["reason"]) == (
        None,
        "the best temperature lies at a limit of the search range, 20.1",
    )


def test_best_temperature_with_margins_that_underflow_softmax() -> None:
    """The probabilities underflow float64, and the logarithm of a clipped probability would be constant."""
    logits, y, _ = ninety_percent_correct(1.0)
    assert best_temperature(20 * logits, y) == pytest.approx(20 / np.log(9), rel=1e-3)
    wrong = np.ones(40, int)
    assert best_temperature(5000 * np.tile([1.0, 0.0], (40, 1)), wrong) == pytest.approx(np.exp(3), rel=1e-3)


# Flagging and messages


def report_of(pool: list[float | None], held_out: float | None, images: int = 40) -> dict[str, Any]:
    foreign = {"pool": pool, "held_out": held_out, "held_out_images": 0 if held_out is None else images}
    return {"seeds": [3, 5], "labels": 30, "foreign": foreign}


@pytest.mark.parametrize(
    ("pool", "held_out", "unflagged_reason"),
    [
        ([0.0, FLAGGED_LIMIT], None, ""),
        ([0.0, 0.01], FLAGGED_LIMIT, ""),
        ([0.0, 0.01], 4 / 40, ""),  # may be 5 % by chance: Wilson's interval is 4 to 23 %
        ([0.0, 0.231], None, "the model takes 23.1 % of the run's own pictures for generated ones, more than 5 %"),
        (
            [0.0, 0.01],
            0.2,
            "the models of the folds take 20.0 % of their held-out labels for generated ones, more than 5 %",
        ),
        ([None, 0.0], None, "the share of the run's own pictures that look generated could not be measured"),
    ],
)
def test_unflagged_reason_of_models_that_flag_their_own_images(
    pool: list[float | None], held_out: float | None, unflagged_reason: str
) -> None:
    assert Confidence.of_report(report_of(pool, held_out)).unflagged_reason == unflagged_reason


def test_unflagged_reason_depends_on_selected_models_only() -> None:
    confidence = Confidence.of_report(report_of([0.0, 0.2], None))
    assert confidence.select([0]).unflagged_reason == ""
    assert "20.0 %" in confidence.select([1]).unflagged_reason
    assert "20.0 %" in confidence.select([0, 1]).unflagged_reason


def test_report_of_earlier_version_disables_flagging_and_temperature() -> None:
    confidence = Confidence.of_report({"seeds": [0, 1], "labels": 30})
    assert (
        confidence.select([1]).unflagged_reason
        == "the share of the run's own pictures that look generated was not measured"
    )
    assert confidence.temperature is None


def test_message_about_calibration_of_probabilities() -> None:
    fitted = {"temperature": 1.834, "fitted_on": "folds", "reason": None}
    refused = {"temperature": None, "fitted_on": "folds", "reason": "it would not help"}
    without = {"temperature": None, "fitted_on": None, "reason": "there are no labels"}

    def message(calibration: dict[str, Any] | None, labels: int = 30) -> str:
        return Confidence.of_report(
            {"seeds": [0], "labels": labels, "calibration": calibration, "foreign": None}
        ).about_probabilities

    assert message(fitted) == "Probabilities are calibrated on labels that folds left out (temperature 1.83)."
    assert message(refused) == "Probabilities are not calibrated: it would not help."
    assert "train with --folds 5" in message(without)
    assert message(None) == message(without)
    assert message(without, LEAST_LABELS - 1) == ""  # folds would not help


def test_flagged_share_matches_hand_computed_value() -> None:
    # The sums of exp are 3, 0.5 and 1: p_generated is 1/4, 2/3 and 1/2.
    assert flagged_share(np.log([[2.0, 1.0], [0.3, 0.2], [0.5, 0.5 - 1e-12]])) == pytest.approx(2 / 3)
    assert flagged_share(np.zeros((0, 2))) is None
    assert flagged_share(np.array([[np.nan, 0.0]])) is None


# A run with folds


def train_with_folds(data: Data, config: Config, place: Path) -> dict[str, Any]:
    runs.create_run_folder(place, data.name, config)
    extra = {"folds": cross_validate(data, config, place / "folds")}
    return run_experiment(data, config, place, extra=extra)


CONFIG = tiny(labels=30, folds=3, seeds=2, draw_seed=0, total_images=6000)


@pytest.fixture(scope="module")
def folded(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    place = tmp_path_factory.mktemp("folded") / "run"
    return place, train_with_folds(few_digits, CONFIG, place)


def test_run_uses_temperature_fitted_on_its_folds(folded: tuple[Path, dict[str, Any]], few_digits: Data) -> None:
    run, report = folded
    models, _ = open_run(run / "folds", CPU)
    parts = cut_folds(few_digits, CONFIG)
    logits = np.concatenate([models.logits(few_digits.x_train[part.held_out])[k] for k, part in enumerate(parts)])
    y = np.concatenate([few_digits.y_train[part.held_out] for part in parts])
    expected = calibrate(logits, y, np.repeat(range(3), 10))
    assert expected["temperature"] is not None
    assert report["calibration"].keys() == expected.keys()
    for key, value in expected.items():
        assert report["calibration"][key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    assert "calibration" not in report["folds"]
    assert runs.read_report(run) == json.loads(json.dumps(report))
    assert report["foreign"]["held_out"] == report["folds"]["flagged"] == flagged_share(logits)
    own, _ = open_run(run, CPU)
    assert own.confidence.temperature == report["calibration"]["temperature"]
    assert report["foreign"]["pool"] == [flagged_share(own.logits(few_digits.x_train)[i]) for i in range(2)]


def test_report_has_test_scores_with_and_without_temperature(
    folded: tuple[Path, dict[str, Any]], few_digits: Data
) -> None:
    run, report = folded
    temperature = report["calibration"]["temperature"]
    models, _ = open_run(run, CPU)
    evaluation = evaluate_scaled(run, few_digits)
    for i, row in enumerate(report["rows"]):
        logits = models.logits(few_digits.x_test)[i]
        for at, scaled in (("", logits), ("_scaled", logits / temperature)):
            p = softmax(scaled)
            assert row[f"nll{at}"] == pytest.approx(negative_log_likelihood(p, few_digits.y_test))
            assert row[f"ece{at}"] == pytest.approx(expected_calibration_error(p, few_digits.y_test))
            assert evaluation["rows"][i][f"nll{at}"] == pytest.approx(row[f"nll{at}"])
        assert row["temperature"] == temperature
    mean = softmax(models.logits(few_digits.x_test) / temperature).mean(axis=0)
    assert evaluation["ensemble"]["nll"] == pytest.approx(negative_log_likelihood(mean, few_digits.y_test))
    assert evaluation["nll_scaled_mean"] == pytest.approx(np.mean([row["nll_scaled"] for row in report["rows"]]))


def evaluate_scaled(run: Path, data: Data) -> dict[str, Any]:
    """Evaluate a run on its own data, from an archive."""
    archive = run.parent / "few.npz"
    np.savez(
        archive,
        **{name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")},
        scale=data.scale,
        classes=np.array(data.classes),
    )
    return evaluate_run(run, str(archive), device="cpu", ensemble=True)


def test_calibration_does_not_depend_on_test_labels_or_hidden_labels(
    folded: tuple[Path, dict[str, Any]], few_digits: Data, tmp_path: Path
) -> None:
    _, report = folded
    y_train, labeled = few_digits.y_train.copy(), np.concatenate([p.held_out for p in cut_folds(few_digits, CONFIG)])
    hidden = np.setdiff1d(np.arange(len(y_train)), labeled)
    y_train[hidden] = np.roll(y_train[hidden], 7)
    other = dataclasses.replace(few_digits, y_test=np.roll(few_digits.y_test, 5))
    labels = cut_folds(few_digits, CONFIG)
    shuffled = dataclasses.replace(other, y_train=np.where(np.isin(np.arange(len(y_train)), labeled), y_train, -1))
    again = train_with_folds(shuffled, CONFIG.replace(labels=None), tmp_path / "run")
    assert [part.sha256 for part in cut_folds(shuffled, CONFIG.replace(labels=None))] == [p.sha256 for p in labels]
    for entry in ("calibration", "foreign"):
        assert again[entry] == report[entry]
    assert again["error_mean"] != report["error_mean"]


def test_predictions_are_scaled_by_the_temperature(folded: tuple[Path, dict[str, Any]], few_digits: Data) -> None:
    run, report = folded
    models = predict.open_predictor(run, device="cpu").models
    p = softmax(models.logits(few_digits.x_test) / report["calibration"]["temperature"]).mean(axis=0)
    rows = list(predict.predict(models, [InputImage(str(i), x) for i, x in enumerate(few_digits.x_test)]))
    np.testing.assert_allclose([row.probabilities for row in rows], p, rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]
    np.testing.assert_allclose([row.probability for row in rows], p.max(axis=1), rtol=1e-5)  # type: ignore[arg-type]
    raw = models.probabilities(few_digits.x_test).mean(axis=0)
    assert p.max(axis=1).mean() < raw.max(axis=1).mean() - 0.01  # the model was too sure


def test_a_run_without_folds_has_no_temperature(few_digits: Data, tmp_path: Path) -> None:
    run = runs.create_run_folder(tmp_path / "run", "few", tiny())
    report = run_experiment(few_digits, tiny(), run)
    assert report["calibration"]["temperature"] is None
    assert report["calibration"]["reason"].startswith("there are no labels to fit a temperature to except those")
    assert not {"temperature", "nll_scaled"} & report["rows"][0].keys()
    assert open_run(run, CPU)[0].confidence.temperature is None


def test_failed_folds_are_the_reason_for_no_temperature(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(folds=2, draw_seed=0)
    run = runs.create_run_folder(tmp_path / "run", "few", config)
    report = run_experiment(few_digits, config, run, extra={"folds": None})
    assert report["calibration"]["reason"] == "the folds gave nothing to fit a temperature to"
    assert report["folds"] is None


# Models that do not flag outliers


def altered(run: Path, place: Path, **entries: Any) -> Path:
    """Copy a run and replace entries of its report."""
    place.mkdir()
    for name in ("config.json", "checkpoint", "split.json"):
        (place / name).write_bytes((run / name).read_bytes())
    (place / "report.json").write_text(json.dumps({**runs.read_report(run), **entries}))
    return place


def test_model_that_does_not_flag_leaves_p_generated_empty(
    folded: tuple[Path, dict[str, Any]], few_digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x_test=few_digits.x_test, scale=few_digits.scale)
    source = str(tmp_path / "x.npz")
    for share in (0.0, 0.3):
        run = altered(
            folded[0], tmp_path / f"run{share}", foreign={"pool": [0.0, share], "held_out": None, "held_out_images": 0}
        )
        predictor, out = predict.open_predictor(run, device="cpu"), tmp_path / f"{share}.json"
        summary = predict.write_predictions(predictor, [InputSource(source)], str(out))
        rows = json.loads(out.read_text())
        assert all((row["p_generated"] is None) == bool(share) for row in rows)
        assert (summary["unlike"] is None) == bool(share)
        assert not share or {row["note"] for row in rows} == {None}
        assert all(row["probability"] > 0 for row in rows)
        assert status_of("predict", run, source, "--out", tmp_path / "p.csv") == 0
        stderr = capsys.readouterr().err
        words = "Images of none of the classes are not flagged: the model takes 30.0 % of the run's own pictures for "
        words += "generated ones, more than 5 %"
        assert (f"{words}." in stderr) == bool(share)
        assert "Probabilities are calibrated on labels that folds left out (temperature" in stderr
        # The first model alone does not flag its own images, so it flags outliers.
        alone = predict.open_predictor(run, 0, "cpu")
        assert alone.models.flags_outliers


def test_predict_recommends_folds_for_calibrated_probabilities(
    folded: tuple[Path, dict[str, Any]], few_digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x_test=few_digits.x_test, scale=few_digits.scale)
    run = altered(folded[0], tmp_path / "run", calibration=None)
    assert status_of("predict", run, tmp_path / "x.npz", "--out", tmp_path / "p.csv") == 0
    sentence = "Probabilities are not calibrated, so they may be too high: train with --folds 5 to calibrate them."
    assert sentence in capsys.readouterr().err
