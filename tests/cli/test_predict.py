"""`ssgan predict`: classes as text, CSV and JSON, and files that cannot be read."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from running import last_object, status_of

from ssgan.data.dataset import Data
from ssgan.inference.models import open_run

UNCALIBRATED = "Probabilities are not calibrated, so they may be too high: train with --folds 5 to calibrate them."
pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_gives_the_classes_of_the_first_model(
    run: Path, pictures: list[str], digits: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("predict", run, *pictures, "--device", "cpu") == 0
    said = capsys.readouterr()
    p = open_run(run, torch.device("cpu"))[0].probabilities(digits.x_test[:3])[0]
    rows = rows_of(said.out)
    assert [row["file"] for row in rows] == pictures
    assert [row["class"] for row in rows] == [digits.classes[k] for k in p.argmax(axis=1)]
    assert [float(row["probability"]) for row in rows] == pytest.approx(p.max(axis=1), rel=1e-5)
    assert said.err.splitlines() == [
        "by the model of seed 3 (2 models learned from different labels: --model picks another)",
        UNCALIBRATED,
    ]
    assert status_of("predict", run, "pictures", "--device", "cpu", "--model", "4") == 0
    said = capsys.readouterr()
    assert [row["file"] for row in rows_of(said.out)] == [pictures[1], pictures[0], pictures[2]]
    assert said.err.splitlines() == ["by the model of seed 4", UNCALIBRATED]


def test_predict_reads_patterns_lists_and_arrays(
    run: Path, pictures: list[str], digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("x.npz", x_test=digits.x_test[:2])
    lines = io.TextIOWrapper(io.BytesIO("\n".join([*pictures, "caf\xe9"]).encode("latin-1", "replace")), "utf-8")
    monkeypatch.setattr(sys, "stdin", lines)
    assert status_of("predict", run, "pictures/*.png", "-", "x.npz", "--out", "p.csv", "--device", "cpu") == 0
    said = capsys.readouterr()
    raw = Path("p.csv").read_bytes()
    files = [row["file"] for row in rows_of(raw.decode("utf-8", "surrogateescape"))]
    assert files[:4] == [pictures[1], pictures[0], pictures[0], pictures[1]]
    assert files[6:] == ["x.npz[0]", "x.npz[1]"]
    assert b"\ncaf\xe9," in raw
    assert said.out == "6 of 8 images classified: p.csv\n"


@pytest.mark.parametrize("out", ["p.json", "p.jsonl"])
def test_predict_writes_json(
    run: Path, pictures: list[str], digits: Data, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    assert status_of("predict", run, "pictures", "--probabilities", "--out", out, "--device", "cpu", "--json") == 0
    said, text = capsys.readouterr().out, Path(out).read_text(encoding="utf-8")
    rows = json.loads(text) if out == "p.json" else [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 3
    for row in rows:
        p = [row[f"p({name})"] for name in digits.classes]
        assert sum(p) == pytest.approx(1, abs=1e-4)
        assert (row["class"], row["probability"]) == (digits.classes[int(np.argmax(p))], max(p))
    summary = last_object(said)
    assert len(said.splitlines()) == 1
    assert (summary["out"], summary["images"], summary["classified"], summary["unreadable"]) == (out, 3, 3, [])
    assert (summary["run"], summary["seeds"], summary["predictions_of"]) == (str(run), [3], "the model of seed 3")
    assert sum(one["count"] for one in summary["per_class"]) == 3


def test_predict_reports_unreadable_files_and_continues(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures/broken.png").write_bytes(Path(pictures[0]).read_bytes()[:50])
    Path("notes.txt").write_text("no picture")
    names = ["notes.txt", pictures[0], "pictures/broken.png", "gone.png", "*.tif"]
    assert status_of("predict", run, *names, "--device", "cpu", "--json") == 0
    said = capsys.readouterr()
    *table, summary = said.out.splitlines()
    rows = rows_of("\n".join(table))
    assert [row["file"] for row in rows] == names
    assert [row["class"] != "" for row in rows] == [False, True, False, False, False]
    assert rows[0]["note"] == "notes.txt is not a picture that can be read."
    assert rows[3]["note"] == "There is no file gone.png."
    assert rows[4]["note"] == "*.tif matches no file."
    assert said.err.splitlines()[1:] == [*(row["note"] for row in rows if not row["class"]), UNCALIBRATED]
    assert json.loads(summary)["classified"] == 1


def test_predict_lists_a_few_of_many_unreadable_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{i}.png" for i in range(30)]
    assert status_of("predict", run, *names, "--device", "cpu") == 2
    said = capsys.readouterr()
    assert [row["note"] for row in rows_of(said.out)] == [f"There is no file {name}." for name in names]
    assert said.err.splitlines()[1:] == [
        *(f"There is no file {name}." for name in names[:20]),
        "and 10 more",
        "ssgan: None of the images could be read.",
    ]


def test_predict_refuses_invalid_options(
    mistake: Callable[..., str], run: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mistake("predict", "run") == "Missing argument 'IMAGES...'. See `ssgan predict --help`."
    assert "must end in .csv, .jsonl or .json" in mistake("predict", "run", "pictures", "--out", "p.txt")
    assert "lies in gone" in mistake("predict", "run", "pictures", "--out", "gone/p.csv")
    assert "'tpu'" in mistake("predict", "run", "pictures", "--device", "tpu")
    assert "choose from 3, 4" in mistake("predict", "run", "pictures", "--model", "5")
    assert mistake("predict", "run", "pictures", "--model", "abc") == "--model is abc, but must be an integer."
    assert mistake("predict", "pictures", "pictures") == "pictures is not a run folder: there is no config.json in it."
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    assert "Standard input names no image" in mistake("predict", "run", "-")
