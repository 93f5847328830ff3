"""Shell completion: the answers to the completion scripts of bash and zsh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, status_of

from ssgan.cli import completion
from ssgan.cli.options import DATA_NAMES
from ssgan.data.datasets import DATASETS
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import FIELDS
from ssgan.settings.presets import PRESETS, parse

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the completions in bash of a command line whose last word is incomplete."""
    monkeypatch.setenv("_SSGAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    capsys.readouterr()
    assert status_of() == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.split()


CASES: dict[str, tuple[tuple[str, ...], Any]] = {
    "commands": (("tr",), ["train"]),
    "data sets": (("train", "m"), ["mnist"]),
    "all data sets": (("train", ""), list(DATA_NAMES)),
    "file paths": (("train", "photos/"), []),
    "presets": (("train", "digits", "--preset", "digits"), ["digits", "digits-fast"]),
    "methods": (("train", "digits", "--method", ""), list(METHOD_NAMES)),
    "several methods": (("compare", "digits", "--methods", "gan,su"), ["gan,supervised"]),
    "no repeated method": (("compare", "digits", "--methods", "gan,g"), []),
    "value of a setting": (("train", "digits", "--set", "network=pa"), ["network=paper-conv"]),
    "value of a setting, split by bash": (("train", "digits", "--set", "network", "=", "pa"), ["paper-conv"]),
    "empty value of a setting, split by bash": (("train", "digits", "--set", "tensorboard", "="), ["true", "false"]),
    "default of a numeric setting": (
        ("train", "digits", "--set", "batch_s"),
        [f"batch_size={FIELDS['batch_size'].default}"],
    ),
    "unknown setting": (("train", "digits", "--set", "netwrk="), []),
    "formats": (("export", "run", "--format", "t"), ["torch"]),
    "options": (("predict", "--sor"), ["--sort-into"]),
}


@pytest.mark.parametrize(("words", "answers"), CASES.values(), ids=CASES)
def test_completes_commands_options_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answers: list[str]
) -> None:
    assert completed(monkeypatch, capsys, "ssgan", *words) == answers


def test_run_folders_are_completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("runs/1-digits", "runs/$(touch x)", "mine", "photos", "elsewhere/run"):
        Path(folder).mkdir(parents=True)
        if folder != "photos":
            Path(folder, "config.json").write_text("{}")
    assert completed(monkeypatch, capsys, "ssgan", "evaluate", "") == ["mine", "runs/1-digits"]
    assert completed(monkeypatch, capsys, "ssgan", "predict", "elsewhere/") == ["elsewhere/run"]
    assert completed(monkeypatch, capsys, "ssgan", "data", "mi") == ["mine"]
    assert completed(monkeypatch, capsys, "ssgan", "train", "digits", "--from", "runs/") == ["runs/1-digits"]


def test_completion_names_match_data_sets_and_presets() -> None:
    assert set(DATA_NAMES) == set(DATASETS)
    assert set(completion.among(PRESETS)("")) == set(PRESETS)


def test_setting_completions_cover_all_fields_and_can_be_parsed() -> None:
    assignments = [word for word, _ in completion.complete_setting("")]
    assert {word.partition("=")[0] for word in assignments} == set(FIELDS)
    for name, value in map(parse, assignments):
        assert name in FIELDS
        assert "object" not in str(value)


def test_completion_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from ssgan.cli import app\n"
        "try: app.main([])\n"
        "finally: sys.stderr.write(' '.join({'torch', 'numpy'} & set(sys.modules)))"
    )
    completion_variables = {"_SSGAN_COMPLETE": "complete_bash", "COMP_WORDS": "ssgan\ntrain\n", "COMP_CWORD": "2"}
    environment = {**os.environ, **completion_variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == list(DATA_NAMES)


BASH = """eval "$(_SSGAN_COMPLETE=source_bash ssgan)"
COMP_WORDS=(ssgan train digits --set network = pa) COMP_CWORD=6
_ssgan_completion ssgan
echo "${COMPREPLY[@]}"
"""
ZSH = """autoload -Uz compinit; compinit -u -D
eval "$(_SSGAN_COMPLETE=source_zsh ssgan)"
_arguments() { print -r -- "$@" }
words=(ssgan train digits --set network=pa) CURRENT=5
_ssgan_completion
"""


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """An environment with `ssgan` on the PATH and an empty home folder."""
    program = tmp_path / "bin" / "ssgan"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ssgan "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("shell", "lines", "answer"),
    [("bash", BASH, "paper-conv"), ("zsh", ZSH, '*: :(("network=paper-conv":"the pair of G and D"))')],
)
def test_completion_scripts_work_in_bash_and_zsh(
    shell_environment: dict[str, str], shell: str, lines: str, answer: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell]
    done = subprocess.run(
        [program, *options], input=lines, env=shell_environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == answer, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_install_and_show_completion_in_bash(shell_environment: dict[str, str], tmp_path: Path) -> None:
    command = ["bash", "--norc", "-c", "ssgan --install-completion; exit $?"]
    done = subprocess.run(command, env=shell_environment, capture_output=True, text=True, timeout=60, check=True)
    assert "completion installed" in done.stdout
    assert "ssgan" in (tmp_path / ".bashrc").read_text()
    command = ["bash", "--norc", "-c", "ssgan --show-completion; exit $?"]
    shown = subprocess.run(command, env=shell_environment, capture_output=True, text=True, timeout=60, check=True)
    assert "_SSGAN_COMPLETE=complete_" in shown.stdout
