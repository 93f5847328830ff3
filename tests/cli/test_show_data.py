"""`ssgan data`: what it prints about a data set, a label draw and a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from running import last_object, status_of

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_data_describes_data_set(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_data_describes_label_draw(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_data_describes_run(trained: tuple[Path, str], digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_data_of_numbers_without_classes_prints_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--set", "total_images=1000", "--device", "cpu", "--out", "run"]
    assert status_of("train", "gaussian", *short) == 0
    assert capsys.readouterr().out.startswith("gaussian: no classes, 10,000 numbers, method gan, 1 model, ")
    for source in ("gaussian", "run"):
        assert status_of("data", source) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == [
            "gaussian: 10,000 numbers in the training pool (10,000 of them without a label), 10,000 test numbers",
            "each 1 of float32, full intensity 1",
            "No number has a label, so there are no classes.",
        ]
        assert len(lines) == 3 + (source == "gaussian")  # plus the hint how to train on them
    assert status_of("report", "run", "--out", "page") == 2
    reason = "run:1 is of a GAN without classes (labels 0), which has no error"
    assert capsys.readouterr().err == f"ssgan: There is no result row in run: {reason}.\n"


def test_data_counts_vectors_instead_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).random((12, 5), dtype=np.float32)
    np.savez(tmp_path / "v.npz", x_train=x, y_train=np.arange(12) % 2, x_test=x[:1], y_test=[0])
    assert status_of("data", tmp_path / "v.npz") == 0
    assert "12 vectors in the training pool, 1 test vector" in capsys.readouterr().out


def test_report_accepts_run_folder_and_report_file(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both give the same numbers as a file with the rows of the models."""
    out, _ = trained
    pages = []
    for k, given in enumerate((out, out / "report.json")):
        assert status_of("report", given, "--out", tmp_path / str(k), "--json") == 0
        pages.append(last_object(capsys.readouterr().out))
        assert (tmp_path / str(k) / "report.html").exists()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in runs.read_report(out)["rows"]))
    assert status_of("report", tmp_path / "rows.jsonl", "--out", tmp_path / "2", "--json") == 0
    pages.append(last_object(capsys.readouterr().out))
    numbers = [{k: v for k, v in page.items() if k not in ("html", "markdown", "files", "pictures")} for page in pages]
    assert numbers[0] == numbers[1] == numbers[2]
