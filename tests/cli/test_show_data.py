"""`ssgan data`: what it prints about a data set, a label draw and a run."""

from pathlib import Path

import numpy as np
import pytest
from running import last_object, status_of

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_data_of_a_set(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", "digits", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["dataset"], result["sha256"], result["image_shape"]) == ("digits", digits.sha256, [8, 8])
    assert (result["images"], result["unlabeled"], result["test_images"]) == (1257, 0, 540)
    assert result["classes"] == list("0123456789")
    assert result["per_class"] == {
        "pool": np.bincount(digits.y_train).tolist(),
        "test": np.bincount(digits.y_test).tolist(),
    }
    assert result["splits"] == []
    assert status_of("data", "digits") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits: 1,257 images in the training pool, 540 test images"
    assert lines[1] == "each 8x8 of uint8, full intensity 16"
    assert max(map(len, lines)) <= 80
    assert ["0", "133", "45"] in [line.split() for line in lines]
    assert ["total", "1257", "540"] in [line.split() for line in lines]


def test_data_of_a_draw(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    rows = splits.draw(digits.y_train, 20, 7)
    assert status_of("data", "digits", "--labels", "20", "--draw-seed", "7", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert result["per_class"]["draw 7"] == [2] * 10
    sha256 = splits.Split(rows, digits.y_train[rows]).sha256
    assert result["splits"] == [{"name": "draw 7", "sha256": sha256, "indices": rows.tolist()}]
    assert status_of("data", "digits", "--labels", "20", "--draw-seed", "7") == 0
    said = capsys.readouterr().out
    assert f"draw 7: split {sha256[:12]}, rows {', '.join(map(str, rows[:8]))}, ..." in said.splitlines()
    assert status_of("data", "digits", "--labels", "all", "--json") == 0
    (split,) = last_object(capsys.readouterr().out)["splits"]
    assert split["indices"] == list(range(1257))


def test_data_of_a_run(trained: tuple[Path, str], digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = trained
    assert status_of("data", out, "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert [split["name"] for split in result["splits"]] == ["seed 3", "seed 4"]
    for split, seed in zip(result["splits"], (3, 4), strict=True):
        assert split["indices"] == splits.draw(digits.y_train, 20, seed).tolist()
        assert result["per_class"][split["name"]] == [2] * 10
    assert [split["sha256"] for split in result["splits"]] == [r["split_sha256"] for r in runs.read_report(out)["rows"]]
    assert status_of("data", out) == 0
    assert (
        f"Labelled images of the first seed (some, if many): {out / 'labeled.png'}"
        in capsys.readouterr().out.splitlines()
    )
