"""Read-only, full or broken disks: commands print one line and exit with status 2, whether they read or write."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import grey, write
from running import contents, status_of
from small_configs import TINY_OPTIONS

from ssgan.cli.app import error_message

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

ERRORS = [errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT]
CALLS = ["open", "fsync", "replace", "unlink", "mkdir"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
COMPARE = ["compare", "digits", "--labels", "20", "--methods", "knn,supervised", "--seeds", "1", "--device", "cpu"]
COMMANDS = {
    "new": ["train", "digits", "--labels", "20", "--device", "cpu", "--out", "new", *TINY_OPTIONS],
    "resume": ["train", "digits", "--out", "run", "--resume"],
    "evaluate": ["evaluate", "run", "--device", "cpu"],
    "predict": ["predict", "run", "x.png", "--out", "t.csv", "--device", "cpu"],
    "sample": ["sample", "run", "--device", "cpu"],
    "compare": [*COMPARE, "--out", "r.jsonl", *TINY_OPTIONS[:4]],
    "report": ["report", "rows.jsonl", "--out", "page"],
}


def fail_calls(monkeypatch: pytest.MonkeyPatch, call: str, number: int, folder: Path) -> list[str]:
    """Make one kind of call fail for files in a folder; opening a file fails only for writing."""
    original, failed = getattr(os, call), []

    def refuse(first: Any, *more: Any, **named: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.path.abspath(os.fspath(first))
        reads = call == "open" and not (more and more[0] & WRITES)
        if reads or not path.startswith(str(folder)) or path.endswith(".lock"):
            return original(first, *more, **named)
        failed.append(path)
        raise OSError(number, os.strerror(number), *([] if isinstance(first, int) else [path]))

    monkeypatch.setattr(os, call, refuse)
    return failed


@pytest.fixture(scope="module")
def rows_of_knn(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("knn") / "rows.jsonl"
    assert status_of(*COMPARE[:4], "--methods", "knn", "--seeds", "1", "--out", path) == 0
    return path.read_bytes()


@pytest.fixture
def workspace(run: Path, rows_of_knn: bytes, tmp_path: Path) -> Path:
    """A folder with a run, a picture and a file of result rows."""
    write(tmp_path, {"x.png": grey(1)})
    (tmp_path / "rows.jsonl").write_bytes(rows_of_knn)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "call"),
    # Only `train` and `report` create folders; in other commands a library calls mkdir for existing folders.
    [(command, call) for command in COMMANDS for call in CALLS if call != "mkdir" or command in ("new", "report")],
)
def test_failed_write_is_reported_and_keeps_run_files(
    workspace: Path, command: str, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "resume":
        (workspace / "run" / "report.json").unlink()
    before = contents(workspace / "run")
    for number in ERRORS if call == "open" else ERRORS[1:3]:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            failed = fail_calls(patch, call, number, workspace)
            status = status_of(*COMMANDS[command])
        said = capsys.readouterr().err.splitlines()
        assert status == (2 if failed and command != "evaluate" else 0), said
        if failed:
            assert said[-1].startswith("ssgan: ")
            assert said[-1].endswith((".", "?"))
            assert os.strerror(number) in said[-1] or "There is no space left on the disk" in said[-1]
        if command != "resume":
            assert {name: contents(workspace / "run").get(name) for name in before} == before
        else:
            (workspace / "run" / "report.json").unlink(missing_ok=True)
    assert status_of(*COMMANDS[command]) == 0  # after the disk recovers


@pytest.mark.parametrize("name", ["config.json", "report.json", "checkpoint", "split.json"])
def test_unreadable_run_file_is_named_in_error(
    mistake: Callable[..., str], run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.open

    def broken(path: Any, *more: Any, **named: Any) -> int:
        if os.fspath(path).endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return original(path, *more, **named)

    monkeypatch.setattr(os, "open", broken)
    command = ["data", run] if name == "split.json" else ["predict", run, "x.png", "--device", "cpu"]
    assert name in mistake(*command)


def test_error_message_is_none_for_errors_not_caused_by_the_disk() -> None:
    for number in (errno.ENOENT, errno.EEXIST, errno.EINVAL, errno.EBADF):
        assert error_message(OSError(number, os.strerror(number), "x")) is None
