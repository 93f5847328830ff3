"""Classical baselines use the labelled rows and the pool, but no hidden labels and no other test images."""

import inspect
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ssgan
from ssgan.compare import baselines
from ssgan.compare.baselines import BASELINES, BaselineResult, fit_baseline
from ssgan.data import neighbors, splits
from ssgan.data.splits import Split
from ssgan.errors import UserError
from ssgan.inference import metrics
from ssgan.settings.catalog import BASELINE_NAMES

ROOT = Path(__file__).parents[2]
DIGITS = ssgan.load("digits")
HUNDRED = splits.make_splits(DIGITS.y_train, 100, [0])[0]
LEARN_FROM_UNLABELED = ["label-spreading", "label-propagation", "self-training"]
WITH_PROBABILITIES = sorted(set(BASELINES) - {"knn"})
every_method = pytest.mark.parametrize("name", BASELINES)


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def on_digits(
    name: str, split: Split = HUNDRED, x_pool: np.ndarray = DIGITS.x_train, x_test: np.ndarray = DIGITS.x_test
) -> BaselineResult:
    return fit_baseline(name, x_pool, DIGITS.scale, split, x_test, 10, seed=3)


def same(a: BaselineResult, b: BaselineResult) -> bool:
    """Return whether all values except the seconds are equal, bit for bit."""
    if (a.probabilities is None) != (b.probabilities is None):
        return False
    equal = a.probabilities is None or np.array_equal(a.probabilities, b.probabilities)
    return equal and np.array_equal(a.predicted, b.predicted) and a.settings == b.settings


def clouds(each: int, centres: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Return points of 2 features around centres, float32 in [0, 1], ordered by centre."""
    noise = np.random.RandomState(seed).uniform(-0.05, 0.05, (len(centres), each, 2))
    return (np.array(centres)[:, None] + noise).reshape(-1, 2).astype(np.float32)


def test_names_in_the_catalog_match_the_baselines() -> None:
    assert tuple(BASELINES) == BASELINE_NAMES


@every_method
def test_error_with_100_labels_is_below_20_percent(name: str) -> None:
    found = on_digits(name)
    assert np.mean(found.predicted != DIGITS.y_test) < 0.2
    assert found.method == name
    assert found.settings["components"] == 50
    assert found.settings["pca_rows"] == len(DIGITS.x_train) == 1257
    assert found.settings["unlabeled_used"] == (1157 if name in LEARN_FROM_UNLABELED else 0)


@pytest.mark.parametrize("name", ["label-spreading", "label-propagation"])
def test_unlabelled_images_help_the_graph_methods(name: str) -> None:
    alone = replace(HUNDRED, held_out=np.setdiff1d(np.arange(len(DIGITS.x_train)), HUNDRED.indices))
    errors = [np.mean(on_digits(name, split).predicted != DIGITS.y_test) for split in (HUNDRED, alone)]
    assert errors[0] < errors[1] - 0.02


@every_method
def test_rows_do_not_depend_on_hidden_labels(name: str) -> None:
    assert "y" not in "".join(p[0] for p in inspect.signature(fit_baseline).parameters)
    shuffled = DIGITS.y_train.copy()
    hidden = np.setdiff1d(np.arange(len(shuffled)), HUNDRED.indices)
    shuffled[hidden] = np.random.RandomState(0).permutation(shuffled[hidden])
    data = replace(DIGITS, y_train=shuffled)
    split = splits.make_splits(data.y_train, None, [0], HUNDRED.indices)[0]
    rows = [
        baselines.baseline_row(d, s, fit_baseline(name, d.x_train, d.scale, s, d.x_test, 10), 0, None)
        for d, s in ((DIGITS, HUNDRED), (data, split))
    ]
    differing = {key for key in rows[0] if rows[0][key] != rows[1][key]}
    assert differing <= {"dataset_sha256", "seconds"}
    assert "dataset_sha256" in differing


@every_method
def test_a_prediction_does_not_depend_on_the_other_test_images(name: str) -> None:
    others = 16 - DIGITS.x_test  # as many as before, so that the order of additions is the same
    others[7] = DIGITS.x_test[7]
    a, b = on_digits(name), on_digits(name, x_test=others)
    assert a.predicted[7] == b.predicted[7]
    assert np.mean(a.predicted != b.predicted) > 0.3
    if a.probabilities is not None and b.probabilities is not None:
        assert np.array_equal(a.probabilities[7], b.probabilities[7])


@every_method
def test_predictions_do_not_depend_on_held_out_rows(name: str) -> None:
    away = np.setdiff1d(np.arange(len(DIGITS.x_train)), HUNDRED.indices)[::3]
    changed = DIGITS.x_train.copy()
    changed[away] = 16 - changed[away]
    split = replace(HUNDRED, held_out=away)
    a = on_digits(name, split)
    assert same(a, on_digits(name, split, changed))
    assert a.settings["pca_rows"] == 1257 - len(away)
    # Control: if the rows are not held out, they change the result.
    assert name not in WITH_PROBABILITIES or not same(on_digits(name), on_digits(name, x_pool=changed))


@every_method
def test_results_do_not_depend_on_the_global_state_of_numpy(name: str) -> None:
    np.random.seed(1)  # noqa: NPY002 - the global state is what must not matter
    a = on_digits(name)
    np.random.seed(2)  # noqa: NPY002
    assert same(a, on_digits(name))


@pytest.mark.parametrize("name", WITH_PROBABILITIES)
def test_probabilities_are_finite_sum_to_one_and_match_predictions(name: str) -> None:
    p = on_digits(name).probabilities
    assert p is not None
    assert p.shape == (540, 10)
    assert p.dtype == np.float64
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_array_equal(p.argmax(axis=1), on_digits(name).predicted)


@every_method
def test_row_has_the_keys_of_a_training_row_and_scores_of_probabilities(name: str) -> None:
    found = on_digits(name)
    ours = baselines.baseline_row(DIGITS, HUNDRED, found, 3, 0)
    trained = json.loads((ROOT / "results" / "rows" / "digits.jsonl").read_text().splitlines()[0])
    assert [key for key in ours if key != "estimator"] == list(trained)
    assert ours["estimator"] == found.settings
    json.dumps(ours, allow_nan=False)
    assert {key: ours[key] for key in ("dataset", "dataset_sha256", "split_sha256")} == {
        key: trained[key] for key in ("dataset", "dataset_sha256")
    } | {"split_sha256": HUNDRED.sha256}
    assert (ours["labels"], ours["method"], ours["seed"], ours["draw_seed"], ours["stack"]) == (100, name, 3, 0, [3])
    assert ours["device"] == "cpu"
    assert ours["device_name"]
    p, y = found.probabilities, DIGITS.y_test
    assert ours["error"] == 100 * np.mean(found.predicted != y)
    if p is None:
        assert name == "knn"
        assert (ours["ece"], ours["nll"]) == (None, None)
    else:
        assert ours["error"] == metrics.error_percent(p, y)
        assert ours["ece"] == metrics.expected_calibration_error(p, y)
        infinite = (p[np.arange(540), y] == 0).any()
        assert ours["nll"] == (None if infinite else metrics.negative_log_likelihood(p, y))


def test_config_hash_depends_only_on_method_and_settings() -> None:
    rows = {name: baselines.baseline_row(DIGITS, HUNDRED, on_digits(name), 3, 0) for name in BASELINES}
    assert len({one["config_sha256"] for one in rows.values()}) == len(BASELINES)
    other = splits.make_splits(DIGITS.y_train, 100, [1])[0]
    again = baselines.baseline_row(DIGITS, other, on_digits("knn", other), 4, 1)
    assert again["config_sha256"] == rows["knn"]["config_sha256"]


def test_config_hash_excludes_values_derived_from_the_images() -> None:
    fewer = splits.make_splits(DIGITS.y_train, 20, [0])[0]
    few, many = (baselines.baseline_row(DIGITS, split, on_digits("svm", split), 3, 0) for split in (fewer, HUNDRED))
    assert few["settings"] == many["settings"] == {}
    assert few["estimator"]["temperature_folds"] != many["estimator"]["temperature_folds"]
    assert few["config_sha256"] == many["config_sha256"]


def test_an_infinite_nll_is_none() -> None:
    p = np.eye(10)[DIGITS.y_test]
    found = BaselineResult("svm", DIGITS.y_test, p, {}, 0.0)
    assert baselines.baseline_row(DIGITS, HUNDRED, found, 0, 0)["nll"] == 0
    p[5] = np.roll(p[5], 1)
    assert baselines.baseline_row(DIGITS, HUNDRED, found, 0, 0)["nll"] is None


@pytest.mark.parametrize("name", LEARN_FROM_UNLABELED)
def test_no_more_unlabelled_images_are_used_than_allowed(name: str) -> None:
    x = clouds(200, [(0.2, 0.2), (0.8, 0.8)])
    split = Split(np.array([0, 200]), np.array([0, 1]))
    found = fit_baseline(name, x, 1.0, split, x, 2, unlabeled_cap=30)
    assert found.settings["unlabeled_used"] == 30
    assert np.array_equal(found.predicted, np.repeat([0, 1], 200))
    assert fit_baseline(name, x, 1.0, split, x, 2).settings["unlabeled_used"] == 398


def test_unlabeled_cap_selects_random_images_by_seed() -> None:
    outcomes = [
        fit_baseline("label-spreading", DIGITS.x_train, 16, HUNDRED, DIGITS.x_test, 10, seed, unlabeled_cap=300)
        for seed in (0, 0, 1)
    ]
    assert same(outcomes[0], outcomes[1])
    assert not same(outcomes[0], outcomes[2])


def test_pca_of_large_images_uses_a_part_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "PCA_PIXELS", 64 * 300)
    monkeypatch.setattr(neighbors, "CHUNK_PIXELS", 64 * 100)
    found = on_digits("knn")
    assert found.settings["pca_rows"] == 300
    assert np.mean(found.predicted != DIGITS.y_test) < 0.2


@every_method
def test_constant_images_and_constant_pixels_are_accepted(name: str) -> None:
    split = Split(np.arange(4), np.array([0, 1, 0, 1]))
    flat = np.full((30, 4, 4, 3), 7, np.uint8)
    found = fit_baseline(name, flat, 255, split, flat[:5], 2)
    assert found.predicted.shape == (5,)
    assert found.probabilities is None or np.isfinite(found.probabilities).all()
    framed = np.pad(DIGITS.x_train, ((0, 0), (1, 1), (1, 1)), constant_values=16)
    tested = np.pad(DIGITS.x_test, ((0, 0), (1, 1), (1, 1)), constant_values=16)
    assert np.mean(on_digits(name, x_pool=framed, x_test=tested).predicted != DIGITS.y_test) < 0.2


@every_method
def test_a_class_without_labels_is_never_predicted(name: str) -> None:
    kept = HUNDRED.y != 4
    found = on_digits(name, Split(HUNDRED.indices[kept], HUNDRED.y[kept]))
    there = DIGITS.y_test != 4
    assert set(found.predicted) == set(range(10)) - {4}
    assert np.mean(found.predicted[there] != DIGITS.y_test[there]) < 0.2
    if found.probabilities is not None:
        assert (found.probabilities[:, 4] == 0).all()
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-9)
        split = Split(HUNDRED.indices[kept], HUNDRED.y[kept])
        assert baselines.baseline_row(DIGITS, split, found, 0, 0)["nll"] is None


@every_method
@pytest.mark.parametrize("each", [1, 2])
def test_one_or_two_labels_of_two_classes_are_enough(name: str, each: int) -> None:
    x = clouds(40, [(0.2, 0.2), (0.8, 0.8)])
    rows = np.concatenate([np.arange(each), 40 + np.arange(each)])
    found = fit_baseline(name, x, 1.0, Split(rows, np.repeat([0, 1], each)), x, 2)
    assert np.array_equal(found.predicted, np.repeat([0, 1], 40))
    assert (found.probabilities is None) == (name == "knn" or (name == "svm" and each == 1))


@every_method
def test_pool_may_have_only_labelled_images(name: str) -> None:
    x = clouds(2, [(0.2, 0.2), (0.8, 0.8)])
    found = fit_baseline(name, x, 1.0, Split(np.arange(4), np.array([0, 0, 1, 1])), x[::-1], 2)
    assert found.settings["unlabeled_used"] == 0
    if name not in ("label-spreading", "label-propagation"):  # four images are each other's neighbours
        assert found.predicted.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["label-spreading", "label-propagation"])
def test_unreached_images_have_equal_probabilities_of_labelled_classes(name: str) -> None:
    x = clouds(20, [(0.1, 0.1), (0.9, 0.1), (0.5, 0.9)])
    found = fit_baseline(name, x, 1.0, Split(np.array([0, 20]), np.array([0, 2])), x, 3)
    assert found.probabilities is not None
    # No chain of seven nearest neighbours leads from the third cloud to a label.
    np.testing.assert_array_equal(found.probabilities[40:], np.tile([0.5, 0, 0.5], (20, 1)))
    np.testing.assert_array_equal(found.predicted[:40], np.repeat([0, 2], 20))


@pytest.mark.parametrize("of_backbone", [False, True], ids=["pixels", "features"])
@every_method
def test_outliers_have_valid_probabilities(name: str, of_backbone: bool) -> None:
    """Outliers are in the pool and in the test set, in all directions, with a row of zeros, which has no direction."""
    random = np.random.RandomState(0)
    near = np.concatenate([clouds(20, [(0.2, 0.2), (0.8, 0.8)]), random.uniform(0, 1, (40, 6)).astype(np.float32)], 1)
    far = (1e6 * random.normal(size=(30, 8))).astype(np.float32)
    x = np.concatenate([near, far, np.zeros((1, 8), np.float32)])
    found = fit_baseline(
        name, x, 1.0, Split(np.array([0, 1, 20, 21]), np.array([0, 0, 2, 2])), x, 3, of_backbone=of_backbone
    )
    assert found.predicted.shape == (71,)
    assert set(found.predicted) <= {0, 2}
    if name == "knn":
        assert found.probabilities is None
        return
    p = found.probabilities
    assert p is not None
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert (p[:, 1] == 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_array_equal(p.argmax(axis=1), found.predicted)


@pytest.mark.parametrize("name", ["label-spreading", "label-propagation"])
def test_unreached_test_images_are_counted_and_cause_a_warning(name: str) -> None:
    x = clouds(20, [(0.1, 0.1), (0.9, 0.1), (0.5, 0.9)])
    split = Split(np.array([0, 20]), np.array([0, 2]))
    found = fit_baseline(name, x, 1.0, split, x[10:50], 3)
    assert found.settings["unreached_tests"] == 10
    row = baselines.baseline_row(
        replace(DIGITS, x_test=DIGITS.x_test[:40], y_test=DIGITS.y_test[:40] % 3), split, found, 0, 0
    )
    assert row["warnings"] == [
        f"{name}: no label reaches 10 of 40 test images; the probability of every labelled class is the same there."
    ]
    reached = fit_baseline(name, x, 1.0, split, x[:40], 3)
    assert (reached.settings["unreached_tests"], reached.warnings) == (0, [])


@pytest.mark.parametrize("name", ["label-spreading", "label-propagation"])
def test_zero_probability_rows_are_handled_like_nan_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later scikit-learn may divide a row without weight by 1, as its issue 34350 proposes."""
    from sklearn import semi_supervised

    estimator = {
        "label-spreading": semi_supervised.LabelSpreading,
        "label-propagation": semi_supervised.LabelPropagation,
    }
    plain = estimator[name].predict_proba
    monkeypatch.setattr(estimator[name], "predict_proba", lambda self, x: np.nan_to_num(plain(self, x)))
    test_unreached_images_have_equal_probabilities_of_labelled_classes(name)


@pytest.mark.parametrize("name", ["label-spreading", "label-propagation"])
def test_labels_propagate_along_a_chain_of_neighbours(name: str) -> None:
    x = np.stack([np.linspace(0, 1, 80) ** 1.05, np.zeros(80)], axis=1).astype(np.float32)
    found = fit_baseline(name, x, 1.0, Split(np.array([0, 79]), np.array([0, 1])), x, 2)
    assert found.probabilities is not None
    assert (found.probabilities[1:79].max(axis=1) > 0.5).all()
    meets = np.flatnonzero(np.diff(found.predicted))
    assert len(meets) == 1
    assert 30 <= meets[0] <= 50


@pytest.mark.parametrize("draw", [0, 4])
def test_self_training_predicts_every_class_often_enough(draw: int) -> None:
    # Without class weights, two classes of these draws have fewer than 10 of 540 images.
    split = splits.make_splits(DIGITS.y_train, 20, [draw])[0]
    counts = np.bincount(on_digits("self-training", split).predicted, minlength=10)
    assert counts.min() > 25


def test_best_temperature_matches_hand_computed_value() -> None:
    # Nine of ten rows right at a margin of 2: p = 0.9 where 2 / T = log 9.
    margins = np.tile([2.0, 0.0], (10, 1))
    assert metrics.best_temperature(margins, np.array([0] * 9 + [1])) == pytest.approx(2 / np.log(9), rel=1e-3)


def test_scores_of_the_support_vector_machine_are_calibrated() -> None:
    fewer = splits.make_splits(DIGITS.y_train, 50, [1])[0]
    for split in (HUNDRED, fewer):
        ours = baselines.baseline_row(DIGITS, split, on_digits("svm", split), 3, 0)
        assert ours["ece"] < 0.12
    assert on_digits("svm").settings["temperature_folds"] == 5
    single = splits.make_splits(DIGITS.y_train, 12, [0])[0]
    assert on_digits("svm", single).settings["temperature_folds"] is None


def test_torch_is_not_loaded() -> None:
    code = (
        "import sys, ssgan; from ssgan.compare import baselines; from ssgan.data import splits; "
        "d = ssgan.load('digits'); "
        "s = splits.make_splits(d.y_train, 20, [0])[0]; "
        "o = baselines.fit_baseline('knn', d.x_train, d.scale, s, d.x_test, 10); "
        "baselines.baseline_row(d, s, o, 0, 0); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def refusal(name: str = "knn", split: Split = HUNDRED, x_test: np.ndarray = DIGITS.x_test, classes: int = 10) -> str:
    with pytest.raises(UserError) as mistake:
        fit_baseline(name, DIGITS.x_train, 16, split, x_test, classes)
    return str(mistake.value)


def test_errors_name_the_cause_and_the_remedy() -> None:
    known = "logistic-regression, svm, knn, label-spreading, label-propagation, self-training"
    assert refusal("label-spread") == (
        f"Unknown classical method 'label-spread': choose from {known}. Did you mean 'label-spreading'?"
    )
    assert refusal(split=Split(np.array([1, 2]), np.array([3, 3]))) == (
        "The split has labels of 1 of 10 classes, but a classifier needs at least 2: label images of more classes."
    )
    assert refusal(split=Split(np.array([], np.int64), np.array([], np.int64))) == (
        "The split has labels of 0 of 10 classes, but a classifier needs at least 2: label images of more classes."
    )
    assert refusal(classes=9) == (
        "The split holds labels 0 to 9, but with 9 classes they must lie in 0 to 8: was it drawn from other data?"
    )
    outside = "The split names rows 2 to 1257, but the pool has rows 0 to 1256: was it drawn from other data?"
    assert refusal(split=Split(np.array([2, 1257]), np.array([0, 1]))) == outside
    assert refusal(split=Split(np.array([2, 3]), np.array([0, 1]), np.array([1257]))) == outside
    for shape in ((5, 8, 9), (0, 8, 8)):
        assert refusal(x_test=np.zeros(shape, np.uint8)) == (
            f"x_test is of shape {list(shape)}, but must hold at least one image of shape [8, 8], as the pool does."
        )
