"""The examples in docstrings run and give the shown output."""

import doctest
import importlib
import tempfile
import time
from pathlib import Path

import pytest
from running import ROOT

import ssgan

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ssgan").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
SECONDS = 4.0  # of CPU time for all examples of one docstring; each took below 2 when it was written


def test_the_main_functions_have_examples() -> None:
    for name in ("train", "load", "open_run", "Data", "SSGANClassifier"):
        assert ">>> " in (getattr(ssgan, name).__doc__ or ""), name


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        start = time.process_time()
        report: list[str] = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)
        assert time.process_time() - start < SECONDS, test.name
