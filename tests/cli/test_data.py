"""Descriptions of data sets and runs match counts made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_configs import tiny

from ssgan import runs
from ssgan.cli.data import describe_data, describe_run
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.training.experiment import run_experiment


@pytest.fixture
def partly_labeled_npz(few_digits: Data, tmp_path: Path) -> Path:
    """A user's data set: unlabelled images, a class without test images, and a class without any image."""
    y = np.array([0, 1, 2, 0, 1, 0, -1, -1, -1, -1])
    path = tmp_path / "partly.npz"
    x, test = few_digits.x_train[:10], few_digits.x_test[:4]
    np.savez(path, x_train=x, y_train=y, x_test=test, y_test=[0, 0, 2, 0], classes=list("abcd"), scale=20.0)
    return path


def test_describe_data_counts_images_and_classes(partly_labeled_npz: Path) -> None:
    data = load(partly_labeled_npz)
    assert describe_data(str(partly_labeled_npz), None) == {
        "dataset": "partly",
        "sha256": data.sha256,
        "image_shape": [8, 8],
        "dtype": "uint8",
        "scale": 20.0,
        "classes": ["a", "b", "c", "d"],
        "images": 10,
        "unlabeled": 4,
        "test_images": 4,
        "per_class": {"pool": [3, 2, 1, 0], "test": [3, 0, 1, 0]},
        "splits": [],
        "duplicates": {"count": 0, "first": []},
        "notes": [],
    }


def test_describe_data_lists_label_draw(partly_labeled_npz: Path) -> None:
    y = load(partly_labeled_npz).y_train
    for draw_seed in (None, "5"):
        found = describe_data(str(partly_labeled_npz), None, "4", draw_seed)
        rows = splits.draw(y, 4, int(draw_seed or 0))
        name, sha256 = f"draw {draw_seed or 0}", splits.Split(rows, y[rows]).sha256
        assert found["splits"] == [{"name": name, "sha256": sha256, "indices": rows.tolist()}]
        assert found["per_class"].keys() == {"pool", "test", name}
        assert found["per_class"][name] == [(y[rows] == k).sum() for k in range(4)]
        assert sum(found["per_class"][name]) == 4
    everything = describe_data(str(partly_labeled_npz), None, "all")
    assert everything["splits"][0]["indices"] == [0, 1, 2, 3, 4, 5]
    assert everything["per_class"]["draw 0"] == everything["per_class"]["pool"]
    json.dumps(everything)
    with pytest.raises(UserError, match=r"between 3 \(one for each class\) and 6 "):
        describe_data(str(partly_labeled_npz), None, "7")


def test_describe_run_lists_label_draws_and_refuses_changed_data(partly_labeled_npz: Path, tmp_path: Path) -> None:
    data, config = load(partly_labeled_npz), tiny(labels=4, seed=3, seeds=2, total_images=20, preset="digits")
    folder = runs.create_run_folder(tmp_path / "run", "partly", config)
    run_experiment(data, config, folder, source={"data": str(partly_labeled_npz), "data_dir": None})
    found, plain = describe_run(folder, None), describe_data(str(partly_labeled_npz), None)
    assert {key: value for key, value in found.items() if key not in ("splits", "per_class")} == {
        key: value for key, value in plain.items() if key not in ("splits", "per_class")
    }
    assert [split["name"] for split in found["splits"]] == ["seed 3", "seed 4"]
    for split, seed in zip(found["splits"], (3, 4), strict=True):
        rows = splits.draw(data.y_train, 4, seed)
        assert split["indices"] == rows.tolist()
        assert split["sha256"] == splits.Split(rows, data.y_train[rows]).sha256
        assert found["per_class"][split["name"]] == np.bincount(data.y_train[rows], minlength=4).tolist()
    # Changed data under the same name are refused.
    np.savez(partly_labeled_npz, x_train=data.x_train ^ 1, y_train=data.y_train, x_test=data.x_test, y_test=data.y_test)
    with pytest.raises(UserError) as refused:
        describe_run(folder, None)
    assert str(refused.value) == f"partly has changed since {folder} was trained: its hash differs."
