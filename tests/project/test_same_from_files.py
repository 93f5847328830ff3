"""A data set as arrays and as files: the same images, the same settings, and rows of both."""

import dataclasses
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from running import rows, script

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.settings.options import Options

SETTINGS = ["discriminator_widths=16,8", "generator_widths=16", "batch_size=20", "init_images=20"]
OPTIONS = ["--labels", "12", "--draws", "2", "--images", "200", "--device", "cpu"]
SMALL = [*OPTIONS, "--preset", "vectors", *(word for setting in SETTINGS for word in ("--set", setting))]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Data:
    """A data set of eleven classes under the name of another; one class name is not a valid folder name."""
    random = np.random.RandomState(0)
    x, y = random.randint(0, 256, (88, 6, 6), np.uint8), np.arange(88) % 11
    classes = ("top/shirt", *"jihgfedcba")
    data = Data(x[:66], y[:66], x[66:], y[66:], classes, name="fashion-mnist")
    monkeypatch.setitem(DATASETS, "fashion-mnist", lambda _: data)
    return data


@pytest.fixture
def same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("SSGAN_CACHE", "off")
    module = script("experiments/same_from_files")
    monkeypatch.setattr(module.results, "ROWS", tmp_path)
    monkeypatch.setattr(module.results, "SCRATCH", tmp_path / "runs")
    return module


def test_written_files_hold_the_data_set_with_the_drawn_labels(same: ModuleType, tiny: Data, tmp_path: Path) -> None:
    (split,) = splits.make_splits(tiny.y_train, 12, [3])
    same.write(tiny, split, tmp_path / "a")
    found = load(tmp_path / "a")
    same.check(found, tiny, split)
    assert found.classes[:2] == ("00 top-shirt", "01 j")
    assert sorted(found.files_train)[0].startswith("train/00 top-shirt/0000")
    assert sorted(int(Path(name).stem) for name in found.files_train[:12]) == split.indices.tolist()
    assert (found.y_train[12:] == -1).all()
    assert len(found.y_test) == 22


def test_check_refuses_files_that_differ_from_the_data_set(same: ModuleType, tiny: Data, tmp_path: Path) -> None:
    first, second = splits.make_splits(tiny.y_train, 12, [0, 1])
    same.write(tiny, first, tmp_path / "a")
    found = load(tmp_path / "a", options=Options())
    with pytest.raises(ValueError, match="other labels of the pool"):
        same.check(found, tiny, second)
    for name, what in (("x_train", "images of the pool"), ("x_test", "images of the test set")):
        changed = getattr(tiny, name).copy()
        changed[5, 2, 2] ^= 1
        with pytest.raises(ValueError, match=f"other {what}."):
            same.check(found, dataclasses.replace(tiny, **{name: changed}), first)
    fewer = {name: getattr(found, name)[:-1] for name in ("x_train", "y_train", "files_train")}
    with pytest.raises(ValueError, match="other rows of the pool"):
        same.check(dataclasses.replace(found, **fewer), tiny, first)


def test_arrays_and_files_are_trained_once_with_the_same_settings(
    same: ModuleType, tiny: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(same.tempfile, "tempdir", str(tmp_path / "temporary"))
    assert same.main(SMALL) == 0
    found = rows(tmp_path / "fashion-mnist-files.jsonl")
    assert [(row["dataset"], row["seed"]) for row in found] == [
        *[("fashion-mnist", 0), ("fashion-mnist-files", 0), ("fashion-mnist", 1), ("fashion-mnist-files", 1)]
    ]
    for arrays, files in zip(found[::2], found[1::2], strict=True):
        for name in ("labels", "method", "preset", "settings", "images", "seed"):
            assert arrays[name] == files[name], name
        assert arrays["labels"] == 12
        # The same images are labelled, though they lie in other rows.
        assert arrays["split_sha256"] != files["split_sha256"]
    assert os.listdir(tmp_path / "temporary") == []
    first = capsys.readouterr()
    lines = first.out.splitlines()
    gaps = [files["error"] - arrays["error"] for arrays, files in zip(found[::2], found[1::2], strict=True)]
    assert lines[-1] == (f"difference, paired {np.mean(gaps):+.2f}, standard error {abs(gaps[0] - gaps[1]) / 2:.2f}")
    assert lines[-5].split()[-1] == f"{gaps[0]:+.2f}"
    assert first.out.count("...") == 4
    monkeypatch.setattr(same, "write", lambda *_: pytest.fail("written again"))
    assert same.main(SMALL) == 0
    assert rows(tmp_path / "fashion-mnist-files.jsonl") == found
    assert capsys.readouterr().out.splitlines() == lines[-6:]
