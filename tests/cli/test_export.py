"""`ssgan export`: the file, the printed summary, and errors."""

import json
import os
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from exported_files import example, run_without
from running import last_object, status_of
from small_configs import TINY_OPTIONS

from ssgan.cli.export import SUFFIXES
from ssgan.inference import export
from ssgan.runs import read_report

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_export_prints_file_and_check_results(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    assert status_of("export", "run") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == f"run/model.onnx: ONNX, opset 18, {Path('run/model.onnx').stat().st_size / 1000:,.0f} kB"
    assert lines[1] == "by the model of seed 3 (2 models learned from different labels: --model picks another)"
    assert lines[2].startswith("uint8 images [N, 8, 8] to probabilities [N, 10]")
    assert lines[3].endswith(" on 16 images of digits: the same classes,")
    assert lines[4].startswith("probabilities differ from those of predict by at most ")
    assert said.err == ""
    assert not [path for path in Path("run").iterdir() if path.name.endswith(".part")]


def test_export_of_a_chosen_model_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--format", "torch", "--model", "4", "--out", "digits.pt2", "--no-check", "--json"]
    assert status_of("export", "run", *arguments) == 0
    result = last_object(capsys.readouterr().out)
    assert (result["out"], result["format"], result["check"]) == ("digits.pt2", "torch", None)
    assert result["metadata"]["seeds"] == [4]
    assert result["metadata"]["commit"] == read_report(run)["rows"][0]["commit"]
    with zipfile.ZipFile("digits.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("metadata.json"))
        assert json.loads(archive.read(name)) == result["metadata"]
    # Load it with the code of the documentation.
    assert run_without(example(1), blocked="import sys; sys.modules['ssgan'] = None; ").strip() in set("0123456789")


def test_export_reports_skipped_check_without_onnxruntime(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    assert status_of("export", "run") == 0
    assert "Not checked: onnxruntime is not installed" in capsys.readouterr().out


def test_the_last_checkpoint_of_an_unfinished_run_is_taken(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.json").unlink()
    assert status_of("export", "run", "--format", "torch") == 0
    said = capsys.readouterr()
    progress = "run has not finished: these are its models after 2,000 of 2,000 images."
    assert said.err.splitlines() == [progress]
    assert "on 16 random images: the same classes," in said.out


def test_nothing_is_downloaded_for_the_check(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("would download")

    monkeypatch.setattr(export.datasets, "is_on_disk", lambda name, root: False)
    monkeypatch.setattr(export.datasets, "load", load)
    assert status_of("export", "run", "--format", "torch") == 0
    assert "on 16 random images: the same classes," in capsys.readouterr().out


def test_every_format_has_a_suffix() -> None:
    assert SUFFIXES.keys() == export.FORMATS.keys()


def test_export_refuses_invalid_options_and_paths(
    mistake: Callable[..., str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "--format is onx, but must be one of onnx, torch, safetensors. Did you mean 'onnx'?"
    assert mistake("export", "run", "--format", "onx") == expected
    assert mistake("export", "run", "--out", "m.pt2") == "--out is m.pt2, but with --format onnx must end in .onnx."
    assert "lies in gone, which is not a folder" in mistake("export", "run", "--out", "gone/m.onnx")
    (tmp_path / "d.onnx").mkdir()
    assert "is a folder" in mistake("export", "run", "--out", "d.onnx")
    (tmp_path / "p.onnx").symlink_to(os.devnull)
    expected = "--out is p.onnx, which is not a regular file: choose another file."
    assert mistake("export", "run", "--out", "p.onnx") == expected
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        assert "lies in run, which cannot be written to" in mistake("export", "run")
    assert mistake("export", "run", "--model", "x") == "--model is x, but must be an integer."
    assert "choose from 3, 4" in mistake("export", "run", "--model", "5")
    assert mistake("export", "d.onnx") == "d.onnx is not a run folder: there is no config.json in it."
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    expected = "--format safetensors needs safetensors, which is not installed: pip install 'ssgan[onnx]'."
    assert mistake("export", "run", "--format", "safetensors") == expected


def test_a_run_without_classes_is_not_exported(mistake: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", "0", "--device", "cpu", "--out", "run", *TINY_OPTIONS]
    assert status_of("train", "digits", *options) == 0
    expected = "run was trained without classes, so it has no classifier to export."
    assert mistake("export", "run", "--format", "torch") == expected
