"""Fixtures of several test modules."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from repeated_noise import pattern
from running import contents, status_of
from threadpoolctl import threadpool_limits

from ssgan.data.dataset import Data
from ssgan.data.datasets import IDX_FILES, IDX_MD5, load
from ssgan.nn import noise
from ssgan.training.parts import FailedParts


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread: small arrays gain nothing from more, and the order of sums is fixed; rows record the number.

    For torch, numpy and scikit-learn, here and in the processes that tests start.
    """
    torch.set_num_threads(1)
    os.environ.pop("COLUMNS", None)  # lines are not wrapped to the width of the terminal
    threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def no_part_fails(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed part of a run is only a warning for the user, but fails every test that does not expect it."""
    if request.node.get_closest_marker("failing_parts") is None:

        def add(self: FailedParts, name: str, cause: Exception) -> None:
            raise cause

        monkeypatch.setattr(FailedParts, "add", add)


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Data) -> Data:
    """A pool of 300 and a test set of 100, for trainings of a second."""
    return dataclasses.replace(
        digits,
        x_train=digits.x_train[:300],
        y_train=digits.y_train[:300],
        x_test=digits.x_test[:100],
        y_test=digits.y_test[:100],
    )


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder that SSGAN_DATA names, with the real MNIST and Fashion-MNIST; without it, their tests are skipped."""
    named = os.environ.get("SSGAN_DATA")
    if not named:
        pytest.skip("needs the real MNIST and Fashion-MNIST: SSGAN_DATA names no folder that holds them")
    needed = [Path(named, kind, "raw", file) for kind in IDX_MD5 for file in IDX_FILES]
    if absent := [path for path in needed if not path.is_file()]:
        pytest.skip(f"needs the real MNIST and Fashion-MNIST: SSGAN_DATA is set, but there is no {absent[0]}")
    return Path(named)


@pytest.fixture(scope="session")
def real_sets(real_data_root: Path) -> dict[str, Data]:
    """MNIST and Fashion-MNIST, whole."""
    return {name: load(name, real_data_root) for name in ("mnist", "fashion-mnist")}


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; return the one sentence of its message."""

    def answer(*arguments: str | Path) -> str:
        before = contents(tmp_path)
        capsys.readouterr()
        status = status_of(*arguments)
        captured = capsys.readouterr()
        assert status == 2, captured.err
        assert captured.out == ""
        assert "Traceback" not in captured.err
        (line,) = captured.err.splitlines()
        assert line.startswith("ssgan: ")
        assert line.endswith((".", "?"))
        assert contents(tmp_path) == before
        return line.removeprefix("ssgan: ")

    return answer


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "normal_like", lambda x: pattern(x, "standard_normal"))
    monkeypatch.setattr(noise, "uniform_like", lambda x: pattern(x, "uniform"))
