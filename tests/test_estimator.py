"""`SSGANClassifier`: scikit-learn's own checks, labels and tables of many types, and refused input."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from small_backbones import coloured, use_small_backbone

import ssgan
from ssgan import SemiSupervisedKFold, SSGANClassifier
from ssgan.errors import UserError
from ssgan.estimator import SMALL_IMAGE_PRESET
from ssgan.settings.presets import resolve

X, Y = load_iris(return_X_y=True)
HIDDEN = np.where(np.arange(150) % 5, -1, Y)  # 10 labels a class
SMALL = {"discriminator_widths": (32, 32), "generator_widths": (32,)}
FAST: dict[str, Any] = {"random_state": 0, "total_images": 960, "device": "cpu"}


def fast(**changes: Any) -> SSGANClassifier:
    """A classifier that trains in a fraction of a second."""
    return SSGANClassifier(**{**FAST, **changes})


@pytest.fixture(scope="module")
def fitted() -> SSGANClassifier:
    return fast(total_images=9_600).fit(X, HIDDEN)


# scikit-learn's checks: with a short training here, with the default in the exhaustive tests


@parametrize_with_checks([SSGANClassifier(total_images=1_920)])
@pytest.mark.filterwarnings("ignore:y contains no unlabeled samples", "ignore:y holds only -1 and 1")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_short_training_passes_the_estimator_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_default_settings_pass_the_estimator_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(SSGANClassifier())


# Learning


def test_fit_learns_and_labels_the_unlabelled_rows(fitted: SSGANClassifier) -> None:
    assert fitted.score(X, Y) > 0.85
    assert fitted.classes_.tolist() == [0, 1, 2]
    known = HIDDEN >= 0
    assert fitted.transduction_[known].tolist() == HIDDEN[known].tolist()
    assert fitted.transduction_[~known].tolist() == fitted.predict(X[~known]).tolist()
    assert fitted.labeled_iter_.tolist() == np.where(known, 0, 1).tolist()
    assert fitted.n_features_in_ == 4


def test_fit_learns_from_unlabelled_rows_without_their_labels() -> None:
    moved = X.copy()
    moved[HIDDEN < 0] += np.random.RandomState(0).standard_normal((120, 4))
    p = fast().fit(X, HIDDEN).predict_proba(X)
    assert not np.allclose(p, fast().fit(moved, HIDDEN).predict_proba(X), atol=1e-3)
    assert np.array_equal(p, fast().fit(X, HIDDEN.astype(float)).predict_proba(X))


@pytest.mark.parametrize("method", ["supervised", "pseudo-label", "pi", "mean-teacher", "vat"])
def test_every_method_of_tables_trains(method: str) -> None:
    model = fast(method=method).fit(X, HIDDEN)
    assert model.predict_proba(X).shape == (150, 3)
    with pytest.raises(UserError, match=f"method '{method}' trains no"):
        model.outlier_score(X)


def test_probabilities_of_several_models_are_averaged() -> None:
    both = fast(n_seeds=2).fit(X, HIDDEN).predict_proba(X)
    each = [fast(random_state=seed).fit(X, HIDDEN).predict_proba(X) for seed in (0, 1)]
    assert np.allclose(both, np.mean(each, axis=0), atol=1e-6)


def test_random_state_determines_the_results() -> None:
    states = [0, 1, np.random.RandomState(0)]
    p = [fast(random_state=state).fit(X, HIDDEN).predict_proba(X) for state in states]
    assert not any(np.array_equal(a, b) for a, b in ((p[0], p[1]), (p[0], p[2])))
    again = fast(random_state=np.random.RandomState(0)).fit(X, HIDDEN)
    assert np.array_equal(again.predict_proba(X), p[2])


def test_outlier_score_is_higher_for_distant_rows(fitted: SSGANClassifier) -> None:
    near, far = fitted.outlier_score(X), fitted.outlier_score(10 * X)
    assert far.mean() > near.mean() + 0.3
    assert ((near > 0) & (near < 1)).all()


def test_samples_have_the_units_of_the_table(fitted: SSGANClassifier) -> None:
    rows = fitted.sample(200)
    assert rows.shape == (200, 4)
    assert np.abs(rows.mean(axis=0) - X.mean(axis=0)).max() < 1.5 * X.std(axis=0).max()
    assert np.array_equal(fitted.sample(5), rows[:5])
    assert not np.array_equal(fitted.sample(5, random_state=9), rows[:5])
    assert fast(n_seeds=2).fit(X, HIDDEN).sample(3).shape == (3, 4)
    with pytest.raises(UserError, match="n_samples is 0, but must be an integer, at least 1"):
        fitted.sample(0)


def test_warm_start_continues_from_the_last_weights(fitted: SSGANClassifier) -> None:
    warm = pickle.loads(pickle.dumps(fitted)).set_params(warm_start=True, total_images=64)
    cold = fast(total_images=64).fit(X, HIDDEN)
    assert warm.fit(X, HIDDEN).score(X, Y) > cold.score(X, Y)
    assert warm.fit(X, HIDDEN.astype(float)).classes_.dtype == np.float64
    warm.fit(X, HIDDEN)
    with pytest.raises(
        UserError, match=r"^warm_start continues from the models of the last fit, of classes \[0, 1, 2\]"
    ):
        warm.fit(X[:100], HIDDEN[:100])


def test_progress_is_passed_to_the_callback_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[int] = []
    fast(verbose=True, callback=lambda progress: steps.append(progress.step)).fit(X, HIDDEN)
    assert steps[-1] == 15
    assert "[SSGANClassifier] step 15 of 15, 0 s left" in capsys.readouterr().out


def test_settings_and_preset_parameters_are_used() -> None:
    model = fast(settings={**SMALL, "batch_size": 20}, preset="features").fit(X, HIDDEN)
    assert (model.config_.discriminator_widths, model.config_.batch_size) == ((32, 32), 20)
    assert (model.config_.preset, model.config_.backbone) == ("features", None)


# Labels


def test_fit_accepts_text_labels_with_missing_values() -> None:
    words = np.array(["setosa", "versicolor", "virginica"], object)[Y]
    words[HIDDEN < 0] = None
    words[-1] = np.nan
    model = fast().fit(X, words)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert set(model.transduction_) <= set(model.classes_)
    assert model.score(X, words) == np.mean((model.predict(X) == words)[HIDDEN >= 0][: (HIDDEN[:-1] >= 0).sum()])


def test_labels_of_only_minus_1_and_1_are_classes_with_a_warning() -> None:
    y = np.where(Y == 0, -1, 1)
    with pytest.warns(UserWarning, match="y holds only -1 and 1, so both are classes"):
        model = fast(total_images=1_920).fit(X, y)
    assert model.classes_.tolist() == [-1, 1]
    assert model.score(X, y) > 0.8


def test_fit_warns_if_no_row_is_unlabelled() -> None:
    with pytest.warns(UserWarning, match="y contains no unlabeled samples"):
        fast(total_images=64).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(total_images=64).fit(X, HIDDEN)


def test_score_uses_only_labelled_rows(fitted: SSGANClassifier) -> None:
    known = HIDDEN >= 0
    assert fitted.score(X, HIDDEN) == fitted.score(X[known], HIDDEN[known])
    with pytest.raises(UserError, match="No row has a label to compare with"):
        fitted.score(X[:2], [-1, -1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.score(X[:2], [0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.score(X, Y, sample_weight=[1])


def test_score_counts_unknown_labels_as_errors() -> None:
    """It is not truncated to the length of the class names."""
    words = np.array(["cat", "dog"], object)[Y % 2]
    words[::5] = None
    model = fast(total_images=64).fit(X, words)
    assert model.score(X[:2], np.array(["cats", "dogs"], object)) == 0


def test_score_of_classes_0_and_1_treats_minus_1_as_missing() -> None:
    """With the labels 1 and -1 alone, both would be classes in `fit`; the classes are known in `score`."""
    y = np.where(Y == 0, 0, 1)
    model = fast().fit(X, np.where(np.arange(150) % 5, -1, y))
    rows = np.flatnonzero(Y == 1)
    predicted = model.predict(X[rows])
    hidden = np.where(np.arange(len(rows)) % 2, -1, 1)
    assert model.score(X[rows], hidden) == np.mean(predicted[hidden == 1] == 1)


@pytest.mark.filterwarnings("ignore:y holds only -1 and 1")
def test_score_treats_minus_1_as_a_label_if_it_is_a_class() -> None:
    y = np.where(Y == 0, -1, 1)
    model = fast().fit(X, y)
    assert model.score(X[:20], y[:20]) == np.mean(model.predict(X[:20]) == -1)
    assert model.score(X[:2], np.array([None, -1], object)) == (model.predict(X[1:2])[0] == -1)


@pytest.mark.parametrize("values", [(False, True), (0.0, 1.0), (np.int64(3), np.int64(5)), ("a", "b")], ids=str)
def test_score_of_object_labels_keeps_their_type(values: tuple[Any, Any]) -> None:
    y = np.array([values[i] for i in (Y == 0).astype(int)], object)
    hidden = y.copy()
    hidden[::3] = None
    model = fast().fit(X, hidden)
    known = [label is not None for label in hidden]
    assert model.score(X, hidden) == np.mean(model.predict(X)[known] == y[known])
    scores = cross_val_score(fast(), X, hidden, cv=SemiSupervisedKFold(2))
    assert np.isfinite(scores).all()


def test_nullable_booleans_of_pandas_are_scored() -> None:
    pd = pytest.importorskip("pandas")
    y = pd.Series(Y == 0, dtype="boolean")
    y[::3] = pd.NA
    model = fast().fit(X, y)
    assert 0.5 < model.score(X, y) <= 1


def test_refused_fit_keeps_the_last_fit() -> None:
    model = fast().fit(X, HIDDEN)
    expected = model.predict(X)
    for changes, x, y in (
        ({"settings": {"nonsense": 1}}, X[:, :3], np.where(HIDDEN < 0, -1, HIDDEN + 5)),
        ({"settings": None, "warm_start": True}, X[:, :3], HIDDEN),
    ):
        with pytest.raises(UserError):
            model.set_params(**changes).fit(x, y)
        assert model.n_features_in_ == 4
        assert np.array_equal(model.predict(X), expected)
        assert model.settings == changes["settings"]


def test_nullable_labels_of_pandas_keep_their_type() -> None:
    pd = pytest.importorskip("pandas")
    y = pd.Series(np.where(HIDDEN < 0, None, HIDDEN), dtype="Int64")
    model = fast().fit(X, y)
    assert model.classes_.dtype == np.int64
    assert np.array_equal(model.predict(X), fast().fit(X, HIDDEN).predict(X))


# Images


def test_fit_accepts_one_to_three_channels_and_sample_keeps_the_dtype() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (40, 8, 8, 2))
    y = np.where(np.arange(40) < 20, np.arange(40) % 2, -1)
    model = fast(total_images=200).fit(x, y)
    assert model.predict(x).shape == (40,)
    assert model.config_.preset == "small-images"
    assert model.config_.augmentation == "none"
    named = fast(total_images=200, preset="small-images").fit(x, y)
    assert np.array_equal(named.predict_proba(x), model.predict_proba(x))
    with pytest.raises(UserError, match=r"images of 1 or 3 channels, but each row of X is of shape \[8, 8, 2\]"):
        fast(method="fixmatch").fit(x, y)
    with pytest.raises(UserError, match="not of 1 or 3 channels"):
        fast(total_images=200, settings={"augmentation": "digits"}).fit(x, y)
    grey = fast(total_images=200).fit(x[..., 0], y)
    assert grey.sample(3).dtype == np.float64
    signed = fast(total_images=200).fit((127 * x[..., 0]).astype(np.int8), y).sample(20)
    assert (signed.dtype, signed.min() >= 0) == (np.int8, True)  # more than 127 would be negative
    colour = np.random.default_rng(1).uniform(0, 1, (40, 8, 8, 3))
    model = fast(total_images=200).fit(colour, y)
    tensors = torch.from_numpy(np.moveaxis(colour, 3, 1).copy()).requires_grad_()  # the channels come first
    assert np.array_equal(model.predict_proba(tensors), model.predict_proba(colour))


def test_uint8_and_float_images_give_equal_predictions() -> None:
    digits = load_digits()
    y = np.where(np.arange(1797) < 60, digits.target, -1)
    settings = {"discriminator_widths": (16,), "generator_widths": (16,)}
    pixels = (digits.images * 15).astype(np.uint8)
    model = fast(settings=settings, total_images=600).fit(pixels, y)
    assert (model.config_.preset, model.n_features_in_) == ("small-images", 64)
    assert (model.sample(2).shape, model.sample(2).dtype) == ((2, 8, 8), np.uint8)
    floats = fast(settings=settings, total_images=600).fit(pixels / 255, y)
    assert np.array_equal(floats.predict_proba(pixels / 255), model.predict_proba(pixels))
    assert floats.sample(2).max() <= 1.0
    scaled = fast(settings=settings, total_images=600, scale=16).fit(digits.images, y)
    assert scaled.predict(digits.images.astype(int)).shape == (1797,)
    with pytest.raises(UserError, match="X holds images of float64, but fit saw uint8"):
        model.predict(pixels / 255)
    with pytest.raises(UserError, match=r"X holds rows of shape \[5, 8\], but fit saw \[8, 8\]"):
        model.predict(pixels[:, :5])
    with pytest.raises(UserError, match="X holds values from 0 to 30, but images must lie in 0 to 16"):
        scaled.predict(2.0 * digits.images[:9] * 15 / 16)
    with pytest.raises(UserError, match="X holds NaN or infinity"):
        floats.predict(np.full((1, 8, 8), np.nan))


@pytest.mark.parametrize("settings", [None, {"augmentation": "drawings"}], ids=["chosen", "named"])
def test_augmentation_equals_that_of_train(settings: dict[str, Any] | None) -> None:
    """For colour photographs, which have many tones, not the augmentation of digits on black."""
    x = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    y = np.where(np.arange(40) < 20, np.arange(40) % 2, -1)
    short = {"batch_size": 10, "init_images": 10, "discriminator_widths": (4, 4, 4), **(settings or {})}
    model = fast(total_images=10, settings=short).fit(x, y)
    run = ssgan.train((x, y), total_images=10, device="cpu", **short)
    assert model.config_.augmentation == run.config.augmentation == (settings or {}).get("augmentation", "natural")


def test_sample_is_refused_with_a_backbone_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_backbone(monkeypatch)
    x, y = coloured(60, 0)
    settings = {"image_size": 16, "feature_components": 6, "init_images": 40, "batch_size": 20}
    model = fast(preset="features", settings=settings, total_images=200).fit(x, np.where(np.arange(60) < 15, y, -1))
    with pytest.raises(UserError, match="The generator makes features of efficientnet-lite0"):
        model.sample()


def test_colour_images_are_learned_with_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_backbone(monkeypatch)
    x, y = coloured(60, 0)
    settings = {"image_size": 16, "feature_components": 6, "init_images": 40, "batch_size": 20}
    model = fast(backbone="efficientnet-lite0", settings=settings, total_images=1_000)
    model.fit(x, np.where(np.arange(60) < 15, y, -1))
    assert model.score(x, y) > 0.6
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x))
    with pytest.raises(UserError, match="The generator makes features of efficientnet-lite0"):
        model.sample()
    with pytest.raises(UserError, match="which accepts images"):
        model.fit(X, HIDDEN)


# Tools of scikit-learn


def test_concurrent_fits_equal_sequential_fits() -> None:
    """All threads share torch's generator, from which weights are drawn."""
    alone = [fast(random_state=i).fit(X, HIDDEN).predict_proba(X) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda i: fast(random_state=i).fit(X, HIDDEN).predict_proba(X), range(4)))
    assert np.array_equal(alone, together)


def test_works_in_pipelines_grid_search_and_cross_validation() -> None:
    folds = SemiSupervisedKFold(2)
    piped = make_pipeline(MinMaxScaler(), fast())
    scores = cross_val_score(piped, X, HIDDEN, cv=folds, error_score="raise")
    assert scores.shape == (2,)
    assert scores.min() > 0.4
    grid = GridSearchCV(fast(), {"method": ["gan", "supervised"]}, cv=folds, error_score="raise").fit(X, HIDDEN)
    assert grid.best_params_["method"] in ("gan", "supervised")
    assert grid.predict(X).shape == (150,)


def test_clone_is_unfitted_and_pickled_copies_predict_the_same(fitted: SSGANClassifier, tmp_path: Any) -> None:
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    joblib.dump(fitted, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        assert np.array_equal(copy.predict_proba(X), fitted.predict_proba(X))
        assert np.array_equal(copy.sample(3), fitted.sample(3))


def test_data_frames_set_feature_names() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    labels = pandas.Series(HIDDEN).where(HIDDEN >= 0).astype("Int64")
    model = fast(total_images=320).fit(frame, labels)
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert model.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c", "d"]])
    piped = make_pipeline(MinMaxScaler(), fast(total_images=320)).set_output(transform="pandas").fit(frame, HIDDEN)
    assert piped[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]
    words = pandas.Series(["a", "b", None] * 50)
    assert fast(total_images=320).fit(frame, words).classes_.tolist() == ["a", "b"]


# Refused input

REFUSED = {
    "all unlabelled": ({}, X, np.full(150, -1), "Every label is -1 or missing, so there is no class to learn"),
    "one class": ({}, X, np.where(HIDDEN < 0, -1, 0), "Every labelled row is of one class, 0: a classifier needs"),
    "no labels": ({}, X, None, "fit requires y to be passed, but the target y is None"),
    "too few labels": ({}, X, HIDDEN[:9], "y holds 9 labels, but there are 150 rows of X"),
    "text of -1": ({}, X, np.where(HIDDEN < 0, "-1", "a"), "y holds the text '-1', which would be a class"),
    "fractions": ({}, X, Y + 0.5, "Unknown label type: continuous."),
    "NaN": ({}, np.where(X > 5, np.nan, X), HIDDEN, "Input X contains NaN."),
    "sparse": ({}, sparse.csr_matrix(X), HIDDEN, "X is a sparse csr_matrix; sparse data is not supported"),
    "ragged": ({}, [[1.0], [1.0, 2.0]], [0, 1], "The rows of X have different shapes"),
    "None in a list": ({}, [[None, 1.0]] * 150, HIDDEN, "Input X contains NaN."),
    "masked": ({}, np.ma.masked_array(X, mask=X > 7), HIDDEN, "X is a masked array, but every value would be used"),
    "setting of files": (
        {"settings": {"test_share": 0.5}},
        X,
        HIDDEN,
        "settings holds test_share, which is a parameter, follows from y, or needs files",
    ),
    "image size": (
        {"settings": {"image_size": 16}},
        np.ones((150, 4, 4)),
        HIDDEN,
        "settings holds image_size, which has no effect without a backbone",
    ),
    "one dimension": ({}, X[:, 0], HIDDEN, "Expected 2D array, got 1D array instead"),
    "images of words": ({}, np.full((150, 2, 2), "a"), HIDDEN, "X holds images of type <U1"),
    "large numbers": ({"scaling": None}, 1e9 * X, HIDDEN, "X holds 7.9e+09, which is too large: set scaling="),
    "method": ({"method": "gann"}, X, HIDDEN, "method is 'gann', but must be one of gan, supervised"),
    "fractions as objects": ({}, X, np.where(Y == 0, 0.5, 1.5).astype(object), "Unknown label type: continuous."),
    "views": ({"method": "fixmatch"}, X, HIDDEN, "method 'fixmatch' compares views of images"),
    "seeds": ({"n_seeds": 0}, X, HIDDEN, "n_seeds is 0, but must be an integer, at least 1."),
    "scaling": ({"scaling": "robust"}, X, HIDDEN, "scaling is 'robust', but must be 'standard', 'quantile' or None."),
    "setting": ({"settings": {"batch_sise": 9}}, X, HIDDEN, "Unknown setting 'batch_sise'. Did you mean 'batch_size'?"),
    "settings": ({"settings": [1]}, X, HIDDEN, "settings is [1], but must be a dict of settings by name, or None."),
    "overflow": ({}, 1e200 * X, HIDDEN, "X holds 7.9e+200, which is too large to scale: divide it by a constant."),
    "own setting": (
        {"settings": {"seeds": 3}},
        X,
        HIDDEN,
        "settings holds seeds, which is a parameter, follows from y, or needs files",
    ),
    "scale": ({"scale": 0}, np.ones((150, 4, 4)), HIDDEN, "scale is 0, but must be a finite number above 0."),
    "text as scale": ({"scale": "255"}, np.ones((150, 4, 4)), HIDDEN, "scale is '255', but must be"),
    "device": ({"device": "tpu"}, X, HIDDEN, "There is no device 'tpu' here"),
    "divergence": (
        {"settings": {"learning_rate_d": 1e30, "learning_rate_g": 1e30}},
        X,
        HIDDEN,
        "Every model diverged, so there is none to predict with",
    ),
}


@pytest.mark.parametrize(("parameters", "x", "y", "words"), REFUSED.values(), ids=REFUSED)
def test_fit_refuses_invalid_input(parameters: dict[str, Any], x: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words follow
        fast(**parameters).fit(x, y)
    assert str(refused.value).startswith(words)


def test_other_columns_are_refused(fitted: SSGANClassifier) -> None:
    with pytest.raises(ValueError, match="X has 3 features, but SSGANClassifier is expecting 4 features"):
        fitted.predict(X[:, :3])
    with pytest.raises(UserError, match="X is a sparse csr_matrix"):
        fitted.predict(sparse.csr_matrix(X))


def test_small_images_preset_has_no_class_balance_term() -> None:
    """A user's classes may be uneven; with five of ten classes at a tenth of the images the error was twice as high."""
    assert resolve(SMALL_IMAGE_PRESET, {}).weight_balance == 0
