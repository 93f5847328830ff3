"""Models trained on features of a backbone: consistent predictions, no leakage, and errors."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_backbones import (
    FEATURES,
    NAME,
    SIDE,
    coloured,
    coloured_data,
    feature_config,
    use_small_backbone,
)
from small_trainings import same_bits, weights

from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference import evaluate, features
from ssgan.inference.evaluate import evaluate_run
from ssgan.inference.features import apply_backbone
from ssgan.inference.inputs import find_inputs, read_inputs
from ssgan.inference.models import Models, open_run
from ssgan.inference.predict import open_predictor, predict
from ssgan.inference.sample import Request, sample_run
from ssgan.runs import create_run_folder, load_checkpoint
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.training.experiment import run_experiment
from ssgan.training.folds import cut_folds
from ssgan.training.trainer import train


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The number of images of each call of the backbone, which is a small one with a cache of its own."""
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    return use_small_backbone(monkeypatch)


def finished_run(folder: Path, data: Data | None = None, **settings: Any) -> Path:
    data, config = data or coloured_data(), feature_config(**settings)
    create_run_folder(folder, data.name, config)
    run_experiment(data, config, folder)
    return folder


def models_of(run: Path) -> Models:
    return open_run(run, features.select("cpu"))[0]


# Feature extraction


def test_apply_backbone_standardises_features_and_keeps_labels(seen: list[int]) -> None:
    data = coloured_data()
    vectors = apply_backbone(data, feature_config(feature_length="free", feature_neighbors=0))
    assert vectors.x_train.shape == (90, 6)
    assert vectors.x_train.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-4)
    assert np.array_equal(vectors.y_train, data.y_train)
    assert vectors.source is data
    assert vectors.sha256 == data.sha256  # rows of pixels and of features are of the same data
    assert not vectors.bounded
    assert sum(seen) == 120
    assert vectors.feature_map is not None
    assert vectors.feature_map.width == FEATURES


def test_features_keep_metadata_of_the_files(seen: list[int]) -> None:
    data = dataclasses.replace(coloured_data(), notes=("a note",), image_depth=12, skipped=(("a.png", "is broken"),))
    vectors = apply_backbone(data, feature_config())
    for name in ("notes", "image_depth", "skipped", "name", "classes", "files_train"):
        assert getattr(vectors, name) == getattr(data, name)


def test_apply_backbone_returns_features_and_other_data_unchanged(seen: list[int], digits: Data) -> None:
    config = feature_config()
    vectors = apply_backbone(coloured_data(), config)
    assert apply_backbone(vectors, config) is vectors
    assert apply_backbone(digits, dataclasses.replace(config, backbone=None, image_size=None)) is digits


def test_features_of_other_settings_are_computed_again(seen: list[int]) -> None:
    first = apply_backbone(coloured_data(), feature_config())
    for change in ({"feature_neighbors": 0}, {"feature_components": 3}, {"feature_length": "free"}, {"image_size": 32}):
        other = feature_config(**change)
        again = apply_backbone(first, other)
        assert again.x_train.tobytes() == apply_backbone(coloured_data(), other).x_train.tobytes()
        assert again.x_train.tobytes() != first.x_train.tobytes()


def test_cache_computes_only_features_of_new_pictures(seen: list[int]) -> None:
    data, config = coloured_data(), feature_config()
    apply_backbone(data, config)
    seen.clear()
    x, y = coloured(10, 7)
    more = coloured_data(x_train=np.concatenate([data.x_train, x]), y_train=np.concatenate([data.y_train, y]))
    apply_backbone(more, config)
    assert sum(seen) == 10
    apply_backbone(more, config)
    assert sum(seen) == 10
    apply_backbone(more, dataclasses.replace(config, image_size=SIDE + 16))
    assert sum(seen) == 10 + 130


def test_weights_do_not_depend_on_hidden_labels_or_the_cache(
    seen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = coloured_data(), feature_config()
    first = train(data, config)
    split = first.splits[0]
    # Permute every label that training may not see, and all test labels.
    hidden = np.setdiff1d(np.arange(90), split.indices)
    y = data.y_train.copy()
    y[hidden] = np.random.RandomState(0).permutation(y[hidden])
    permuted = coloured_data(y_train=y, y_test=np.roll(data.y_test, 1))
    assert same_bits(weights(first), weights(train(permuted, config, [split])))
    shutil.rmtree(tmp_path / "cache")
    assert same_bits(weights(first), weights(train(data, config, [split])))
    monkeypatch.setenv("SSGAN_CACHE", "off")
    assert same_bits(weights(first), weights(train(data, config, [split])))


def test_features_of_the_pool_do_not_depend_on_test_pictures(seen: list[int]) -> None:
    other = coloured_data(x_test=255 - coloured(30, 1)[0])
    vectors = [apply_backbone(data, feature_config()).x_train for data in (coloured_data(), other)]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_crops_add_feature_views_of_each_picture(seen: list[int]) -> None:
    vectors = apply_backbone(coloured_data(), feature_config(augmentation="crops", method="fixmatch"))
    assert vectors.views_train is not None
    assert vectors.views_train.shape == (90, 6, 6)
    assert np.array_equal(vectors.views_train[:, 0], vectors.x_train)
    differences = np.abs(vectors.views_train - vectors.views_train[:, :1]).max(axis=(0, 2))
    assert differences[0] == 0
    assert (differences[1:] > 0).all()
    assert sum(seen) == 120 + 5 * 90


def test_views_are_added_to_features_that_lack_them(seen: list[int]) -> None:
    without = apply_backbone(coloured_data(), feature_config())
    config = feature_config(augmentation="crops", method="fixmatch", seeds=2)
    assert apply_backbone(without, config).views_train is not None
    assert same_bits(weights(train(without, config)), weights(train(coloured_data(), config)))


# Training


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_trains_on_features(method: str, seen: list[int], tmp_path: Path) -> None:
    views = {"augmentation": "crops"} if method == "fixmatch" else {}
    run = finished_run(tmp_path / "run", method=method, **views)
    assert (run / "labeled.png").exists()
    models = models_of(run)
    assert models.input_shape == (SIDE, SIDE, 3)
    assert models.image_shape == (6,)
    assert models.feature_map is not None


@pytest.mark.parametrize(
    "change",
    [{"feature_components": 3}, {"feature_length": "free"}, {"feature_neighbors": 2}, {"image_size": 32}],
    ids=str,
)
def test_every_setting_of_features_changes_the_weights(change: dict[str, Any], seen: list[int]) -> None:
    plain, other = (train(coloured_data(), feature_config(**settings)) for settings in ({}, change))
    assert not same_bits(weights(plain), weights(other))


def test_training_on_features_reaches_a_low_error(seen: list[int]) -> None:
    run = train(coloured_data(), feature_config(total_images=4000))
    assert run.errors[0] is not None
    assert run.errors[0] < 20


def test_resumed_training_is_bit_identical(seen: list[int]) -> None:
    data, config = coloured_data(), feature_config(report_every_images=400)
    states: list[dict[str, Any]] = []

    def keep(progress: Any) -> None:
        if not states and progress.step == 20:
            import copy

            states.append(copy.deepcopy(progress.state()))

    whole = train(data, config, on_report=keep)
    resumed = train(data, config, state=states[0])
    assert same_bits(weights(whole), weights(resumed))


def test_resume_refuses_another_backbone(seen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(tmp_path / "run")
    use_small_backbone(monkeypatch, "6" * 64)
    (run / "report.json").unlink()
    with pytest.raises(UserError, match="The features of coloured are not those with which the run began"):
        run_experiment(coloured_data(), feature_config(), run)


def test_folds_hold_out_pictures_with_equal_pixels_together(seen: list[int]) -> None:
    x, y = coloured(90, 0)
    x[80] = x[0]
    vectors = apply_backbone(coloured_data(x_train=x, y_train=y), feature_config(folds=3, labels=None, draw_seed=None))
    parts = cut_folds(vectors, feature_config(folds=3, labels=None, draw_seed=None))
    held_out = [part.held_out for part in parts if 0 in part.held_out]
    assert len(held_out) == 1
    assert 80 in held_out[0]


# Prediction


def test_prediction_is_equal_from_folder_archive_file_and_cache(seen: list[int], tmp_path: Path) -> None:
    from pictures_on_disk import packed, write

    run = finished_run(tmp_path / "run")
    x, _ = coloured(21, 5)
    folder = write(tmp_path / "new", {f"{i:02}.png": image for i, image in enumerate(x)})
    archive = packed(tmp_path / "new.zip", {f"{i:02}.png": image for i, image in enumerate(x)})
    models, predictor = models_of(run), open_predictor(run)

    def answers(*arguments: Path) -> list[tuple[Any, ...]]:
        inputs = read_inputs(
            find_inputs([*map(str, arguments)]), models.input_shape, models.input_scale, models.bounded
        )
        return [tuple(prediction[1:]) for prediction in predict(predictor.models, inputs)]

    together = answers(folder)
    assert together == answers(archive)
    assert together[3:4] == answers(folder / "03.png")
    assert together[20:] == answers(folder / "20.png")
    # With cached features, as pictures of a pool.
    data = apply_backbone(coloured_data(x_test=x, y_test=np.zeros(21, int)), models.config, None, models.feature_map)
    assert np.array_equal(models.logits(data.x_test), models.logits(x))
    assert np.array_equal(models.logits(x)[:, 4:5], models.logits(x[4:5]))


def test_prediction_of_pool_pictures_uses_cached_features(seen: list[int], tmp_path: Path) -> None:
    models = models_of(finished_run(tmp_path / "run"))
    x = coloured_data().x_train
    del seen[:]
    logits = models.logits(x)
    assert seen == []
    assert np.array_equal(logits[:, :5], models.logits(x[:5]))
    models.logits(coloured(3, 99)[0])
    models.logits(coloured(3, 99)[0])
    assert seen == [3, 3]  # predictions are not added to the cache


def test_pictures_of_another_shape_are_refused(seen: list[int], tmp_path: Path) -> None:
    models = models_of(finished_run(tmp_path / "run"))
    for images in (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, SIDE, SIDE, 3), np.float32), np.zeros((2, 7))):
        with pytest.raises(UserError, match="these models accept uint8 of shape"):
            models.logits(images)


def test_other_weights_are_refused_at_prediction(
    seen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = models_of(finished_run(tmp_path / "run"))
    use_small_backbone(monkeypatch, "6" * 64)
    with pytest.raises(UserError, match=f"The run learned from features of {NAME} with weights of SHA-256 5555"):
        models.logits(coloured(3, 0)[0])


def test_checkpoint_without_feature_map_is_refused(seen: list[int]) -> None:
    state = train(coloured_data(), feature_config()).state()
    del state["feature_map"]
    with pytest.raises(UserError, match="map of features"):
        Models.from_state(state, features.select("cpu"))


def test_evaluation_of_arrays_gives_the_error_of_the_report(seen: list[int], tmp_path: Path) -> None:
    data = coloured_data()
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "coloured.npz", **arrays, classes=np.array(data.classes))
    run = finished_run(tmp_path / "run")
    report = evaluate_run(run, str(tmp_path / "coloured.npz"))
    models = models_of(run)
    assert report["errors"] == models.scores(data.x_test, data.y_test)["error"]
    checkpoint = load_checkpoint(run / "checkpoint")
    assert checkpoint["feature_map"]["weights_sha256"] == "5" * 64
    assert checkpoint["feature_map"]["backbone"] == NAME


def test_a_run_of_a_missing_gpu_is_evaluated_on_the_cpu(
    seen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = coloured_data(), finished_run(tmp_path / "run")
    models, report = open_run(run, features.select("cpu"))
    models.config = dataclasses.replace(models.config, device="cuda:7")
    monkeypatch.setattr(evaluate, "open_latest", lambda *_: (models, report))
    with pytest.raises(UserError, match="There is no device 'cuda:7' here"):
        apply_backbone(data, models.config, None, models.feature_map)
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(tmp_path / "coloured.NPZ", **arrays, classes=np.array(data.classes))
    (tmp_path / "coloured.NPZ.npz").rename(tmp_path / "coloured.NPZ")
    assert evaluate_run(run, str(tmp_path / "coloured.NPZ"), device="cpu")["errors"] == report["errors"]


def test_nearest_shows_pictures_for_generated_features(seen: list[int], tmp_path: Path) -> None:
    data = coloured_data()
    path = tmp_path / "coloured.npz"
    arrays = {"x_train": data.x_train, "y_train": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    np.savez(path, **arrays, classes=np.array(data.classes))
    run = finished_run(tmp_path / "run")
    request = Request(kind="nearest", out=tmp_path / "n.png", rows=3, columns=4, samples=10, data=str(path))
    result = sample_run(run, request)
    assert result["features"]
    assert len(result["neighbours"]) == 3
    assert len(result["neighbours"][0]["rows"]) == 4
    assert (tmp_path / "n.png").exists()
    with pytest.raises(UserError, match="generates features of efficientnet-lite0, not pictures: --nearest shows"):
        sample_run(run, dataclasses.replace(request, kind="grid"))


@pytest.mark.parametrize("method", ["gan", "supervised"])
def test_p_generated_requires_a_generator(method: str, seen: list[int], tmp_path: Path) -> None:
    models = models_of(finished_run(tmp_path / "run", method=method))
    x, _ = coloured(5, 3)
    if method == "gan":
        p = models.generated_probability(x)
        assert p.shape == (1, 5)
        assert ((p > 0) & (p < 1)).all()
    else:
        with pytest.raises(UserError, match="method 'supervised' trains none"):
            models.generated_probability(x)


def test_apply_backbone_refuses_vectors() -> None:
    vectors = Data(
        np.zeros((4, 3), np.float32), np.zeros(4, int), np.zeros((1, 3), np.float32), np.zeros(1, int), ("a", "b")
    )
    with pytest.raises(UserError, match="which accepts pictures"):
        apply_backbone(vectors, feature_config())
