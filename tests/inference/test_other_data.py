"""Models on data other than those of their training: features, another channel axis, moved files, deep pictures."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures_on_disk import encoded, grey, write
from running import rows, status_of
from small_backbones import coloured, coloured_data, feature_config, use_small_backbone
from small_configs import TINY, tiny

import ssgan
from ssgan.data.dataset import Data
from ssgan.devices import own_precision
from ssgan.errors import UserError
from ssgan.settings.presets import resolve

SHORT: dict[str, Any] = {**TINY, "preset": "digits"}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The number of images of each call of a small backbone with a cache of its own."""
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    return use_small_backbone(monkeypatch)


# Features


def test_features_of_a_run_are_predicted_as_its_pictures(seen: list[int]) -> None:
    pictures = coloured_data()
    run = ssgan.train(pictures, feature_config())
    assert run.data.x_test.shape == (30, 6)
    assert np.allclose(run.predict_proba(run.data.x_test), run.predict_proba(pictures.x_test), atol=1e-5)


def test_data_with_other_classes_are_refused_also_as_features(seen: list[int]) -> None:
    """Both runs have the same pool, and so the same feature map."""
    pictures = coloured_data()
    run = ssgan.train(pictures, feature_config())
    other = ssgan.train(dataclasses.replace(pictures, classes=("warm", "cold", "blue")), feature_config())
    with pytest.raises(UserError, match="Class 0 of coloured is 'warm'"):
        run.evaluate(other.data)
    assert run.evaluate(run.data)["errors"] == run.evaluate(pictures)["errors"] == run.evaluate()["errors"]


def test_a_run_on_pixels_evaluates_the_pictures_of_features(seen: list[int]) -> None:
    pictures = coloured_data()
    features = ssgan.train(pictures, feature_config()).data
    pixels = ssgan.train(pictures, **{**SHORT, "labels": 9})
    assert pixels.evaluate(features)["errors"] == pixels.evaluate(pictures)["errors"]


def test_only_features_of_the_test_set_are_computed_to_evaluate_arrays(seen: list[int]) -> None:
    run = ssgan.train(coloured_data(), feature_config(augmentation="crops", weight_consistency=1.0))
    (x, y), (other, labels) = coloured(60, 5), coloured(12, 6)
    seen.clear()
    run.evaluate(Data(x, y, other, labels, run.classes))
    assert sum(seen) == len(other) + 6  # and the six views of one picture


# Grey pictures, with and without an axis of channels


def test_models_of_images_with_one_channel_evaluate_grey_files(tmp_path: Path) -> None:
    x = np.random.RandomState(0).randint(0, 100, (40, 17, 17, 1)).astype(np.uint8)
    y = np.arange(40) % 2
    x[y == 1] += 100
    run = ssgan.train(Data(x, y, x[:4], y[:4], ("a", "b")), **{**TINY, "preset": "digits", "labels": 10})
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(x[i, ..., 0] + 1) for i in range(10)}
    folder = write(tmp_path / "photos", files)
    found = run.evaluate(folder)
    assert found["test_images"] == 10
    assert found["errors"] == run.evaluate((x[:10] + 1, [("a", "b")[k] for k in y[:10]]))["errors"]
    saved = run.save(tmp_path / "run")
    write(folder, {f"unlabeled/{i}.png": encoded(x[i, ..., 0] + 2) for i in range(4)})
    assert status_of("suggest", saved, "--data", folder, "--n", "2", "--out", tmp_path / "suggest.csv") == 0


# Pictures of the pool


def test_pictures_of_the_pool_of_a_training_on_data_are_left_out(tmp_path: Path) -> None:
    files = {f"{label}/{i}.png": grey(10 * k + i, size=8) for k, label in enumerate("ab") for i in range(10)}
    data = ssgan.load(write(tmp_path / "photos", files))
    run = ssgan.train(data, **{**SHORT, "labels": 6})
    more = write(tmp_path / "more", {**files, "a/new.png": grey(99, size=8), "b/new.png": grey(88, size=8)})
    found = run.evaluate(more)
    assert found["left_out"] == len(data.x_train) == 16
    assert found["test_images"] == 6


@pytest.mark.usefixtures("in_an_empty_folder")
def test_runs_of_a_comparison_read_deep_pictures_as_in_training() -> None:
    random = np.random.RandomState(0)
    deep = {f"{'ab'[i % 2]}/{i}.png": encoded(random.randint(0, 4096, (17, 17)).astype(np.uint16)) for i in range(20)}
    write(Path("photos"), deep)
    short = ["--set", "total_images=40", "--set", "batch_size=4", "--set", "init_images=8", "--seeds", "1"]
    assert status_of("compare", "photos", "--methods", "gan", "--labels", "4", *short, "--out", "rows.jsonl") == 0
    (row,) = rows(Path("rows.jsonl"))
    assert ssgan.open_run(row["run"]).config.image_depth == 12


# Values


def test_outlier_score_refuses_values_that_are_not_finite() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (60, 4)).astype(np.float32)
    run = ssgan.train((x, np.arange(60) % 2), total_images=200, device="cpu")
    x[7] = np.nan
    with pytest.raises(UserError, match=r"^1 image \(the first: 7\) make the outputs of the models non-finite"):
        run.outlier_score(x)


def test_paths_that_name_no_image_are_refused(few_digits: Data) -> None:
    run = ssgan.train(few_digits, **SHORT)
    for use in (run.predict, run.predict_files):
        with pytest.raises(UserError, match="There are no images"):
            use("-")
    assert [*run.predict_files([])] == []


# Settings beside a configuration


def test_settings_without_effect_are_refused_beside_a_config(few_digits: Data) -> None:
    supervised = resolve("digits", {"method": "supervised", "total_images": 400, "device": "cpu"})
    with pytest.raises(UserError, match="weight_vat=1 has no effect"):
        ssgan.train(few_digits, supervised, weight_vat=1.0)
    with pytest.raises(UserError, match="tensorboard=True writes into a run folder"):
        ssgan.train(few_digits, tiny(tensorboard=True))


# State of the process


def test_training_on_the_cpu_seeds_no_gpu(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def seed_gpu(*_: object) -> None:
        pytest.fail("a generator of a GPU was seeded")

    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in {"manual_seed", "manual_seed_all"} & {*dir(module)}:
            monkeypatch.setattr(module, name, seed_gpu)
    state = torch.get_rng_state()
    ssgan.train(few_digits, **SHORT)
    assert torch.get_rng_state().equal(state)


def test_overlapping_blocks_in_threads_keep_the_precision_of_each_and_of_the_caller() -> None:
    """The switches exist without a GPU."""
    switch = torch.backends.cuda.matmul
    if not hasattr(switch, "fp32_precision"):
        pytest.skip("an older torch")
    before, device = switch.fp32_precision, torch.device("cuda:0")
    entered, left, inside = threading.Event(), threading.Event(), []

    def other_thread() -> None:
        with own_precision("float32", device):
            entered.set()
            left.wait(10)
            inside.append(switch.fp32_precision)

    switch.fp32_precision = "tf32"
    try:
        thread = threading.Thread(target=other_thread)
        with own_precision("float32", device):
            thread.start()
            entered.wait(10)
        left.set()
        thread.join()
        assert inside == ["ieee"]
        assert switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before
