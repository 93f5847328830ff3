"""The environment is mended where it is broken, and used where it is whole."""

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer, pointed at an empty folder, with pip replaced by a mark."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(module, "WHOLE", "import json")
    monkeypatch.setattr(module, "EXTRA_MODULES", {"": "", "test": ", csv"})
    module.installed = []

    def install(extra: str) -> bool:
        module.installed.append(extra)
        Path(module.stamp(extra)).write_text(module.fingerprint(extra))
        return True

    def make() -> None:
        python = Path(module.PYTHON)
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)

    monkeypatch.setattr(module, "install", install)
    module.really_make = module.make

    def clear_and_make() -> None:
        real = subprocess.run
        monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: (make(), real(["true"]))[1])
        module.really_make()
        monkeypatch.setattr(module.subprocess, "run", real)

    monkeypatch.setattr(module, "make", clear_and_make)
    return module


def test_a_missing_environment_is_made_once(environment: ModuleType) -> None:
    assert environment.ensure("test") == environment.PYTHON
    assert environment.installed == ["test"]
    environment.ensure("test")
    assert environment.installed == ["test"]


def test_a_changed_project_is_installed_again(environment: ModuleType) -> None:
    environment.ensure()
    Path(environment.ROOT, "pyproject.toml").write_text("[project]\nname = 'other'\n")
    environment.ensure()
    assert environment.installed == ["", ""]


@pytest.mark.parametrize("damage", ["file", "dangling link", "empty folder", "dead python", "no stamp", "lost library"])
def test_a_broken_environment_is_mended(environment: ModuleType, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    venv = Path(environment.VENV)
    if damage == "file":
        venv.write_text("no folder")
    elif damage == "dangling link":
        venv.symlink_to(venv.parent / "nowhere")
    elif damage == "empty folder":
        venv.mkdir()
    else:
        environment.ensure()
        environment.installed.clear()
        if damage == "dead python":
            os.remove(environment.PYTHON)
            Path(environment.PYTHON).write_text("#!/bin/sh\nexit 3\n")
            Path(environment.PYTHON).chmod(stat.S_IRWXU)
        elif damage == "no stamp":
            os.remove(environment.stamp(""))
        else:
            whole = iter([False, True])
            monkeypatch.setattr(environment, "is_whole", lambda extra: next(whole))
    environment.ensure()
    assert environment.installed == [""]
    assert subprocess.run([environment.PYTHON, "-c", "import json"]).returncode == 0


def test_an_installation_that_fails_is_tried_from_scratch_and_then_given_up(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[str] = []
    monkeypatch.setattr(environment, "install", lambda extra: tries.append(extra) is not None)
    with pytest.raises(SystemExit) as stop:
        environment.ensure("test")
    assert tries == ["test", "test"]
    assert "Installation failed twice" in str(stop.value.code)
    assert "starting again from an empty .venv" in capsys.readouterr().out


def test_an_old_python_gets_a_sentence(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 8, 0))
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        environment.ensure()
