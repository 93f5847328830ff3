"""Run commands in this process, and read what they print and write."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ssgan import cli

RUN_FILES = {
    *("checkpoint", "config.json", "curves.png", "labeled.png"),
    *("log.jsonl", "report.json", "samples.png", "split.json", "README.md"),
}


def status_of(*arguments: str | Path) -> int:
    """Run a command in this process; return its exit status."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def last_object(text: str) -> dict[str, Any]:
    """The JSON object in the last line; NaN and infinity are refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(text.splitlines()[-1], parse_constant=refuse)
    assert isinstance(read, dict)
    return read


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder; without the lock files of running processes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not (path.name.startswith(".") and path.name.endswith(".lock"))
    }


ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
