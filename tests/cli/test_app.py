"""The command-line program: commands and options, help, exit status, and interruptions."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import pytest
import typer
from running import status_of
from small_configs import TINY_OPTIONS

import ssgan
from ssgan import cli, runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.settings.config import Config

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


# Names of commands and options


def test_commands_and_options_are_pinned() -> None:
    group: Any = typer.main.get_command(cli.app.app)
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        for name, command in group.commands.items()
    }
    assert found == {
        "train": {
            *["--labels", "--method", "--preset", "--epochs", "--seed", "--seeds", "--draw-seed", "--device"],
            *[
                "--out",
                "--resume",
                "--config",
                "--from",
                "--set",
                "--image-size",
                "--labels-csv",
                "--data-dir",
                "--json",
            ],
            *["--folds", "--dry-run", "--backbone", "--verbose", "--engine", "--ray-address"],
        },
        "evaluate": {"--data", "--ensemble", "--device", "--labels-csv", "--data-dir", "--json", "--verbose"},
        "predict": {
            *["--out", "--probabilities", "--model", "--device", "--json"],
            *["--sort-into", "--link", "--unsure", "--sheet", "--engine", "--ray-address"],
        },
        "compare": {
            *["--out", "--labels", "--methods", "--preset", "--epochs", "--seed", "--seeds", "--draw-seed", "--ablate"],
            *["--device", "--set", "--image-size", "--labels-csv", "--data-dir", "--json", "--dry-run"],
            *["--backbone", "--engine", "--ray-address"],
        },
        "report": {"--out", "--baseline", "--json"},
        "suggest": {
            *["--n", "--out", "--sheet", "--strategy", "--seed", "--data", "--backbone", "--image-size"],
            *["--labels-csv", "--set", "--data-dir", "--device", "--json"],
        },
        "audit": {"--out", "--sheet", "--folds", "--rounds", "--device", "--data-dir", "--json"},
        "label": {"--classes", "--run", "--only", "--train-every", "--port", "--open"},
        "data": {"--labels", "--draw-seed", "--image-size", "--labels-csv", "--set", "--data-dir", "--json"},
        "export": {"--format", "--out", "--model", "--check", "--json"},
        "sample": {
            *["--grid", "--interpolate", "--arithmetic", "--nearest", "--per-class", "--animate", "--numbered"],
            *["--rows", "--columns", "--samples", "--path", "--seed", "--model", "--out", "--data", "--data-dir"],
            *["--device", "--json"],
        },
    }
    arguments = {
        name: [p.metavar for p in command.params if p.param_type_name == "argument"]
        for name, command in group.commands.items()
    }
    assert arguments == {
        "train": ["DATA"],
        "evaluate": ["RUN"],
        "predict": ["RUN", "IMAGES..."],
        "compare": ["DATA"],
        "report": ["FILES.jsonl..."],
        "data": ["DATA|RUN"],
        "export": ["RUN"],
        "suggest": ["DATA|RUN"],
        "audit": ["RUN"],
        "label": ["DIR"],
        "sample": ["RUN"],
    }
    options = [option for parameter in group.params for option in parameter.opts]
    assert options == ["--version", "--install-completion", "--show-completion"]


COMMANDS = [
    *["train", "evaluate", "predict", "compare", "report", "data", "export", "label", "sample", "suggest", "audit"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(command, "--help") == 0
    assert f"{command} [OPTIONS]" in capsys.readouterr().out


def test_version_names_versions_device_and_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    versions, device, commit = capsys.readouterr().out.splitlines()
    torch_version = metadata.version("torch")
    assert versions.startswith(
        f"ssgan {ssgan.__version__}, python {platform.python_version()}, torch {torch_version}, "
    )
    assert device.startswith("device ")
    assert commit.startswith("commit ")


def test_running_without_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 0
    assert "Usage: " in capsys.readouterr().out


def test_help_fits_80_columns_without_truncated_descriptions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert status_of("--help") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]


# The process


ENVIRONMENT = {"PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("module", ["ssgan", "ssgan.cli"])
def test_the_package_is_run_as_a_module(tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-m", module, "data", "digits"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("digits: 1,257 images in the training pool, 540 test images")


def test_importing_the_command_line_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    """Nor does printing the help, which imports every module of the command line."""
    code = """
import sys, ssgan.cli
def heavy():
    return sorted({"torch", "numpy", "sklearn", "matplotlib", "PIL"} & set(sys.modules))
print("imported", heavy())
for command in ("train", "evaluate", "predict", "data", "compare", "report", "export", "sample"):
    try:
        ssgan.cli.main([command, "--help"])
    except SystemExit as left:
        assert not left.code
print("helped", heavy())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("imported []", "helped []")


@pytest.mark.slow
def test_commands_run_where_there_is_no_fcntl(tmp_path: Path) -> None:
    """As on Windows. Run folders and row files are still locked, and the locks are released at the end."""
    begin = "import sys; sys.modules['fcntl'] = None; from ssgan.cli import main; main(sys.argv[1:])"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", begin, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        return done

    assert "Usage: " in run("--help").stdout
    assert run("data", "digits").stdout.startswith("digits: 1,257 images")
    trained = run("train", "digits", "--labels", "20", "--device", "cpu", "--out", "run", *TINY_OPTIONS)
    assert "accuracy " in trained.stdout
    assert "Run folder: run" in trained.stdout
    run("compare", "digits", "--methods", "knn", "--seeds", "1", "--out", "rows.jsonl")
    assert not [*tmp_path.rglob("*.lock")]
    assert {path.name for path in tmp_path.iterdir()} == {"run", "rows.jsonl"}


def test_user_error_exits_with_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssgan.cli", "train", "digitz"]
    environment = {"PYTHONPATH": str(Path(ssgan.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ssgan: Unknown data set 'digitz': choose from digits")
    assert done.stderr.count("\n") == 1


def test_internal_errors_propagate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: Any) -> Data:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("ssgan.data.datasets.load", fault)
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["train", "digits"])


def test_keyboard_interrupt_exits_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> Data:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.data.datasets.load", interrupt)
    assert status_of("train", "digits") == 130
    assert capsys.readouterr().err.splitlines()[-1:] == ["ssgan: interrupted."]


def test_training_continues_after_stdout_pipe_closes(tmp_path: Path) -> None:
    options = " ".join(["--labels", "20", "--device", "cpu", "--out", "run", *TINY_OPTIONS])
    command = f"{sys.executable} -m ssgan.cli train digits {options} | head -1"
    environment = {"PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.stdout.startswith("digits: 20 labelled of 1,257 images")
    assert (tmp_path / "run" / "report.json").exists(), done.stderr


def test_refuses_run_folder_with_files_of_another_run(
    mistake: Callable[..., str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--labels", "20", "--seed", "3", "--seeds", "2", "--draw-seed", "9", "--device", "cpu", "--out", "other"]
    assert status_of("train", "digits", *other, *TINY_OPTIONS) == 0
    capsys.readouterr()
    shutil.copy(tmp_path / "other" / "checkpoint", run / "checkpoint")
    shutil.copy(tmp_path / "other" / "split.json", run / "split.json")
    assert "not of the same run" in mistake("evaluate", "run")
    assert "not of the same run" in mistake("data", "run")


@pytest.mark.parametrize(
    "change", [{"rows": []}, {"rows": [{}, {}]}, {"labels": "many"}, {"labels": None}, {"seeds": 5}, {"rows": 7}]
)
def test_report_with_invalid_content_is_refused(mistake: Callable[..., str], run: Path, change: dict[str, Any]) -> None:
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, **change}))
    for command in ("evaluate", "data"):
        assert "report.json" in mistake(command, "run")


def test_numbered_run_folders_are_unique(tmp_path: Path) -> None:
    (tmp_path / "runs" / "7-other").mkdir(parents=True)
    claimed = {runs.create_run_folder(None, "digits", Config(labels=20)).name for _ in range(3)}
    assert claimed == {f"{n}-digits-20-gan" for n in (8, 9, 10)}


def test_resume_of_read_only_run_works_only_if_finished(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert status_of("train", "digits", "--out", "run", "--resume") == 0
    assert "This run is finished: nothing was left to train." in capsys.readouterr().out
    (run / "report.json").unlink()
    assert status_of("train", "digits", "--out", "run", "--resume") == 2
    assert capsys.readouterr().err == "ssgan: run cannot be written to (Permission denied).\n"


def test_out_of_memory_exits_with_status_2(mistake: Callable[..., str]) -> None:
    huge = ["--set", "discriminator_widths=100000,100000000", "--labels", "20", "--device", "cpu", "--out", "run"]
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "digits", *huge])
    assert left.value.code == 2


def test_interrupted_training_prints_resume_command_and_keeps_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ssgan.training.experiment.train", interrupt)
    assert status_of("train", "digits", "--labels", "20", "--out", "run") == 130
    again = "ssgan: run is unfinished; resume it with: ssgan train digits --out run --resume"
    assert capsys.readouterr().err.splitlines() == [again]
    assert splits.load(tmp_path / "run" / "split.json")[0].indices.tolist()


def test_evaluate_table_keeps_all_columns_in_narrow_terminal(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert status_of("evaluate", "run", "--verbose") == 0
    assert "seed  draw  accuracy %  error %  error % (raw)    ECE    NLL" in capsys.readouterr().out
    assert status_of("evaluate", "run") == 0
    said = capsys.readouterr().out
    assert "seed  draw  accuracy %  error %" in said.splitlines()
    assert not [word for word in ("(raw)", "ECE", "NLL") if word in said]
